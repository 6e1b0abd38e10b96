//! Today's network (hyperdht 6) on UDP sockets: a node of its DHT, and connections by public key through NATs.
//!
//! ```text
//!  Dht, Operation, Server,        the protocols of each socket, in their order (see net/udp)
//!  Connection (users hold)  +-----------------------------------------------------------+
//!  --- request, connect --> | 1. UDX: packets of streams that are open                  |
//!  <-- answers, streams --- | 2. Instance, a Mutex<Connector>: dht-rpc messages, probes,|
//!                           |    and packets of streams that are not open yet           |
//!                           +-----------------------------------------------------------+
//! ```
//!
//! A node has two sockets, one that asks while it is firewalled and one at which others find it, and more while it punches
//! a hole through a random NAT. All of them serve the same two protocols.
//!
//! Files, each using only those before it: `bind` (which port), `waiting` (what users of the DHT wait for), `links` (what
//! the machine wants done with streams, and who waits for them) with `connection`, `instance` (the machine), this one and
//! `operation` (what users hold).
//!
//! Tasks: one per socket, of `net/udp`; they end when the last [`Dht`] is dropped and no stream is left on the socket. One
//! per node looks for changes of our own addresses.
//!
//! Locks: the instance's, never held across a system call, nor while that of the streams is taken: what the machine wants
//! done with streams is done after it. Nothing is awaited under it.
//!
//! Queues: what a socket cannot send at once waits in the instance, bounded; results of an operation, events and
//! connections wait for their reader, bounded: see `waiting` and `links` for what happens when they are full.

mod bind;
mod connection;
mod instance;
mod links;
mod operation;
mod swarm;
#[cfg(test)]
mod tests;
mod waiting;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

pub use self::connection::{Connection, Server};
use self::instance::Instance;
pub use self::operation::{Found, NoAnswer, Operation};
pub use self::swarm::{Joined, Swarm};
pub use self::waiting::Status;
use super::udx::{self, BindOptions, UdxSocket};
use crate::dht::hyperdht::{self, Event, Hyperdht};
use crate::dht::v4::{self, CLIENT, Persistence, SERVER};
use crate::holepunch::{self, Connector};
use crate::limits::UDX_RECEIVE_BUDGET_BYTES;
use crate::net::random;
use crate::net::udp::Protocols;

/// Where the public network is entered: addresses of node1 to node3.hyperdht.org, as in hyperdht.
pub const PUBLIC_BOOTSTRAP: [SocketAddrV4; 3] = [
    SocketAddrV4::new(Ipv4Addr::new(88, 99, 3, 86), 49_737),
    SocketAddrV4::new(Ipv4Addr::new(142, 93, 90, 113), 49_737),
    SocketAddrV4::new(Ipv4Addr::new(138, 68, 147, 8), 49_737),
];

/// How a node is bound and takes part.
#[derive(Clone, Debug)]
pub struct DhtOptions {
    /// Where to enter the network.
    pub bootstrap: Vec<SocketAddrV4>,
    /// Nodes known from before ([`Dht::known`]), the best first.
    pub nodes: Vec<SocketAddrV4>,
    /// The interface of both sockets.
    pub host: Ipv4Addr,
    /// Ports for the socket at which others find us, tried in this order.
    pub ports: std::ops::Range<u16>,
    /// True: any port if none of these is free. False: that is an error.
    pub any_port: bool,
    /// Says if others may keep us in their tables.
    pub persistence: Persistence,
    /// Nothing keeps strangers from reaching us: that is not checked.
    pub open: bool,
    /// The host at which others see us, if it is known and our ports are theirs. Then nobody has to be asked, so that a
    /// node may be the first one of a network.
    pub public_host: Option<Ipv4Addr>,
}

impl DhtOptions {
    /// A node of the network that is entered there, on all interfaces and hyperdht's usual ports; it keeps others' records
    /// once it has proved to be reachable for a while.
    pub fn new(bootstrap: impl Into<Vec<SocketAddrV4>>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            nodes: Vec::new(),
            host: Ipv4Addr::UNSPECIFIED,
            ports: 49_737..49_742,
            any_port: true,
            persistence: Persistence::Adaptive,
            open: false,
            public_host: None,
        }
    }

    /// An open, persistent node on this interface and any port.
    pub fn private(host: Ipv4Addr, bootstrap: impl Into<Vec<SocketAddrV4>>) -> Self {
        let persistence = Persistence::Persistent;
        Self { host, ports: 0..0, persistence, open: true, ..Self::new(bootstrap) }
    }
}

/// A node of the DHT. Cheap to clone; closed with the last clone.
#[derive(Clone)]
pub struct Dht {
    inner: Arc<Inner>,
}

/// Closes the node.
struct Inner {
    instance: Arc<Instance>,
    client: UdxSocket,
    server: UdxSocket,
    _interfaces: AbortOnDropHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.instance.close();
    }
}

impl Dht {
    /// Binds the node's sockets and begins to enter the network. Needs a tokio runtime.
    ///
    /// # Errors
    /// No port is free, or the system gives no sockets or no randomness.
    pub fn bind(options: DhtOptions) -> io::Result<Self> {
        let streams = Arc::new(udx::Instance::new(random::seed()?, UDX_RECEIVE_BUDGET_BYTES));
        let instance = Arc::new(Instance::new());
        let protocols: Protocols = Arc::new([Arc::clone(&streams) as _, Arc::clone(&instance) as _]);
        let bind = |port| {
            let (protocols, address) = (Arc::clone(&protocols), (options.host, port).into());
            UdxSocket::assemble(Arc::clone(&streams), protocols, address, BindOptions::default())
        };
        let (server, server_task) = bind::first_free(options.ports.clone(), options.any_port, bind)?;
        let (client, client_task) = bind(0)?;
        let server_port = server.local_address().port();
        let node = v4::Config {
            bootstrap: options.bootstrap,
            nodes: options.nodes,
            persistence: options.persistence,
            open: options.open,
            server_port,
            public: options.public_host.map(|host| SocketAddrV4::new(host, server_port)),
        };
        let config = hyperdht::Config { node, unix_time: instance::unix_time() };
        let hosts = connection::local_hosts(options.host);
        let config = holepunch::Config { dht: config, hosts };
        let machine = Connector::new(Instant::now(), config, random::seed()?);
        instance.start(machine, [(CLIENT, &client), (SERVER, &server)]);
        tokio::spawn(server_task);
        tokio::spawn(client_task);
        let watched = watch_interfaces(Arc::clone(&instance), options.host);
        let _interfaces = AbortOnDropHandle::new(tokio::spawn(watched));
        Ok(Self { inner: Arc::new(Inner { instance, client, server, _interfaces }) })
    }

    /// The socket at which others find us.
    pub fn server_socket(&self) -> &UdxSocket {
        &self.inner.server
    }

    /// The socket that asks while we are firewalled.
    pub fn client_socket(&self) -> &UdxSocket {
        &self.inner.client
    }

    /// Where the server's socket is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.inner.server.local_address()
    }

    /// How the node fares.
    pub fn status(&self) -> Status {
        *self.inner.instance.status().borrow()
    }

    /// Tells of every change of [`status`](Self::status).
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.inner.instance.status().clone()
    }

    /// Waits until the status is as wanted.
    pub async fn until(&self, wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut status = self.watch();
        // Copied at once: what is borrowed must not be held while something is awaited.
        let found = status.wait_for(wanted).await.map(|status| *status);
        match found {
            Ok(status) => status,
            // The sender lives as long as this handle.
            Err(_) => std::future::pending().await,
        }
    }

    /// What happens besides operations and connections, from now on; once. When 4,096 of them wait, further ones are dropped, as the network may do.
    pub fn events(&self) -> Option<mpsc::Receiver<Event>> {
        self.inner.instance.take_events()
    }

    /// Nodes in the routing table, the latest heard first: what to save for [`DhtOptions::nodes`] of the next start.
    pub fn known(&self) -> Vec<SocketAddrV4> {
        self.with(|machine, _| machine.node().known().collect())
    }

    /// Runs `work` on the machine, then sends what it causes and tells those whom its events concern. It must not block.
    pub fn with<T>(&self, work: impl FnOnce(&mut Hyperdht, Instant) -> T) -> T {
        self.inner.instance.with(|machine, _, now| work(machine, now))
    }
}

impl std::fmt::Debug for Dht {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dht({})", self.local_address())
    }
}

/// From each look at our own addresses to the next, as upstream.
const LOOK_AT_INTERFACES: Duration = Duration::from_secs(5);

/// Tells the machine when our own addresses change, until the node is closed.
async fn watch_interfaces(instance: Arc<Instance>, host: Ipv4Addr) {
    if !host.is_unspecified() {
        return;
    }
    loop {
        tokio::time::sleep(LOOK_AT_INTERFACES).await;
        let hosts = connection::local_hosts(host);
        if instance.connect(|machine, _, now| machine.set_hosts(now, hosts)).is_none() {
            return;
        }
    }
}
