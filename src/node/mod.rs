//! What kachery means: identity, channels, seeking and providing, transfers.

pub mod config;
mod files;
pub mod identity;
pub mod legacy;
mod runtime;
mod transfer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::store::{ServedFile, Sha1, Store, StoreError};

/// How to start a node.
#[derive(Clone)]
pub struct NodeConfig {
    /// Keys, `config.json`, the lock file.
    pub config_dir: PathBuf,
    /// Where files are.
    pub store: Store,
    /// Channels to join besides those of `config.json`.
    pub channels: Vec<String>,
    /// `HOST:PORT` of the v2 bootstrap nodes.
    pub bootstrap_v2: Vec<String>,
    /// Find peers on the local network by multicast DNS.
    pub mdns: bool,
    /// Where the HTTP API of this process listens; written into the lock file for whoever finds the folder taken.
    pub api_port: u16,
}

/// A running node. Cheap to clone; ends with [`Node::shutdown`].
#[derive(Clone)]
pub struct Node {
    inner: Arc<runtime::Inner>,
}

/// Why a node or a change of its channels failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The config folder or a file in it.
    #[error("{what}: {source}")]
    Config {
        /// Step and path.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Another daemon holds the config folder.
    #[error(
        "a daemon is already running with this config folder (process {pid}, API port {api_port}); stop it with: kachery-p2p daemon-stop --api-port {api_port}"
    )]
    AlreadyRunning {
        /// Its process id.
        pid: u32,
        /// Its API port.
        api_port: u16,
    },
    /// Sockets.
    #[error("cannot open the network: {0}")]
    Network(#[source] std::io::Error),
    /// A channel name that cannot be used.
    #[error("channel name: {0}")]
    ChannelName(&'static str),
    /// More channels than a node can be in.
    #[error(
        "a daemon is in at most {} channels at the same time; leave one first: kachery-p2p leave-channel NAME (or remove it from config.json while the daemon is stopped)",
        crate::limits::CHANNELS
    )]
    TooManyChannels,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A joined channel.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// Distinct connected peers, over all dialects.
    pub peers: usize,
}

/// Somebody provides the file. The fields are those of the original's `findFile` answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub sha1: Sha1,
    /// Bytes.
    pub size: u64,
    /// The provider's node ID, 64 or 88 lower-case hex characters.
    pub node_id: String,
    /// The kachery protocol (and so the swarm) on which the answer came, as in topics: `kachery-p2p-3` and so on.
    pub protocol: &'static str,
    /// The channel on which it was found.
    pub channel: String,
}

/// A running search; dropping it cancels.
pub struct Find {
    /// Each provider once. Closed when the search has ended (time-out, or nobody to ask).
    pub found: mpsc::Receiver<Found>,
    /// Peers asked when the search began; 0 explains an empty result.
    pub peers_asked: usize,
}

/// How to load a file.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Give up after this long without progress.
    pub timeout: Duration,
    /// Use only this provider, if given: node ID, and the size the client knows.
    pub provider: Option<(String, Option<u64>)>,
}

/// What a load is doing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum LoadEvent {
    /// Asking the channels.
    Looking {
        /// Peers asked so far.
        peers: usize,
    },
    /// Bytes are coming.
    Downloading {
        /// Bytes on disk, those of earlier attempts included; never above `size`.
        bytes: u64,
        /// Of the whole file.
        size: u64,
        /// Providers in use.
        providers: usize,
        /// Bytes per second over the last seconds.
        rate: u64,
    },
    /// Comparing the hash.
    Verifying,
}

/// A finished load.
#[derive(Clone, Debug, Serialize)]
pub struct Loaded {
    /// In the store.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Bytes that came over the network this time (0: the store had it).
    pub downloaded: u64,
}

/// Why a load ended without a file; each has its own exit code in the command line.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Not joined to any channel.
    #[error(
        "this daemon has joined no channel: join the one your colleague uses with: kachery-p2p join-channel NAME"
    )]
    NoChannel,
    /// Nobody to ask.
    #[error("no peer is connected in any joined channel ({channels}): nobody could be asked")]
    NoPeers {
        /// Names, comma separated.
        channels: String,
    },
    /// Asked, but nobody has it.
    #[error("none of the {asked} connected peers has it")]
    NotFound {
        /// Peers asked.
        asked: usize,
    },
    /// Found, but every provider failed.
    #[error("found, but the transfer failed: {}", .reasons.iter().map(|(node, why)| format!("{node}: {why}")).collect::<Vec<_>>().join("; "))]
    Transfer {
        /// Provider and reason.
        reasons: Vec<(String, String)>,
    },
    /// Only daemons offered it that would die of the request, so none was made.
    #[error(
        "found, but only where kachery-p2p 0.1.2 runs, which would die of a request for more than {} bytes, so it was not asked for these {size}: {}",
        crate::limits::V012_MAX_FILE,
        .providers.join(", ")
    )]
    NotAsked {
        /// Node IDs.
        providers: Vec<String>,
        /// Bytes, as they claim.
        size: u64,
    },
    /// Every provider sent wrong bytes.
    #[error("verification failed: {} sent bytes that do not have this sha1", .liars.join(", "))]
    Verification {
        /// Node IDs.
        liars: Vec<String>,
    },
    /// No progress for too long.
    #[error("no progress for {} s", .0.as_secs())]
    Timeout(Duration),
    /// The disk.
    #[error("the store cannot keep it: {0}")]
    Disk(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// A running load; dropping it cancels unless another load shares the download.
pub struct Load {
    /// Latest state; only the newest is kept.
    pub events: tokio::sync::watch::Receiver<LoadEvent>,
    /// The end.
    pub done: tokio::sync::oneshot::Receiver<Result<Loaded, LoadError>>,
}

/// What `status` shows.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// 64 hex: the raw Ed25519 public key.
    pub node_id: String,
    /// 88 hex: the same key as the 0.1.6 and 0.2.1 daemons write it.
    pub node_id_spki: String,
    /// Joined channels.
    pub channels: Vec<ChannelStatus>,
    /// Swarms: purpose, port, connections, DHT nodes.
    pub swarms: Vec<SwarmSummary>,
    /// Downloads under way.
    pub downloads: Vec<DownloadSummary>,
    /// Bytes served and downloaded since the start.
    pub bytes_served: u64,
    /// Bytes downloaded since the start.
    pub bytes_downloaded: u64,
}

/// One swarm in the status.
#[derive(Clone, Debug, Serialize)]
pub struct SwarmSummary {
    /// `channel NAME` or `transfer NODE`.
    pub purpose: String,
    /// `kachery-p2p-3` or `kachery-p2p-daemon-0.2`.
    pub protocol: String,
    /// UDP and TCP port.
    pub port: u16,
    /// Open connections.
    pub connections: usize,
    /// Nodes in the DHT table.
    pub dht_nodes: usize,
}

/// One download in the status.
#[derive(Clone, Debug, Serialize)]
pub struct DownloadSummary {
    /// The file.
    pub sha1: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Of.
    pub size: u64,
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
