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

/// The stale generation is dropped and the fresh one becomes stale this often, two thirds of the 12 minutes of
/// @hyperswarm/dht: a record lives 8 to 16 minutes.
const TURN: Duration = Duration::from_secs(480);

/// Records by name; each record has a host that sent it, a key of its own and a value. Adding a known key of the same
/// host only refreshes it.
pub struct Records<N, K, V> {
    fresh: Generation<N, K, V>,
    stale: Generation<N, K, V>,
    turn_at: Instant,
    /// Turned early because the fresh generation was full: the next turn in time is left out.
    turned: bool,
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
    /// all.
    pub fn new(now: Instant, capacity: usize, of_name: usize) -> Self {
        Self {
            fresh: Generation::new(),
            stale: Generation::new(),
            turn_at: now + TURN,
            turned: false,
            capacity,
            of_name,
        }
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
        }
    }

    /// Removes a record.
    pub fn remove(&mut self, now: Instant, name: &N, host: Ipv4Addr, key: &K) {
        self.expire(now);
        self.fresh.remove(name, host, key);
        self.stale.remove(name, host, key);
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

    /// Adds or replaces a value that `host` sent.
    pub fn set(&mut self, key: K, host: Ipv4Addr, value: V) {
        self.stale.remove(&key);
        self.fresh.insert(key, (host, value));
        if self.fresh.len() >= self.capacity && !self.cut() {
            self.stale = mem::take(&mut self.fresh);
        }
    }

    /// Cuts the fresh generation to three quarters; false if nobody has more than a fair share.
    fn cut(&mut self) -> bool {
        let mut counts = BTreeMap::new();
        self.fresh.values().for_each(|(host, _)| *counts.entry(*host).or_default() += 1);
        // What one host stores alone is kept by use.
        let quotas = (counts.len() > 1).then(|| quotas(&counts, self.capacity * 3 / 4)).flatten();
        let Some(mut quotas) = quotas else { return false };
        self.fresh.retain(|_, (host, _)| keep(&mut quotas, *host));
        true
    }
}

#[cfg(test)]
mod tests;
