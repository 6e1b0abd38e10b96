//! The task of one joined topic (`Swarm` of hyperswarm 2.14 with `NetworkResource` of @hyperswarm/network 1.5.1):
//! it listens, announces, dials, and hands out connections.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::connection::Closed;
use super::endpoint::Endpoint;
use super::{Connection, Network, Swarm, SwarmStatus, interfaces};
use crate::dht::v2::{Bootstrap, Config, Ephemeral, Event, Node, QueryId};
use crate::limits::v2::{SWARM_LEAVING, SWARM_PEERS};
use crate::net::{random, sleep_until};
use crate::swarm::v2::{Announcer, Candidate, Found, LocalPeer, Peers, Slot, Source};
use crate::topic::Topic;

/// Overall limit of connecting, as upstream.
const CONNECT: Duration = Duration::from_secs(10);
/// Tries to find a port number that is free for both TCP and UDP.
const BIND_TRIES: usize = 7;
/// How long to accept nobody after the system refused (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// How long an unannounce may take.
const UNANNOUNCE: Duration = Duration::from_millis(1500);

/// Binds and starts the task.
pub(super) async fn start(network: Network, topic: Topic) -> io::Result<Swarm> {
    let (listener, socket, port) = bind().await?;
    let now = Instant::now();
    let mut bootstrap = network.shared.bootstrap.addresses();
    let known = bootstrap.borrow_and_update().clone();
    let config = Config { bootstrap: known, ephemeral: Ephemeral::Adaptive };
    let endpoint = Endpoint::new(socket, Node::new(now, config, random::seed()?));
    let local = match &network.shared.mdns {
        Some(mdns) => Some(mdns.join(topic, port).await),
        None => None,
    };
    let (connections, receive_connections) = mpsc::channel(SWARM_PEERS + SWARM_LEAVING);
    let (closing, closed) = mpsc::channel(SWARM_PEERS + SWARM_LEAVING);
    let (status, watch_status) = watch::channel(SwarmStatus { port, ..SwarmStatus::default() });
    let (leave, left) = oneshot::channel();
    let instance = Instance {
        network,
        topic,
        listener,
        accept_after: now,
        endpoint,
        peers: Peers::new(now, port, random::seed()?),
        announcer: Announcer::new(now, random::seed()?),
        announce: None,
        announced_to: 0,
        dials: FuturesUnordered::new(),
        open: BTreeMap::new(),
        channels: Channels { bootstrap, local, connections, closing, closed, status },
    };
    let task = AbortOnDropHandle::new(tokio::spawn(instance.run(left)));
    Ok(Swarm { connections: receive_connections, status: watch_status, leave, task })
}

/// TCP first, then UDP on the number TCP got; another number where that one is taken for UDP.
async fn bind() -> io::Result<(TcpListener, UdpSocket, u16)> {
    for _ in 0..BIND_TRIES {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let port = listener.local_addr()?.port();
        match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await {
            Ok(socket) => return Ok((listener, socket, port)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    let message = format!("no port is free for both TCP and UDP after {BIND_TRIES} tries");
    Err(io::Error::new(io::ErrorKind::AddrInUse, message))
}

struct Instance {
    network: Network,
    topic: Topic,
    listener: TcpListener,
    accept_after: Instant,
    endpoint: Endpoint,
    peers: Peers,
    announcer: Announcer,
    /// The running announce.
    announce: Option<QueryId>,
    announced_to: usize,
    dials: FuturesUnordered<BoxFuture<'static, Dialled>>,
    /// Sending makes the stream of a connection fail.
    open: BTreeMap<Slot, oneshot::Sender<()>>,
    channels: Channels,
}

struct Channels {
    bootstrap: watch::Receiver<Vec<Bootstrap>>,
    local: Option<mpsc::Receiver<LocalPeer>>,
    connections: mpsc::Sender<Connection>,
    /// Given to every connection.
    closing: mpsc::Sender<Closed>,
    closed: mpsc::Receiver<Closed>,
    status: watch::Sender<SwarmStatus>,
}

/// How a dial ended.
struct Dialled {
    slot: Slot,
    addr: SocketAddrV4,
    result: io::Result<TcpStream>,
}

impl Instance {
    async fn run(mut self, mut left: oneshot::Receiver<()>) {
        loop {
            let now = Instant::now();
            self.advance(now);
            self.endpoint.transmit().await;
            let deadline = self.deadline(now);
            let accepting = self.accept_after <= now;
            let Self { listener, endpoint, dials, channels, .. } = &mut self;
            tokio::select! {
                _ = &mut left => break,
                accepted = listener.accept(), if accepting => self.accepted(accepted),
                () = endpoint.readable() => { self.endpoint.receive(Instant::now()); }
                Some(peer) = next_local(&mut channels.local) => self.found_local(peer),
                Some(dialled) = dials.next() => self.dialled(dialled),
                Some(closed) = channels.closed.recv() => {
                    self.open.remove(&closed.slot);
                    self.peers.closed(Instant::now(), closed.slot, closed.banned);
                }
                Ok(()) = channels.bootstrap.changed() => self.bootstrap_changed(),
                () = sleep_until(deadline) => {}
            }
        }
        self.leave().await;
    }

    /// Everything that is due: timers, events, dials.
    fn advance(&mut self, now: Instant) {
        self.endpoint.node.handle_timeout(now);
        self.peers.handle_timeout(now);
        if self.announcer.poll_announce(now) {
            // Port 0: the port this comes from, on which TCP listens too.
            self.announce = Some(self.endpoint.node.announce(now, self.topic, 0));
        }
        while let Some(event) = self.endpoint.node.poll_event() {
            self.handle_event(now, event);
        }
        if self.announcer.poll_lookup() {
            self.endpoint.node.lookup(now, self.topic);
        }
        while let Some((slot, candidate)) = self.peers.poll_dial(now) {
            self.dials.push(Box::pin(dial(slot, candidate)));
        }
        while let Some(displaced) = self.peers.poll_displaced() {
            // A dial is not open yet; it is told when it ends. A connection just closed needs nothing.
            let _ = self.open.remove(&displaced).map(|displace| displace.send(()));
        }
        self.publish_status();
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Peer(_, peer) => {
                let source = Source::Dht { referrer: peer.referrer, to: peer.to };
                self.peers.found(now, Found { addr: peer.addr, source }, interfaces::is_own);
            }
            Event::Done(query, outcome) if self.announce == Some(query) => {
                self.announce = None;
                self.announced_to = outcome.updated;
                self.announcer.ended(now, outcome.answered);
                if outcome.answered == 0 {
                    self.network.shared.bootstrap.resolve_again();
                }
            }
            Event::Ready | Event::Done(..) | Event::Value(..) | Event::Reached(..) => {}
        }
    }

    fn found_local(&mut self, peer: LocalPeer) {
        let found = Found { addr: peer.addr, source: Source::LocalNetwork { sender: peer.sender } };
        self.peers.found(Instant::now(), found, interfaces::is_own);
    }

    fn accepted(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                self.accept_after = Instant::now() + ACCEPT_PAUSE;
                return;
            }
        };
        let IpAddr::V4(host) = from.ip() else { return };
        // Refused: closed at once, as upstream.
        if let Some(slot) = self.peers.accept(Instant::now(), host) {
            self.hand_out(stream, SocketAddrV4::new(host, from.port()), false, slot);
        }
    }

    fn dialled(&mut self, dialled: Dialled) {
        let wanted = self.peers.dialled(Instant::now(), dialled.slot, dialled.result.is_ok());
        match dialled.result {
            Ok(stream) if wanted => self.hand_out(stream, dialled.addr, true, dialled.slot),
            Ok(_) => tracing::debug!(peer = %dialled.addr, "connected, but others took all places"),
            Err(error) => tracing::debug!(peer = %dialled.addr, %error, "could not connect"),
        }
    }

    fn hand_out(&mut self, stream: TcpStream, remote: SocketAddrV4, initiator: bool, slot: Slot) {
        // A connection that was given a place a moment ago has one.
        let Some(standing) = self.peers.standing(slot) else { return };
        // Without it small messages only wait a little longer.
        let _ = stream.set_nodelay(true);
        let closing = self.channels.closing.clone();
        let (connection, displace) = Connection::tcp(stream, remote, initiator, (slot, standing), closing);
        self.open.insert(slot, displace);
        // Never full: there is a place for every slot. Closed: the application has dropped the swarm.
        let _ = self.channels.connections.try_send(connection);
    }

    fn bootstrap_changed(&mut self) {
        let now = Instant::now();
        let bootstrap = self.channels.bootstrap.borrow_and_update().clone();
        self.endpoint.node.set_bootstrap(now, bootstrap);
        self.announcer.network_changed(now);
    }

    fn publish_status(&self) {
        let node = &self.endpoint.node;
        self.channels.status.send_if_modified(|status| {
            let new = SwarmStatus {
                port: status.port,
                connections: self.peers.connections(),
                dht_nodes: node.table_len(),
                announced_to: self.announced_to,
                candidates: self.peers.candidates(),
                public_address: node.own_address(),
            };
            let changed = *status != new;
            *status = new;
            changed
        });
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        let accept = Some(self.accept_after).filter(|at| *at > now);
        let timeouts = [
            accept,
            self.endpoint.node.poll_timeout(),
            self.peers.poll_timeout(),
            self.announcer.poll_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    /// Takes the topic back from the DHT; nobody is accepted or dialled any more.
    async fn leave(self) {
        let Self { mut endpoint, topic, listener, dials, channels, .. } = self;
        drop((listener, dials, channels));
        if endpoint.node.table_len() == 0 {
            return; // nobody to tell
        }
        let query = endpoint.node.unannounce(Instant::now(), topic, 0);
        let unannounced = async {
            loop {
                endpoint.node.handle_timeout(Instant::now());
                endpoint.transmit().await;
                while let Some(event) = endpoint.node.poll_event() {
                    if matches!(event, Event::Done(done, _) if done == query) {
                        return;
                    }
                }
                let deadline = endpoint.node.poll_timeout();
                tokio::select! {
                    () = endpoint.readable() => { endpoint.receive(Instant::now()); }
                    () = sleep_until(deadline) => {}
                }
            }
        };
        if timeout(UNANNOUNCE, unannounced).await.is_err() {
            tracing::debug!(%topic, "left before the DHT had confirmed it");
        }
    }
}

async fn next_local(local: &mut Option<mpsc::Receiver<LocalPeer>>) -> Option<LocalPeer> {
    match local {
        Some(local) => local.recv().await,
        None => None,
    }
}

/// Connects by TCP. A candidate with a referrer could be reached by a holepunch and uTP at the same time, the first to
/// connect winning; a candidate of the local network has none and is TCP only.
async fn dial(slot: Slot, candidate: Candidate) -> Dialled {
    let addr = candidate.addr;
    let result = match timeout(CONNECT, TcpStream::connect(addr)).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to the TCP connect")),
    };
    Dialled { slot, addr, result }
}
