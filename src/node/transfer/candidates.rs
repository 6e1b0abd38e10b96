//! Who claims to have the file, with which size, and what became of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::Offer;
use crate::limits;
use crate::node::error::LoadError;
use crate::node::peer::{PeerKey, Unit};

/// How much a claim weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing: anybody can make up keys that claim something.
    Claimed,
    /// The peer that claims it is connected to us.
    Connected,
    /// It has answered a request.
    Proven,
}

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
    standing: Standing,
    /// The peer offers in several protocols, as only daemons of ours do.
    several: bool,
    /// Turns that its size had in vain because nobody could be reached.
    turns: u32,
}

impl Candidates {
    /// A new one; false: it is known, of no use, or there is no room for it. When all places are taken, one of no
    /// standing makes room for one that has some, and one that was given up for any.
    pub(crate) fn add(&mut self, candidate: Offer, standing: Standing, liar: bool) -> bool {
        let mut several = false;
        let mut known = false;
        for entry in self.list.iter_mut().filter(|entry| entry.candidate.peer == candidate.peer) {
            let same_way = entry.candidate.via == candidate.via;
            // The same key with ranges is one of ours, and better asked that way.
            known |= same_way || entry.candidate.unit().has_ranges();
            entry.several |= !same_way;
            entry.standing = entry.standing.max(standing);
            several |= entry.several;
        }
        if known {
            return false;
        }
        if liar {
            self.note(&candidate, "sent wrong bytes not long ago".to_owned());
            return false;
        }
        // An original 0.1.2 would die of the request, or send nothing.
        let spent = !candidate.via.may_request(candidate.size);
        if self.list.len() >= limits::CANDIDATES && !self.make_room(standing) {
            return false;
        }
        self.list.push(Entry { candidate, spent, standing, several, turns: 0 });
        !spent
    }

    /// Takes out the least of those that weigh nothing: those given up first, then the oldest.
    fn make_room(&mut self, standing: Standing) -> bool {
        let weightless = self.list.iter().enumerate().filter(|(_, e)| e.standing == Standing::Claimed);
        let Some((index, least)) = weightless.min_by_key(|(index, e)| (!e.spent, *index)) else {
            return false;
        };
        let room = least.spent || standing > Standing::Claimed;
        if room {
            self.list.remove(index);
        }
        room
    }

    /// True until it had to make room for another.
    pub(crate) fn contains(&self, candidate: &Offer) -> bool {
        self.list.iter().any(|entry| entry.candidate == *candidate)
    }

    /// More is known of a candidate.
    pub(crate) fn raise(&mut self, candidate: &Offer, standing: Standing) {
        let entries = self.list.iter_mut().filter(|entry| entry.candidate == *candidate);
        entries.for_each(|entry| entry.standing = entry.standing.max(standing));
    }

    /// What a candidate is asked for: one with ranges that offers in one protocol only may be an original.
    pub(crate) fn unit(&self, candidate: &Offer) -> Unit {
        let several = |entry: &Entry| entry.candidate == *candidate && entry.several;
        match candidate.unit() {
            Unit::Ranges if !self.list.iter().any(several) => Unit::LargeRanges,
            unit => unit,
        }
    }

    /// The size that is to be tried next, of those not given up: the one that had fewest turns, of these the one that
    /// most claim, of equals the one claimed first. While somebody connected claims a size that had no turn, claims of
    /// others do not count.
    pub(crate) fn best_size(&self) -> Option<u64> {
        let backed = |entry: &Entry| entry.standing > Standing::Claimed;
        let fresh = |entry: &&Entry| backed(entry) && entry.turns == 0;
        let open = || self.list.iter().enumerate().filter(|(_, entry)| !entry.spent);
        let only_backed = open().any(|(_, entry)| fresh(&entry));
        let mut ranks: BTreeMap<u64, (Reverse<u32>, usize, usize, Reverse<usize>)> = BTreeMap::new();
        for (index, entry) in open().filter(|(_, entry)| !only_backed || backed(entry)) {
            let (turns, weight, count, _) =
                ranks.entry(entry.candidate.size).or_insert((Reverse(0), 0, 0, Reverse(index)));
            // A late claim does not make up for the turns of earlier ones.
            *turns = (*turns).min(Reverse(entry.turns));
            *weight += usize::from(backed(entry));
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

    /// Those of a size: those of the highest standing first, of these those with ranges.
    pub(crate) fn of_size(&self, size: u64) -> Vec<Offer> {
        let fitting = self.list.iter().filter(|entry| !entry.spent && entry.candidate.size == size);
        let mut list: Vec<_> = fitting.collect();
        list.sort_by_key(|entry| (Reverse(entry.standing), !entry.candidate.unit().has_ranges()));
        list.into_iter().map(|entry| entry.candidate).collect()
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
            assert!(candidates.add(candidate(key, Dialect::V021, size), Standing::Claimed, false));
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
            candidates.add(candidate(key, Dialect::V021, size), Standing::Claimed, false);
        }
        candidates.postpone(9);
        assert_eq!(candidates.best_size(), Some(7));
        candidates.add(candidate(4, Dialect::V021, 9), Standing::Claimed, false);
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
        candidates.add(dropped, Standing::Claimed, false);
        candidates.add(other, Standing::Claimed, false);
        candidates.drop_one(&dropped);
        assert_eq!(candidates.of_size(9), [other]);
        assert!(!candidates.add(dropped, Standing::Claimed, false), "it is still known");
    }

    #[test]
    fn an_original_that_would_die_of_the_request_is_never_asked() {
        let mut candidates = Candidates::default();
        assert!(candidates.add(candidate(1, Dialect::V012, 378), Standing::Claimed, false));
        assert!(!candidates.add(candidate(2, Dialect::V012, 379), Standing::Claimed, false));
        candidates.give_up(378);
        assert_eq!(candidates.best_size(), None);
    }

    #[test]
    fn a_file_that_only_such_originals_offer_fails_with_who_offered_it_and_why_nobody_was_asked() {
        let mut candidates = Candidates::default();
        let spared = candidate(2, Dialect::V012, 379);
        candidates.add(spared, Standing::Claimed, false);
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
        candidates.add(candidate(1, Dialect::V012, 379), Standing::Claimed, false);
        candidates.add(candidate(1, Dialect::V021, 379), Standing::Claimed, false);
        candidates.note(&candidate(1, Dialect::V021, 379), "sent nothing for 10 s".to_owned());
        assert!(matches!(candidates.verdict(), Some(LoadError::Transfer { reasons }) if reasons.len() == 1));
    }

    #[test]
    fn a_node_of_ours_is_used_once_and_with_ranges() {
        let mut candidates = Candidates::default();
        assert!(candidates.add(candidate(1, Dialect::V021, 1000), Standing::Claimed, false));
        assert!(!candidates.add(candidate(1, Dialect::V021, 1000), Standing::Claimed, false));
        assert!(!candidates.add(candidate(1, Dialect::V016, 1000), Standing::Claimed, false));
        assert!(!candidates.add(candidate(1, Dialect::V012, 1000), Standing::Claimed, false));
        assert_eq!(candidates.of_size(1000).len(), 1);
    }

    #[test]
    fn range_providers_come_first() {
        let mut candidates = Candidates::default();
        candidates.add(candidate(1, Dialect::V016, 1000), Standing::Claimed, false);
        candidates.add(candidate(2, Dialect::V021, 1000), Standing::Claimed, false);
        let dialects: Vec<_> = candidates.of_size(1000).into_iter().map(|c| c.via).collect();
        assert_eq!(dialects, [Dialect::V021, Dialect::V016].map(Via::Legacy));
    }

    #[test]
    fn a_known_liar_is_not_used() {
        let mut candidates = Candidates::default();
        assert!(!candidates.add(candidate(1, Dialect::V021, 1000), Standing::Claimed, true));
        assert_eq!(candidates.best_size(), None);
        assert!(matches!(candidates.verdict(), Some(LoadError::Transfer { .. })));
    }

    #[test]
    fn only_liars_make_a_failed_verification() {
        let mut candidates = Candidates::default();
        let liar = candidate(1, Dialect::V021, 1000);
        candidates.add(liar, Standing::Claimed, false);
        candidates.note_liar(&liar);
        candidates.give_up(1000);
        assert!(matches!(candidates.verdict(), Some(LoadError::Verification { liars }) if liars.len() == 1));
    }

    #[test]
    fn candidates_are_bounded() {
        let mut candidates = Candidates::default();
        for key in 0..limits::CANDIDATES as u16 {
            assert!(candidates.add(candidate(key, Dialect::V021, 5), Standing::Claimed, false));
        }
        assert!(!candidates.add(candidate(60000, Dialect::V021, 5), Standing::Claimed, false));
    }
}
