//! The mDNS task: one socket on port 5353 for all topics of the process, shared with every other mDNS program of the
//! machine (`multicast-dns` 7.2.5, which rescans the interfaces every 5 s; here it happens when a question is due).

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::interfaces::{self, Interface, Scope};
use crate::codec::v2::mdns::GROUP;
use crate::limits::v2::{MDNS_EVENTS, MDNS_JOINS, MDNS_PACKET, UDP_BATCH};
use crate::net::random;
use crate::swarm::v2::{LocalDiscovery, LocalPeer, Registration};
use crate::topic::Topic;

/// Between two looks at the list of interfaces.
const RESCAN: Duration = Duration::from_secs(25);

/// Reaches the task, which ends when the last of these is dropped.
#[derive(Clone)]
pub(super) struct Handle {
    joins: mpsc::Sender<Join>,
}

struct Join {
    topic: Topic,
    port: u16,
    peers: mpsc::Sender<LocalPeer>,
}

impl Handle {
    /// Asks and answers for a topic until the receiver is dropped.
    pub(super) async fn join(&self, topic: Topic, port: u16) -> mpsc::Receiver<LocalPeer> {
        let (peers, receiver) = mpsc::channel(MDNS_EVENTS);
        // The task lives as long as we do; if it had failed, the receiver would simply stay silent.
        let _ = self.joins.send(Join { topic, port, peers }).await;
        receiver
    }
}

/// Opens the socket and starts the task. None, with a warning, if the port cannot be had. Interfaces that cannot do
/// multicast, or are not there yet, are tried again with every question.
pub(super) fn start(scope: Scope) -> io::Result<Option<Handle>> {
    let socket = match open() {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "no multicast DNS: peers of the local network are found by the DHT only");
            return Ok(None);
        }
    };
    let task = Task {
        socket,
        scope,
        interfaces: Vec::new(),
        scanned: None,
        local: LocalDiscovery::new(random::seed()?),
        peers: BTreeMap::new(),
        warned: false,
    };
    let (joins, receiver) = mpsc::channel(MDNS_JOINS);
    tokio::spawn(task.run(receiver));
    Ok(Some(Handle { joins }))
}

fn open() -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // Where SO_REUSEADDR alone does not let programs share a multicast port.
    #[cfg(any(target_os = "macos", target_os = "ios", target_os = "freebsd"))]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, GROUP.1)).into())?;
    socket.set_multicast_ttl_v4(255)?;
    socket.set_multicast_loop_v4(true)?;
    UdpSocket::from_std(socket.into())
}

struct Task {
    socket: UdpSocket,
    scope: Scope,
    /// Those whose group we have joined.
    interfaces: Vec<Interface>,
    scanned: Option<Instant>,
    local: LocalDiscovery,
    peers: BTreeMap<Registration, mpsc::Sender<LocalPeer>>,
    /// A failure was reported since the last success.
    warned: bool,
}

impl Task {
    async fn run(mut self, mut joins: mpsc::Receiver<Join>) {
        let mut buffer = vec![0; MDNS_PACKET + 1];
        self.rescan(Instant::now());
        loop {
            let now = Instant::now();
            self.forget_left();
            if self.local.poll_timeout().is_some_and(|deadline| deadline <= now) {
                // Right before we speak: new interfaces are joined in time to hear the answers.
                self.rescan(now);
                self.local.handle_timeout(now);
            }
            self.send().await;
            let deadline = self.local.poll_timeout();
            tokio::select! {
                join = joins.recv() => match join {
                    Some(join) => self.register(join),
                    None => return,
                },
                _ = self.socket.readable() => self.receive(&mut buffer),
                () = crate::net::sleep_until(deadline) => {}
            }
        }
    }

    fn register(&mut self, join: Join) {
        let registration = self.local.register(Instant::now(), join.topic, join.port);
        self.peers.insert(registration, join.peers);
    }

    /// An instance leaves by dropping its receiver.
    fn forget_left(&mut self) {
        if self.peers.values().any(mpsc::Sender::is_closed) {
            self.peers.retain(|_, peers| !peers.is_closed());
            self.local.retain(|registration| self.peers.contains_key(&registration));
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) {
        let now = Instant::now();
        for _ in 0..UDP_BATCH {
            let (length, from) = match self.socket.try_recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => continue,
            };
            let (SocketAddr::V4(from), Some(bytes)) = (from, buffer.get(..length)) else { continue };
            if !is_acceptable(&self.interfaces, from, length) {
                continue;
            }
            self.local.handle_datagram(now, from, bytes);
            while let Some(peer) = self.local.poll_event() {
                if let Some(peers) = self.peers.get(&peer.registration) {
                    // Full: dropped, the peer is named again within a minute.
                    let _ = peers.try_send(peer);
                }
            }
        }
    }

    async fn send(&mut self) {
        while let Some(packet) = self.local.poll_transmit() {
            let result = match self.send_one(&packet).await {
                Err(error) if no_route(&error) => self.send_by_interface(&packet).await,
                other => other,
            };
            match result {
                Ok(_) => self.warned = false,
                Err(error) => self.warn(&error),
            }
        }
    }

    /// Once, until something works again: the cause is in the machine's network and lasts.
    fn warn(&mut self, error: &io::Error) {
        if !self.warned {
            tracing::warn!(%error, "multicast DNS does not work at the moment");
            self.warned = true;
        }
    }

    async fn send_one(&self, packet: &[u8]) -> io::Result<usize> {
        self.socket.send_to(packet, SocketAddrV4::new(GROUP.0, GROUP.1)).await
    }

    /// Without a default route the system does not know where to: out of the first interface that is not loopback.
    async fn send_by_interface(&self, packet: &[u8]) -> io::Result<usize> {
        let outward = self.interfaces.iter().map(|i| i.ip).find(|ip| !ip.is_loopback());
        SockRef::from(&self.socket).set_multicast_if_v4(&outward.unwrap_or(Ipv4Addr::LOCALHOST))?;
        self.send_one(packet).await
    }

    /// Joins the group on every interface that has come, and chooses where to send.
    fn rescan(&mut self, now: Instant) {
        if self.scanned.is_some_and(|last| now.saturating_duration_since(last) < RESCAN) {
            return;
        }
        self.scanned = Some(now);
        if let Err(error) = self.join_all() {
            self.warn(&error);
        }
    }

    /// An interface that fails does not keep the others from being used; the last failure is returned.
    fn join_all(&mut self) -> io::Result<()> {
        let present = interfaces::list(self.scope)?;
        if present == self.interfaces {
            return Ok(());
        }
        let mut result = Ok(());
        self.interfaces.clear();
        for interface in present {
            match self.socket.join_multicast_v4(GROUP.0, interface.ip) {
                Ok(()) => self.interfaces.push(interface),
                // Joined before, under this or an earlier address.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => self.interfaces.push(interface),
                Err(error) => result = Err(error),
            }
        }
        let outward = self.interfaces.iter().any(|i| !i.ip.is_loopback());
        let outgoing = if outward { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        SockRef::from(&self.socket).set_multicast_if_v4(&outgoing).and(result)
    }
}

/// Whole, and from a host that can have sent it to the group: a host elsewhere could send to our port directly.
fn is_acceptable(interfaces: &[Interface], from: SocketAddrV4, length: usize) -> bool {
    length <= MDNS_PACKET && interfaces::is_neighbour(interfaces, *from.ip())
}

fn no_route(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::codec::v2::mdns::{Message, Query, Response, Service};

    #[test]
    fn joining_waits_when_more_topics_than_the_limit_are_waiting() {
        let (joins, _receiver) = mpsc::channel(MDNS_JOINS);
        let handle = Handle { joins };
        let joined =
            (0..=MDNS_JOINS).filter(|_| handle.join(Topic([0; 32]), 1).now_or_never().is_some()).count();
        assert_eq!(joined, MDNS_JOINS);
    }

    #[test]
    fn a_packet_from_outside_the_local_network_is_dropped() {
        let from = |host: [u8; 4]| SocketAddrV4::new(host.into(), GROUP.1);
        assert!(is_acceptable(&[], from([192, 168, 1, 9]), 100));
        assert!(!is_acceptable(&[], from([203, 0, 113, 9]), 100));
    }

    #[tokio::test]
    async fn a_packet_of_the_largest_size_is_read_and_a_larger_one_is_not() {
        let socket = open().unwrap();
        if socket.join_multicast_v4(GROUP.0, Ipv4Addr::LOCALHOST).is_err() {
            eprintln!("SKIPPED: this machine has no multicast on loopback");
            return;
        }
        SockRef::from(&socket).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        let topic = Topic(random::seed().unwrap());
        let handle = start(Scope::Loopback).unwrap().unwrap();
        let mut peers = handle.join(topic, 1).await;
        // The task has joined the group when it asks.
        let question = Message::Query(Query { questions: vec![topic.into()], known: vec![] });
        let mut buffer = [0; 100];
        loop {
            let length = socket.recv(&mut buffer).await.unwrap();
            if Message::decode(&buffer[..length]).ok().as_ref() == Some(&question) {
                break;
            }
        }
        for (port, length) in [(1001, MDNS_PACKET + 1), (1002, MDNS_PACKET)] {
            let service = Service { name: topic.into(), port, target: Ipv4Addr::UNSPECIFIED, id: None };
            let mut packet = Message::Response(Response { services: vec![service], asker: None }).encode();
            packet.resize(length, 0);
            socket.send_to(&packet, SocketAddrV4::new(GROUP.0, GROUP.1)).await.unwrap();
        }
        let peer = timeout(Duration::from_secs(30), peers.recv()).await.unwrap().unwrap();
        assert_eq!(peer.addr.port(), 1002);
    }
}
