//! Drives the v2 network: one TCP listener and one UDP socket per topic, one mDNS socket for all.

use std::io;
use std::net::SocketAddrV4;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::hyperswarm::Topic;

/// What all swarms of a process share: bootstrap nodes, the mDNS socket, connection limits. Cheap to clone.
#[derive(Clone)]
pub struct Network {}

/// How to build a [`Network`].
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// `host:port` of the bootstrap nodes (host names are resolved, again and again while they fail).
    pub bootstrap: Vec<String>,
    /// Find peers on the local network by multicast DNS.
    pub mdns: bool,
}

/// One joined topic: its own port, its own DHT node, its own peers, as in hyperswarm 2.14.
pub struct Swarm {}

/// A byte stream to a peer. The swarm counts it until it is dropped.
pub struct Connection {
    /// The bytes.
    pub stream: Pin<Box<dyn Duplex>>,
    /// The other end.
    pub remote: SocketAddrV4,
    /// We dialled.
    pub initiator: bool,
    /// The acceptor of this transport sends nothing until it has read something (uTP).
    pub initiator_speaks_first: bool,
}

/// A readable and writable byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

/// What a swarm is doing, for status displays.
#[derive(Clone, Debug, Default)]
pub struct SwarmStatus {
    /// The TCP and UDP port.
    pub port: u16,
    /// Open connections.
    pub connections: usize,
    /// Nodes in the DHT routing table.
    pub dht_nodes: usize,
    /// Peers known and not connected.
    pub candidates: usize,
    /// Our address as DHT nodes see it.
    pub public_address: Option<SocketAddrV4>,
}

#[allow(unused_variables, missing_docs, clippy::unused_async)]
impl Network {
    pub async fn start(config: NetworkConfig) -> io::Result<Self> {
        todo!()
    }
    /// Binds, announces and looks up until the swarm is left or dropped.
    pub async fn join(&self, topic: Topic) -> io::Result<Swarm> {
        todo!()
    }
}

#[allow(unused_variables, missing_docs, clippy::unused_async)]
impl Swarm {
    /// The next connection, dialled or accepted. None after the swarm ended.
    pub async fn next(&mut self) -> Option<Connection> {
        todo!()
    }
    pub fn status(&self) -> SwarmStatus {
        todo!()
    }
    /// Unannounces (bounded in time), closes the sockets.
    pub async fn leave(self) {
        todo!()
    }
}

/// A DHT node by itself (`kachery-p2p dht-node`): answers until the future is dropped. `listen` port 0 picks one;
/// `on_ready` hears the bound address.
#[allow(unused_variables, clippy::unused_async)]
pub async fn run_dht_node(
    listen: SocketAddrV4,
    bootstrap: Vec<String>,
    on_ready: impl FnOnce(SocketAddrV4),
) -> io::Result<()> {
    todo!()
}
