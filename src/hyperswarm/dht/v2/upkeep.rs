//! Keeping the table alive: pings of silent nodes, room in full buckets, bootstrapping again, and the change from
//! ephemeral to persistent.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::{Event, Node, Purpose};
use crate::dht::id::NodeId;
use crate::dht::table::{Contact, Heard, Table, Tick};
use crate::limits::{MAX_BUCKET_NODES, MAX_BUCKET_PINGS};

/// The unit in which "recently heard" is counted.
const TICK: Duration = Duration::from_secs(5);
/// Silent nodes are pinged this often (8 ticks).
const ROUND: Duration = Duration::from_secs(40);
/// Every so many rounds (64 ticks) a small table bootstraps again.
const ROUNDS_PER_BOOTSTRAP: u64 = 8;
/// An adaptive node waits this long before it asks whether it can be reached from outside.
const ADAPTIVE_WAIT_SECONDS: std::ops::RangeInclusive<u64> = 20 * 60..=30 * 60;
/// A timer this late means that the machine slept: the wait starts again.
const SLEPT: Duration = Duration::from_secs(60);
/// Bytes of the three pings that a newcomer may cost.
const PROOF_BYTES: usize = 3 * 128;
/// So many of the latest nodes vote on our own address.
const VOTERS: usize = 10;
/// Votes needed.
const VOTES: usize = 3;
/// With so many dissenting votes nothing is certain.
const DISSENT: usize = 3;

/// When what is due.
pub(super) struct Upkeep {
    start: Instant,
    next_round: u64,
    pub(super) ready: bool,
    adaptive: bool,
    pub(super) adaptive_at: Option<Instant>,
    pub(super) bucket_pings: BTreeMap<u64, BucketPing>,
    next_bucket_ping: u64,
}

/// Nodes of a full bucket being pinged for the sake of a newcomer.
pub(super) struct BucketPing {
    newcomer: Newcomer,
    remaining: VecDeque<Contact>,
    /// The first of them: the bucket has one ping at a time. The newcomer itself if it has to prove that it is there.
    first: NodeId,
}

#[derive(Clone, Copy)]
struct Newcomer {
    id: NodeId,
    addr: SocketAddrV4,
    to: Option<SocketAddrV4>,
    proven: bool,
}

impl Upkeep {
    pub(super) fn new(now: Instant, adaptive: bool) -> Self {
        Self {
            start: now,
            next_round: 1,
            ready: false,
            adaptive,
            adaptive_at: None,
            bucket_pings: BTreeMap::new(),
            next_bucket_ping: 0,
        }
    }

    /// The next deadline; the rounds matter only while there is something to keep.
    pub(super) fn poll_timeout(&self, worth_keeping: bool) -> Option<Instant> {
        let round = worth_keeping.then(|| self.round_at(self.next_round));
        [round, self.adaptive_at].into_iter().flatten().min()
    }

    fn round_at(&self, round: u64) -> Instant {
        self.start + ROUND * u32::try_from(round).unwrap_or(u32::MAX)
    }

    fn tick(&self, now: Instant) -> Tick {
        let ticks = now.saturating_duration_since(self.start).as_secs() / TICK.as_secs();
        Tick::try_from(ticks).unwrap_or(Tick::MAX)
    }
}

impl Node {
    /// Somebody was heard (dht-rpc `_addNode`); see [`Table::heard`].
    pub(super) fn heard(
        &mut self,
        now: Instant,
        id: NodeId,
        addr: SocketAddrV4,
        to: Option<SocketAddrV4>,
        proven: bool,
    ) {
        let tick = self.upkeep.tick(now);
        let newcomer = Newcomer { id, addr, to, proven };
        match self.table.heard(id, addr, to, tick, proven) {
            Heard::Full(candidates) => self.make_room(now, newcomer, candidates),
            Heard::Unproven => self.prove(now, newcomer),
            Heard::Kept | Heard::Ignored => {}
        }
    }

    /// The nodes of a full bucket pinged for a newcomer: this one answered and stays.
    pub(super) fn make_room_answered(&mut self, now: Instant, ping: u64) {
        self.ping_next_in_bucket(now, ping);
    }

    /// The nodes of a full bucket pinged for a newcomer: one is `gone`, so the newcomer takes its place; or it could not
    /// be pinged, so nobody's place is free.
    pub(super) fn make_room_failed(&mut self, now: Instant, ping: u64, gone: bool) {
        // A newcomer that was itself asked and is gone stays outside.
        let ended = self.upkeep.bucket_pings.remove(&ping).filter(|p| gone && p.first != p.newcomer.id);
        if let Some(BucketPing { newcomer, .. }) = ended {
            let tick = self.upkeep.tick(now);
            self.table.heard(newcomer.id, newcomer.addr, newcomer.to, tick, newcomer.proven);
        }
    }

    /// A bootstrap has ended.
    pub(super) fn bootstrapped(&mut self, now: Instant) {
        if !self.upkeep.ready {
            self.upkeep.ready = true;
            self.emit(Event::Ready);
            if self.upkeep.adaptive {
                self.wait_to_adapt(now);
            }
        }
    }

    /// Does what is due.
    pub(super) fn keep_up(&mut self, now: Instant) {
        if let Some(at) = self.upkeep.adaptive_at.filter(|at| *at <= now) {
            self.adapt(now, now.saturating_duration_since(at));
        }
        if self.upkeep.round_at(self.upkeep.next_round) <= now {
            let round = now.saturating_duration_since(self.upkeep.start).as_secs() / ROUND.as_secs();
            let bootstrap_due =
                round / ROUNDS_PER_BOOTSTRAP > (self.upkeep.next_round - 1) / ROUNDS_PER_BOOTSTRAP;
            self.upkeep.next_round = round + 1;
            self.ping_some(now);
            if bootstrap_due && self.table.len() < MAX_BUCKET_NODES {
                self.start_bootstrap(now);
            }
        }
    }

    /// Pings the nodes silent for longest; with no nodes at all, starts over.
    fn ping_some(&mut self, now: Instant) {
        if self.table.is_empty() {
            self.start_bootstrap(now);
            return;
        }
        let count = if self.operations.len() > 2 { 3 } else { 5 };
        let tick = self.upkeep.tick(now);
        let oldest: Vec<Contact> =
            self.table.oldest_first().take(count).filter(|c| c.pinged != tick).copied().collect();
        for contact in oldest {
            self.ping_known(now, contact.id, contact.addr, Purpose::Check { node: contact.id });
        }
    }

    /// Pings the longest-unheard nodes of a full bucket, one after the other, unless they were heard just now.
    fn make_room(&mut self, now: Instant, newcomer: Newcomer, candidates: Vec<Contact>) {
        if !self.upkeep.ready {
            return;
        }
        let tick = self.upkeep.tick(now);
        let (recent, silent): (Vec<_>, VecDeque<_>) = partition(candidates, |c| c.pinged == tick);
        for contact in recent {
            self.table.refresh(&contact.id);
        }
        let Some(first) = silent.front().map(|c| c.id) else { return };
        let pings = &mut self.upkeep.bucket_pings;
        if pings.len() >= MAX_BUCKET_PINGS || pings.values().any(|p| p.first == first) {
            return;
        }
        self.upkeep.next_bucket_ping += 1;
        let ping = self.upkeep.next_bucket_ping;
        self.upkeep.bucket_pings.insert(ping, BucketPing { newcomer, remaining: silent, first });
        self.ping_next_in_bucket(now, ping);
    }

    /// Pings a newcomer for whom a crowded host has to give way. When it answers it is heard again, as proven.
    fn prove(&mut self, now: Instant, newcomer: Newcomer) {
        let pings = &mut self.upkeep.bucket_pings;
        let known = |p: &BucketPing| p.newcomer.addr == newcomer.addr;
        if !self.upkeep.ready || pings.len() >= MAX_BUCKET_PINGS || pings.values().any(known) {
            return;
        }
        // The address may be forged.
        if !self.guard.may_send(now, *newcomer.addr.ip(), PROOF_BYTES) {
            return;
        }
        self.upkeep.next_bucket_ping += 1;
        let ping = self.upkeep.next_bucket_ping;
        let (id, addr) = (newcomer.id, newcomer.addr);
        pings.insert(ping, BucketPing { newcomer, remaining: VecDeque::new(), first: id });
        self.ping_known(now, id, addr, Purpose::MakeRoom { ping, node: id });
    }

    fn ping_next_in_bucket(&mut self, now: Instant, ping: u64) {
        let next = self.upkeep.bucket_pings.get_mut(&ping).and_then(|p| p.remaining.pop_front());
        match next {
            Some(contact) => {
                let purpose = Purpose::MakeRoom { ping, node: contact.id };
                self.ping_known(now, contact.id, contact.addr, purpose);
            }
            // All have answered: the newcomer is discarded.
            None => drop(self.upkeep.bucket_pings.remove(&ping)),
        }
    }

    fn wait_to_adapt(&mut self, now: Instant) {
        let wait = Duration::from_secs(self.rng.random_range(ADAPTIVE_WAIT_SECONDS));
        self.upkeep.adaptive_at = Some(now + wait);
    }

    /// Becomes persistent if the same address is seen by all: then others can reach us.
    fn adapt(&mut self, now: Instant, late: Duration) {
        if late > SLEPT || tally(&self.table, |to| to).is_none() {
            self.wait_to_adapt(now);
        } else {
            self.upkeep.adaptive_at = None;
            self.persistent = true;
            self.start_bootstrap(now);
        }
    }
}

/// Our own address by the votes of the latest nodes: host and port, or the host alone with port 0 (dht-rpc
/// `remoteAddress`).
pub(super) fn own_address(table: &Table) -> Option<SocketAddrV4> {
    tally(table, |to| to).or_else(|| tally(table, |to| SocketAddrV4::new(*to.ip(), 0)))
}

fn tally(table: &Table, what: impl Fn(SocketAddrV4) -> SocketAddrV4) -> Option<SocketAddrV4> {
    let votes: Vec<SocketAddrV4> =
        table.latest_first().filter_map(|c| c.note).take(VOTERS).map(what).collect();
    let count = |candidate: &SocketAddrV4| votes.iter().filter(|vote| *vote == candidate).count();
    let winner = votes.iter().max_by_key(|vote| count(vote))?;
    let good = count(winner);
    (good >= VOTES && votes.len() - good < DISSENT).then_some(*winner)
}

fn partition(list: Vec<Contact>, first: impl Fn(&Contact) -> bool) -> (Vec<Contact>, VecDeque<Contact>) {
    let (recent, rest): (Vec<_>, Vec<_>) = list.into_iter().partition(first);
    (recent, rest.into())
}
