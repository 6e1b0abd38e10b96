//! What goes in and out of a [`Node`](super::Node).

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::error::LoadError;
use crate::store::{Sha1, Store};

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

/// What a load is doing; as JSON, what the API sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Another program is loading the file into the same store: waiting for it.
    Waiting {
        /// Bytes that it has on disk; never above `size`.
        bytes: u64,
        /// Of the whole file.
        size: u64,
    },
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
