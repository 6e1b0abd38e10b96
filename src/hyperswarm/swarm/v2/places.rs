//! The places of one topic: who has one, and who gives one up when all are taken.
//!
//! Upstream never replaces anybody, so that two addresses shut a node off. Here shares count, but only when all places
//! are taken (a laboratory is one network, or one address behind its NAT):
//!
//! 1. The host with the most places gives up its least useful one to a host with at least two less, else the network
//!    with the most does ([`Tally::must_yield`]). Exchanges make shares more equal, so they end.
//! 2. Where all have the same, a newcomer gets the place of a connection that has long been of no use, once in a
//!    while: else the 61st daemon of a laboratory behind one address would never get in.
//!
//! The connection that answered a load last is never given up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::standing::{Standing, Worth};
use crate::dht::shares::Tally;
use crate::limits::v2::{PLACES_NOT_DIALLED, SWARM_LEAVING, SWARM_PEERS};

/// Between two exchanges that do not make shares more equal.
const EXCHANGE_EVERY: Duration = Duration::from_secs(5);
/// A connection that was never of use may be exchanged after this.
const USELESS_FOR: Duration = Duration::from_secs(10);
/// A connection that was of use may be exchanged when it has not been for so long.
const UNUSED_FOR: Duration = Duration::from_secs(60);

/// Names one connection of a topic, or an attempt at one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u64);

/// Who has a place.
#[derive(Debug)]
pub(super) struct Place {
    host: Ipv4Addr,
    /// The candidate, if we dialled.
    pub(super) dialled: Option<SocketAddrV4>,
    /// A dial that has not ended.
    pub(super) attempt: bool,
    pub(super) standing: Standing,
}

/// All places of a topic.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: BTreeMap<Slot, Place>,
    /// Displaced and not closed yet.
    leaving: BTreeMap<Slot, Place>,
    /// Displaced, and the driver does not know yet.
    displaced: Vec<Slot>,
    last_exchange: Option<Instant>,
    count: u64,
}

impl Places {
    /// A place for a connection that came from `host`.
    pub(super) fn accept(&mut self, now: Instant, host: Ipv4Addr) -> Option<Slot> {
        if self.is_full() {
            let tally = self.tally();
            let crowded = self.least_useful(|place| tally.must_yield(place.host, host));
            let out = crowded.or_else(|| self.exchange(now, &tally, host))?;
            self.displace(out)?;
        }
        Some(self.take(now, host, None))
    }

    /// Who may be dialled: everybody while there are places beyond those kept for who comes, and then hosts for which
    /// somebody with too many has to give one up.
    pub(super) fn may_dial(&self) -> impl Fn(Ipv4Addr) -> bool + use<> {
        let room = self.taken.len() + PLACES_NOT_DIALLED < SWARM_PEERS;
        let tally = self.tally();
        let hosts: BTreeSet<_> = self.taken.values().map(|place| place.host).collect();
        move |host| room || hosts.iter().any(|holder| tally.must_yield(*holder, host))
    }

    /// A place for a dial to `candidate`. Where all are taken nobody gives one up before the dial has succeeded:
    /// most of what strangers name does not answer.
    pub(super) fn dial(&mut self, now: Instant, candidate: SocketAddrV4) -> Slot {
        self.take(now, *candidate.ip(), Some(candidate))
    }

    /// The dial has succeeded. False if there is no place for the connection.
    pub(super) fn connected(&mut self, slot: Slot) -> bool {
        let Some(place) = self.taken.get_mut(&slot) else { return false };
        place.attempt = false;
        let host = place.host;
        if self.connections() <= SWARM_PEERS {
            return true;
        }
        let others = self.taken.iter().filter(|(other, _)| **other != slot);
        let tally: Tally = others.map(|(_, place)| place.host).collect();
        let out = self.least_useful(|place| !place.attempt && tally.must_yield(place.host, host));
        out.is_some_and(|out| out != slot && self.displace(out).is_some())
    }

    /// The connection is closed, or the dial has failed.
    pub(super) fn closed(&mut self, slot: Slot) -> Option<Place> {
        self.taken.remove(&slot).or_else(|| self.leaving.remove(&slot))
    }

    /// A connection that has to be closed, or a dial that has become useless.
    pub(super) fn poll_displaced(&mut self) -> Option<Slot> {
        self.displaced.pop()
    }

    pub(super) fn find(&self, slot: Slot) -> Option<&Place> {
        self.taken.get(&slot).or_else(|| self.leaving.get(&slot))
    }

    /// Open connections that have a place.
    pub(super) fn connections(&self) -> usize {
        self.taken.values().filter(|place| !place.attempt).count()
    }

    /// Attempts count too, as upstream.
    fn is_full(&self) -> bool {
        self.taken.len() >= SWARM_PEERS
    }

    fn take(&mut self, now: Instant, host: Ipv4Addr, dialled: Option<SocketAddrV4>) -> Slot {
        self.count += 1;
        let slot = Slot(self.count);
        let standing = Standing::new(now);
        self.taken.insert(slot, Place { host, dialled, attempt: dialled.is_some(), standing });
        slot
    }

    /// The least useful place among equals, if it has long been of no use.
    fn exchange(&mut self, now: Instant, tally: &Tally, newcomer: Ipv4Addr) -> Option<Slot> {
        if self.last_exchange.is_some_and(|at| now.saturating_duration_since(at) < EXCHANGE_EVERY) {
            return None;
        }
        let (most, mine) = (tally.most_of_a_host(), tally.of_host(newcomer));
        // A host that has places already, and less than others by one, would only turn the shares round.
        if mine != most && mine != 0 {
            return None;
        }
        let useless = |place: &Place| {
            let (worth, used) = place.standing.rank();
            let wait = if worth < Worth::Used { USELESS_FOR } else { UNUSED_FOR };
            worth < Worth::Proven && now.saturating_duration_since(used) >= wait
        };
        let out = self.least_useful(|place| tally.of_host(place.host) == most && useless(place))?;
        self.last_exchange = Some(now);
        Some(out)
    }

    fn tally(&self) -> Tally {
        self.taken.values().map(|place| place.host).collect()
    }

    fn least_useful(&self, wanted: impl Fn(&Place) -> bool) -> Option<Slot> {
        let kept = self.last_proven();
        let open = self.taken.iter().filter(|(slot, place)| Some(**slot) != kept && wanted(place));
        open.min_by_key(|(_, place)| (!place.attempt, place.standing.rank())).map(|(slot, _)| *slot)
    }

    /// Who answered a load last.
    fn last_proven(&self) -> Option<Slot> {
        let proven = self.taken.iter().map(|(slot, place)| (place.standing.rank(), *slot));
        proven.filter(|((worth, _), _)| *worth == Worth::Proven).max().map(|(_, slot)| slot)
    }

    /// Takes the place from `slot`; not while too many that lost theirs are still open.
    fn displace(&mut self, slot: Slot) -> Option<()> {
        if self.leaving.len() >= SWARM_LEAVING {
            return None;
        }
        let place = self.taken.remove(&slot)?;
        self.leaving.insert(slot, place);
        self.displaced.push(slot);
        Some(())
    }
}
