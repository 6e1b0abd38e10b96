//! The places of one topic: who has one, and who gives one up when all are taken.
//!
//! Upstream never replaces anybody, so that two addresses shut a node off. Here shares count, but only when all places
//! are taken (a laboratory is one network, or one address behind its NAT):
//!
//! 1. The host with the most places gives up its least useful one to a host with at least two less, else the network
//!    with the most does ([`Tally::must_yield`]). Exchanges make shares more equal, so they end.
//! 2. Where all have the same, a newcomer gets the place of the connection that has shown least use to us, at a
//!    bounded pace ([`Exchanges`]): else 24 strangers, or the first 60 daemons of a laboratory behind one address,
//!    would keep everybody else out. The half of the places that has been of most use does not take part in this.
//! 3. A member that has enough connections dials somebody new all the same, less and less often ([`Exploring`]): else
//!    members whose places strangers have taken would not meet.
//!
//! The connection that answered a load last is never given up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::pace::{Exchanges, Exploring};
use super::standing::{Standing, Worth};
use crate::dht::shares::{Tally, network_of};
use crate::limits::v2::{PLACES_KEPT, PLACES_NOT_DIALLED, SWARM_LEAVING, SWARM_PEERS};

/// A connection keeps its place for so long among equals: time to be asked, and to answer.
const TRIAL: Duration = Duration::from_secs(8);

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
    exchanges: Exchanges,
    exploring: Exploring,
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
    /// somebody with too many has to give one up, and now and then a host that has no place.
    pub(super) fn may_dial(&self) -> impl Fn(Ipv4Addr) -> bool + use<> {
        let (tally, welcome, explores) = (self.tally(), self.is_welcome(), self.exploring.is_due());
        move |host| welcome(host) || (explores && tally.of_host(host) == 0)
    }

    /// The same without exploring.
    fn is_welcome(&self) -> impl Fn(Ipv4Addr) -> bool + use<> {
        let (room, tally) = (!self.has_enough(), self.tally());
        let hosts: BTreeSet<_> = self.taken.values().map(|place| place.host).collect();
        move |host| room || hosts.iter().any(|holder| tally.must_yield(*holder, host))
    }

    /// A place for a dial to `candidate`. Where all are taken nobody gives one up before the dial has succeeded:
    /// most of what strangers name does not answer.
    pub(super) fn dial(&mut self, now: Instant, candidate: SocketAddrV4) -> Slot {
        if !self.is_welcome()(*candidate.ip()) {
            self.exploring.begin(now);
        }
        self.take(now, *candidate.ip(), Some(candidate))
    }

    /// The dial has succeeded. False if there is no place for the connection. Unlike those who come, a host that we
    /// chose ourselves does not wait for the place of an equal: the pace is that of the dials.
    pub(super) fn connected(&mut self, now: Instant, slot: Slot) -> bool {
        let Some(place) = self.taken.get_mut(&slot) else { return false };
        place.attempt = false;
        let host = place.host;
        if self.connections() <= SWARM_PEERS {
            return true;
        }
        let others = self.taken.iter().filter(|(other, _)| **other != slot);
        let tally: Tally = others.map(|(_, place)| place.host).collect();
        let crowded = self.least_useful(|place| !place.attempt && tally.must_yield(place.host, host));
        let out = crowded.or_else(|| {
            let out = (tally.of_host(host) == 0)
                .then(|| self.least_of_equals(&tally, host, |place| !place.attempt))??;
            self.note_exchange(now, host, out);
            Some(out)
        });
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

    /// Call when [`Self::poll_timeout`] says so.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.exploring.handle_timeout(now, self.has_enough());
    }

    /// When an exploring dial may begin.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.exploring.poll_timeout().filter(|_| self.has_enough())
    }

    /// No dial but exploring ones, or to take from somebody with too many.
    fn has_enough(&self) -> bool {
        self.taken.len() + PLACES_NOT_DIALLED >= SWARM_PEERS
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

    /// A place for one who comes to equals, if it is time for that.
    fn exchange(&mut self, now: Instant, tally: &Tally, newcomer: Ipv4Addr) -> Option<Slot> {
        if !self.exchanges.are_due(now, newcomer) {
            return None;
        }
        let is_old = |place: &Place| now.saturating_duration_since(place.standing.opened()) >= TRIAL;
        let out = self.least_of_equals(tally, newcomer, is_old)?;
        self.note_exchange(now, newcomer, out);
        Some(out)
    }

    fn note_exchange(&mut self, now: Instant, winner: Ipv4Addr, out: Slot) {
        if let Some(place) = self.taken.get(&out) {
            self.exchanges.note(now, winner, place.host);
        }
    }

    /// The least useful place of those that this newcomer may have so that shares are as equal as before: of a host
    /// and a network with the most if it has none, else of its own.
    fn least_of_equals(
        &self,
        tally: &Tally,
        newcomer: Ipv4Addr,
        wanted: impl Fn(&Place) -> bool,
    ) -> Option<Slot> {
        let (host, network) = (tally.most_of_a_host(), tally.most_of_a_network());
        let is_equal = |place: &Place| {
            let of_host = match tally.of_host(newcomer) {
                0 => tally.of_host(place.host) == host,
                _ => place.host == newcomer,
            };
            let of_network = match tally.of_network(newcomer) {
                0 => tally.of_network(place.host) == network,
                _ => network_of(place.host) == network_of(newcomer),
            };
            of_host && of_network
        };
        let kept = self.most_useful();
        let wanted = |slot: &Slot, place: &Place| !kept.contains(slot) && is_equal(place) && wanted(place);
        let open = self.taken.iter().filter(|(slot, place)| wanted(slot, place));
        open.min_by_key(|(_, place)| (!place.attempt, place.standing.rank())).map(|(slot, _)| *slot)
    }

    /// The connections that do not give way to equals.
    fn most_useful(&self) -> BTreeSet<Slot> {
        let of_use = self.taken.iter().map(|(slot, place)| (place.standing.rank(), *slot));
        let mut of_use: Vec<_> = of_use.filter(|((worth, _), _)| *worth >= Worth::Used).collect();
        of_use.sort_unstable();
        of_use.into_iter().rev().take(PLACES_KEPT).map(|(_, slot)| slot).collect()
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
