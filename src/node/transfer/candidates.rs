//! Who claims to have the file, with which size, and what became of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::Offer;
use crate::limits;
use crate::node::error::LoadError;
use crate::node::peer::{PeerKey, Unit};

/// All candidates of a download.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    list: Vec<Entry>,
    /// Why providers are out, one reason each, in order.
    reasons: Vec<Reason>,
    liars: Vec<(PeerKey, String)>,
}

#[derive(Debug)]
struct Reason {
    peer: PeerKey,
    /// Its ID, as it was met.
    id: String,
    why: String,
}

#[derive(Debug)]
struct Entry {
    candidate: Offer,
    spent: bool,
    /// Turns that its size had in vain because nobody could be reached.
    turns: u32,
}

impl Candidates {
    /// A new one; false: it is known, of no use, or there are too many.
    pub(crate) fn add(&mut self, candidate: Offer, liar: bool) -> bool {
        let known = |entry: &Entry| {
            let other = &entry.candidate;
            // The same key with ranges is one of ours, and better asked that way.
            other.peer == candidate.peer && (other.via == candidate.via || other.unit() == Unit::Ranges)
        };
        if self.list.len() >= limits::CANDIDATES || self.list.iter().any(known) {
            return false;
        }
        if liar {
            self.note(&candidate, "sent wrong bytes not long ago".to_owned());
            return false;
        }
        // An original 0.1.2 would die of the request, or send nothing.
        let spent = !candidate.via.may_request(candidate.size);
        self.list.push(Entry { candidate, spent, turns: 0 });
        !spent
    }

    /// The size that is to be tried next, of those not given up: the one that had fewest turns, of these the one that
    /// most claim, of equals the one claimed first.
    pub(crate) fn best_size(&self) -> Option<u64> {
        let mut ranks: BTreeMap<u64, (Reverse<u32>, usize, Reverse<usize>)> = BTreeMap::new();
        for (index, entry) in self.list.iter().enumerate().filter(|(_, entry)| !entry.spent) {
            let (turns, count, _) =
                ranks.entry(entry.candidate.size).or_insert((Reverse(0), 0, Reverse(index)));
            // A late claim does not make up for the turns of earlier ones.
            *turns = (*turns).min(Reverse(entry.turns));
            *count += 1;
        }
        ranks.into_iter().max_by_key(|(_, rank)| *rank).map(|(size, _)| size)
    }

    /// How many turns a size had in vain.
    pub(crate) fn turns(&self, size: u64) -> u32 {
        self.list.iter().filter(|e| e.candidate.size == size).map(|e| e.turns).max().unwrap_or(0)
    }

    /// Nobody of a size can be reached for now: the others have their turns first.
    pub(crate) fn postpone(&mut self, size: u64) {
        self.list.iter_mut().filter(|e| e.candidate.size == size).for_each(|entry| entry.turns += 1);
    }

    /// Those whose size had turns of this length in vain, and of whom nothing else is told, were not reached.
    pub(crate) fn note_postponed(&mut self, turn: Duration) {
        let postponed = self.list.iter().filter(|entry| !entry.spent && entry.turns > 0);
        let reasons: Vec<_> =
            postponed.map(|entry| (entry.candidate, turn.as_secs() * u64::from(entry.turns))).collect();
        for (candidate, seconds) in reasons {
            self.note(&candidate, format!("no connection to it within {seconds} s"));
        }
    }

    /// Whether somebody not given up claims another size.
    pub(crate) fn another_size(&self, size: u64) -> bool {
        self.list.iter().any(|entry| !entry.spent && entry.candidate.size != size)
    }

    /// Those of a size, ranges first.
    pub(crate) fn of_size(&self, size: u64) -> Vec<Offer> {
        let fitting = self.list.iter().filter(|entry| !entry.spent && entry.candidate.size == size);
        let mut list: Vec<_> = fitting.map(|entry| entry.candidate).collect();
        list.sort_by_key(|candidate| candidate.unit() != Unit::Ranges);
        list
    }

    /// One is given up.
    pub(crate) fn drop_one(&mut self, candidate: &Offer) {
        self.list.iter_mut().filter(|e| e.candidate == *candidate).for_each(|entry| entry.spent = true);
    }

    /// All of a size are given up.
    pub(crate) fn give_up(&mut self, size: u64) {
        self.list.iter_mut().filter(|e| e.candidate.size == size).for_each(|entry| entry.spent = true);
    }

    /// The claimed size cannot be.
    pub(crate) fn refuse_size(&mut self, size: u64, why: &str) {
        for candidate in self.of_size(size) {
            self.note(&candidate, why.to_owned());
        }
        self.give_up(size);
    }

    /// Why a provider is out.
    pub(crate) fn note(&mut self, candidate: &Offer, why: String) {
        let id = candidate.id();
        if self.reasons.len() < limits::CANDIDATES && !self.reasons.iter().any(|other| other.id == id) {
            self.reasons.push(Reason { peer: candidate.peer, id, why });
        }
    }

    /// It sent wrong bytes.
    pub(crate) fn note_liar(&mut self, candidate: &Offer) {
        if self.liars.len() < limits::CANDIDATES {
            self.liars.push((candidate.peer, candidate.id()));
        }
    }

    /// Why there is no file. None: nobody claimed to have it.
    pub(crate) fn verdict(&self) -> Option<LoadError> {
        let not_asked = self.not_asked();
        let liars: Vec<_> = self.liars.iter().map(|(_, id)| id.clone()).collect();
        if self.reasons.is_empty() && liars.is_empty() {
            let size = not_asked.iter().map(|candidate| candidate.size).max()?;
            let providers = not_asked.into_iter().map(Offer::id).collect();
            return Some(LoadError::NotAsked { providers, size });
        }
        if self.reasons.is_empty() && not_asked.is_empty() {
            return Some(LoadError::Verification { liars });
        }
        let failed = self.reasons.iter().map(|reason| (reason.id.clone(), reason.why.clone()));
        let spared = not_asked.into_iter().map(|candidate| (candidate.id(), not_asked_why()));
        let lied = liars.into_iter().map(|liar| (liar, "sent bytes that do not have this sha1".to_owned()));
        Some(LoadError::Transfer { reasons: failed.chain(spared).chain(lied).collect() })
    }

    /// Those that would die of the request and of whom nothing else is told, under whatever ID.
    fn not_asked(&self) -> Vec<&Offer> {
        let told = |candidate: &Offer| {
            let failed = self.reasons.iter().map(|reason| reason.peer);
            failed.chain(self.liars.iter().map(|(peer, _)| *peer)).any(|peer| peer == candidate.peer)
        };
        let all = self.list.iter().map(|entry| &entry.candidate);
        all.filter(|candidate| !candidate.via.may_request(candidate.size) && !told(candidate)).collect()
    }
}

fn not_asked_why() -> String {
    let limit = limits::V012_MAX_FILE;
    format!(
        "was not asked, because it runs kachery-p2p 0.1.2, which would die of a request for more than {limit} bytes"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::legacy::Dialect;
    use crate::node::peer::Via;
    use hyperswarm::crypto::PublicKey;

    fn candidate(key: u16, dialect: Dialect, size: u64) -> Offer {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&key.to_le_bytes());
        Offer { peer: PeerKey(PublicKey(bytes)), via: Via::Legacy(dialect), size }
    }

    #[test]
    fn the_size_that_most_claim_goes_first() {
        let mut candidates = Candidates::default();
        assert_eq!(candidates.best_size(), None);
        for (key, size) in [(1, 7), (2, 9), (3, 9)] {
            assert!(candidates.add(candidate(key, Dialect::V021, size), false));
        }
        assert_eq!(candidates.best_size(), Some(9));
        assert!(candidates.another_size(9) && candidates.another_size(7));
        candidates.give_up(9);
        assert!(!candidates.another_size(7));
        assert_eq!(candidates.best_size(), Some(7));
    }

    #[test]
    fn a_size_of_which_nobody_can_be_reached_is_tried_again_after_the_others() {
        let mut candidates = Candidates::default();
        for (key, size) in [(1, 9), (2, 9), (3, 7)] {
            candidates.add(candidate(key, Dialect::V021, size), false);
        }
        candidates.postpone(9);
        assert_eq!(candidates.best_size(), Some(7));
        candidates.add(candidate(4, Dialect::V021, 9), false);
        assert_eq!(candidates.best_size(), Some(7), "another claim does not bring its turn forward");
        candidates.postpone(7);
        assert_eq!(candidates.best_size(), Some(9));
        candidates.note_postponed(Duration::from_secs(10));
        let Some(LoadError::Transfer { reasons }) = candidates.verdict() else { panic!("no transfer") };
        assert_eq!(reasons.len(), 3);
        assert!(reasons.iter().all(|(_, why)| why == "no connection to it within 10 s"), "{reasons:?}");
    }

    #[test]
    fn one_that_was_dropped_is_not_asked_again_when_its_size_has_another_turn() {
        let mut candidates = Candidates::default();
        let dropped = candidate(1, Dialect::V021, 9);
        let other = candidate(2, Dialect::V021, 9);
        candidates.add(dropped, false);
        candidates.add(other, false);
        candidates.drop_one(&dropped);
        assert_eq!(candidates.of_size(9), [other]);
        assert!(!candidates.add(dropped, false), "it is still known");
    }

    #[test]
    fn an_original_that_would_die_of_the_request_is_never_asked() {
        let mut candidates = Candidates::default();
        assert!(candidates.add(candidate(1, Dialect::V012, 378), false));
        assert!(!candidates.add(candidate(2, Dialect::V012, 379), false));
        candidates.give_up(378);
        assert_eq!(candidates.best_size(), None);
    }

    #[test]
    fn a_file_that_only_such_originals_offer_fails_with_who_offered_it_and_why_nobody_was_asked() {
        let mut candidates = Candidates::default();
        let spared = candidate(2, Dialect::V012, 379);
        candidates.add(spared, false);
        let error = candidates.verdict().expect("somebody has it");
        let LoadError::NotAsked { providers, size: 379 } = &error else { panic!("{error}") };
        assert_eq!(*providers, [spared.id()]);
        let text = error.to_string();
        for part in [&spared.id(), "0.1.2", "die", "more than 378 bytes", "not asked"] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        // Beside others that failed it is one reason of several.
        candidates.note(&candidate(3, Dialect::V021, 379), "sent nothing for 10 s".to_owned());
        let Some(LoadError::Transfer { reasons }) = candidates.verdict() else { panic!("no transfer") };
        assert_eq!(reasons.len(), 2);
        assert!(reasons[1].0 == spared.id() && reasons[1].1.contains("was not asked"));
    }

    #[test]
    fn a_node_of_ours_that_failed_is_not_also_reported_under_its_oldest_id() {
        let mut candidates = Candidates::default();
        candidates.add(candidate(1, Dialect::V012, 379), false);
        candidates.add(candidate(1, Dialect::V021, 379), false);
        candidates.note(&candidate(1, Dialect::V021, 379), "sent nothing for 10 s".to_owned());
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
        let dialects: Vec<_> = candidates.of_size(1000).into_iter().map(|c| c.via).collect();
        assert_eq!(dialects, [Dialect::V021, Dialect::V016].map(Via::Legacy));
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
        candidates.add(liar, false);
        candidates.note_liar(&liar);
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
