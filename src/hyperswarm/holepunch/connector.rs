//! The machine's outside: events in, actions out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use zeroize::Zeroizing;

use super::context::{Bursts, Context, Out};
use super::dial::{Dial, DialOptions};
use super::error::ConnectError;
use super::handshake::{Opening, udx_info};
use super::listen::{ListenOptions, Server};
use super::own::OwnSocket;
use super::puncher::{PROBE, SHORT_LIFE};
use super::relays::KnownRelays;
use crate::codec::v4::{Firewall, List, NoisePayload};
use crate::crypto::noise::Keys;
use crate::crypto::{KeyPair, PublicKey, blake2b_256};
use crate::dht::hyperdht::{self, Hyperdht, ListenError, Target};
use crate::dht::rpc::Via;
use crate::limits::v4::MAX_DIALS;
use crate::udx::Header;

/// How a node connects, besides how it takes part in the DHT.
#[derive(Clone, Debug)]
pub struct Config {
    /// The DHT node.
    pub dht: hyperdht::Config,
    /// Our addresses in local networks; [`Connector::set_hosts`] when they change.
    pub hosts: Vec<Ipv4Addr>,
}

/// A connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(u64);

/// Our side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We dialled.
    Client(DialId),
    /// The peer dialled the key with this hash.
    Server(Target),
}

/// What the owner has to do, in this order.
pub enum Action {
    /// Bind a socket to any port.
    OpenSocket(Via),
    /// Close it.
    CloseSocket(Via),
    /// Open a stream with this id, connect it, and encrypt it with these keys.
    Connect(Box<Connect>),
    /// The stream, which has heard nothing from its peer yet, takes another way.
    Reroute {
        /// Our id of the stream.
        stream: u32,
        /// The peer's.
        remote_stream: u32,
        /// The socket to use.
        via: Via,
        /// Where the peer is.
        to: SocketAddrV4,
    },
    /// What the stream has sent may have been lost on its way: send it again now, if nothing was heard yet.
    Nudge(u32),
    /// Give this packet to the stream that was just opened.
    Deliver {
        /// Where it arrived.
        via: Via,
        /// Its sender.
        from: SocketAddrV4,
        /// All of it.
        packet: Bytes,
    },
}

/// A stream to connect.
pub struct Connect {
    /// Our id of the stream.
    pub stream: u32,
    /// The peer's.
    pub remote_stream: u32,
    /// The socket to use.
    pub via: Via,
    /// Where the peer is.
    pub to: SocketAddrV4,
    /// For the secret stream; they name the peer.
    pub keys: Keys,
    /// Our side.
    pub role: Role,
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Destination.
    pub to: SocketAddrV4,
    /// The socket that sends it.
    pub via: Via,
    /// All of it.
    pub payload: Bytes,
    /// Its life in hops; None: as usual.
    pub hops: Option<u8>,
}

/// What the owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something of the DHT.
    Dht(hyperdht::Event),
    /// Somebody dials a server that wants to be asked: [`Connector::admit`] answers.
    Knock {
        /// Which server.
        target: Target,
        /// Which handshake.
        number: usize,
        /// Who.
        remote: PublicKey,
        /// From where, as the relay says.
        address: SocketAddrV4,
    },
    /// The peer was heard: the connection stands.
    Established(DialId),
    /// The attempt has failed; a stream that was connected for it leads nowhere.
    Failed(DialId, ConnectError),
}

/// Listening servers and connection attempts of a node.
pub struct Connector {
    dht: Hyperdht,
    servers: BTreeMap<Target, Server>,
    dials: BTreeMap<DialId, Dial>,
    own: OwnSocket,
    bursts: Bursts,
    out: Out,
    known: KnownRelays,
    hosts: Vec<Ipv4Addr>,
    server_port: u16,
    last_dial: u64,
    rng: StdRng,
}

impl Connector {
    /// A node that begins at once to enter the network. `seed` decides everything random.
    pub fn new(now: Instant, config: Config, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut below = [0; 32];
        rng.fill_bytes(&mut below);
        let server_port = config.dht.node.server_port;
        let mut connector = Self {
            dht: Hyperdht::new(now, config.dht, below),
            servers: BTreeMap::new(),
            dials: BTreeMap::new(),
            own: OwnSocket::default(),
            bursts: Bursts::default(),
            out: Out::default(),
            known: KnownRelays::default(),
            hosts: config.hosts,
            server_port,
            last_dial: 0,
            rng,
        };
        connector.run(now);
        connector
    }

    /// The DHT node.
    pub fn dht(&self) -> &Hyperdht {
        &self.dht
    }

    /// Does something with the DHT node: a lookup, an announcement, a value.
    pub fn with_dht<T>(&mut self, now: Instant, action: impl FnOnce(&mut Hyperdht) -> T) -> T {
        let result = action(&mut self.dht);
        self.run(now);
        result
    }

    /// Accepts connections under a key, and announces it. Each arrives as [`Action::Connect`].
    pub fn listen(
        &mut self,
        now: Instant,
        keys: KeyPair,
        options: ListenOptions,
    ) -> Result<Target, ListenError> {
        let target = self.dht.listen(now, keys.clone())?;
        self.servers.insert(target, Server::new(target, Arc::new(keys), options));
        self.run(now);
        Ok(target)
    }

    /// Ends a server; its connections go on.
    pub fn unlisten(&mut self, now: Instant, target: Target) {
        if let Some(mut server) = self.servers.remove(&target) {
            server.close(&mut self.context(now).0);
        }
        self.dht.unlisten(now, target);
        self.run(now);
    }

    /// Answers [`Event::Knock`]. Nothing happens if it has come too late.
    pub fn admit(&mut self, now: Instant, target: Target, number: usize, remote: &PublicKey, admitted: bool) {
        let (mut context, servers, _) = self.context(now);
        if let Some(server) = servers.get_mut(&target) {
            server.admit(&mut context, number, remote, admitted);
        }
        self.run(now);
    }

    /// Dials a key with one of our own.
    pub fn dial(
        &mut self,
        now: Instant,
        keys: Arc<KeyPair>,
        remote: PublicKey,
        mut options: DialOptions,
    ) -> Result<DialId, ConnectError> {
        if self.dials.len() >= MAX_DIALS {
            return Err(ConnectError::TooMany(MAX_DIALS));
        }
        self.last_dial += 1;
        let id = DialId(self.last_dial);
        let stream = self.fresh_stream();
        if options.relay_addresses.is_empty() {
            options.relay_addresses = self.known.of(&remote);
        }
        let Ok(opening) = self.opening(keys, remote, stream, options.local) else {
            return Err(ConnectError::NotFound);
        };
        let target = blake2b_256(&[&remote.0]);
        let (mut context, _, dials) = self.context(now);
        let named = (remote, target, stream);
        let dial = Dial::new(&mut context, Role::Client(id), named, opening, options);
        dials.insert(id, dial);
        self.run(now);
        Ok(id)
    }

    /// Ends an attempt in silence.
    pub fn cancel(&mut self, now: Instant, id: DialId) {
        let (mut context, _, dials) = self.context(now);
        if let Some(mut dial) = dials.remove(&id) {
            dial.cancel(&mut context);
        }
        self.run(now);
    }

    /// Handshakes that servers have answered, or refused, and still remember.
    pub fn handshakes(&self) -> usize {
        self.servers.values().map(Server::len).sum()
    }

    /// Our addresses in local networks have changed.
    pub fn set_hosts(&mut self, now: Instant, hosts: Vec<Ipv4Addr>) {
        if self.hosts != hosts {
            self.hosts = hosts;
            self.dht.refresh(now);
            self.run(now);
        }
    }

    /// The time since 1970 is this: to be told again after the machine has slept.
    pub fn set_unix_time(&mut self, now: Instant, unix_time: Duration) {
        self.dht.set_unix_time(now, unix_time);
    }

    /// A datagram arrived that is for no stream which is open. What nobody here knows is dropped.
    pub fn handle_datagram(&mut self, now: Instant, via: Via, from: SocketAddrV4, bytes: &[u8]) {
        match bytes {
            [] | [_] => self.probed(now, via, from),
            [0xff, 1, ..] => self.contacted(now, via, from, bytes),
            _ => self.dht.handle_datagram(now, via, from, bytes),
        }
        self.run(now);
    }

    /// A stream has received its first packet since it was connected, on this socket.
    pub fn stream_heard(&mut self, now: Instant, stream: u32, via: Via) {
        let (mut context, _, dials) = self.context(now);
        if let Some(dial) = dials.values_mut().find(|dial| dial.stream == stream) {
            dial.heard(&mut context, via);
        }
        self.run(now);
    }

    /// A socket of a hole punch was closed by the owner, as the last stream on it is over.
    pub fn socket_closed(&mut self, via: Via) {
        self.out.socket_closed(via);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.dht.handle_timeout(now);
        self.run(now);
        let (mut context, servers, dials) = self.context(now);
        for server in servers.values_mut() {
            if server.poll_timeout().is_some_and(|at| at <= now) {
                server.handle_timeout(&mut context);
            }
        }
        for dial in dials.values_mut() {
            if dial.poll_timeout().is_some_and(|at| at <= now) {
                dial.handle_timeout(&mut context);
            }
        }
        self.run(now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let servers = self.servers.values().filter_map(Server::poll_timeout).min();
        let dials = self.dials.values().filter_map(Dial::poll_timeout).min();
        [self.dht.poll_timeout(), servers, dials].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        if let Some(probe) = self.out.probes.pop_front() {
            let hops = probe.short_lived.then_some(SHORT_LIFE);
            let payload = Bytes::from_static(&PROBE);
            return Some(Transmit { to: probe.to, via: probe.via, payload, hops });
        }
        let hyperdht::Transmit { to, via, payload } = self.dht.poll_transmit()?;
        Some(Transmit { to, via, payload, hops: None })
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// The stream of an attempt.
    #[cfg(test)]
    pub(super) fn stream_of(&self, id: DialId) -> Option<u32> {
        self.dials.get(&id).map(|dial| dial.stream)
    }

    /// Packets that wait for the replies of servers.
    #[cfg(test)]
    pub(super) fn early_packets(&self) -> usize {
        self.dials.values().map(Dial::early_packets).sum()
    }

    fn probed(&mut self, now: Instant, via: Via, from: SocketAddrV4) {
        let (mut context, servers, dials) = self.context(now);
        let for_dial = dials.values_mut().any(|dial| dial.probed(&mut context, via, from));
        if !for_dial {
            servers.values_mut().any(|server| server.probed(&mut context, via, from));
        }
    }

    /// A packet for a stream that is not open yet: now it is.
    fn contacted(&mut self, now: Instant, via: Via, from: SocketAddrV4, packet: &[u8]) {
        let Ok(header) = Header::decode(packet) else { return };
        let (mut context, servers, dials) = self.context(now);
        if let Some(dial) = dials.values_mut().find(|dial| dial.stream == header.stream) {
            return dial.contacted(&mut context, via, from, packet);
        }
        if servers.values_mut().any(|server| server.contacted(&mut context, header.stream, via, from)) {
            context.out.act(Action::Deliver { via, from, packet: Bytes::copy_from_slice(packet) });
        }
    }

    /// Handles what the DHT tells, and attempts that have ended, until nothing is left.
    fn run(&mut self, now: Instant) {
        loop {
            while let Some(event) = self.dht.poll_event() {
                self.handle_event(now, event);
            }
            let ended = self.dials.iter().find_map(|(id, dial)| Some((*id, dial.end()?)));
            let Some((id, end)) = ended else { return };
            if let Some(dial) = self.dials.remove(&id) {
                if end.is_ok() {
                    self.known.learn(dial.remote, dial.relays());
                }
                self.out.events.push_back(match end {
                    Ok(()) => Event::Established(id),
                    Err(error) => Event::Failed(id, error),
                });
            }
        }
    }

    fn handle_event(&mut self, now: Instant, event: hyperdht::Event) {
        let (mut context, servers, dials) = self.context(now);
        let ours = match &event {
            hyperdht::Event::Handshake(message) => {
                if let Some(server) = servers.get_mut(&message.target) {
                    server.handshake(&mut context, message.clone());
                }
                true
            }
            hyperdht::Event::Holepunch(message) => {
                if let Some(server) = servers.get_mut(&message.target) {
                    server.holepunch(&mut context, message);
                }
                true
            }
            hyperdht::Event::Peer(operation, found) => {
                dials.values_mut().any(|dial| dial.found(&mut context, *operation, found))
            }
            hyperdht::Event::Done(operation, _) => {
                dials.values_mut().any(|dial| dial.walked(&mut context, *operation))
            }
            hyperdht::Event::Answered(request, answer) => {
                dials.values_mut().any(|dial| dial.answered(&mut context, *request, Some(answer)))
                    || self.request_ended(now, *request)
            }
            hyperdht::Event::Unanswered(request) => {
                dials.values_mut().any(|dial| dial.answered(&mut context, *request, None))
                    || self.request_ended(now, *request)
            }
            _ => false,
        };
        if !ours {
            self.out.events.push_back(Event::Dht(event));
        }
    }

    /// A request that is of no attempt: a ping that asks how our socket is seen.
    fn request_ended(&mut self, now: Instant, request: hyperdht::RequestId) -> bool {
        let ours = self.own.ended(now, &mut self.dht, request);
        if ours {
            let (mut context, servers, dials) = self.context(now);
            servers.values_mut().for_each(|server| server.handle_timeout(&mut context));
            dials.values_mut().for_each(|dial| dial.handle_timeout(&mut context));
        }
        ours
    }

    /// Our half of a handshake.
    fn opening(
        &mut self,
        keys: Arc<KeyPair>,
        remote: PublicKey,
        stream: u32,
        local: bool,
    ) -> Result<Opening, crate::crypto::noise::HandshakeError> {
        let open = self.dht.node().remote_address();
        let near = self.hosts.iter().filter(|_| local).map(|host| SocketAddrV4::new(*host, self.server_port));
        let addresses: Vec<_> = open.into_iter().chain(near).collect();
        let payload = NoisePayload {
            firewall: if open.is_some() { Firewall::OPEN } else { Firewall::UNKNOWN },
            addresses4: List::from(addresses.as_slice()),
            udx: Some(udx_info(stream)),
            secret_stream: Some(1),
            ..NoisePayload::default()
        };
        let mut seed = Zeroizing::new([0; 32]);
        self.rng.fill_bytes(&mut *seed);
        Opening::new(keys, remote, seed, &payload)
    }

    /// An id that no stream under way has. The owner refuses one that an open stream has, which is one in millions.
    fn fresh_stream(&mut self) -> u32 {
        loop {
            let stream = rand::RngExt::random(&mut self.rng);
            let taken = self.dials.values().any(|dial| dial.stream == stream)
                || self.servers.values().any(|server| server.has(stream));
            if !taken {
                return stream;
            }
        }
    }

    /// What the parts need, and the parts.
    fn context(
        &mut self,
        now: Instant,
    ) -> (Context<'_>, &mut BTreeMap<Target, Server>, &mut BTreeMap<DialId, Dial>) {
        let Self { dht, own, bursts, out, hosts, server_port, rng, .. } = self;
        let context = Context { now, dht, own, bursts, out, hosts, server_port: *server_port, rng };
        (context, &mut self.servers, &mut self.dials)
    }
}
