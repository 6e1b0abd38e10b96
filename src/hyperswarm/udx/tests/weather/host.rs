//! What stands on the simulated network: hosts with senders and receivers, and a small paced flow that measures the
//! queue it shares with them.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::testkit::{Link, LinkId, Machine, Network};
use crate::udx::{CloseReason, Config, Endpoint, Event, Remote, SocketId, Stats, StreamId, StreamOptions};

const SOCKET: SocketId = SocketId(1);
/// Bytes after which the content repeats: a prime, so that no packet or window boundary falls in step with it.
const PERIOD: usize = 1_048_573;
static CONTENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut content = vec![0; PERIOD];
    StdRng::seed_from_u64(0).fill_bytes(&mut content);
    content.into()
});

/// The `n`th host.
pub(super) fn address(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, n), 4000)
}

/// One stream with what is to be done on it: send so many bytes and end, and read everything.
pub(super) struct Transfer {
    id: StreamId,
    to_send: u64,
    /// Of these, so many may be written so far.
    allowed: u64,
    written: u64,
    finished: bool,
    /// Bytes received, all of them right so far.
    pub(super) received: u64,
    /// The peer's end was read, and when.
    pub(super) ended: Option<Instant>,
    pub(super) closed: Option<CloseReason>,
    /// The reader takes nothing.
    pub(super) paused: bool,
}

/// A host with one socket.
pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    pub(super) transfers: Vec<Transfer>,
    now: Instant,
    /// Something came or is to be looked at before sending.
    stirred: bool,
    out: VecDeque<(SocketAddrV4, Bytes)>,
}

/// Sends a datagram every so often; keeps how long each took.
pub(super) struct Pinger {
    target: Option<SocketAddrV4>,
    interval: Duration,
    next: Instant,
    start: Instant,
    due: bool,
    pub(super) took: Vec<Duration>,
}

pub(super) enum Node {
    Host(Box<Host>),
    Pinger(Pinger),
}

impl Host {
    pub(super) fn new(now: Instant, config: Config, seed: u64) -> Self {
        Self {
            endpoint: Endpoint::new(config, seed),
            transfers: Vec::new(),
            now,
            stirred: false,
            out: VecDeque::new(),
        }
    }

    /// Opens stream `id`, connected to the same id at `peer`.
    pub(super) fn transfer(&mut self, id: u32, peer: SocketAddrV4, path_mtu: u16, to_send: u64) {
        let now = self.now;
        let options = StreamOptions { id: Some(id), ..Default::default() };
        let id = self.endpoint.open(now, options).expect("a free id");
        let remote = Remote { id: id.0, address: SocketAddr::V4(peer), path_mtu };
        self.endpoint.stream(id).expect("open").connect(now, SOCKET, remote).expect("new");
        self.transfers.push(Transfer {
            id,
            to_send,
            allowed: u64::MAX,
            written: 0,
            finished: false,
            received: 0,
            ended: None,
            closed: None,
            paused: false,
        });
        self.stirred = true;
    }

    pub(super) fn stats(&mut self, transfer: usize) -> Stats {
        let id = self.transfers[transfer].id;
        self.endpoint.stream(id).expect("open").stats()
    }

    /// Lets so many bytes more be written, of a transfer that [waits](World::talking) for it.
    pub(super) fn write(&mut self, transfer: usize, bytes: u64) {
        self.transfers[transfer].allowed += bytes;
        self.stirred = true;
    }

    pub(super) fn resume(&mut self, transfer: usize) {
        self.transfers[transfer].paused = false;
        self.stirred = true;
    }

    fn work(&mut self) {
        while let Some((id, event)) = self.endpoint.poll_event() {
            if let (Event::Closed(reason), Some(at)) = (event, self.transfers.iter().position(|t| t.id == id))
            {
                self.transfers[at].closed = Some(reason);
            }
        }
        for transfer in &mut self.transfers {
            transfer.work(&mut self.endpoint, self.now);
        }
    }
}

impl Transfer {
    fn work(&mut self, endpoint: &mut Endpoint, now: Instant) {
        let reads = !self.paused && self.ended.is_none();
        if !reads && self.finished {
            return;
        }
        let Some(mut stream) = endpoint.stream(self.id) else { return };
        while reads && let Some(bytes) = stream.read(usize::MAX) {
            self.check(&bytes);
        }
        if reads && stream.is_ended() {
            self.ended = Some(now);
        }
        if self.finished {
            return;
        }
        let mut room = stream.send_room() as u64;
        let until = self.to_send.min(self.allowed);
        while room > 0 && self.written < until {
            let at = (self.written % PERIOD as u64) as usize;
            let length = (PERIOD - at).min(65_536).min((until - self.written) as usize);
            stream.write(now, CONTENT.slice(at..at + length));
            self.written += length as u64;
            room = room.saturating_sub(length as u64);
        }
        stream.flush();
        if self.written == self.to_send {
            stream.finish(now);
            self.finished = true;
        }
    }

    fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = (self.received % PERIOD as u64) as usize;
            let (part, rest) = bytes.split_at(bytes.len().min(PERIOD - at));
            assert!(part == &CONTENT[at..at + part.len()], "wrong bytes at {}", self.received);
            self.received += part.len() as u64;
            bytes = rest;
        }
    }
}

impl Pinger {
    /// Sends to `target`, if there is one; else it only receives.
    pub(super) fn new(now: Instant, target: Option<SocketAddrV4>, interval: Duration) -> Self {
        Self { target, interval, next: now, start: now, due: false, took: Vec::new() }
    }

    /// Mean and greatest of what was measured, beyond the shortest.
    pub(super) fn queueing(&self) -> (Duration, Duration) {
        let base = self.took.iter().min().copied().unwrap_or_default();
        let sum: Duration = self.took.iter().map(|took| *took - base).sum();
        let longest = self.took.iter().max().copied().unwrap_or_default() - base;
        (sum / (self.took.len().max(1) as u32), longest)
    }
}

impl Machine for Node {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        match self {
            Self::Host(host) => {
                host.now = now;
                host.stirred = true;
                host.endpoint.handle_datagram(now, SOCKET, SocketAddr::V4(from), bytes);
            }
            Self::Pinger(pinger) => {
                let sent = u64::from_le_bytes(bytes[..8].try_into().expect("a ping"));
                pinger.took.push(now - pinger.start - Duration::from_nanos(sent));
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match self {
            Self::Host(host) => {
                host.now = now;
                host.stirred = true;
                host.endpoint.handle_timeout(now);
            }
            Self::Pinger(pinger) => {
                pinger.due = true;
                pinger.next += pinger.interval;
            }
        }
    }

    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)> {
        let host = match self {
            Self::Host(host) => host,
            Self::Pinger(pinger) => {
                let target = pinger.target.filter(|_| std::mem::take(&mut pinger.due))?;
                let mut ping = vec![0; 100];
                let sent = (pinger.next - pinger.interval - pinger.start).as_nanos() as u64;
                ping[..8].copy_from_slice(&sent.to_le_bytes());
                return Some((target, ping.into()));
            }
        };
        if std::mem::take(&mut host.stirred) {
            host.work();
        }
        if host.out.is_empty() {
            let mut buffer = Vec::with_capacity(16 * 1500);
            let transmit = host.endpoint.poll_transmit(host.now, SOCKET, 10, &mut buffer)?;
            let SocketAddr::V4(to) = transmit.destination else { panic!("only IPv4 here") };
            let mut buffer = Bytes::from(buffer);
            while !buffer.is_empty() {
                host.out.push_back((to, buffer.split_to(transmit.segment_size.min(buffer.len()))));
            }
        }
        host.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Host(host) => host.endpoint.poll_timeout(),
            Self::Pinger(pinger) => pinger.target.map(|_| pinger.next),
        }
    }
}

/// A network of such nodes.
pub(super) struct World {
    pub(super) network: Network<Node>,
    pub(super) forth: LinkId,
    pub(super) seed: u64,
}

impl World {
    /// `flows` senders (host 1, 2, ...) with a receiver each (host 101, 102, ...); data of all of them shares the
    /// link `forth`, acknowledgements share `back`.
    pub(super) fn new(seed: u64, flows: u8, bytes: u64, config: Config, (forth, back): (Link, Link)) -> Self {
        Self::on_route(seed, flows, bytes, config, (forth, back), 1500)
    }

    /// The same; the operating system says that the route takes IP packets of so many bytes.
    pub(super) fn on_route(
        seed: u64,
        flows: u8,
        bytes: u64,
        config: Config,
        links: (Link, Link),
        path_mtu: u16,
    ) -> Self {
        let mut world = Self::quiet(seed, flows, config, links);
        for n in 1..=flows {
            let (sender, receiver) = (address(n), address(100 + n));
            for (at, peer, bytes) in [(receiver, sender, 0), (sender, receiver, bytes)] {
                world.host(at, |host| host.transfer(u32::from(n), peer, path_mtu, bytes));
            }
        }
        world
    }

    /// One sender, who writes what [`Host::write`] lets him, and does not end.
    pub(super) fn talking(seed: u64, config: Config, links: (Link, Link)) -> Self {
        let mut world = Self::quiet(seed, 1, config, links);
        world.host(address(101), |host| host.transfer(1, address(1), 1500, 0));
        world.host(address(1), |host| {
            host.transfer(1, address(101), 1500, u64::MAX);
            host.transfers[0].allowed = 0;
        });
        world
    }

    /// One sender with so many streams to one receiver, who reads none of them yet.
    pub(super) fn unread(seed: u64, streams: u32, bytes: u64, config: Config, links: (Link, Link)) -> Self {
        let mut world = Self::quiet(seed, 1, config, links);
        for (at, peer, bytes) in [(address(101), address(1), 0), (address(1), address(101), bytes)] {
            world.host(at, |host| {
                (1..=streams).for_each(|id| host.transfer(id, peer, 1500, bytes));
                host.transfers.iter_mut().for_each(|transfer| transfer.paused = bytes == 0);
            });
        }
        world
    }

    /// Hosts and links, no streams.
    fn quiet(seed: u64, flows: u8, config: Config, (forth, back): (Link, Link)) -> Self {
        let start = Instant::now();
        let mut network = Network::new(start, seed, forth);
        let (forth, back) = (network.add_link(forth), network.add_link(back));
        for n in 1..=flows {
            let (sender, receiver) = (address(n), address(100 + n));
            network.route(sender, receiver, forth);
            network.route(receiver, sender, back);
            for at in [receiver, sender] {
                let host = Host::new(start, config, seed ^ u64::from(at.ip().to_bits()));
                network.add(at, Node::Host(Box::new(host)));
            }
        }
        Self { network, forth, seed }
    }

    /// Adds a small flow over the link of the data: 100 bytes every 10 ms.
    pub(super) fn add_pinger(&mut self) {
        let (from, to) = (address(200), address(201));
        self.network.route(from, to, self.forth);
        let now = self.network.now();
        let interval = Duration::from_millis(10);
        self.network.add(to, Node::Pinger(Pinger::new(now, None, interval)));
        self.network.add(from, Node::Pinger(Pinger::new(now, Some(to), interval)));
    }

    /// Mean and longest queueing delay that the small flow saw since this was called last.
    pub(super) fn queueing(&mut self) -> (Duration, Duration) {
        let measured = self.network.with(address(201), |node, _| match node {
            Node::Pinger(pinger) => {
                let result = pinger.queueing();
                pinger.took.clear();
                result
            }
            Node::Host(_) => Default::default(),
        });
        measured.expect("there is a pinger")
    }

    pub(super) fn host<T>(&mut self, at: SocketAddrV4, action: impl FnOnce(&mut Host) -> T) -> T {
        let run = |node: &mut Node, now| match node {
            Node::Host(host) => {
                host.now = now;
                action(host)
            }
            Node::Pinger(_) => panic!("{at} is no host"),
        };
        self.network.with(at, run).expect("there")
    }

    /// Bytes that the reader of a flow has.
    pub(super) fn received(&mut self, flow: u8) -> u64 {
        self.host(address(100 + flow), |host| host.transfers[0].received)
    }

    /// Bytes per second that the reader of the first flow gets in this time.
    pub(super) fn goodput(&mut self, time: Duration) -> f64 {
        let before = self.received(1);
        self.network.run(time);
        (self.received(1) - before) as f64 / time.as_secs_f64()
    }

    /// Runs until the reader of the first flow has read the end; how long that took. Panics after `patience`.
    pub(super) fn finish(&mut self, patience: Duration) -> Duration {
        let (start, seed) = (self.network.now(), self.seed);
        while self.network.now() < start + patience {
            if let Some(at) = self.host(address(101), |host| host.transfers[0].ended) {
                return at - start;
            }
            let until = self.network.now() + Duration::from_millis(20);
            while self.network.step(until) {}
        }
        let received = self.received(1);
        let closed = self.host(address(1), |host| host.transfers[0].closed);
        let stats = self.host(address(1), |host| host.stats(0));
        panic!("seed {seed}: {received} bytes in {patience:?}, closed: {closed:?}, sender: {stats:?}");
    }
}
