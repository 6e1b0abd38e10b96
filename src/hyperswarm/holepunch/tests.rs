//! Peers on the simulated network, behind NATs and firewalls: each is a host with the two sockets of its node, some more
//! for hole punches, and streams that echo.

mod limits;
mod matrix;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::crypto::{KeyPair, PublicKey};
use crate::dht::hyperdht;
use crate::dht::rpc::Via;
use crate::dht::v4::{self, Persistence, SERVER};
use crate::testkit::{Link, Machine, Nat, Network};
use crate::udx::{self, Disposition, Endpoint, Remote, SocketId, StreamId, StreamOptions};

const SECOND: Duration = Duration::from_secs(1);
const SERVER_PORT: u16 = 49_737;
/// Socket n has this port and n.
const FIRST_PORT: u16 = 40_000;
/// Sockets a host can have.
const SOCKETS: u16 = 700;

/// A host.
struct Host {
    connector: Connector,
    streams: Endpoint,
    address: Ipv4Addr,
    /// What each of our streams has received.
    received: BTreeMap<u32, Vec<u8>>,
    connected: Vec<(Role, u32, PublicKey)>,
    events: Vec<Event>,
    /// Sockets open besides the node's two.
    sockets: usize,
    now: Instant,
}

impl Host {
    fn port(via: Via) -> u16 {
        if via == SERVER { SERVER_PORT } else { FIRST_PORT + via.0 }
    }

    fn via(at: SocketAddrV4) -> Via {
        if at.port() == SERVER_PORT { SERVER } else { Via(at.port() - FIRST_PORT) }
    }

    fn remote(id: u32, address: SocketAddrV4) -> Remote {
        Remote { id, address: address.into(), path_mtu: 1500 }
    }

    /// Does what the connector wants, and tells it what the streams hear.
    fn settle(&mut self, now: Instant) {
        self.now = now;
        loop {
            let mut idle = true;
            while let Some(action) = self.connector.poll_action() {
                idle = false;
                self.act(now, action);
            }
            while let Some((StreamId(stream), event)) = self.streams.poll_event() {
                idle = false;
                self.stream_event(now, stream, event);
            }
            while let Some(event) = self.connector.poll_event() {
                self.events.push(event);
            }
            if idle {
                return;
            }
        }
    }

    fn act(&mut self, now: Instant, action: Action) {
        match action {
            Action::OpenSocket(_) => self.sockets += 1,
            Action::CloseSocket(_) => self.sockets -= 1,
            Action::Connect(connect) => {
                let Connect { stream, remote_stream, via, to, keys, role } = *connect;
                let options = StreamOptions { id: Some(stream), ..StreamOptions::default() };
                let id = self.streams.open(now, options).expect("a free id");
                let mut guard = self.streams.stream(id).expect("just opened");
                guard
                    .connect(now, SocketId(via.0.into()), Self::remote(remote_stream, to))
                    .expect("connects");
                guard.write(
                    now,
                    Bytes::from_static(if matches!(role, Role::Client(_)) { b"hello" } else { b"" }),
                );
                guard.write(now, Bytes::from_static(b"!"));
                guard.flush();
                drop(guard);
                self.connected.push((role, stream, keys.remote));
            }
            Action::Reroute { stream, remote_stream, via, to } => {
                if let Some(mut guard) = self.streams.stream(StreamId(stream)) {
                    guard
                        .reroute(now, SocketId(via.0.into()), Self::remote(remote_stream, to))
                        .expect("connected");
                }
            }
            Action::Nudge(stream) => {
                if let Some(mut guard) = self.streams.stream(StreamId(stream)) {
                    guard.nudge(now);
                }
            }
            Action::Deliver { via, from, packet } => {
                self.streams.handle_datagram(now, SocketId(via.0.into()), from.into(), &packet);
            }
        }
    }

    fn stream_event(&mut self, now: Instant, stream: u32, event: udx::Event) {
        if event != udx::Event::Readable {
            return;
        }
        let Some(mut guard) = self.streams.stream(StreamId(stream)) else { return };
        let all = self.received.entry(stream).or_default();
        let first = all.is_empty();
        while let Some(bytes) = guard.read(usize::MAX) {
            all.extend_from_slice(&bytes);
        }
        let way = guard.remote().map(|(socket, _)| Via(socket.0 as u16));
        let serves =
            self.connected.iter().any(|(role, id, _)| *id == stream && matches!(role, Role::Server(_)));
        if serves && first {
            guard.write(now, Bytes::from_static(b"echo"));
            guard.flush();
        }
        drop(guard);
        if let Some(via) = way.filter(|_| first) {
            self.connector.stream_heard(now, stream, via);
        }
    }

    /// What arrived on the stream that a dial opened.
    fn heard_by_dial(&self, dial: DialId) -> Option<&[u8]> {
        let (_, stream, _) = self.connected.iter().find(|(role, ..)| *role == Role::Client(dial))?;
        self.received.get(stream).map(Vec::as_slice)
    }
}

impl Machine for Host {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        self.handle_datagram_at(now, SocketAddrV4::new(self.address, SERVER_PORT), from, bytes);
    }

    fn handle_datagram_at(&mut self, now: Instant, at: SocketAddrV4, from: SocketAddrV4, bytes: &[u8]) {
        let via = Self::via(at);
        let taken = self.streams.handle_datagram(now, SocketId(via.0.into()), SocketAddr::V4(from), bytes);
        if taken == Disposition::NotUdx {
            self.connector.handle_datagram(now, via, from, bytes);
        }
        self.settle(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.streams.handle_timeout(now);
        self.connector.handle_timeout(now);
        self.settle(now);
    }

    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)> {
        self.poll_transmit_from().map(|(_, to, payload)| (to, payload))
    }

    fn poll_transmit_from(&mut self) -> Option<(Option<SocketAddrV4>, SocketAddrV4, Bytes)> {
        let at = |via: Via| Some(SocketAddrV4::new(self.address, Self::port(via)));
        if let Some(Transmit { to, via, payload, .. }) = self.connector.poll_transmit() {
            return Some((at(via), to, payload));
        }
        let mut buffer = Vec::new();
        for socket in 0..u32::from(SOCKETS) {
            if !self.streams.wants_transmit(SocketId(socket)) {
                continue;
            }
            if let Some(transmit) = self.streams.poll_transmit(self.now, SocketId(socket), 1, &mut buffer)
                && let SocketAddr::V4(to) = transmit.destination
            {
                return Some((at(Via(socket as u16)), to, buffer.into()));
            }
        }
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.streams.poll_timeout(), self.connector.poll_timeout()].into_iter().flatten().min()
    }
}

/// The `n`th host of the open network.
fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(11, 0, 0, n)
}

fn server_of(address: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(address, SERVER_PORT)
}

fn keys(seed: u8) -> Arc<KeyPair> {
    Arc::new(KeyPair::from_seed(&[seed; 32]))
}

fn add(network: &mut Network<Host>, address: Ipv4Addr, node: v4::Config, seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let dht = hyperdht::Config { node, unix_time: Duration::from_secs(1_700_000_000) };
    let connector = Connector::new(network.now(), Config { dht, hosts: vec![address] }, bytes);
    let host = Host {
        connector,
        streams: Endpoint::new(udx::Config::default(), seed),
        address,
        received: BTreeMap::new(),
        connected: Vec::new(),
        events: Vec::new(),
        sockets: 0,
        now: network.now(),
    };
    let at = server_of(address);
    (0..SOCKETS).filter(|n| *n != SERVER.0).for_each(|n| {
        network.add_socket(SocketAddrV4::new(address, Host::port(Via(n))), at);
    });
    network.add(at, host);
}

fn node(bootstrap: &[SocketAddrV4], persistence: Persistence) -> v4::Config {
    v4::Config {
        bootstrap: bootstrap.to_vec(),
        nodes: Vec::new(),
        persistence,
        open: false,
        server_port: SERVER_PORT,
        public: None,
    }
}

/// A DHT of `count` open nodes, at hosts 1 and up.
fn dht(count: u8, seed: u64, link: Link) -> Network<Host> {
    let mut network = Network::new(Instant::now(), seed, link);
    let first = v4::Config { public: Some(server_of(host(1))), ..node(&[], Persistence::Persistent) };
    add(&mut network, host(1), first, seed << 32);
    for n in 2..=count {
        add(
            &mut network,
            host(n),
            node(&[server_of(host(1))], Persistence::Persistent),
            seed << 32 | u64::from(n),
        );
        network.run(Duration::from_millis(200));
    }
    network.run(20 * SECOND);
    network
}

/// What is between a peer and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Nothing,
    A(Nat),
}

/// A peer behind a box of its own, with a number below 200.
fn peer(network: &mut Network<Host>, n: u8, behind: Behind) -> SocketAddrV4 {
    let own = match behind {
        Behind::Nothing | Behind::A(Nat::Firewall) => Ipv4Addr::new(12, 0, n, 1),
        Behind::A(_) => Ipv4Addr::new(10, 0, n, 1),
    };
    if let Behind::A(nat) = behind {
        let id = network.add_nat(Ipv4Addr::new(13, 0, 0, n), nat);
        network.put_behind(own, id);
    }
    add(network, own, node(&[server_of(host(1))], Persistence::Adaptive), 1000 + u64::from(n));
    server_of(own)
}

/// Listens at `at`, and waits until it is announced.
fn listen(network: &mut Network<Host>, at: SocketAddrV4, seed: u8) {
    let pair = KeyPair::from_seed(&[seed; 32]);
    let listening =
        network.with(at, |host, now| host.connector.listen(now, pair, ListenOptions::default()).is_ok());
    assert_eq!(listening, Some(true));
    network.run(3 * SECOND);
}

/// How an attempt went.
#[derive(Debug)]
struct Dialled {
    /// From the dial to the first byte of the server.
    first_byte: Option<Duration>,
    echoed: bool,
    failed: Option<ConnectError>,
}

/// Dials and waits for the echo, or for the end.
fn dial(network: &mut Network<Host>, at: SocketAddrV4, server: u8) -> Dialled {
    let start = network.elapsed();
    let id = network.with(at, |host, now| {
        let id =
            host.connector.dial(now, keys(99), keys(server).public(), DialOptions::default()).expect("dials");
        host.settle(now);
        id
    });
    let id = id.expect("a machine");
    let mut dialled = Dialled { first_byte: None, echoed: false, failed: None };
    for _ in 0..70_000 {
        let host = network.machine(at).expect("a machine");
        let heard = host.heard_by_dial(id).unwrap_or_default();
        if !heard.is_empty() && dialled.first_byte.is_none() {
            dialled.first_byte = Some(network.elapsed() - start);
        }
        dialled.echoed = heard.windows(4).any(|bytes| bytes == b"echo");
        dialled.failed = host.events.iter().find_map(|event| match event {
            Event::Failed(failed, error) if *failed == id => Some(*error),
            _ => None,
        });
        if dialled.echoed || dialled.failed.is_some() {
            break;
        }
        network.run(Duration::from_millis(1));
    }
    dialled
}
