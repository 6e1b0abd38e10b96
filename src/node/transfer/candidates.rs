//! Who claims to have the file, with which size, and what became of them.

use std::collections::BTreeMap;

use super::plan::ProviderKind;
use crate::limits;
use crate::node::LoadError;
use crate::node::legacy::{Dialect, NodeId, Protocol};

/// Somebody who claims to have the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    pub(crate) dialect: Dialect,
    /// As it claims.
    pub(crate) size: u64,
}

impl Candidate {
    /// The protocol of its transfer swarm.
    pub(crate) fn protocol(&self) -> Protocol {
        self.dialect.protocol()
    }

    pub(crate) fn kind(&self) -> ProviderKind {
        if self.dialect.has_ranges() { ProviderKind::Ranges } else { ProviderKind::Whole }
    }
}

/// All candidates of a download.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    list: Vec<Entry>,
    /// Why providers are out, one reason each, in order.
    reasons: Vec<(NodeId, String)>,
    liars: Vec<NodeId>,
}

#[derive(Debug)]
struct Entry {
    candidate: Candidate,
    spent: bool,
}

impl Candidates {
    /// A new one; false: it is known, of no use, or there are too many.
    pub(crate) fn add(&mut self, candidate: Candidate, liar: bool) -> bool {
        let known = |entry: &Entry| {
            let other = &entry.candidate;
            other.node == candidate.node && other.dialect == candidate.dialect
                // The same key with ranges is one of ours, and better asked that way.
                || other.node.key == candidate.node.key && other.dialect.has_ranges()
        };
        if self.list.len() >= limits::CANDIDATES || self.list.iter().any(known) {
            return false;
        }
        if liar {
            self.note(candidate.node, "sent wrong bytes not long ago".to_owned());
            return false;
        }
        // An original 0.1.2 would die of the request, or send nothing.
        let spent = !candidate.dialect.may_request(candidate.size);
        self.list.push(Entry { candidate, spent });
        !spent
    }

    /// The size that most of those not given up claim; of equals the one claimed first.
    pub(crate) fn best_size(&self) -> Option<u64> {
        let mut counts: BTreeMap<u64, (usize, std::cmp::Reverse<usize>)> = BTreeMap::new();
        for (index, entry) in self.list.iter().enumerate().filter(|(_, entry)| !entry.spent) {
            counts.entry(entry.candidate.size).or_insert((0, std::cmp::Reverse(index))).0 += 1;
        }
        counts.into_iter().max_by_key(|(_, rank)| *rank).map(|(size, _)| size)
    }

    /// Different sizes claimed by those not given up.
    pub(crate) fn sizes(&self) -> usize {
        let mut sizes: Vec<u64> = self.list.iter().filter(|e| !e.spent).map(|e| e.candidate.size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes.len()
    }

    /// Those of a size, ranges first.
    pub(crate) fn of_size(&self, size: u64) -> Vec<Candidate> {
        let fitting = self.list.iter().filter(|entry| !entry.spent && entry.candidate.size == size);
        let mut list: Vec<_> = fitting.map(|entry| entry.candidate.clone()).collect();
        list.sort_by_key(|candidate| !candidate.dialect.has_ranges());
        list
    }

    /// All of a size are given up.
    pub(crate) fn give_up(&mut self, size: u64) {
        self.list.iter_mut().filter(|e| e.candidate.size == size).for_each(|entry| entry.spent = true);
    }

    /// The claimed size cannot be.
    pub(crate) fn refuse_size(&mut self, size: u64, why: &str) {
        for candidate in self.of_size(size) {
            self.note(candidate.node, why.to_owned());
        }
        self.give_up(size);
    }

    /// Why a provider is out.
    pub(crate) fn note(&mut self, node: NodeId, why: String) {
        if self.reasons.len() < limits::CANDIDATES && !self.reasons.iter().any(|(other, _)| *other == node) {
            self.reasons.push((node, why));
        }
    }

    /// It sent wrong bytes.
    pub(crate) fn note_liar(&mut self, node: NodeId) {
        if self.liars.len() < limits::CANDIDATES {
            self.liars.push(node);
        }
    }

    /// Why there is no file. None: nobody claimed to have it.
    pub(crate) fn verdict(&self) -> Option<LoadError> {
        let mut reasons: Vec<_> =
            self.reasons.iter().map(|(node, why)| (node.to_string(), why.clone())).collect();
        for Entry { candidate, .. } in &self.list {
            // Also known under another ID: that one's reason counts.
            let told = self
                .reasons
                .iter()
                .map(|(node, _)| node)
                .chain(&self.liars)
                .any(|n| n.key == candidate.node.key);
            if !told && !candidate.dialect.may_request(candidate.size) {
                let why = "runs kachery-p2p 0.1.2, which cannot send files of more than 378 bytes";
                reasons.push((candidate.node.to_string(), why.to_owned()));
            }
        }
        let liars: Vec<_> = self.liars.iter().map(NodeId::to_string).collect();
        if reasons.is_empty() && liars.is_empty() {
            return None;
        }
        if reasons.is_empty() {
            return Some(LoadError::Verification { liars });
        }
        reasons
            .extend(liars.into_iter().map(|liar| (liar, "sent bytes that do not have this sha1".to_owned())));
        Some(LoadError::Transfer { reasons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hyperswarm::crypto::PublicKey;

    fn candidate(key: u16, dialect: Dialect, size: u64) -> Candidate {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&key.to_le_bytes());
        Candidate { node: NodeId::new(PublicKey(bytes), dialect.style()), dialect, size }
    }

    #[test]
    fn the_size_that_most_claim_goes_first() {
        let mut candidates = Candidates::default();
        assert_eq!(candidates.best_size(), None);
        for (key, size) in [(1, 7), (2, 9), (3, 9)] {
            assert!(candidates.add(candidate(key, Dialect::V021, size), false));
        }
        assert_eq!(candidates.best_size(), Some(9));
        assert_eq!(candidates.sizes(), 2);
        candidates.give_up(9);
        assert_eq!(candidates.best_size(), Some(7));
    }

    #[test]
    fn an_original_that_would_die_of_the_request_is_never_asked() {
        let mut candidates = Candidates::default();
        assert!(candidates.add(candidate(1, Dialect::V012, 378), false));
        assert!(!candidates.add(candidate(2, Dialect::V012, 379), false));
        candidates.give_up(378);
        assert_eq!(candidates.best_size(), None);
        assert!(matches!(candidates.verdict(), Some(LoadError::Transfer { reasons }) if reasons.len() == 1));
    }

    #[test]
    fn a_node_of_ours_is_used_once_and_with_ranges() {
        let mut candidates = Candidates::default();
        assert!(candidates.add(candidate(1, Dialect::V021, 1000), false));
        assert!(!candidates.add(candidate(1, Dialect::V021, 1000), false));
        assert!(!candidates.add(candidate(1, Dialect::V016, 1000), false));
        assert!(!candidates.add(candidate(1, Dialect::V012, 1000), false));
        assert_eq!(candidates.of_size(1000).len(), 1);
    }

    #[test]
    fn range_providers_come_first() {
        let mut candidates = Candidates::default();
        candidates.add(candidate(1, Dialect::V016, 1000), false);
        candidates.add(candidate(2, Dialect::V021, 1000), false);
        let dialects: Vec<_> = candidates.of_size(1000).into_iter().map(|c| c.dialect).collect();
        assert_eq!(dialects, [Dialect::V021, Dialect::V016]);
    }

    #[test]
    fn a_known_liar_is_not_used() {
        let mut candidates = Candidates::default();
        assert!(!candidates.add(candidate(1, Dialect::V021, 1000), true));
        assert_eq!(candidates.best_size(), None);
        assert!(matches!(candidates.verdict(), Some(LoadError::Transfer { .. })));
    }

    #[test]
    fn only_liars_make_a_failed_verification() {
        let mut candidates = Candidates::default();
        let liar = candidate(1, Dialect::V021, 1000);
        candidates.add(liar.clone(), false);
        candidates.note_liar(liar.node);
        candidates.give_up(1000);
        assert!(matches!(candidates.verdict(), Some(LoadError::Verification { liars }) if liars.len() == 1));
    }

    #[test]
    fn candidates_are_bounded() {
        let mut candidates = Candidates::default();
        for key in 0..limits::CANDIDATES as u16 {
            assert!(candidates.add(candidate(key, Dialect::V021, 5), false));
        }
        assert!(!candidates.add(candidate(60000, Dialect::V021, 5), false));
    }
}
