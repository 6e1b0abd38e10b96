//! Drives the v2 network: one TCP listener and one UDP socket per topic, one mDNS socket for all.
//!
//! ```text
//! task               owns                                         lives
//! bootstrap          nothing; resolves host names                 as long as the Network (only if there are names)
//! mdns               UDP 5353, LocalDiscovery                     as long as the Network
//! instance, 1/topic  TCP listener, UDP socket, dht Node, Peers    as long as the Swarm (aborted when it is dropped)
//!
//! channel                        capacity          when full
//! application -> instance leave  1                 cannot be: sent once
//! instance -> application        places + leaving  cannot be: a waiting connection has a place, or has just lost it
//! connection -> instance closed  places + leaving  cannot be: a connection says so once, then its place is free
//! instance -> connection         1                 cannot be: sent once, when the connection loses its place
//! instance -> mdns join          MDNS_JOINS        joining waits
//! mdns -> instance peer          MDNS_EVENTS       dropped: the peer is named again within a minute
//! ```
//!
//! There are no locks, nothing survives a crash, and no task ticks: each sleeps until a machine's next deadline.
//! Connections that were handed out stay open when their swarm ends.

mod bootstrap;
mod connection;
mod demux;
mod dht_node;
mod endpoint;
mod instance;
mod interfaces;
mod mdns;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::topic::Topic;

pub use crate::swarm::v2::Standing;
pub use connection::{Ban, Connection, Duplex};
pub use dht_node::run_dht_node;

/// How long leaving a swarm may take: the unannounce, and a little for the task to end.
const LEAVE: Duration = Duration::from_millis(2000);

/// What all swarms of a process share: bootstrap nodes, the mDNS socket, connection limits. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    bootstrap: bootstrap::Resolver,
    /// None: switched off, or the socket could not be opened.
    mdns: Option<mdns::Handle>,
}

/// How to build a [`Network`].
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// `host:port` of the bootstrap nodes (host names are resolved, again and again while they fail).
    pub bootstrap: Vec<String>,
    /// Find peers on the local network by multicast DNS.
    pub mdns: bool,
}

/// One joined topic: its own port, its own DHT node, its own peers, as in hyperswarm 2.14.
///
/// Dropping it ends the swarm at once, without unannouncing; [`Swarm::leave`] is polite.
pub struct Swarm {
    connections: mpsc::Receiver<Connection>,
    status: watch::Receiver<SwarmStatus>,
    leave: oneshot::Sender<()>,
    task: AbortOnDropHandle<()>,
}

/// What a swarm is doing, for status displays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwarmStatus {
    /// The TCP and UDP port.
    pub port: u16,
    /// Open connections.
    pub connections: usize,
    /// Nodes in the DHT routing table.
    pub dht_nodes: usize,
    /// Nodes that took our last announce.
    pub announced_to: usize,
    /// Peers known and not connected.
    pub candidates: usize,
    /// Our address as DHT nodes see it.
    pub public_address: Option<SocketAddrV4>,
}

impl Network {
    /// Starts resolving the bootstrap names and opens the mDNS socket. That the latter fails (port in use, no multicast)
    /// is a warning in the log: peers are then found by the DHT only.
    ///
    /// # Errors
    /// A bootstrap entry that is not `host:port`.
    #[allow(clippy::unused_async)] // it spawns tasks, so it has to run inside the runtime
    pub async fn start(config: NetworkConfig) -> io::Result<Self> {
        let bootstrap = bootstrap::Resolver::start(&config.bootstrap)?;
        let mdns = if config.mdns { mdns::start(interfaces::Scope::All)? } else { None };
        Ok(Self::with(bootstrap, mdns))
    }

    fn with(bootstrap: bootstrap::Resolver, mdns: Option<mdns::Handle>) -> Self {
        Self { shared: Arc::new(Shared { bootstrap, mdns }) }
    }

    /// Binds, announces and looks up until the swarm is left or dropped.
    ///
    /// # Errors
    /// No port is free for both TCP and UDP.
    pub async fn join(&self, topic: Topic) -> io::Result<Swarm> {
        instance::start(self.clone(), topic).await
    }
}

impl Swarm {
    /// The next connection, dialled or accepted. None after the swarm ended.
    pub async fn next(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }

    /// What the swarm is doing now.
    pub fn status(&self) -> SwarmStatus {
        self.status.borrow().clone()
    }

    /// Unannounces (at most 1.5 s), closes the sockets. Connections handed out stay open.
    pub async fn leave(self) {
        // An error of either means that the task has already ended.
        let _ = self.leave.send(());
        let _ = timeout(LEAVE, self.task).await;
    }
}
