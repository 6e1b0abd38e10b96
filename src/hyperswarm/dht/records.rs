//! What is stored for others: announcements (npm record-cache) and values (npm hashlru). Both keep two generations:
//! what is added or used goes to the fresh one; when that is old, it becomes the stale one and the stale one is dropped.
//! Nothing is scanned to expire.
//!
//! A full generation is cut to three quarters, by fair shares of the hosts that sent what is in it (see
//! [`super::shares`]), so that one host evicts only what is its own. Looking at everything then costs each addition the
//! same as looking at four. With more networks than there is room for, the generations turn early, as upstream.

use std::collections::BTreeMap;
use std::mem;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{SliceRandom, index};

use super::shares::{interleave, network_of, quotas};

/// The generations of @hyperswarm/dht turn this often, two thirds of its 12 minutes: a record lives 8 to 16 minutes.
pub const V2_TURN: Duration = Duration::from_secs(480);

/// When generations turn. One that turned early because it was full leaves the next turn in time out.
struct Turns {
    every: Duration,
    next: Instant,
    early: bool,
}

impl Turns {
    fn new(now: Instant, every: Duration) -> Self {
        Self { every, next: now + every, early: false }
    }

    /// How many turns are due. Two empty both generations; after a long silence there is no more to do.
    fn due(&mut self, now: Instant) -> usize {
        let mut due = 0;
        for _ in 0..2 {
            if now >= self.next {
                self.next += self.every;
                due += usize::from(!mem::take(&mut self.early));
            }
        }
        if now >= self.next {
            self.next = now + self.every;
            due = 2;
        }
        due
    }
}

/// Records by name; each record has a host that sent it, a key of its own and a value. Adding a known key of the same
/// host only refreshes it.
pub struct Records<N, K, V> {
    fresh: Generation<N, K, V>,
    stale: Generation<N, K, V>,
    turns: Turns,
    capacity: usize,
    of_name: usize,
}

/// One record of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<K, V> {
    /// The sender.
    pub host: Ipv4Addr,
    /// Tells it from others of the same host.
    pub key: K,
    /// What comes with it.
    pub value: V,
}

struct Generation<N, K, V> {
    /// Sorted by host and key; compact, because a flood is mostly names with one record.
    names: BTreeMap<N, Vec<Record<K, V>>>,
    len: usize,
}

impl<N: Ord, K: Ord + Copy, V: Copy> Records<N, K, V> {
    /// At most `capacity` records in the fresh generation, `of_name` of them of one name, so at most twice as many in
    /// all. The stale generation is dropped and the fresh one becomes stale after every `turn`.
    pub fn new(now: Instant, turn: Duration, capacity: usize, of_name: usize) -> Self {
        let (fresh, stale) = (Generation::new(), Generation::new());
        Self { fresh, stale, turns: Turns::new(now, turn), capacity, of_name }
    }

    /// Records in both generations.
    pub fn len(&self) -> usize {
        self.fresh.len + self.stale.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds or refreshes a record. `rng` decides who makes room where nobody has more than a fair share.
    pub fn add(&mut self, now: Instant, name: N, record: Record<K, V>, rng: &mut StdRng) {
        self.expire(now);
        self.stale.remove(&name, record.host, &record.key);
        self.fresh.add(name, record, self.of_name, rng);
        if self.fresh.len > self.capacity && !self.fresh.cut(self.capacity) {
            self.turn();
            self.turns.early = true;
        }
    }

    /// Removes a record.
    pub fn remove(&mut self, now: Instant, name: &N, host: Ipv4Addr, key: &K) {
        self.expire(now);
        self.fresh.remove(name, host, key);
        self.stale.remove(name, host, key);
    }

    /// Removes the records of a key, whichever hosts sent them.
    pub fn forget(&mut self, now: Instant, name: &N, key: &K) {
        self.expire(now);
        self.fresh.forget(name, key);
        self.stale.forget(name, key);
    }

    /// Up to `count` records of a name, chosen at random, in fair shares of the networks and hosts that sent them: a
    /// host that has thousands is named as often as one that has a single one, while there is one.
    pub fn sample(&mut self, now: Instant, name: &N, count: usize, rng: &mut StdRng) -> Vec<Record<K, V>> {
        self.expire(now);
        let mut runs = self.fresh.by_host(name);
        runs.extend(self.stale.by_host(name));
        runs.sort_by_key(|(host, _)| *host);
        let mut networks: Vec<_> =
            runs.chunk_by(|(one, _), (other, _)| network_of(*one) == network_of(*other)).collect();
        if networks.len() > count {
            networks.shuffle(rng);
            networks.truncate(count);
        }
        let mut groups = Vec::with_capacity(networks.len());
        for network in networks {
            let hosts = network.chunk_by(|(one, _), (other, _)| one == other);
            let hosts = hosts.map(|runs| pick(runs, count, rng)).collect();
            groups.push(interleave(hosts, rng));
        }
        let mut chosen = interleave(groups, rng);
        chosen.truncate(count);
        chosen
    }

    /// Drops what is too old.
    pub fn expire(&mut self, now: Instant) {
        (0..self.turns.due(now)).for_each(|_| self.turn());
    }

    /// When [`Self::expire`] has something to drop.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.turns.next)
    }

    fn turn(&mut self) {
        self.stale = mem::replace(&mut self.fresh, Generation::new());
    }
}

/// Up to `count` records of one host, at random.
fn pick<K: Copy, V: Copy>(
    runs: &[(Ipv4Addr, &[Record<K, V>])],
    count: usize,
    rng: &mut StdRng,
) -> Vec<Record<K, V>> {
    let all: Vec<_> = runs.iter().flat_map(|(_, run)| run.iter()).collect();
    let chosen = index::sample(rng, all.len(), count.min(all.len()));
    chosen.into_iter().filter_map(|at| all.get(at).map(|record| **record)).collect()
}

impl<N: Ord, K: Ord + Copy, V: Copy> Generation<N, K, V> {
    fn new() -> Self {
        Self { names: BTreeMap::new(), len: 0 }
    }

    /// The records of a name, host by host.
    fn by_host(&self, name: &N) -> Vec<(Ipv4Addr, &[Record<K, V>])> {
        let list = self.names.get(name).map(Vec::as_slice).unwrap_or_default();
        let runs = list.chunk_by(|one, other| one.host == other.host);
        runs.filter_map(|run| Some((run.first()?.host, run))).collect()
    }

    /// Adds or refreshes a record; beyond `most` of its name others make room.
    fn add(&mut self, name: N, record: Record<K, V>, most: usize, rng: &mut StdRng) {
        let list = self.names.entry(name).or_default();
        let Err(at) = position(list, record.host, &record.key) else { return };
        if list.is_empty() {
            list.reserve_exact(1);
        }
        let before = list.len();
        list.insert(at, record);
        if list.len() > most {
            let mut counts = BTreeMap::new();
            list.iter().for_each(|record| *counts.entry(record.host).or_default() += 1);
            match quotas(&counts, most * 3 / 4) {
                Some(mut quotas) => list.retain(|record| keep(&mut quotas, record.host)),
                None => drop(list.remove(rng.random_range(0..list.len()))),
            }
        }
        self.len = self.len - before + list.len();
    }

    /// Cuts to three quarters of `capacity`; false if nobody has more than a fair share.
    fn cut(&mut self, capacity: usize) -> bool {
        let mut counts = BTreeMap::new();
        let all = self.names.values().flatten();
        all.for_each(|record| *counts.entry(record.host).or_default() += 1);
        let Some(mut quotas) = quotas(&counts, capacity * 3 / 4) else { return false };
        self.names.retain(|_, list| {
            list.retain(|record| keep(&mut quotas, record.host));
            !list.is_empty()
        });
        self.len = self.names.values().map(Vec::len).sum();
        true
    }

    fn forget(&mut self, name: &N, key: &K) {
        let Some(list) = self.names.get_mut(name) else { return };
        let before = list.len();
        list.retain(|record| record.key != *key);
        self.len -= before - list.len();
        if list.is_empty() {
            self.names.remove(name);
        }
    }

    fn remove(&mut self, name: &N, host: Ipv4Addr, key: &K) {
        let Some(list) = self.names.get_mut(name) else { return };
        if let Ok(at) = position(list, host, key) {
            list.remove(at);
            self.len -= 1;
            if list.is_empty() {
                self.names.remove(name);
            }
        }
    }
}

/// Where a record is in its list, or where it belongs.
fn position<K: Ord, V>(list: &[Record<K, V>], host: Ipv4Addr, key: &K) -> Result<usize, usize> {
    list.binary_search_by(|record| (record.host, &record.key).cmp(&(host, key)))
}

/// Takes one from the quota of `host`; false if there is none left.
fn keep(quotas: &mut BTreeMap<Ipv4Addr, usize>, host: Ipv4Addr) -> bool {
    let Some(quota) = quotas.get_mut(&host).filter(|quota| **quota > 0) else { return false };
    *quota -= 1;
    true
}

/// Values by key, the recently used ones.
pub struct Recent<K, V> {
    fresh: BTreeMap<K, (Ipv4Addr, V)>,
    stale: BTreeMap<K, (Ipv4Addr, V)>,
    /// None: only what is newer drives values out.
    turns: Option<Turns>,
    capacity: usize,
}

impl<K: Ord + Clone, V: Clone> Recent<K, V> {
    /// At most `capacity` values in the fresh generation, so at most twice as many in all. They are kept until newer ones
    /// drive them out.
    pub fn new(capacity: usize) -> Self {
        Self { fresh: BTreeMap::new(), stale: BTreeMap::new(), turns: None, capacity }
    }

    /// The same, but [`Self::expire`] drops what was not used for two turns.
    pub fn turning(now: Instant, turn: Duration, capacity: usize) -> Self {
        Self { turns: Some(Turns::new(now, turn)), ..Self::new(capacity) }
    }

    /// Values in both generations.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.stale.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key, which is used by this.
    pub fn find(&mut self, key: &K) -> Option<V> {
        if let Some((_, value)) = self.fresh.get(key) {
            return Some(value.clone());
        }
        let (key, (host, value)) = self.stale.remove_entry(key)?;
        self.set(key, host, value.clone());
        Some(value)
    }

    /// The value of a key, which is not used by this: it lives no longer.
    pub fn look_at(&self, key: &K) -> Option<&V> {
        self.fresh.get(key).or_else(|| self.stale.get(key)).map(|(_, value)| value)
    }

    /// Adds or replaces a value that `host` sent.
    pub fn set(&mut self, key: K, host: Ipv4Addr, value: V) {
        self.stale.remove(&key);
        self.fresh.insert(key, (host, value));
        if self.fresh.len() >= self.capacity && !self.cut() {
            self.turn();
            if let Some(turns) = &mut self.turns {
                turns.early = true;
            }
        }
    }

    /// Removes a value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let found = self.fresh.remove(key).or_else(|| self.stale.remove(key));
        found.map(|(_, value)| value)
    }

    /// Drops what is too old.
    pub fn expire(&mut self, now: Instant) {
        let due = self.turns.as_mut().map_or(0, |turns| turns.due(now));
        (0..due).for_each(|_| self.turn());
    }

    /// When [`Self::expire`] has something to drop.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let turns = self.turns.as_ref().filter(|_| !self.is_empty())?;
        Some(turns.next)
    }

    fn turn(&mut self) {
        self.stale = mem::take(&mut self.fresh);
    }

    /// Cuts the fresh generation to three quarters; false if nobody has more than a fair share.
    fn cut(&mut self) -> bool {
        let mut counts = BTreeMap::new();
        self.fresh.values().for_each(|(host, _)| *counts.entry(*host).or_default() += 1);
        // What one host stores alone is kept by use. It is not alone if it would drive out stale values of others.
        let others = counts.len() > 1 || self.stale.values().any(|(host, _)| !counts.contains_key(host));
        let quotas = others.then(|| quotas(&counts, self.capacity * 3 / 4)).flatten();
        let Some(mut quotas) = quotas else { return false };
        self.fresh.retain(|_, (host, _)| keep(&mut quotas, *host));
        true
    }
}

#[cfg(test)]
mod tests;
