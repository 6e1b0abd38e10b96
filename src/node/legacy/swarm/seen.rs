//! A memory of IDs, bounded in time and number. (The originals remember every flooded ID for ever.)

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::node::legacy::{NodeId, Style, WireId};

/// Half a SHA-256 over node and ID: nobody can make another node's message look seen, as with bare IDs.
type Key = [u8; 16];

/// IDs seen lately.
pub(super) struct Seen {
    capacity: usize,
    lifetime: Duration,
    keys: HashSet<Key>,
    order: VecDeque<(Instant, Key)>,
}

impl Seen {
    pub(super) fn new(capacity: usize, lifetime: Duration) -> Self {
        Self { capacity, lifetime, keys: HashSet::new(), order: VecDeque::new() }
    }

    /// Remembers it; false: it was known. The oldest is forgotten when the memory is full.
    pub(super) fn insert(&mut self, now: Instant, from: NodeId, id: WireId) -> bool {
        self.prune(now);
        let key = key(from, id);
        if !self.keys.insert(key) {
            return false;
        }
        if self.order.len() >= self.capacity {
            self.pop();
        }
        self.order.push_back((now, key));
        true
    }

    /// True if it is remembered.
    pub(super) fn contains(&self, from: NodeId, id: WireId) -> bool {
        self.keys.contains(&key(from, id))
    }

    /// Forgets what is too old.
    pub(super) fn prune(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.lifetime) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.keys.remove(&key);
        }
    }
}

fn key(from: NodeId, id: WireId) -> Key {
    let style = match from.style {
        Style::Hypersign => 0u8,
        Style::Spki => 1,
    };
    let hash =
        Sha256::new().chain_update([style]).chain_update(from.key.0).chain_update(id.as_bytes()).finalize();
    let mut key = Key::default();
    key.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use hyperswarm::crypto::PublicKey;

    fn id(number: usize) -> WireId {
        WireId::from_bytes(format!("{number}").as_bytes()).unwrap()
    }

    fn node(byte: u8) -> NodeId {
        NodeId::new(PublicKey([byte; 32]), Style::Spki)
    }

    fn memory() -> Seen {
        Seen::new(limits::SEEN_MESSAGES_MAX, Duration::from_secs(limits::SEEN_SECONDS))
    }

    #[test]
    fn an_id_is_new_once_per_node_and_style() {
        let (mut seen, now) = (memory(), Instant::now());
        assert!(seen.insert(now, node(1), id(1)));
        assert!(!seen.insert(now, node(1), id(1)));
        assert!(seen.insert(now, node(2), id(1)), "another node's ID is not taken by the first");
        assert!(seen.insert(now, NodeId::new(node(1).key, Style::Hypersign), id(1)));
    }

    #[test]
    fn ids_are_forgotten_after_ten_minutes() {
        let (mut seen, now) = (memory(), Instant::now());
        assert!(seen.insert(now, node(1), id(1)));
        let just_before = now + Duration::from_secs(limits::SEEN_SECONDS) - Duration::from_millis(1);
        assert!(!seen.insert(just_before, node(1), id(1)));
        assert!(seen.insert(now + Duration::from_secs(limits::SEEN_SECONDS), node(1), id(1)));
        assert_eq!(seen.order.len(), 1);
    }

    #[test]
    fn the_memory_holds_its_limit_and_then_forgets_the_oldest() {
        for limit in [limits::SEEN_MESSAGES_MAX, limits::SEEN_REQUESTS_MAX] {
            let (mut seen, now) =
                (Seen::new(limit, Duration::from_secs(limits::SEEN_SECONDS)), Instant::now());
            for number in 0..limit {
                assert!(seen.insert(now, node(1), id(number)));
            }
            assert!(seen.contains(node(1), id(0)), "at the limit nothing is forgotten");
            assert!(seen.insert(now, node(1), id(limit)));
            assert!(!seen.contains(node(1), id(0)), "one beyond, the oldest is");
            assert!(seen.contains(node(1), id(1)));
            assert_eq!((seen.keys.len(), seen.order.len()), (limit, limit));
        }
    }
}
