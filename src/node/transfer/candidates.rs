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
mod tests;
