//! The policy of hyperswarm 4, sans-io: which topics to announce and to look for, whom to dial and when, which of two
//! connections to a peer stays.
//!
//! [`Swarm`] tells its owner what to do with [`Command`]s, and is told how that went. There is at most one connection to
//! each key; a link is such a connection, or the attempt.
//!
//! * `peer.rs`: what is known of a peer, and when to try it again.
//! * `discovery.rs`: when to walk for a topic.
//! * `flush.rs`: who waits until everybody found was tried.
//!
//! Beyond upstream: the limits hold for incoming connections too; an attempt that has run for a second does not keep others
//! from being made; who connected to us and is lost is dialled once.

mod discovery;
mod flush;
mod peer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::discovery::Discovery;
pub use self::discovery::Walk;
pub use self::flush::FlushId;
use self::flush::Flushes;
use self::peer::{Link, Peer, State};
use crate::crypto::PublicKey;
use crate::limits::v4::{SWARM_ATTEMPTS, SWARM_KNOWN_PEERS};
use crate::topic::Topic;

/// An attempt older than this leaves its place to another one.
const SLOW_ATTEMPT: Duration = Duration::from_secs(1);
/// Before who was connected to us and is lost is dialled; at least, and up to twice as long.
const LOST: Duration = Duration::from_secs(1);
/// Failed attempts in a row after which a peer that was named by its key is not tried out of turn.
const EXPLICIT_ATTEMPTS: u32 = 5;

/// How a topic is joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// Announce our key there.
    pub server: bool,
    /// Look for peers there, and dial them.
    pub client: bool,
}

impl Mode {
    /// Both, as by default upstream.
    pub const BOTH: Self = Self { server: true, client: true };
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// All together. If peers are named by their keys, the others may have a half of this, or a third (two such peers), or
    /// a quarter (four).
    pub max_peers: usize,
    /// Of those, the ones that others have dialled.
    pub max_server_connections: usize,
    /// Of those, the ones that we have dialled.
    pub max_client_connections: usize,
    /// Attempts at a time that are younger than a second.
    pub max_parallel: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_peers: 64,
            max_server_connections: usize::MAX,
            max_client_connections: usize::MAX,
            max_parallel: 3,
        }
    }
}

/// A connection to a peer, or the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u64);

/// One of those who have joined a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

/// What the owner has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look for the peers of a topic ([`Swarm::found`]), until [`Swarm::walked`]. It replaces a walk that runs.
    Walk(Topic, Walk),
    /// Nobody has joined the topic any more: end its walk, and remove our announcement if there is one.
    Leave(Topic, bool),
    /// Connect to a peer: [`Swarm::opened`] or [`Swarm::closed`].
    Dial(LinkId, PublicKey, Vec<SocketAddrV4>),
    /// End a connection or attempt: another one takes its place, or nobody wants it. [`Swarm::closed`] is not needed.
    Close(LinkId),
    /// Show that a connection lives.
    KeepAlive(LinkId),
    /// All that was found when it was asked for has been tried.
    Flushed(FlushId),
}

/// Totals (`stats`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Attempts of ours.
    pub client_attempts: u64,
    /// Those that led to a connection.
    pub client_opened: u64,
    /// Connections that others have dialled.
    pub server_opened: u64,
    /// Peers that were banned.
    pub banned: u64,
}

/// A swarm.
pub struct Swarm {
    own: PublicKey,
    options: Options,
    topics: BTreeMap<Topic, Discovery>,
    peers: BTreeMap<PublicKey, Peer>,
    /// Peers by link.
    links: BTreeMap<LinkId, PublicKey>,
    flushes: Flushes,
    commands: VecDeque<Command>,
    suspended: bool,
    next_id: u64,
    stats: Stats,
    rng: StdRng,
}

impl Swarm {
    /// A swarm that has joined nothing. `seed` decides everything random.
    pub fn new(own: PublicKey, options: Options, seed: [u8; 32]) -> Self {
        Self {
            own,
            options,
            topics: BTreeMap::new(),
            peers: BTreeMap::new(),
            links: BTreeMap::new(),
            flushes: Flushes::default(),
            commands: VecDeque::new(),
            suspended: false,
            next_id: 0,
            stats: Stats::default(),
            rng: StdRng::from_seed(seed),
        }
    }

    /// Joins a topic. It may be joined several times: it is announced, and looked for, while one session wants that.
    pub fn join(&mut self, now: Instant, topic: Topic, mode: Mode) -> SessionId {
        let session = SessionId(self.fresh_id());
        self.topics.entry(topic).or_insert_with(Discovery::new).join(now, session.0, mode);
        self.run(now);
        session
    }

    /// Joins with the same session in another mode.
    pub fn change(&mut self, now: Instant, topic: Topic, session: SessionId, mode: Mode) {
        if let Some(discovery) = self.topics.get_mut(&topic) {
            discovery.join(now, session.0, mode);
        }
        self.run(now);
    }

    /// Ends a session; the last one leaves the topic. Connections stay.
    pub fn leave(&mut self, now: Instant, topic: Topic, session: SessionId) {
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        if discovery.leave(now, session.0) {
            let announced = discovery.is_announced();
            self.topics.remove(&topic);
            self.commands.push_back(Command::Leave(topic, announced));
            self.flushes.walked(topic, std::iter::empty());
        }
        self.run(now);
    }

    /// Connects to a peer, whatever topics it has joined, and again when the connection is lost.
    pub fn join_peer(&mut self, now: Instant, peer: PublicKey) {
        if peer != self.own {
            self.peers.entry(peer).or_default().explicit = true;
            self.queue(peer);
            self.run(now);
        }
    }

    /// The peer is like any other from now on; its connection stays.
    pub fn leave_peer(&mut self, peer: &PublicKey) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.explicit = false;
            self.forget(peer);
        }
    }

    /// Nothing of a peer is wanted any more; or again.
    pub fn ban(&mut self, now: Instant, peer: PublicKey, banned: bool) {
        let known = self.peers.entry(peer).or_default();
        self.stats.banned += u64::from(banned && !known.banned);
        known.banned = banned;
        if let Some(link) = known.link.take_if(|_| banned) {
            self.links.remove(&link.id);
            self.commands.push_back(Command::Close(link.id));
        }
        if banned && known.state != State::Idle {
            known.state = State::Idle;
            self.flushes.tried(&peer);
        }
        self.forget(&peer);
        self.run(now);
    }

    /// Asks to be told with [`Command::Flushed`].
    pub fn flush(&mut self, now: Instant) -> FlushId {
        let id = FlushId(self.fresh_id());
        let busy = self.topics.iter().filter(|(_, discovery)| discovery.is_busy(now));
        let topics = busy.map(|(topic, _)| *topic).collect();
        let queued = self.pending().collect();
        self.flushes.add(id, topics, queued);
        self.run(now);
        id
    }

    /// A walk has found a peer.
    pub fn found(&mut self, now: Instant, topic: Topic, peer: PublicKey, relay_addresses: &[SocketAddrV4]) {
        let wanted = self.topics.get(&topic).is_some_and(|discovery| discovery.mode.client);
        let room = self.peers.len() < SWARM_KNOWN_PEERS || self.peers.contains_key(&peer);
        if peer == self.own || !wanted || !room || self.suspended {
            return;
        }
        let known = self.peers.entry(peer).or_default();
        known.relay_addresses = relay_addresses.to_vec();
        known.topics.insert(topic);
        if known.link.is_none() {
            known.rediscovered();
            self.queue(peer);
        }
        self.forget(&peer);
        self.run(now);
    }

    /// The walk for a topic has ended.
    pub fn walked(&mut self, now: Instant, topic: Topic) {
        if let Some(discovery) = self.topics.get_mut(&topic) {
            discovery.ended(now, &mut self.rng);
        }
        let pending: Vec<_> = self.pending().collect();
        self.flushes.walked(topic, pending.into_iter());
        self.run(now);
    }

    /// True if a connection of this peer would be taken: asked before it is made.
    pub fn admits(&self, peer: &PublicKey) -> bool {
        let known = self.peers.get(peer);
        let banned = known.is_some_and(|known| known.banned);
        let replaces = known.is_some_and(|known| known.link.is_some() || known.explicit);
        let incoming = self.open_links().filter(|link| !link.initiator).count();
        let room = incoming < self.options.max_server_connections && self.has_room();
        *peer != self.own && !banned && !self.suspended && (replaces || room)
    }

    /// A peer has connected to us; None: close its connection. `is_used` says if an open link has both sent and received
    /// something.
    pub fn accept(
        &mut self,
        now: Instant,
        peer: PublicKey,
        is_used: impl Fn(LinkId) -> bool,
    ) -> Option<LinkId> {
        if !self.admits(&peer) {
            return None;
        }
        if let Some(existing) = self.peers.get(&peer).and_then(|known| known.link) {
            // The dialler has lost a connection that was used; of two made at once, that of the greater key stays.
            let stale = existing.open && is_used(existing.id);
            let keep_new = stale || self.own < peer;
            if !keep_new {
                if existing.open {
                    self.commands.push_back(Command::KeepAlive(existing.id));
                }
                return None;
            }
            self.links.remove(&existing.id);
            self.commands.push_back(Command::Close(existing.id));
        }
        let id = LinkId(self.fresh_id());
        let known = self.peers.entry(peer).or_default();
        if known.state != State::Idle {
            known.state = State::Idle;
        }
        known.link = Some(Link { id, initiator: false, open: true, since: now, replaced: false });
        known.client = false;
        self.links.insert(id, peer);
        self.stats.server_opened += 1;
        self.flushes.tried(&peer);
        self.run(now);
        Some(id)
    }

    /// An attempt has led to a connection. False: nobody wants it any more.
    pub fn opened(&mut self, now: Instant, link: LinkId) -> bool {
        let Some(peer) = self.links.get(&link).copied() else { return false };
        let Some(known) = self.peers.get_mut(&peer) else { return false };
        let Some(state) = &mut known.link else { return false };
        (state.open, state.since) = (true, now);
        known.opened();
        self.stats.client_opened += 1;
        self.flushes.tried(&peer);
        self.run(now);
        true
    }

    /// A connection has ended, or an attempt has failed.
    pub fn closed(&mut self, now: Instant, link: LinkId) {
        let Some(peer) = self.links.remove(&link) else { return };
        let wanted = self.is_wanted(&peer);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let Some(ended) = known.link.take() else { return };
        self.flushes.tried(&peer);
        if ended.initiator {
            known.disconnected(now, &ended);
            known.state = match known.pause(&mut self.rng).filter(|_| wanted) {
                Some(pause) => State::Waiting(now + pause),
                None => State::Idle,
            };
        } else if wanted && !known.banned {
            // It will dial us, or we it.
            let pause = LOST.mul_f64(self.rng.random_range(1.0..2.0));
            known.state = State::Waiting(now + pause);
        }
        self.forget(&peer);
        self.run(now);
    }

    /// Our addresses have changed, or the network answers again: every connection is shown to live, so that dead ones are
    /// found, and every topic is looked for.
    pub fn network_changed(&mut self, now: Instant) {
        let open: Vec<_> = self.open_links().map(|link| link.id).collect();
        self.commands.extend(open.into_iter().map(Command::KeepAlive));
        self.topics.values_mut().for_each(|discovery| discovery.refresh(now));
        self.run(now);
    }

    /// Ends everything until [`Self::resume`]; what was joined stays joined.
    pub fn suspend(&mut self) {
        self.suspended = true;
        for (topic, discovery) in &mut self.topics {
            self.commands.push_back(Command::Leave(*topic, discovery.is_announced()));
            discovery.suspend();
        }
        for peer in self.peers.values_mut() {
            peer.state = State::Idle;
            if let Some(link) = peer.link.take() {
                self.commands.push_back(Command::Close(link.id));
            }
        }
        self.links.clear();
        self.peers.retain(|_, peer| !peer.is_forgettable());
    }

    /// Goes on.
    pub fn resume(&mut self, now: Instant) {
        self.suspended = false;
        self.topics.values_mut().for_each(|discovery| discovery.refresh(now));
        let explicit: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.explicit).map(|(key, _)| *key).collect();
        explicit.into_iter().for_each(|peer| self.queue(peer));
        self.run(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let over = |peer: &Peer| matches!(peer.state, State::Waiting(until) if until <= now);
        let due: Vec<_> = self.peers.iter().filter(|(_, peer)| over(peer)).map(|(key, _)| *key).collect();
        for peer in due {
            if let Some(known) = self.peers.get_mut(&peer) {
                known.state = State::Idle;
            }
            self.queue(peer);
            self.forget(&peer);
        }
        self.run(now);
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let topics = self.topics.values().filter_map(Discovery::poll_timeout);
        let waiting = self.peers.values().filter_map(|peer| match peer.state {
            State::Waiting(until) => Some(until),
            State::Idle | State::Queued => None,
        });
        let queued = self.peers.values().any(|peer| peer.state == State::Queued);
        let attempts = self.attempts().filter(|link| queued && !link.replaced);
        topics.chain(waiting).chain(attempts.map(|link| link.since + SLOW_ATTEMPT)).min()
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Topics in which a peer was found.
    pub fn topics_of(&self, peer: &PublicKey) -> Vec<Topic> {
        self.peers.get(peer).map(|known| known.topics.iter().copied().collect()).unwrap_or_default()
    }

    /// Totals.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.open_links().count()
    }

    /// Begins what is due and possible: walks, attempts; tells who has flushed.
    fn run(&mut self, now: Instant) {
        if self.suspended {
            return;
        }
        for (topic, discovery) in &mut self.topics {
            if let Some(walk) = discovery.begin(now, &mut self.rng) {
                self.commands.push_back(Command::Walk(*topic, walk));
            }
        }
        while let Some(peer) = self.next_to_dial(now) {
            self.dial(now, peer);
        }
        let idle = self.attempts().next().is_none();
        if idle && !(self.has_room() && self.has_client_room()) {
            self.flushes.end_all();
        }
        self.commands.extend(self.flushes.take_done().map(Command::Flushed));
    }

    /// The peer to dial now: those named by their keys first, then by priority, at random among equals.
    fn next_to_dial(&mut self, now: Instant) -> Option<PublicKey> {
        for peer in self.peers.values_mut() {
            if let Some(link) = &mut peer.link {
                link.replaced |= !link.open && now >= link.since + SLOW_ATTEMPT;
            }
        }
        let young = self.attempts().filter(|link| !link.replaced).count();
        if young >= self.options.max_parallel || self.attempts().count() >= SWARM_ATTEMPTS {
            return None;
        }
        let room = self.has_room() && self.has_client_room();
        let queued = self.peers.iter().filter(|(_, peer)| peer.state == State::Queued);
        let eligible = queued.filter(|(_, peer)| room || peer.explicit && peer.attempts < EXPLICIT_ATTEMPTS);
        let best = eligible.clone().map(|(_, peer)| (peer.explicit, peer.priority())).max()?;
        let equals: Vec<_> = eligible
            .filter(|(_, peer)| (peer.explicit, peer.priority()) == best)
            .map(|(key, _)| *key)
            .collect();
        equals.get(self.rng.random_range(0..equals.len())).copied()
    }

    fn dial(&mut self, now: Instant, peer: PublicKey) {
        let id = LinkId(self.fresh_id());
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.state = State::Idle;
        known.link = Some(Link { id, initiator: true, open: false, since: now, replaced: false });
        let relays = known.relay_addresses.clone();
        self.links.insert(id, peer);
        self.stats.client_attempts += 1;
        self.commands.push_back(Command::Dial(id, peer, relays));
    }

    fn queue(&mut self, peer: PublicKey) {
        let wanted = self.is_wanted(&peer);
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if known.link.is_none() && wanted && known.may_queue() {
            known.state = State::Queued;
        }
    }

    /// Drops a peer that nobody needs to remember.
    fn forget(&mut self, peer: &PublicKey) {
        if self.peers.get(peer).is_some_and(Peer::is_forgettable) {
            self.peers.remove(peer);
        }
    }

    /// True if a topic of the peer is joined to find peers, or it was named by its key.
    fn is_wanted(&self, peer: &PublicKey) -> bool {
        let joined = |topic: &Topic| self.topics.get(topic).is_some_and(|discovery| discovery.mode.client);
        self.peers.get(peer).is_some_and(|known| known.explicit || known.topics.iter().any(joined))
    }

    /// Peers that are queued, or being dialled.
    fn pending(&self) -> impl Iterator<Item = PublicKey> + '_ {
        let pending = |peer: &Peer| peer.state == State::Queued || peer.link.is_some_and(|link| !link.open);
        self.peers.iter().filter(move |(_, peer)| pending(peer)).map(|(key, _)| *key)
    }

    fn open_links(&self) -> impl Iterator<Item = Link> + '_ {
        self.peers.values().filter_map(|peer| peer.link).filter(|link| link.open)
    }

    fn attempts(&self) -> impl Iterator<Item = Link> + '_ {
        self.peers.values().filter_map(|peer| peer.link).filter(|link| !link.open)
    }

    /// Those who name peers by their keys leave room for them (`_withinMaxPeers`).
    fn has_room(&self) -> bool {
        let share = match self.peers.values().filter(|peer| peer.explicit).count() {
            0 => 1,
            1 => 2,
            2 | 3 => 3,
            _ => 4,
        };
        self.links.len().saturating_mul(share) < self.options.max_peers
    }

    fn has_client_room(&self) -> bool {
        let ours = self.peers.values().filter_map(|peer| peer.link).filter(|link| link.initiator).count();
        ours < self.options.max_client_connections
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
