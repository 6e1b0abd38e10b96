//! HTTP for local clients: the endpoints of the original daemons (`legacy`), those of our own command line
//! (`v1`), files by name (`stored`), and the `guard` that keeps web pages out.
//!
//! A request's way: a slot in `connections` (a full table closes whoever keeps us waiting longest), the
//! `guard` on the header, the bounded and timed body, then the router. Each connection is one task; it owns
//! everything of its requests, so a client that hangs up drops, and thereby cancels, its search or download.
//! Nothing here survives a crash, and nothing needs to.
//!
//! [`client`] is the other end, for the command line and for naming the program that holds our port. [`wire`] is what both
//! say.

pub mod client;
mod connections;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
mod guard;
mod legacy;
mod range;
mod respond;
mod server;
mod state;
mod stored;
mod v1;
pub mod wire;

use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Serialize;

use crate::node::{ChannelStatus, Find, Load, LoadOptions, Node, NodeError, NodeStatus};
use crate::store::{ServedFile, Sha1, StoreError};

pub use server::{Api, ApiError};

/// Where the API listens unless told otherwise, as in the original daemons.
pub const DEFAULT_PORT: u16 = 20431;

/// What the API needs from a node; its tests put a scripted one here, so that they need no network.
pub trait Backend: Send + Sync + 'static {
    /// Joined channels, in join order.
    fn channels(&self) -> Vec<ChannelStatus>;
    /// As [`Node::join_channel`].
    fn join_channel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>>;
    /// As [`Node::leave_channel`].
    fn leave_channel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>>;
    /// As [`Node::find`].
    fn find(&self, sha1: Sha1, timeout: Duration) -> Find;
    /// As [`Node::load`].
    fn load(&self, sha1: Sha1, options: LoadOptions) -> Load;
    /// As [`Node::open_stored`].
    fn open_stored(&self, sha1: Sha1) -> BoxFuture<'_, Result<Option<ServedFile>, StoreError>>;
    /// As [`Node::status`].
    fn status(&self) -> NodeStatus;
}

impl Backend for Node {
    fn channels(&self) -> Vec<ChannelStatus> {
        Self::channels(self)
    }
    fn join_channel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        Self::join_channel(self, name).boxed()
    }
    fn leave_channel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        Self::leave_channel(self, name).boxed()
    }
    fn find(&self, sha1: Sha1, timeout: Duration) -> Find {
        Self::find(self, sha1, timeout)
    }
    fn load(&self, sha1: Sha1, options: LoadOptions) -> Load {
        Self::load(self, sha1, options)
    }
    fn open_stored(&self, sha1: Sha1) -> BoxFuture<'_, Result<Option<ServedFile>, StoreError>> {
        Self::open_stored(self, sha1).boxed()
    }
    fn status(&self) -> NodeStatus {
        Self::status(self)
    }
}

/// What a daemon says about itself, besides its node's status.
#[derive(Clone, Debug, Serialize)]
pub struct About {
    /// The version of this program.
    pub version: &'static str,
    /// Its process id.
    pub pid: u32,
    /// Where this API listens.
    pub api_port: u16,
    /// Keys, `config.json`, lock file.
    pub config_dir: PathBuf,
    /// Files.
    pub storage_dir: PathBuf,
}
