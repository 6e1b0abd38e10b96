//! What kachery means: identity, channels, seeking and providing, transfers.

pub mod config;
mod error;
mod files;
pub mod identity;
pub mod legacy;
mod peer;
mod runtime;
mod transfer;
mod types;

use std::sync::Arc;
use std::time::Duration;

pub use self::error::{LoadError, NodeError};
pub use self::types::{
    ChannelStatus, DownloadSummary, Find, Found, Load, LoadEvent, LoadOptions, Loaded, NodeConfig,
    NodeStatus, SwarmSummary,
};
use crate::store::{ServedFile, Sha1, Store, StoreError};

/// A running node. Cheap to clone; ends with [`Node::shutdown`].
#[derive(Clone)]
pub struct Node {
    inner: Arc<runtime::Inner>,
}

impl Node {
    /// Takes the config folder, joins this node's own transfer swarms and all channels.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        Ok(Self { inner: runtime::Inner::start(config).await? })
    }

    /// In join order.
    pub fn channels(&self) -> Vec<ChannelStatus> {
        self.inner.channels()
    }

    /// Joining a joined channel is fine. Remembered in `config.json`.
    pub async fn join_channel(&self, name: &str) -> Result<(), NodeError> {
        self.inner.join_channel(name).await
    }

    /// Stops announcing and listening, closes the channel's connections. Leaving another channel is fine.
    pub async fn leave_channel(&self, name: &str) -> Result<(), NodeError> {
        self.inner.leave_channel(name).await
    }

    /// Asks all channels; peers that connect while it runs are asked too.
    pub fn find(&self, sha1: Sha1, timeout: Duration) -> Find {
        self.inner.find(sha1, timeout)
    }

    /// From the store if it is there, else finds and downloads. Loads of one file share the download: the options of
    /// the first count.
    pub fn load(&self, sha1: Sha1, options: LoadOptions) -> Load {
        self.inner.load(sha1, options)
    }

    /// Where its files are.
    pub fn store(&self) -> &Store {
        self.inner.store()
    }

    /// A file of its store, verified; waits for that without keeping others waiting. None: not there, or damaged.
    pub async fn open_stored(&self, sha1: Sha1) -> Result<Option<ServedFile>, StoreError> {
        self.inner.open_stored(sha1).await
    }

    /// What it is doing.
    pub fn status(&self) -> NodeStatus {
        self.inner.status()
    }

    /// Leaves everything, unannounces; at most 2.5 s.
    pub async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}
