//! Turns at work for peers, shared fairly: first between hosts, then between the peers at a host.
//!
//! Each turn has a price, about the bytes that it moves. An account that pays moves on by that; the one that is furthest
//! behind is next. Nobody can save up: an account that begins to wait starts where the one stands that had the last turn.
//! So a peer at its own address has its part of the work however many requests, peers and connections another address
//! has.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::line::Asker;
use crate::node::peer::PeerKey;

/// What a turn costs beside its bytes: about as long as it takes to move so many.
const PRICE: u64 = 16 << 10;

/// A bounded number of turns at the same time. The lock is held for microseconds, and never while a turn is given out.
pub(crate) struct FairTurns(Mutex<State>);

struct State {
    free: usize,
    /// In order of arrival. Each is a request that is served or a frame that is prepared, so these are bounded.
    waiting: Vec<Waiting>,
    hosts: Accounts<Option<IpAddr>>,
    /// Within each host.
    peers: HashMap<Option<IpAddr>, Accounts<PeerKey>>,
}

struct Waiting {
    asker: Asker,
    price: u64,
    turn: oneshot::Sender<Turn>,
}

/// How far accounts are.
struct Accounts<K> {
    /// Where the one stood that had the last turn.
    now: u64,
    /// Those that are further.
    ahead: HashMap<K, u64>,
}

/// A turn, until dropped.
pub(crate) struct Turn(Arc<FairTurns>);

impl<K> Default for Accounts<K> {
    fn default() -> Self {
        Self { now: 0, ahead: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash> Accounts<K> {
    fn at(&self, key: K) -> u64 {
        self.ahead.get(&key).copied().unwrap_or(0).max(self.now)
    }

    /// It has a turn; those that others have caught up with are forgotten.
    fn pay(&mut self, key: K, price: u64) {
        let at = self.at(key);
        self.now = at;
        self.ahead.retain(|_, other| *other > at);
        self.ahead.insert(key, at.saturating_add(price));
    }
}

impl FairTurns {
    /// So many at the same time.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let (waiting, hosts, peers) = Default::default();
        Arc::new(Self(Mutex::new(State { free: count, waiting, hosts, peers })))
    }

    /// Waits for a turn to move so many bytes.
    pub(crate) async fn take(self: &Arc<Self>, asker: Asker, bytes: u64) -> Turn {
        let (turn, granted) = oneshot::channel();
        self.0.lock().waiting.push(Waiting { asker, price: bytes.saturating_add(PRICE), turn });
        self.give_out();
        match granted.await {
            Ok(turn) => turn,
            // Never: those that wait are dropped only together with these turns.
            Err(_) => std::future::pending().await,
        }
    }

    /// Gives free turns to those that are next.
    fn give_out(self: &Arc<Self>) {
        loop {
            let Some(next) = self.0.lock().next() else { return };
            // One that waits no more gives it back at once, and the next one has it.
            let _ = next.send(Turn(self.clone()));
        }
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        if self.free == 0 {
            return None;
        }
        self.waiting.retain(|waiting| !waiting.turn.is_closed());
        let position = |waiting: &Waiting| {
            let Asker { host, peer } = waiting.asker;
            let in_host = self.peers.get(&host).map_or(0, |peers| peers.at(peer));
            (self.hosts.at(host), in_host)
        };
        let next = self.waiting.iter().enumerate().min_by_key(|(_, waiting)| position(waiting))?.0;
        let Waiting { asker: Asker { host, peer }, price, turn } = self.waiting.remove(next);
        self.free -= 1;
        self.hosts.pay(host, price);
        self.peers.entry(host).or_default().pay(peer, price);
        self.peers.retain(|host, _| self.hosts.ahead.contains_key(host));
        Some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.lock().free += 1;
        self.0.give_out();
    }
}

#[cfg(test)]
mod tests;
