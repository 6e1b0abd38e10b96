//! Nodes on loopback with a private DHT.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use hyperswarm::net::v2::run_dht_node;
use kachery_p2p::node::{Load, LoadError, LoadOptions, Loaded, Node, NodeConfig};
use kachery_p2p::store::{Sha1, Store};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// Everything in these tests happens within this time, or something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A DHT of one node.
pub(crate) struct PrivateDht {
    pub(crate) address: SocketAddrV4,
    task: JoinHandle<()>,
}

impl PrivateDht {
    pub(crate) async fn start() -> Self {
        let (ready, bound) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
            let on_ready = |address| {
                let _ = ready.send(address);
            };
            run_dht_node(listen, Vec::new(), on_ready).await.expect("the DHT node");
        });
        let address = bound.await.expect("bound");
        Self { address, task }
    }
}

impl Drop for PrivateDht {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A node with its folders, which go with it.
pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) folder: TempDir,
}

impl TestNode {
    pub(crate) async fn start(dht: &PrivateDht, channels: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let node = start_in(folder.path().to_owned(), dht, channels).await;
        Self { node, folder }
    }

    /// Stores seeded random bytes.
    pub(crate) fn put(&self, size: usize, seed: u64) -> Sha1 {
        let path = self.folder.path().join("source");
        std::fs::write(&path, bytes(size, seed)).expect("write");
        self.node.store().put_file(&path).expect("store").sha1
    }

    pub(crate) async fn load(&self, sha1: Sha1) -> Result<Loaded, LoadError> {
        finish(self.node.load(sha1, options())).await
    }

    /// Waits until the channel has this many peers.
    pub(crate) async fn connected(&self, channel: &str, peers: usize) {
        eventually("peers in the channel", || {
            self.node.channels().iter().any(|status| status.name == channel && status.peers >= peers)
        })
        .await;
    }
}

/// A node whose folders outlive it.
pub(crate) async fn start_in(folder: PathBuf, dht: &PrivateDht, channels: &[&str]) -> Node {
    let store = Store::open(&folder.join("store")).expect("store");
    let config = NodeConfig {
        config_dir: folder.join("config"),
        store,
        channels: channels.iter().map(|name| (*name).to_owned()).collect(),
        bootstrap_v2: vec![dht.address.to_string()],
        mdns: false,
        api_port: 0,
    };
    Node::start(config).await.expect("node")
}

pub(crate) fn options() -> LoadOptions {
    LoadOptions { timeout: Duration::from_secs(15), provider: None }
}

pub(crate) async fn finish(load: Load) -> Result<Loaded, LoadError> {
    tokio::time::timeout(PATIENCE, load.done).await.expect("in time").expect("an outcome")
}

/// Polls something that no event tells to the outside.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let check = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, check).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}

pub(crate) fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}
