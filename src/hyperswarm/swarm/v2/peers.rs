//! The connections of one topic: `swarm.js` of hyperswarm 2.14.
//!
//! Upstream dials one candidate at a time, so that a dead one delays the next by up to 10 s; here several dials may run
//! at once. Both sides dial each other and both connections are kept, as upstream does.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::queue::{Candidate, Queue};
use crate::dht::guard::is_sane;
use crate::limits::v2::{DIALS_AT_ONCE, INCOMING_PER_HOST, SWARM_PEERS};

/// A peer that discovery has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it listens.
    pub addr: SocketAddrV4,
    /// Who says so.
    pub source: Source,
}

/// Who told us of a peer.
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

/// What one open connection occupies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// An accepted connection from this host.
    Incoming(Ipv4Addr),
    /// A connection dialled to this candidate.
    Dialled(SocketAddrV4),
}

/// Whom to dial, and how many connections there may be.
pub struct Peers {
    own_port: u16,
    queue: Queue,
    dialling: usize,
    dialled: usize,
    incoming: usize,
    incoming_hosts: BTreeMap<Ipv4Addr, usize>,
}

impl Peers {
    /// `own_port`: where we listen. `seed` decides the order among equals and the spread of waits.
    pub fn new(now: Instant, own_port: u16, seed: [u8; 32]) -> Self {
        Self {
            own_port,
            queue: Queue::new(now, StdRng::from_seed(seed)),
            dialling: 0,
            dialled: 0,
            incoming: 0,
            incoming_hosts: BTreeMap::new(),
        }
    }

    /// Discovery met a peer. Own addresses and addresses nobody could honestly have are dropped; `is_own_host` tells
    /// whether a host is one of our own interfaces. Returns whether the peer is new and will be dialled.
    pub fn found(&mut self, now: Instant, found: Found, is_own_host: impl FnOnce(Ipv4Addr) -> bool) -> bool {
        let (host, port) = (*found.addr.ip(), found.addr.port());
        // What a stranger names we dial, and then talk to: anybody in the DHT could otherwise have us speak to services on
        // our own loopback interface.
        let informant = match found.source {
            Source::LocalNetwork { sender } => sender,
            Source::Dht { referrer, .. } => *referrer.ip(),
        };
        if !is_sane(found.addr, informant) || (port == self.own_port && is_own_host(host)) {
            return false;
        }
        let (local, referrer, same_nat) = match found.source {
            Source::LocalNetwork { .. } => (true, None, false),
            Source::Dht { referrer, to } => (false, Some(referrer), to.is_some_and(|to| *to.ip() == host)),
        };
        self.queue.add(now, Candidate { addr: found.addr, local, referrer }, same_nat)
    }

    /// A connection came in. False: refuse it (close at once), there is no slot for it.
    pub fn accept(&mut self, from: Ipv4Addr) -> bool {
        let from_host = self.incoming_hosts.get(&from).copied().unwrap_or(0);
        // Many daemons of one machine share the loopback address; nobody else can use it.
        if self.is_full() || (from_host >= INCOMING_PER_HOST && !from.is_loopback()) {
            return false;
        }
        self.incoming += 1;
        self.incoming_hosts.insert(from, from_host + 1);
        true
    }

    /// The next candidate to dial now; report the result with [`Peers::dialled`].
    pub fn poll_dial(&mut self) -> Option<Candidate> {
        if self.is_full() || self.dialling >= DIALS_AT_ONCE {
            return None;
        }
        let candidate = self.queue.take()?;
        self.dialling += 1;
        Some(candidate)
    }

    /// A dial has ended.
    pub fn dialled(&mut self, now: Instant, addr: SocketAddrV4, connected: bool) {
        self.dialling = self.dialling.saturating_sub(1);
        if connected {
            self.dialled += 1;
            self.queue.connected(addr);
        } else {
            self.queue.release(now, addr);
        }
    }

    /// An open connection has closed. Dialled ones are dialled again after a wait, unless banned.
    pub fn closed(&mut self, now: Instant, slot: Slot, banned: bool) {
        match slot {
            Slot::Incoming(host) => {
                self.incoming = self.incoming.saturating_sub(1);
                if let Some(count) = self.incoming_hosts.get_mut(&host) {
                    *count -= 1;
                    if *count == 0 {
                        self.incoming_hosts.remove(&host);
                    }
                }
            }
            Slot::Dialled(addr) => {
                self.dialled = self.dialled.saturating_sub(1);
                if banned {
                    self.queue.ban(addr);
                } else {
                    self.queue.release(now, addr);
                }
            }
        }
    }

    /// Call when [`Peers::poll_timeout`] says so.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.queue.handle_timeout(now);
    }

    /// When a wait of some candidate ends.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.poll_timeout()
    }

    /// Open connections, attempts not included.
    pub fn connections(&self) -> usize {
        self.dialled + self.incoming
    }

    /// Peers known and not connected.
    pub fn candidates(&self) -> usize {
        self.queue.candidates()
    }

    /// Attempts count too, as upstream.
    fn is_full(&self) -> bool {
        self.dialling + self.connections() >= SWARM_PEERS
    }
}
