//! The connections of one topic: `swarm.js` of hyperswarm 2.14.
//!
//! Upstream dials one candidate at a time, so that a dead one delays the next by up to 10 s; here several dials may run
//! at once. Both sides dial each other and both connections are kept, as upstream does. What happens when all places are
//! taken is described in `places`.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::places::{Places, Slot};
use super::queue::{Candidate, Queue};
use super::standing::Standing;
use crate::dht::guard::{can_be_meant, is_near, is_sane};
use crate::limits::v2::DIALS_AT_ONCE;

/// Ports below this belong to services of the system. No peer listens there by chance, so nobody far away can have us
/// dial them.
const FIRST_ORDINARY_PORT: u16 = 1024;

/// A peer that discovery has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it listens.
    pub addr: SocketAddrV4,
    /// The informant.
    pub source: Source,
}

/// The source that told us of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A packet by multicast DNS.
    LocalNetwork {
        /// The host that sent it.
        sender: Ipv4Addr,
    },
    /// An answer in the DHT.
    Dht {
        /// The node that answered.
        referrer: SocketAddrV4,
        /// Our own address as that node sees it.
        to: Option<SocketAddrV4>,
    },
}

/// Whom to dial, and how many connections there may be.
pub struct Peers {
    own_port: u16,
    queue: Queue,
    places: Places,
    /// Dials that have not ended.
    dialling: usize,
}

impl Peers {
    /// `own_port`: where we listen. `seed` decides the order among equals and the spread of waits.
    pub fn new(now: Instant, own_port: u16, seed: [u8; 32]) -> Self {
        Self {
            own_port,
            queue: Queue::new(now, StdRng::from_seed(seed)),
            places: Places::default(),
            dialling: 0,
        }
    }

    /// Discovery met a peer. Own addresses and addresses that cannot be meant are dropped; `is_own_host` tells whether a
    /// host is one of our own interfaces. Returns whether the peer is new and will be dialled.
    pub fn found(&mut self, now: Instant, found: Found, is_own_host: impl Fn(Ipv4Addr) -> bool) -> bool {
        let (host, port) = (*found.addr.ip(), found.addr.port());
        if !may_be_dialled(&found, &is_own_host) || (port == self.own_port && is_own_host(host)) {
            return false;
        }
        let (local, referrer, same_nat) = match found.source {
            Source::LocalNetwork { .. } => (true, None, false),
            Source::Dht { referrer, to } => (false, Some(referrer), to.is_some_and(|to| *to.ip() == host)),
        };
        self.queue.add(now, Candidate { addr: found.addr, local, referrer }, same_nat)
    }

    /// A connection came in. None: refuse it (close at once), there is no place for it.
    pub fn accept(&mut self, now: Instant, from: Ipv4Addr) -> Option<Slot> {
        self.places.accept(now, from)
    }

    /// The next candidate to dial now; report the result with [`Peers::dialled`].
    pub fn poll_dial(&mut self, now: Instant) -> Option<(Slot, Candidate)> {
        if self.dialling >= DIALS_AT_ONCE {
            return None;
        }
        self.places.handle_timeout(now);
        let candidate = self.queue.take(now, self.places.may_dial())?;
        self.dialling += 1;
        Some((self.places.dial(now, candidate.addr), candidate))
    }

    /// A dial has ended. False if its connection is not wanted: it failed, or all places are taken.
    pub fn dialled(&mut self, now: Instant, slot: Slot, connected: bool) -> bool {
        let Some(addr) = self.places.find(slot).and_then(|place| place.dialled) else { return false };
        self.dialling = self.dialling.saturating_sub(1);
        self.queue.ended(addr, connected);
        if connected {
            self.queue.connected(addr);
            if self.places.connected(now, slot) {
                return true;
            }
        }
        self.places.closed(slot);
        self.queue.release(now, addr);
        false
    }

    /// An open connection has closed. Dialled ones are dialled again after a wait, unless banned.
    pub fn closed(&mut self, now: Instant, slot: Slot, banned: bool) {
        match self.places.closed(slot).and_then(|place| place.dialled) {
            Some(addr) if banned => self.queue.ban(addr),
            Some(addr) => self.queue.release(now, addr),
            None => {}
        }
    }

    /// A connection to close now: somebody else got its place. Report its end with [`Peers::closed`] like any other; a
    /// dial that is still running ends by itself.
    pub fn poll_displaced(&mut self) -> Option<Slot> {
        self.places.poll_displaced()
    }

    /// How the application says what a connection is worth.
    pub fn standing(&self, slot: Slot) -> Option<Standing> {
        self.places.find(slot).map(|place| place.standing.clone())
    }

    /// Call when [`Peers::poll_timeout`] says so.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.queue.handle_timeout(now);
        self.places.handle_timeout(now);
    }

    /// When a wait of some candidate ends, or somebody new may be dialled.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.poll_timeout().into_iter().chain(self.places.poll_timeout()).min()
    }

    /// Open connections, attempts not included.
    pub fn connections(&self) -> usize {
        self.places.connections()
    }

    /// Peers known and not connected.
    pub fn candidates(&self) -> usize {
        self.queue.candidates()
    }
}

/// What a stranger names we dial, and then talk to: it must not choose services of our own machine, of our network, or
/// of anybody's system.
fn may_be_dialled(found: &Found, is_own_host: impl Fn(Ipv4Addr) -> bool) -> bool {
    let (host, port) = (*found.addr.ip(), found.addr.port());
    let (informant, to) = match found.source {
        Source::LocalNetwork { sender } => (sender, None),
        Source::Dht { referrer, to } => (*referrer.ip(), to),
    };
    if !is_sane(found.addr, informant) {
        return false;
    }
    let local = matches!(found.source, Source::LocalNetwork { .. });
    let ordinary = port >= FIRST_ORDINARY_PORT || local || is_near(informant);
    // A node that sees us at our private address is in a network with us though its own address is public, as the
    // server of a university is. Nobody outside knows that address.
    let inside = || !host.is_link_local() && to.is_some_and(|to| is_near(*to.ip()) && is_own_host(*to.ip()));
    ordinary && (can_be_meant(host, informant) || inside())
}
