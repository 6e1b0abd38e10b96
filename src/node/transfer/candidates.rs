//! Who claims to have the file, who of them is looked for, and what became of them.
//!
//! A stranger can make up any number of claims. So a claim counts for nothing until its peer is reached; those are looked
//! for first whose origin has the least share of those that are looked for or reached; and when there is no room, an
//! origin with more claims gives way to one with fewer.
//!
//! A peer that sent wrong bytes may have been impersonated at its own address. It is asked again after a pause, a few
//! times, while nobody else can be asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Offer;
use super::reputation::pause_after;
use super::shares::Shares;
use crate::limits;
use crate::node::error::LoadError;
use crate::node::peer::{Origin, PeerKey, Unit};

/// A peer that is not reached within this time lets others be looked for, and has another turn after them.
pub(crate) const LOOK: Duration = Duration::from_secs(10);

/// All candidates of a download.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    list: Vec<Entry>,
    /// Why providers are out, one reason each, in order.
    reasons: Vec<Reason>,
    liars: Vec<(PeerKey, String)>,
    /// To be looked for no more, and the download does not know yet.
    ended: Vec<Offer>,
    /// How often a liar was asked again.
    repeats: usize,
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
    offer: Offer,
    origin: Origin,
    state: State,
    /// Turns at being looked for in which it was not reached.
    turns: u32,
    /// The peer answered in several protocols, as no original does: it is one of ours.
    ours: bool,
    /// It could be asked at some time.
    was_reached: bool,
    /// The disk of the store can never hold so much.
    too_large: bool,
    /// How often wrong bytes came from it.
    lies: u32,
    /// It is connected, but is not asked because of wrong bytes that came from there.
    shunned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For its turn to be looked for.
    Waiting,
    /// Since then.
    Looking(Instant),
    /// It can be asked, or could be.
    Reached,
    /// Until then because of wrong bytes, and as long as anybody else can be asked.
    Resting(Instant),
    /// It is of no use.
    Spent,
}

impl Entry {
    /// Entries with the lowest rank are looked for first.
    fn rank(&self, shares: &Shares) -> (u32, [usize; 4], bool) {
        (self.turns, shares.rank(self.origin), !self.origin.own)
    }

    fn is_unproven(&self) -> bool {
        matches!(self.state, State::Waiting | State::Looking(_))
    }
}

impl Candidates {
    /// Takes a new one; false: it is known, of no use, or there is no room.
    pub(crate) fn add(&mut self, offer: Offer, origin: Origin) -> bool {
        let known = |entry: &Entry| {
            let other = &entry.offer;
            // The same key with ranges is one of ours, and better asked that way.
            other.peer == offer.peer && (other.via == offer.via || other.unit().has_ranges())
        };
        let mut ours = false;
        for entry in self.list.iter_mut().filter(|entry| entry.offer.peer == offer.peer) {
            entry.ours |= entry.offer.via != offer.via;
            ours |= entry.ours;
        }
        if self.list.iter().any(known) {
            return false;
        }
        if self.list.len() >= limits::CANDIDATES && !self.make_room_for(origin) {
            return false;
        }
        // An original 0.1.2 would die of the request, or send nothing.
        let usable = offer.via.may_request(offer.size);
        let state = if usable { State::Waiting } else { State::Spent };
        let (was_reached, too_large, shunned) = (false, false, false);
        self.list.push(Entry {
            offer,
            origin,
            state,
            turns: 0,
            ours,
            was_reached,
            too_large,
            lies: 0,
            shunned,
        });
        usable
    }

    /// Of the origin with the most claims one gives way to an origin with fewer, and one that was looked for in vain to
    /// any, if it does not speak for itself; the last of those that wait first.
    fn make_room_for(&mut self, newcomer: Origin) -> bool {
        let shares: Shares = self.list.iter().map(|entry| entry.origin).collect();
        let gives_way = |entry: &Entry| {
            let in_vain = entry.state == State::Waiting && entry.turns > 0 && !entry.origin.own;
            in_vain || (shares.must_yield(entry.origin, newcomer) && entry.lies == 0)
        };
        let places = self.list.iter().enumerate().filter(|(_, entry)| gives_way(entry));
        let place = places
            .max_by_key(|(index, entry)| (entry.state == State::Waiting, shares.rank(entry.origin), *index));
        let Some(index) = place.map(|(index, _)| index) else { return false };
        let removed = self.list.remove(index);
        self.ended.push(removed.offer);
        true
    }

    /// The next peer that is to be looked for: of those that had fewest turns one whose origin has the least share. At
    /// most [`limits::LOOKED_FOR`] are looked for at a time.
    pub(crate) fn look_for_next(&mut self, now: Instant) -> Option<(Offer, Origin)> {
        self.wake(now);
        if self.looking() >= limits::LOOKED_FOR {
            return None;
        }
        let index = self.next()?;
        let next = self.list.get_mut(index)?;
        next.state = State::Looking(now);
        Some((next.offer, next.origin))
    }

    fn looking(&self) -> usize {
        self.list.iter().filter(|entry| matches!(entry.state, State::Looking(_))).count()
    }

    /// The one that waits and is next.
    fn next(&self) -> Option<usize> {
        let waiting = self.list.iter().enumerate().filter(|(_, entry)| entry.state == State::Waiting);
        let mut waiting = waiting.peekable();
        waiting.peek()?;
        let shares = self.shares();
        waiting.min_by_key(|(_, entry)| entry.rank(&shares)).map(|(index, _)| index)
    }

    /// Of those that are looked for or reached.
    fn shares(&self) -> Shares {
        let busy = |entry: &&Entry| matches!(entry.state, State::Looking(_) | State::Reached);
        self.list.iter().filter(busy).map(|entry| entry.origin).collect()
    }

    /// A liar that has rested waits for another turn if nobody else can be asked.
    fn wake(&mut self, now: Instant) {
        if self.has_untainted() {
            return;
        }
        let rested = |entry: &&mut Entry| matches!(entry.state, State::Resting(until) if until <= now);
        if let Some(entry) = self.list.iter_mut().filter(rested).min_by_key(|entry| entry.lies) {
            self.repeats += 1;
            entry.state = match self.repeats <= limits::REPEATED_LIARS {
                true => State::Waiting,
                false => State::Spent,
            };
        }
    }

    /// Those that are to be looked for no more: while others wait for their turn, those that had theirs, and one of an
    /// origin that has more than its share.
    pub(crate) fn end_turns(&mut self, now: Instant) -> Vec<Offer> {
        let mut ended = std::mem::take(&mut self.ended);
        let Some(next) = self.next().and_then(|index| self.list.get(index)) else { return ended };
        let (newcomer, turns) = (next.origin, next.turns);
        let over = |entry: &&mut Entry| matches!(entry.state, State::Looking(since) if now.saturating_duration_since(since) >= LOOK);
        for entry in self.list.iter_mut().filter(over) {
            entry.state = State::Waiting;
            entry.turns += 1;
            ended.push(entry.offer);
        }
        if self.looking() < limits::LOOKED_FOR {
            return ended;
        }
        let shares = self.shares();
        let crowded = self.list.iter_mut().filter(|entry| {
            let looking = matches!(entry.state, State::Looking(_)) && entry.turns >= turns;
            looking && shares.must_yield(entry.origin, newcomer)
        });
        if let Some(entry) = crowded.max_by_key(|entry| shares.rank(entry.origin)) {
            entry.state = State::Waiting;
            entry.turns += 1;
            ended.push(entry.offer);
        }
        ended
    }

    /// The peer can be asked.
    pub(crate) fn reached(&mut self, offer: &Offer) {
        let found = self.list.iter_mut().find(|entry| entry.offer == *offer && entry.is_unproven());
        if let Some(entry) = found {
            entry.state = State::Reached;
            entry.was_reached = true;
        }
    }

    /// Notes whether the peer is met only where wrong bytes came from.
    pub(crate) fn shun(&mut self, offer: &Offer, shunned: bool) {
        self.list.iter_mut().filter(|entry| entry.offer == *offer).for_each(|entry| entry.shunned = shunned);
    }

    /// True if anybody is left from whom no wrong bytes came.
    pub(crate) fn has_untainted(&self) -> bool {
        self.list.iter().any(|entry| match entry.state {
            State::Waiting | State::Looking(_) | State::Reached => !entry.shunned && entry.lies == 0,
            State::Resting(_) | State::Spent => false,
        })
    }

    /// Wrong bytes came from the peer. It may be asked again later.
    pub(crate) fn lied(&mut self, offer: &Offer, now: Instant) {
        for entry in self.list.iter_mut().filter(|entry| entry.offer == *offer) {
            entry.lies += 1;
            entry.state = match entry.lies < limits::LIES {
                true => State::Resting(now + pause_after(entry.lies)),
                false => State::Spent,
            };
        }
    }

    /// What a candidate can be asked for.
    pub(crate) fn unit(&self, offer: &Offer) -> Unit {
        match offer.unit() {
            Unit::LargeRanges if self.list.iter().any(|entry| entry.ours && entry.offer == *offer) => {
                Unit::Ranges
            }
            unit => unit,
        }
    }

    /// Sizes that a peer who was reached claims, with the number of such peers.
    pub(crate) fn backed_sizes(&self) -> BTreeMap<u64, usize> {
        let mut sizes = BTreeMap::new();
        for entry in self.list.iter().filter(|entry| entry.state == State::Reached) {
            *sizes.entry(entry.offer.size).or_default() += 1;
        }
        sizes
    }

    /// True if anybody is left who may have the file.
    pub(crate) fn is_hopeful(&self) -> bool {
        self.list.iter().any(|entry| entry.state != State::Spent)
    }

    /// Entries not given up.
    pub(crate) fn left(&self) -> Vec<Offer> {
        self.list.iter().filter(|entry| entry.state != State::Spent).map(|entry| entry.offer).collect()
    }

    /// One is given up.
    pub(crate) fn drop_one(&mut self, offer: &Offer) {
        self.list.iter_mut().filter(|e| e.offer == *offer).for_each(|entry| entry.state = State::Spent);
    }

    /// The claimed size cannot be: all who claim it are out.
    pub(crate) fn refuse_size(&mut self, size: u64, why: &str) {
        for offer in self.left().into_iter().filter(|offer| offer.size == size) {
            self.note(&offer, why.to_owned());
            self.drop_one(&offer);
        }
    }

    /// As [`Self::refuse_size`], because the disk of the store can never hold so much.
    pub(crate) fn refuse_too_large(&mut self, size: u64, why: &str) {
        let claims = self.list.iter_mut().filter(|entry| entry.offer.size == size);
        claims.for_each(|entry| entry.too_large = true);
        self.refuse_size(size, why);
    }

    /// The smallest claimed size, if the disk of the store can hold none that a peer who was reached claims.
    fn needed(&self) -> Option<u64> {
        let mut reached = self.list.iter().filter(|entry| entry.was_reached).peekable();
        reached.peek()?;
        reached.try_fold(u64::MAX, |least, entry| entry.too_large.then(|| least.min(entry.offer.size)))
    }

    /// Why a provider is out.
    pub(crate) fn note(&mut self, offer: &Offer, why: String) {
        let id = offer.id();
        if self.reasons.len() < limits::CANDIDATES && !self.reasons.iter().any(|other| other.id == id) {
            self.reasons.push(Reason { peer: offer.peer, id, why });
        }
    }

    /// It sent wrong bytes.
    pub(crate) fn note_liar(&mut self, offer: &Offer) {
        let liar = (offer.peer, offer.id());
        if self.liars.len() < limits::CANDIDATES && !self.liars.contains(&liar) {
            self.liars.push(liar);
        }
    }

    /// True if it is told of it that it sent wrong bytes.
    pub(crate) fn is_noted_liar(&self, offer: &Offer) -> bool {
        self.liars.iter().any(|(peer, _)| *peer == offer.peer)
    }

    /// Why there is no file. None: nobody claimed to have it.
    pub(crate) fn verdict(&self) -> Option<LoadError> {
        if let Some(size) = self.needed() {
            let text = format!("the file needs {size} bytes, more than the disk of the store can hold");
            return Some(LoadError::StoreFull(text));
        }
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
        let all = self.list.iter().map(|entry| &entry.offer);
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

    /// From one stranger, who makes up keys.
    fn stranger() -> Origin {
        origin(1, 99, false)
    }

    fn origin(host: u8, neighbour: u8, own: bool) -> Origin {
        Origin { host: Some([203, 0, host, 1].into()), neighbour: PeerKey(PublicKey([neighbour; 32])), own }
    }

    fn add(candidates: &mut Candidates, offer: Offer) -> bool {
        candidates.add(offer, stranger())
    }

    fn next(candidates: &mut Candidates, now: Instant) -> Option<Offer> {
        candidates.look_for_next(now).map(|(offer, _)| offer)
    }

    #[test]
    fn a_size_counts_for_nothing_until_somebody_who_claims_it_is_reached() {
        let mut candidates = Candidates::default();
        for (key, size) in [(1, 9), (2, 9), (3, 7)] {
            assert!(add(&mut candidates, candidate(key, Dialect::V021, size)));
        }
        assert!(candidates.backed_sizes().is_empty());
        candidates.reached(&candidate(3, Dialect::V021, 7));
        assert_eq!(candidates.backed_sizes(), BTreeMap::from([(7, 1)]));
        candidates.refuse_size(7, "impossible");
        assert!(candidates.backed_sizes().is_empty() && candidates.is_hopeful());
    }

    #[test]
    fn sizes_of_which_the_disk_can_hold_none_are_no_fault_of_the_peers() {
        let mut candidates = Candidates::default();
        for (key, size) in [(1, 3000), (2, 2000), (3, 1000)] {
            add(&mut candidates, candidate(key, Dialect::V021, size));
        }
        candidates.reached(&candidate(1, Dialect::V021, 3000));
        candidates.reached(&candidate(2, Dialect::V021, 2000));
        candidates.refuse_too_large(3000, "too large");
        assert!(matches!(candidates.verdict(), Some(LoadError::Transfer { .. })), "2000 may fit");
        candidates.refuse_too_large(2000, "too large");
        candidates.note(&candidate(3, Dialect::V021, 1000), "no connection to it".to_owned());
        let Some(LoadError::StoreFull(text)) = candidates.verdict() else { panic!("the peers are blamed") };
        assert!(text.contains("2000 bytes"), "{text}");
    }

    #[test]
    fn those_that_are_connected_are_looked_for_first_and_only_some_at_a_time() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        for key in 0..=limits::LOOKED_FOR as u16 {
            add(&mut candidates, candidate(key, Dialect::V021, 9));
        }
        let connected = candidate(1000, Dialect::V021, 9);
        candidates.add(connected, origin(1, 1, true));
        assert_eq!(next(&mut candidates, now), Some(connected));
        for key in 1..limits::LOOKED_FOR as u16 {
            assert_eq!(next(&mut candidates, now), Some(candidate(key - 1, Dialect::V021, 9)));
        }
        assert_eq!(next(&mut candidates, now), None, "at the limit");
        candidates.reached(&connected);
        assert!(candidates.look_for_next(now).is_some(), "who is reached is looked for no more");
    }

    #[test]
    fn one_that_is_not_reached_lets_others_be_looked_for_and_has_another_turn_after_them() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        for key in 0..limits::LOOKED_FOR as u16 {
            add(&mut candidates, candidate(key, Dialect::V021, 9));
            assert!(candidates.look_for_next(now).is_some());
        }
        assert!(candidates.end_turns(now + LOOK).is_empty(), "nobody else waits");
        let other = candidate(1000, Dialect::V021, 9);
        add(&mut candidates, other);
        assert!(candidates.end_turns(now + LOOK - Duration::from_millis(1)).is_empty());
        assert_eq!(candidates.end_turns(now + LOOK).len(), limits::LOOKED_FOR);
        assert_eq!(next(&mut candidates, now + LOOK), Some(other));
        assert!(candidates.look_for_next(now + LOOK).is_some(), "another turn");
    }

    #[test]
    fn an_original_that_would_die_of_the_request_is_never_asked() {
        let mut candidates = Candidates::default();
        assert!(add(&mut candidates, candidate(1, Dialect::V012, 378)));
        assert!(!add(&mut candidates, candidate(2, Dialect::V012, 379)));
        assert_eq!(candidates.left(), [candidate(1, Dialect::V012, 378)]);
    }

    #[test]
    fn a_file_that_only_such_originals_offer_fails_with_who_offered_it_and_why_nobody_was_asked() {
        let mut candidates = Candidates::default();
        let spared = candidate(2, Dialect::V012, 379);
        add(&mut candidates, spared);
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
        add(&mut candidates, candidate(1, Dialect::V012, 379));
        add(&mut candidates, candidate(1, Dialect::V021, 379));
        candidates.note(&candidate(1, Dialect::V021, 379), "sent nothing for 10 s".to_owned());
        assert!(matches!(candidates.verdict(), Some(LoadError::Transfer { reasons }) if reasons.len() == 1));
    }

    #[test]
    fn a_node_of_ours_is_used_once_and_with_ranges() {
        let mut candidates = Candidates::default();
        assert!(add(&mut candidates, candidate(1, Dialect::V021, 1000)));
        assert!(!add(&mut candidates, candidate(1, Dialect::V021, 1000)));
        assert!(!add(&mut candidates, candidate(1, Dialect::V016, 1000)));
        assert!(!add(&mut candidates, candidate(1, Dialect::V012, 1000)));
        assert_eq!(candidates.left().len(), 1);
    }

    #[test]
    fn a_node_of_ours_is_known_by_its_answers_in_several_dialects_and_asked_in_small_ranges() {
        let (first, second) = (candidate(1, Dialect::V021, 1000), candidate(2, Dialect::V021, 1000));
        let mut candidates = Candidates::default();
        add(&mut candidates, first);
        add(&mut candidates, second);
        assert_eq!(candidates.unit(&first), Unit::LargeRanges);
        add(&mut candidates, candidate(1, Dialect::V012, 1000));
        assert_eq!(candidates.unit(&first), Unit::Ranges);
        assert_eq!(candidates.unit(&second), Unit::LargeRanges, "an original as far as is known");
    }

    #[test]
    fn a_liar_is_asked_again_after_growing_pauses_and_a_few_times_only_while_nobody_else_can_be_asked() {
        let (mut candidates, mut now) = (Candidates::default(), Instant::now());
        let [liar, other] = [1, 2].map(|key| candidate(key, Dialect::V021, 1000));
        add(&mut candidates, liar);
        for pause in [2, 4, 8].map(Duration::from_secs) {
            assert_eq!(next(&mut candidates, now), Some(liar));
            candidates.reached(&liar);
            candidates.lied(&liar, now);
            assert_eq!(next(&mut candidates, now + pause - Duration::from_millis(1)), None);
            now += pause;
        }
        add(&mut candidates, other);
        assert_eq!(next(&mut candidates, now), Some(other), "somebody else can be asked");
        candidates.drop_one(&other);
        assert_eq!(next(&mut candidates, now), Some(liar));
        candidates.lied(&liar, now);
        assert!(!candidates.is_hopeful(), "it lied {} times", limits::LIES);
    }

    #[test]
    fn any_number_of_liars_is_asked_again_a_bounded_number_of_times() {
        let (mut candidates, mut now) = (Candidates::default(), Instant::now());
        (0..100).for_each(|key| assert!(add(&mut candidates, candidate(key, Dialect::V021, 1000))));
        let mut asked = 0;
        while candidates.is_hopeful() {
            while let Some(liar) = next(&mut candidates, now) {
                asked += 1;
                candidates.reached(&liar);
                candidates.lied(&liar, now);
            }
            now += Duration::from_secs(8);
        }
        assert_eq!(asked, 100 + limits::REPEATED_LIARS);
    }

    #[test]
    fn only_liars_make_a_failed_verification() {
        let mut candidates = Candidates::default();
        let liar = candidate(1, Dialect::V021, 1000);
        add(&mut candidates, liar);
        candidates.note_liar(&liar);
        candidates.drop_one(&liar);
        assert!(matches!(candidates.verdict(), Some(LoadError::Verification { liars }) if liars.len() == 1));
    }

    #[test]
    fn candidates_are_bounded_and_made_up_ones_give_way_to_one_that_is_connected() {
        let mut candidates = Candidates::default();
        for key in 0..limits::CANDIDATES as u16 {
            assert!(add(&mut candidates, candidate(key, Dialect::V021, 5)));
        }
        assert!(!add(&mut candidates, candidate(60000, Dialect::V021, 5)));
        let connected = candidate(60001, Dialect::V021, 5);
        assert!(candidates.add(connected, origin(1, 1, true)));
        assert_eq!(candidates.left().len(), limits::CANDIDATES);
        assert_eq!(next(&mut candidates, Instant::now()), Some(connected));
    }

    #[test]
    fn a_stranger_with_all_places_gives_way_to_another_origin_wherever_it_stands() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        for key in 0..limits::CANDIDATES as u16 {
            let offer = candidate(key, Dialect::V021, 5);
            assert!(add(&mut candidates, offer));
            // Half of them are reached, then as many are looked for as may be.
            if key < 128 {
                assert_eq!(next(&mut candidates, now), Some(offer));
                candidates.reached(&offer);
            }
        }
        while next(&mut candidates, now).is_some() {}
        assert!(candidates.end_turns(now).is_empty());
        let far = candidate(60000, Dialect::V021, 5);
        assert!(candidates.add(far, origin(2, 2, false)));
        assert_eq!(candidates.end_turns(now).len(), 2, "one made room for the claim, one for the look");
        assert_eq!(next(&mut candidates, now), Some(far));
        let own = candidate(60001, Dialect::V021, 5);
        assert!(candidates.add(own, origin(1, 1, true)), "at the address of the stranger");
        candidates.end_turns(now);
        assert_eq!(next(&mut candidates, now), Some(own));
    }

    #[test]
    fn candidates_that_were_looked_for_in_vain_give_way_to_any() {
        let now = Instant::now();
        let mut candidates = Candidates::default();
        for key in 0..limits::CANDIDATES as u16 {
            add(&mut candidates, candidate(key, Dialect::V021, 5));
        }
        assert!(candidates.look_for_next(now).is_some());
        assert_eq!(candidates.end_turns(now + LOOK).len(), 1);
        assert!(add(&mut candidates, candidate(60000, Dialect::V021, 5)));
        assert!(!add(&mut candidates, candidate(60001, Dialect::V021, 5)));
    }
}
