//! A server: who dials one of our keys (hyperdht `lib/server.js`).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{Rng, RngExt};
use zeroize::Zeroizing;

use super::addresses::{is_private, nearest};
use super::handshake::{Knock, PeerInfo, udx_info};
use super::puncher::Probe;
use super::slot::{Client, Slot};
use super::strategy::keeps_ports;
use super::{Context, Event, Role};
use crate::codec::v4::{Firewall, HolepunchInfo, List, Mode, NoisePayload, PeerError};
use crate::crypto::{KeyPair, PublicKey, blake2b_256};
use crate::dht::hyperdht::{HandshakeMessage, HolepunchMessage, Target};
use crate::dht::rpc::Via;
use crate::limits::v4::{MAX_HANDSHAKES, MAX_HANDSHAKES_PER_HOST};

/// How long a handshake is remembered that was refused, or waits for a decision.
const REMEMBERED: Duration = Duration::from_secs(10);

/// How to listen.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Clients are told our addresses in the local network (`shareLocalAddress`).
    pub share_local_address: bool,
    /// Holes are punched for clients (`holepunch`).
    pub punch: bool,
    /// [`Event::Knock`] for each client, which waits for [`super::Connector::admit`] (`firewall`).
    pub ask: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { share_local_address: true, punch: true, ask: false }
    }
}

/// A listening key.
pub(super) struct Server {
    target: Target,
    keys: Arc<KeyPair>,
    options: ListenOptions,
    /// By number, as clients repeat it.
    slots: Vec<Option<Entry>>,
    /// Numbers of slots, by the hash of the client's message.
    numbers: BTreeMap<[u8; 32], usize>,
}

enum Entry {
    Answered(Box<Slot>),
    /// The owner has to decide.
    Asked(Box<Asked>),
    /// There is no answer, as often as it may be sent.
    Refused {
        message: [u8; 32],
        client: Ipv4Addr,
        passed_by: Ipv4Addr,
        until: Instant,
    },
}

struct Asked {
    hash: [u8; 32],
    knock: Knock,
    message: HandshakeMessage,
    until: Instant,
}

impl Entry {
    fn message(&self) -> [u8; 32] {
        match self {
            Self::Answered(slot) => slot.message,
            Self::Asked(asked) => asked.hash,
            Self::Refused { message, .. } => *message,
        }
    }

    /// The client's host as it was named, and the host that passed its message on.
    fn hosts(&self) -> (Ipv4Addr, Ipv4Addr) {
        match self {
            Self::Answered(slot) => (*slot.client.ip(), slot.passed_by),
            Self::Asked(asked) => hosts(&asked.message),
            Self::Refused { client, passed_by, .. } => (*client, *passed_by),
        }
    }

    fn is_pending(&self) -> bool {
        match self {
            Self::Answered(slot) => slot.is_pending(),
            Self::Asked(_) | Self::Refused { .. } => true,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        match self {
            Self::Answered(slot) => slot.is_over(now),
            Self::Asked(asked) => now >= asked.until,
            Self::Refused { until, .. } => now >= *until,
        }
    }

    fn poll_timeout(&self) -> Instant {
        match self {
            Self::Answered(slot) => slot.poll_timeout(),
            Self::Asked(asked) => asked.until,
            Self::Refused { until, .. } => *until,
        }
    }
}

impl Server {
    pub(super) fn new(target: Target, keys: Arc<KeyPair>, options: ListenOptions) -> Self {
        Self { target, keys, options, slots: Vec::new(), numbers: BTreeMap::new() }
    }

    /// Handshakes that are remembered.
    pub(super) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.slots.iter().flatten().map(Entry::poll_timeout).min()
    }

    pub(super) fn handle_timeout(&mut self, context: &mut Context<'_>) {
        for number in 0..self.slots.len() {
            let Some(Some(entry)) = self.slots.get_mut(number) else { continue };
            if let Entry::Answered(slot) = entry {
                slot.handle_timeout(context);
            }
            if entry.is_over(context.now) {
                self.clear(context, number);
            }
        }
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
    }

    /// Ends all handshakes.
    pub(super) fn close(&mut self, context: &mut Context<'_>) {
        (0..self.slots.len()).for_each(|number| self.clear(context, number));
        self.slots.clear();
    }

    /// A handshake arrived. The same message gets the same answer, by whatever relay it comes.
    pub(super) fn handshake(&mut self, context: &mut Context<'_>, message: HandshakeMessage) {
        let hash = blake2b_256(&[&message.noise]);
        if let Some(number) = self.numbers.get(&hash) {
            if let Some(Some(Entry::Answered(slot))) = self.slots.get(*number) {
                let reply = slot.reply.clone();
                self.send(context, &message, &reply);
            }
            return;
        }
        let Some(number) = self.room(context, &message) else { return };
        let mut seed = Zeroizing::new([0; 32]);
        context.rng.fill_bytes(&mut *seed);
        self.numbers.insert(hash, number);
        let entry = match Knock::read(&self.keys, seed, &message.noise) {
            None => refused(context.now, hash, &message),
            Some(knock) if self.options.ask => {
                let (remote, address) = (knock.remote, client_address(&message));
                let knocked = Event::Knock { target: self.target, number, remote, address };
                context.out.events.push_back(knocked);
                let until = context.now + REMEMBERED;
                Entry::Asked(Box::new(Asked { hash, knock, message, until }))
            }
            Some(knock) => self.accept(context, number, hash, knock, &message),
        };
        self.put(number, entry);
    }

    /// The owner has decided.
    pub(super) fn admit(
        &mut self,
        context: &mut Context<'_>,
        number: usize,
        remote: &PublicKey,
        admitted: bool,
    ) {
        let Some(place) = self.slots.get_mut(number) else { return };
        let asked =
            place.take_if(|entry| matches!(entry, Entry::Asked(asked) if asked.knock.remote == *remote));
        let Some(Entry::Asked(asked)) = asked else { return };
        let Asked { hash, knock, message, .. } = *asked;
        let entry = match admitted {
            true => self.accept(context, number, hash, knock, &message),
            false => refused(context.now, hash, &message),
        };
        self.put(number, entry);
    }

    /// A holepunch message arrived.
    pub(super) fn holepunch(&mut self, context: &mut Context<'_>, message: &HolepunchMessage) {
        let number = usize::try_from(message.id).ok();
        let slot = number.and_then(|number| self.slots.get_mut(number));
        if let Some(Some(Entry::Answered(slot))) = slot {
            let by_relay = context.dht.is_server_relay(&self.target, message.incoming.from);
            slot.receive(context, message, by_relay);
        }
    }

    /// A probe arrived: false if it is for none of these.
    pub(super) fn probed(&mut self, context: &mut Context<'_>, via: Via, from: SocketAddrV4) -> bool {
        let slot = self.answered().find(|slot| slot.may_probe(*from.ip()));
        let found = slot.is_some();
        slot.into_iter().for_each(|slot| slot.probed(context, via, from));
        found
    }

    /// A packet arrived for a stream that is not open, or that the owner has yet to open: false if it is none of these.
    pub(super) fn contacted(
        &mut self,
        context: &mut Context<'_>,
        stream: u32,
        via: Via,
        from: SocketAddrV4,
    ) -> bool {
        let role = Role::Server(self.target);
        let slot = self.answered().find(|slot| slot.stream == stream);
        let found = slot.is_some();
        slot.into_iter().for_each(|slot| slot.connect(context, role, via, from));
        found
    }

    /// True if a handshake has this stream.
    pub(super) fn has(&self, stream: u32) -> bool {
        self.slots
            .iter()
            .flatten()
            .any(|entry| matches!(entry, Entry::Answered(slot) if slot.stream == stream))
    }

    fn answered(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().flatten().filter_map(|entry| match entry {
            Entry::Answered(slot) => Some(&mut **slot),
            Entry::Asked(_) | Entry::Refused { .. } => None,
        })
    }

    /// Answers a client, and decides how it is to be reached.
    fn accept(
        &mut self,
        context: &mut Context<'_>,
        number: usize,
        hash: [u8; 32],
        knock: Knock,
        message: &HandshakeMessage,
    ) -> Entry {
        let client = knock.client.clone();
        let error = match client.stream {
            _ if client.version != NoisePayload::VERSION => PeerError::VERSION_MISMATCH,
            None => PeerError::ABORTED,
            Some(_) => PeerError::NONE,
        };
        let stream = if error == PeerError::NONE { context.rng.random() } else { 0 };
        let Some((reply, keys)) = self.reply(context, number, knock, stream, error) else {
            return refused(context.now, hash, message);
        };
        let Some(remote_stream) = client.stream.filter(|_| error == PeerError::NONE) else {
            self.send(context, message, &reply);
            return refused(context.now, hash, message);
        };
        let (_, passed_by) = hosts(message);
        let address = client_address(message);
        let of_client = Client { address, passed_by, stream: remote_stream };
        let mut slot = Slot::new(context.now, hash, stream, &of_client, reply.clone(), keys);
        let via = message.incoming.via;
        let direct = message.mode == Mode::FROM_CLIENT;
        if direct || client.firewall == Firewall::OPEN {
            let via = if direct { via } else { context.dht.node().asking() };
            slot.connect(context, Role::Server(self.target), via, address);
        } else if self.may_punch(context, &client, address, message) {
            slot.allow_punch(context);
            self.open_nat(context, address);
        }
        self.send(context, message, &reply);
        Entry::Answered(Box::new(slot))
    }

    /// Our half of the handshake.
    fn reply(
        &self,
        context: &mut Context<'_>,
        number: usize,
        knock: Knock,
        stream: u32,
        error: PeerError,
    ) -> Option<(Bytes, crate::crypto::noise::Keys)> {
        let open = context.dht.node().remote_address();
        let local = if self.options.share_local_address { context.local_addresses() } else { Vec::new() };
        let addresses: Vec<_> = open.into_iter().chain(local).collect();
        let relays = context.dht.relays(&self.target);
        let relay_addresses = context.dht.relay_addresses(&self.target);
        let holepunch = HolepunchInfo { id: number as u64, relays: List::from(relays.as_slice()) };
        knock.answer(&NoisePayload {
            error,
            firewall: if open.is_some() { Firewall::OPEN } else { Firewall::UNKNOWN },
            holepunch: open.is_none().then_some(holepunch),
            addresses4: List::from(addresses.as_slice()),
            udx: Some(udx_info(stream)),
            secret_stream: Some(1),
            relay_addresses: (!relay_addresses.is_empty()).then(|| List::from(relay_addresses.as_slice())),
            ..NoisePayload::default()
        })
    }

    /// True if the client may need a hole punch.
    fn may_punch(
        &self,
        context: &Context<'_>,
        client: &PeerInfo,
        address: SocketAddrV4,
        message: &HandshakeMessage,
    ) -> bool {
        let near = self.options.share_local_address && address.ip() == message.incoming.to.ip() && {
            let private = client.addresses4.iter().copied().filter(|address| is_private(*address.ip()));
            nearest(&context.local_addresses(), private).is_some()
        };
        near || self.options.punch && context.dht.node().remote_address().is_none()
    }

    /// Lets the client's first packet in, which it may send as soon as it has our reply: that saves a round trip to it.
    fn open_nat(&self, context: &mut Context<'_>, client: SocketAddrV4) {
        context.own.ask(context.now, context.dht);
        let own = context.own.reachability(context.now, context.dht);
        if self.options.punch && keeps_ports(own.firewall) != Some(false) {
            let via = context.dht.node().asking();
            context.out.probe(Probe { via, to: client, short_lived: false });
        }
    }

    fn send(&self, context: &mut Context<'_>, message: &HandshakeMessage, reply: &Bytes) {
        context.dht.reply_handshake(context.now, message, reply, None);
    }

    /// A place for one more handshake. When many wait, no host may have more than its share; when all places are taken,
    /// the host that passed on the most loses one.
    fn room(&mut self, context: &mut Context<'_>, message: &HandshakeMessage) -> Option<usize> {
        let (client, passed_by) = hosts(message);
        let pending = || self.slots.iter().flatten().filter(|entry| entry.is_pending());
        let of_client = pending().filter(|entry| entry.hosts().0 == client).count();
        if pending().count() >= MAX_HANDSHAKES / 2 && of_client >= MAX_HANDSHAKES_PER_HOST {
            return None;
        }
        let free = self.slots.iter().position(Option::is_none);
        if free.is_some() || self.slots.len() < MAX_HANDSHAKES {
            return Some(free.unwrap_or(self.slots.len()));
        }
        let mut tally: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
        for entry in self.slots.iter().flatten() {
            *tally.entry(entry.hosts().1).or_default() += 1;
        }
        let (busiest, most) = tally.iter().max_by_key(|(_, count)| **count)?;
        if *busiest == passed_by || *most <= tally.get(&passed_by).copied().unwrap_or_default() + 1 {
            return None;
        }
        let victim = self
            .slots
            .iter()
            .position(|entry| entry.as_ref().is_some_and(|entry| entry.hosts().1 == *busiest))?;
        self.clear(context, victim);
        Some(victim)
    }

    fn put(&mut self, number: usize, entry: Entry) {
        if number >= self.slots.len() {
            self.slots.resize_with(number + 1, || None);
        }
        if let Some(place) = self.slots.get_mut(number) {
            *place = Some(entry);
        }
    }

    fn clear(&mut self, context: &mut Context<'_>, number: usize) {
        let Some(mut entry) = self.slots.get_mut(number).and_then(Option::take) else { return };
        if let Entry::Answered(slot) = &mut entry {
            slot.close(context, None);
        }
        self.numbers.remove(&entry.message());
    }
}

fn refused(now: Instant, hash: [u8; 32], message: &HandshakeMessage) -> Entry {
    let (client, passed_by) = hosts(message);
    Entry::Refused { message: hash, client, passed_by, until: now + REMEMBERED }
}

fn client_address(message: &HandshakeMessage) -> SocketAddrV4 {
    message.peer_address.filter(|_| message.mode != Mode::FROM_CLIENT).unwrap_or(message.incoming.from)
}

fn hosts(message: &HandshakeMessage) -> (Ipv4Addr, Ipv4Addr) {
    (*client_address(message).ip(), *message.incoming.from.ip())
}
