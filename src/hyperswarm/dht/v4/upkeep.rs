//! Keeping the table alive: the clock, pings of silent nodes, room in full buckets, and walks that refresh it.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::client::{Purpose, What, older};
use super::health::Health;
use super::server::DelayedPing;
use super::{Event, Node, Persistence, QueryId};
use crate::crypto::v4::node_id;
use crate::dht::id::NodeId;
use crate::dht::table::{Heard, Tick};
use crate::limits::MAX_BUCKET_NODES;
use crate::limits::v4::{DOWN_HINTS_PER_TICK, MAX_SWAPS};

/// The unit of everything here.
const TICK: Duration = Duration::from_secs(5);
/// A tick so late means that the machine slept.
const SLEPT: Duration = Duration::from_secs(15);
/// Silent nodes are pinged every so many ticks.
const PING_TICKS: Tick = 8;
/// A small table is refreshed every so many ticks.
const SMALL_TICKS: Tick = 64;
/// A table is refreshed after so many ticks without a query.
const REFRESH_TICKS: Tick = 60;
/// A node was heard or asked recently: in the last minute.
pub(super) const RECENT: Tick = 12;
/// A node is old after half an hour.
pub(super) const OLD: Tick = 360;
/// Until a node that is still there tries to become persistent: twenty minutes, and after sleep or a try an hour.
pub(super) const STABLE_TICKS: Tick = 240;
pub(super) const MORE_STABLE_TICKS: Tick = 3 * STABLE_TICKS;
/// Bytes of the four pings that a newcomer may cost.
const PROOF_BYTES: usize = 4 * 64;

/// What is due when, and what was counted.
pub(super) struct Upkeep {
    pub(super) tick: Tick,
    next_tick: Instant,
    /// Ticks until the table is refreshed, and until we try to become persistent.
    refresh_ticks: Tick,
    pub(super) stable_ticks: Tick,
    pub(super) ready: bool,
    health: Health,
    pub(super) answers: u64,
    pub(super) timeouts: u64,
    /// Pings of nodes that may be gone.
    pub(super) checks: usize,
    /// Pings of nodes whose place a newcomer would take, and of newcomers.
    swaps: usize,
    hints: usize,
    pub(super) delayed: Vec<DelayedPing>,
}

impl Upkeep {
    pub(super) fn new(now: Instant, persistence: Persistence, rng: &mut StdRng) -> Self {
        let stable_ticks = if persistence == Persistence::Adaptive { STABLE_TICKS } else { 0 };
        Self {
            // At random, so that the nodes of a network that started together do not tick together.
            tick: rng.random_range(51..=100),
            next_tick: now + TICK,
            refresh_ticks: rng.random_range(31..=REFRESH_TICKS),
            stable_ticks,
            ready: false,
            health: Health::default(),
            answers: 0,
            timeouts: 0,
            checks: 0,
            swaps: 0,
            hints: 0,
            delayed: Vec::new(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.delayed.iter().map(|ping| ping.at).fold(self.next_tick, Instant::min)
    }

    pub(super) fn put_refresh_off(&mut self) {
        self.refresh_ticks = REFRESH_TICKS;
    }

    /// True if one more hint may be sent in this tick.
    pub(super) fn may_hint(&mut self) -> bool {
        let may = self.hints < DOWN_HINTS_PER_TICK;
        self.hints += usize::from(may);
        may
    }
}

impl Node {
    /// Adds a node from before, unasked.
    pub(super) fn add_known(&mut self, addr: SocketAddrV4) {
        self.table.heard(NodeId(node_id(addr)), addr, None, self.upkeep.tick, false);
    }

    /// A node with an id of its own was heard (dht-rpc `_addNodeFromNetwork`). `sample`: it came to the socket that asks, so
    /// it saw that one's address. `proven`: it answered, so its address is not forged.
    pub(super) fn heard(
        &mut self,
        now: Instant,
        id: NodeId,
        addr: SocketAddrV4,
        to: SocketAddrV4,
        sample: bool,
        proven: bool,
    ) {
        let tick = self.upkeep.tick;
        let known = self.table.find(&id).map(|contact| contact.note);
        match self.table.heard(id, addr, None, tick, proven) {
            Heard::Ignored => {}
            Heard::Full(_) => self.make_room(now, id, addr),
            Heard::Unproven => self.prove(now, addr),
            Heard::Kept => {
                let due = match known {
                    None => true,
                    Some(before) => sample && before.is_none_or(|before| older(before.get(), OLD, tick)),
                };
                if due {
                    if let Some(contact) = self.table.find_mut(&id) {
                        contact.note = std::num::NonZeroU32::new(tick);
                    }
                    self.sample(to);
                }
            }
        }
    }

    /// A node answered.
    pub(super) fn heard_answer(
        &mut self,
        now: Instant,
        addr: SocketAddrV4,
        id: Option<NodeId>,
        to: SocketAddrV4,
        sample: bool,
    ) {
        match id {
            Some(id) => self.heard(now, id, addr, to, sample, true),
            None => {
                if self.reach.may_sample_ephemeral(addr, self.bootstrap.len()) {
                    self.sample(to);
                }
            }
        }
    }

    /// Does what the clock says.
    pub(super) fn keep_up(&mut self, now: Instant) {
        self.answer_delayed_pings(now);
        if now < self.upkeep.next_tick {
            return;
        }
        let late = now.saturating_duration_since(self.upkeep.next_tick);
        self.upkeep.next_tick = now + TICK;
        if late + TICK > SLEPT {
            self.wake_up();
        } else {
            self.upkeep.next_tick -= late;
            self.upkeep.tick = self.upkeep.tick.saturating_add(1);
        }
        if !self.upkeep.ready {
            return;
        }
        self.adapt(now);
        let tick = self.upkeep.tick;
        if tick.is_multiple_of(PING_TICKS) {
            self.ping_some(now);
        }
        self.upkeep.refresh_ticks = self.upkeep.refresh_ticks.saturating_sub(1);
        let small = tick.is_multiple_of(SMALL_TICKS) && self.table.len() < MAX_BUCKET_NODES;
        if small || self.upkeep.refresh_ticks == 0 {
            self.refresh(now);
        }
        self.upkeep.hints = 0;
        if self.upkeep.health.tick(self.upkeep.answers, self.upkeep.timeouts) {
            self.emit(Event::Network(self.upkeep.health.state()));
        }
    }

    /// The machine slept (dht-rpc `_onwakeup`): everything that was known is old, and pings and a walk follow soon.
    pub(in crate::dht) fn wake_up(&mut self) {
        let tick = self.upkeep.tick.saturating_add(2 * OLD);
        // Two ticks before nodes are pinged.
        self.upkeep.tick = tick.saturating_add(8 - tick % 8).saturating_sub(2);
        self.upkeep.stable_ticks = MORE_STABLE_TICKS;
        self.upkeep.refresh_ticks = 1;
        self.upkeep.health.reset();
        if self.reach.woke_up() {
            self.emit(Event::Ephemeral);
        }
    }

    /// Walks to a random node of the table, or to ourselves (dht-rpc `refresh`).
    pub(super) fn refresh(&mut self, now: Instant) {
        self.upkeep.put_refresh_off();
        let target = self.table.random(&mut self.rng).map_or(self.table.own(), |contact| contact.id);
        let id = QueryId(self.fresh_id());
        self.start(now, id, target.0, What::Refresh);
    }

    /// Pings the nodes silent for longest; with no nodes at all, starts over (dht-rpc `_pingSome`).
    fn ping_some(&mut self, now: Instant) {
        let tick = self.upkeep.tick;
        let Some(oldest) = self.table.oldest_first().next() else {
            return self.refresh(now);
        };
        let count = match () {
            () if !older(oldest.pinged, RECENT, tick) => 2,
            () if self.requests.in_flight() > 2 => 3,
            () => 5,
        };
        let due = self.table.oldest_first().take(count).filter(|contact| contact.pinged != tick);
        let due: Vec<_> = due.map(|contact| (contact.id, contact.addr)).collect();
        due.into_iter().for_each(|(node, addr)| self.check(now, node, addr));
    }

    /// A node whose life was in doubt answered: it may have become another, or ephemeral.
    pub(super) fn checked(&mut self, node: NodeId, id: Option<NodeId>) {
        self.upkeep.checks = self.upkeep.checks.saturating_sub(1);
        if id != Some(node) {
            self.table.remove(&node);
        }
    }

    pub(super) fn check_failed(&mut self, node: NodeId, addr: SocketAddrV4, sent: bool) {
        self.upkeep.checks = self.upkeep.checks.saturating_sub(1);
        if sent {
            self.table.remove_at(&node, addr);
        }
    }

    /// The bucket of a newcomer is full: the node that was asked longest ago is asked whether it lives (dht-rpc
    /// `_onfullrow`).
    fn make_room(&mut self, now: Instant, newcomer: NodeId, addr: SocketAddrV4) {
        if !self.upkeep.ready || self.upkeep.swaps >= MAX_SWAPS {
            return;
        }
        let tick = self.upkeep.tick;
        let candidates = self.table.beside(&newcomer).filter(|contact| contact.pinged != tick);
        let Some(oldest) = candidates.min_by_key(|contact| (contact.pinged, contact.added)).copied() else {
            return;
        };
        if !older(oldest.pinged, RECENT, tick) && older(oldest.added, OLD + 1, tick) {
            return;
        }
        if let Some(contact) = self.table.find_mut(&oldest.id) {
            contact.pinged = tick;
        }
        self.upkeep.swaps += 1;
        self.ping(now, oldest.addr, Purpose::Swap { node: oldest.id, newcomer: addr });
    }

    pub(super) fn swap_answered(
        &mut self,
        now: Instant,
        node: NodeId,
        id: Option<NodeId>,
        newcomer: SocketAddrV4,
    ) {
        self.upkeep.swaps = self.upkeep.swaps.saturating_sub(1);
        if id != Some(node) {
            self.swap(now, node, newcomer);
        }
    }

    pub(super) fn swap_failed(
        &mut self,
        now: Instant,
        node: NodeId,
        addr: SocketAddrV4,
        newcomer: SocketAddrV4,
        sent: bool,
    ) {
        self.upkeep.swaps = self.upkeep.swaps.saturating_sub(1);
        if sent && self.table.find(&node).is_some_and(|contact| contact.addr == addr) {
            self.swap(now, node, newcomer);
        }
    }

    fn swap(&mut self, now: Instant, gone: NodeId, newcomer: SocketAddrV4) {
        self.table.remove(&gone);
        let id = NodeId(node_id(newcomer));
        if self.table.find(&id).is_none() {
            // It may be gone as well by now, or never have been there.
            self.table.heard(id, newcomer, None, self.upkeep.tick, false);
            self.check(now, id, newcomer);
        }
    }

    /// Pings a newcomer for whom a crowded host has to give way. When it answers it is heard again, as proven.
    fn prove(&mut self, now: Instant, newcomer: SocketAddrV4) {
        let may = self.upkeep.ready && self.upkeep.swaps < MAX_SWAPS;
        // The address may be forged.
        if may && self.guard.may_send(now, *newcomer.ip(), PROOF_BYTES) {
            self.upkeep.swaps += 1;
            self.ping(now, newcomer, Purpose::Prove);
        }
    }

    pub(super) fn prove_ended(&mut self) {
        self.upkeep.swaps = self.upkeep.swaps.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn so_many_hints_are_sent_in_a_tick() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut upkeep = Upkeep::new(Instant::now(), Persistence::Adaptive, &mut rng);
        assert_eq!((0..3 * DOWN_HINTS_PER_TICK).filter(|_| upkeep.may_hint()).count(), DOWN_HINTS_PER_TICK);
    }
}
