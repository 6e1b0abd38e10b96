//! What is stored for others: announcements (npm record-cache) and values (npm hashlru). Both keep two generations:
//! what is added or used goes to the fresh one; when that is full or old, it becomes the stale one and the stale one
//! is dropped. Nothing is scanned to expire.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::index;

/// The stale generation is dropped and the fresh one becomes stale this often, two thirds of the 12 minutes of
/// @hyperswarm/dht: a record lives 8 to 16 minutes.
const TURN: Duration = Duration::from_secs(480);

/// Records by name; each record has a key of its own and a value. Adding a known key only refreshes it.
pub struct Records<N, K, V> {
    fresh: Generation<N, K, V>,
    stale: Generation<N, K, V>,
    turn_at: Instant,
    /// Turned early because the fresh generation was full: the next turn in time is left out.
    turned: bool,
    capacity: usize,
}

struct Generation<N, K, V> {
    /// Sorted by key; compact, because a flood is mostly names with one record.
    names: BTreeMap<N, Vec<(K, V)>>,
    len: usize,
}

impl<N: Ord, K: Ord + Copy, V: Copy> Records<N, K, V> {
    /// At most `capacity` records in the fresh generation, so at most twice as many in all.
    pub fn new(now: Instant, capacity: usize) -> Self {
        Self {
            fresh: Generation::new(),
            stale: Generation::new(),
            turn_at: now + TURN,
            turned: false,
            capacity,
        }
    }

    /// Records in both generations.
    pub fn len(&self) -> usize {
        self.fresh.len + self.stale.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds or refreshes a record.
    pub fn add(&mut self, now: Instant, name: N, key: K, value: V) {
        self.expire(now);
        self.stale.remove(&name, &key);
        if self.fresh.add(name, key, value) && self.fresh.len > self.capacity {
            self.turn();
        }
    }

    /// Removes a record.
    pub fn remove(&mut self, now: Instant, name: &N, key: &K) {
        self.expire(now);
        self.fresh.remove(name, key);
        self.stale.remove(name, key);
    }

    /// Up to `count` records of a name, chosen at random.
    pub fn sample(&mut self, now: Instant, name: &N, count: usize, rng: &mut StdRng) -> Vec<(K, V)> {
        self.expire(now);
        let (fresh, stale) = (self.fresh.of(name), self.stale.of(name));
        let total = fresh.len() + stale.len();
        let at = |i: usize| fresh.get(i).or_else(|| stale.get(i - fresh.len())).copied();
        index::sample(rng, total, count.min(total)).into_iter().filter_map(at).collect()
    }

    /// Drops what is too old.
    pub fn expire(&mut self, now: Instant) {
        // Two turns empty both generations; after a long silence there is no more to do.
        for _ in 0..2 {
            if now >= self.turn_at {
                self.turn_at += TURN;
                if !self.turned {
                    self.turn();
                }
                self.turned = false;
            }
        }
        if now >= self.turn_at {
            (self.fresh, self.stale) = (Generation::new(), Generation::new());
            self.turn_at = now + TURN;
        }
    }

    /// When [`Self::expire`] has something to drop.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.turn_at)
    }

    fn turn(&mut self) {
        self.stale = mem::replace(&mut self.fresh, Generation::new());
        self.turned = true;
    }
}

impl<N: Ord, K: Ord + Copy, V: Copy> Generation<N, K, V> {
    fn new() -> Self {
        Self { names: BTreeMap::new(), len: 0 }
    }

    fn of(&self, name: &N) -> &[(K, V)] {
        self.names.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns whether the record was not there.
    fn add(&mut self, name: N, key: K, value: V) -> bool {
        let list = self.names.entry(name).or_default();
        let Err(at) = list.binary_search_by(|(k, _)| k.cmp(&key)) else { return false };
        if list.is_empty() {
            list.reserve_exact(1);
        }
        list.insert(at, (key, value));
        self.len += 1;
        true
    }

    fn remove(&mut self, name: &N, key: &K) {
        let Some(list) = self.names.get_mut(name) else { return };
        if let Ok(at) = list.binary_search_by(|(k, _)| k.cmp(key)) {
            list.remove(at);
            self.len -= 1;
            if list.is_empty() {
                self.names.remove(name);
            }
        }
    }
}

/// Values by key, the recently used ones.
pub struct Recent<K, V> {
    fresh: BTreeMap<K, V>,
    stale: BTreeMap<K, V>,
    capacity: usize,
}

impl<K: Ord + Clone, V: Clone> Recent<K, V> {
    /// At most `capacity` values in the fresh generation, so at most twice as many in all.
    pub fn new(capacity: usize) -> Self {
        Self { fresh: BTreeMap::new(), stale: BTreeMap::new(), capacity }
    }

    /// Values in both generations.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.stale.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key, which is used by this.
    pub fn find(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.fresh.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.stale.remove_entry(key)?;
        self.set(key, value.clone());
        Some(value)
    }

    /// Adds or replaces a value.
    pub fn set(&mut self, key: K, value: V) {
        self.stale.remove(&key);
        self.fresh.insert(key, value);
        if self.fresh.len() >= self.capacity {
            self.stale = mem::take(&mut self.fresh);
        }
    }
}

#[cfg(test)]
mod tests;
