//! What to ask of whom: the pure part of a download of one file of known size.
//!
//! The executor adds providers, tells when they are reachable and what arrives, performs [`Action`]s, and calls
//! [`Plan::handle_timeout`] at [`Plan::poll_timeout`]. The plan cuts the missing bytes into requests sized by each
//! provider's rate and keeps a few in flight per provider. Once all that is missing was asked for, idle providers are
//! asked for it too (`endgame`). Providers that are silent, too slow, refuse, or send too much or wrong bytes are
//! dropped.
//!
//! A reachable provider that is lost (its connection closed) is no failure: its requests go back into the pool. An
//! answer that comes up short is none either: it is asked for again, from anybody, and its provider rests a little.
//! Only bytes that a hash proves wrong are a lie.

mod assign;
mod endgame;
pub(crate) mod pace;
mod provider;
mod trust;
mod turn;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use self::pace::ByteClock;
use self::provider::{Provider, SMALLEST_REQUEST, Terms};
use self::trust::Trust;
use super::blame::{Blame, Source};
pub(crate) use super::failure::Failure;
use super::keys::{ProviderKey, RequestKey};
use crate::limits;
use crate::node::peer::{Path, Unit};

/// What the executor is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask a provider; `whole` selects the form without a range.
    Request {
        /// To tell the answers apart.
        request: RequestKey,
        /// Whom.
        provider: ProviderKey,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
        /// Ask for the whole file.
        whole: bool,
    },
    /// Answers to this request are of no use any more.
    Abandon {
        /// Which.
        request: RequestKey,
    },
    /// The provider is out, for this reason.
    Drop {
        /// Which.
        provider: ProviderKey,
        /// Why.
        why: Failure,
    },
    /// These bytes on disk are not trusted any more; they will be fetched again.
    Forget {
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
}

/// How a download stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// All bytes are there; verify.
    Complete,
    /// Requests are in flight or can be made.
    Working,
    /// Providers are left, none is reachable.
    Waiting,
    /// No provider is left.
    Exhausted,
}

/// Silences without an answered request between them at which even the only provider left is given up.
const PATIENCE: u32 = 3;
/// Requests that fall silent while others are begun to be answered, without a whole answer between them, at which a
/// provider is given up: else one that answers half of each, in turn, would be asked for ever smaller pieces.
const OVERLOOKED: usize = Terms::RANGES.requests * PATIENCE as usize;
/// A request without data for this long is taken to be stalled when an idle provider looks for something to help with.
const STALLED: Duration = Duration::from_secs(1);
/// Short answers without a whole one between them at which a provider is given up.
const SHORT_ANSWERS: u32 = 8;

#[derive(Debug)]
struct Request {
    provider: ProviderKey,
    start: u64,
    end: u64,
    /// Bytes that arrived.
    got: u64,
    asked: Instant,
    /// Silence is counted from here.
    clock: ByteClock,
    whole: bool,
    /// Parts of the answer may be lost on the way. Parts have no offset, so then all that came is worthless.
    relayed: bool,
}

impl Request {
    fn at(&self) -> u64 {
        self.start + self.got
    }

    fn is_answered(&self) -> bool {
        self.at() == self.end
    }
}

/// The plan of one download.
#[derive(Debug)]
pub(crate) struct Plan {
    size: u64,
    /// What was received and is not forgotten, and who sent it.
    blame: Blame,
    /// Those not dropped.
    providers: BTreeMap<ProviderKey, Provider>,
    /// Providers that were reached through other peers, or at several addresses, at some time. Those peers, or strangers
    /// at one of the addresses, may have cut, swapped or replaced what they passed on, so a wrong hash proves nothing
    /// about the provider.
    ever_relayed: BTreeSet<ProviderKey>,
    next_provider: u32,
    requests: BTreeMap<RequestKey, Request>,
    next_request: u64,
    trust: Trust,
    actions: VecDeque<Action>,
    last_timeout: Instant,
}

impl Plan {
    /// For a file of `size` bytes of which `present` are on disk.
    pub(crate) fn new(size: u64, present: &[(u64, u64)], now: Instant) -> Self {
        let mut blame = Blame::default();
        present.iter().for_each(|(start, end)| blame.on_disk(*start, (*end).min(size)));
        Self {
            size,
            blame,
            providers: BTreeMap::new(),
            ever_relayed: BTreeSet::new(),
            next_provider: 0,
            requests: BTreeMap::new(),
            next_request: 0,
            trust: Trust::new(),
            actions: VecDeque::new(),
            last_timeout: now,
        }
    }

    /// A provider, not reachable yet. The caller bounds their number.
    pub(crate) fn add_provider(&mut self, kind: Unit, now: Instant) -> ProviderKey {
        let key = ProviderKey(self.next_provider);
        self.next_provider += 1;
        self.providers.insert(key, Provider::new(kind, now));
        key
    }

    /// The provider can (or cannot) be sent requests now. Being unreachable takes its requests back.
    pub(crate) fn set_reachable(&mut self, key: ProviderKey, reachable: bool, now: Instant) {
        let changed = |provider: &&mut Provider| provider.reachable != reachable;
        let Some(provider) = self.providers.get_mut(&key).filter(changed) else { return };
        provider.reachable = reachable;
        provider.since = now;
        if !reachable {
            if let Some(hunt) = self.trust.hunt_mut() {
                hunt.left(key);
            }
            self.take_back(key);
        }
        self.assign(now);
    }

    /// How the provider is reached, if it is. Other peers pass on a little at a time and may lose some of it.
    pub(crate) fn set_path(&mut self, key: ProviderKey, path: Path, now: Instant) {
        let Some(provider) = self.providers.get_mut(&key) else { return };
        let before = provider.path.replace(path);
        if path == Path::Relayed || before.is_some_and(|before| before != path) {
            self.ever_relayed.insert(key);
        }
        if path == Path::Relayed {
            // The rest of these answers comes the same way.
            self.requests.values_mut().filter(|r| r.provider == key).for_each(|r| r.relayed = true);
        }
        self.assign(now);
    }

    /// More became known of what the provider can be asked.
    pub(crate) fn set_kind(&mut self, key: ProviderKey, kind: Unit) {
        if let Some(provider) = self.providers.get_mut(&key) {
            provider.kind = kind;
        }
    }

    /// The provider is of no use, for a reason the executor knows.
    pub(crate) fn drop_provider(&mut self, key: ProviderKey, why: Failure, now: Instant) {
        self.fail(key, why);
        self.assign(now);
    }

    /// The next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Bytes came for a request. Returns what to write: file ranges and the matching parts of `bytes`.
    pub(crate) fn on_data<'a>(
        &mut self,
        key: RequestKey,
        bytes: &'a [u8],
        now: Instant,
    ) -> Vec<(u64, &'a [u8])> {
        let Some(request) = self.requests.get_mut(&key) else { return Vec::new() };
        let (provider, first, start) = (request.provider, request.start, request.at());
        if bytes.len() as u64 > request.end - start {
            self.fail(provider, Failure::Long);
            self.assign(now);
            return Vec::new();
        }
        if bytes.is_empty() {
            return Vec::new();
        }
        request.got += bytes.len() as u64;
        let (end, answered) = (request.at(), request.is_answered());
        self.heard(key, provider, bytes.len() as u64, now);
        let mut pieces = Vec::new();
        for (low, high) in self.blame.present().gaps(start, end) {
            let piece = bytes.get((low - start) as usize..(high - start) as usize).unwrap_or_default();
            self.blame.add(provider, first, low, piece);
            pieces.push((low, piece));
        }
        if answered {
            self.answered(key, now);
        }
        if !pieces.is_empty() && self.bytes() == self.size {
            self.distrust_unfinished();
            self.assign(now);
        }
        pieces
    }

    fn heard(&mut self, key: RequestKey, from: ProviderKey, bytes: u64, now: Instant) {
        let Some(provider) = self.providers.get_mut(&from) else { return };
        provider.last_data = Some(now);
        provider.rate.add(bytes, now);
        provider.clock.add(bytes, limits::MINIMUM_RATE, now);
        let share = limits::MINIMUM_RATE / provider.terms().requests as u64;
        if let Some(hunt) = self.trust.hunt_mut() {
            hunt.heard(from, bytes, now);
        }
        // Later requests of the same provider may be waiting behind this one: they are not silent meanwhile.
        let same = self.requests.range_mut(key..).filter(|(_, other)| other.provider == from);
        same.for_each(|(_, other)| other.clock.add(bytes, share, now));
    }

    /// The last byte of an answer came.
    fn answered(&mut self, key: RequestKey, now: Instant) {
        let Some(request) = self.requests.remove(&key) else { return };
        if let Some(provider) = self.providers.get_mut(&request.provider) {
            provider.answered(now);
        }
        self.assign(now);
    }

    /// The provider said that a request is answered. One that got its last byte has ended before, so this one came up
    /// short.
    pub(crate) fn on_finished(&mut self, key: RequestKey, now: Instant) {
        let Some(request) = self.requests.remove(&key) else { return };
        let (wanted, got) = (request.end - request.start, request.got);
        // What is missing may be missing in the middle. A whole file that came straight is only cut off.
        if request.relayed || !request.whole {
            self.distrust(&request);
        }
        if let Some(provider) = self.providers.get_mut(&request.provider) {
            provider.short += 1;
            provider.rest(provider.short, now);
            if provider.short >= SHORT_ANSWERS {
                self.fail(request.provider, Failure::Short { wanted, got });
            }
        }
        self.assign(now);
    }

    /// The provider answered with an error, or something is wrong with the answer.
    pub(crate) fn on_error(&mut self, key: RequestKey, why: Failure, now: Instant) {
        let Some(request) = self.requests.get(&key) else { return };
        self.fail(request.provider, why);
        self.assign(now);
    }

    /// The provider has too much to do now: it is asked again after a rest, which is longer each time. The load's own
    /// time-out bounds that. Returns the provider.
    pub(crate) fn on_busy(&mut self, key: RequestKey, now: Instant) -> Option<ProviderKey> {
        let owner = self.requests.get(&key)?.provider;
        self.give_back(key);
        // Of all requests that it refuses at once the first one counts.
        if let Some(provider) = self.providers.get_mut(&owner).filter(|provider| provider.ready(now)) {
            provider.busy += 1;
            provider.rest(provider.busy, now);
        }
        self.assign(now);
        Some(owner)
    }

    /// When [`Plan::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let requests = self.requests.values();
        let requests = requests.flat_map(|r| [r.clock.at() + STALLED, r.clock.at() + limits::SILENCE]);
        let owners = self.requests.values().filter_map(|r| self.providers.get(&r.provider));
        let owners = owners.map(|provider| provider.clock.at() + limits::SILENCE);
        let rests = self.providers.values().filter_map(|provider| provider.rests_until);
        let helpers = self.has_idle_helpers().then(|| self.last_timeout + STALLED);
        let all = requests.chain(owners).chain(rests).chain(helpers).chain(self.end_of_turn());
        all.filter(|at| *at > self.last_timeout).min()
    }

    /// Drops silent and slow providers, lets idle ones help where a request stalls.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.last_timeout = now;
        let owners: BTreeSet<_> = self.requests.values().map(|request| request.provider).collect();
        for key in owners {
            let slow = |provider: &Provider| provider.clock.lag(now) >= limits::SILENCE;
            if self.providers.get(&key).is_some_and(slow) {
                self.slow(key, now);
            }
        }
        let silent = |request: &Request| request.clock.lag(now) >= limits::SILENCE;
        let keys: Vec<_> = self.requests.iter().filter(|(_, r)| silent(r)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.overlook(key));
        self.assign(now);
    }

    /// No data came for this request for too long.
    pub(crate) fn on_silence(&mut self, key: RequestKey, now: Instant) {
        let Some(request) = self.requests.get(&key) else { return };
        let owner = request.provider;
        match self.providers.get(&owner).is_some_and(|p| p.clock.lag(now) >= limits::SILENCE) {
            true => self.slow(owner, now),
            false => self.overlook(key),
        }
        self.assign(now);
    }

    /// The connection over which the answer came is gone; the provider is not to blame.
    pub(crate) fn on_lost(&mut self, key: RequestKey, now: Instant) {
        self.give_back(key);
        self.assign(now);
    }

    /// The provider has sent next to nothing for [`limits::SILENCE`].
    fn slow(&mut self, key: ProviderKey, now: Instant) {
        let others = self.providers.iter().any(|(other, p)| *other != key && p.reachable);
        let Some(provider) = self.providers.get_mut(&key) else { return };
        provider.silences += 1;
        let time = limits::SILENCE * provider.silences;
        let trickles =
            provider.last_data.is_some_and(|last| now.saturating_duration_since(last) < limits::SILENCE);
        let why = if trickles { Failure::Slow(time) } else { Failure::Silent(time) };
        match others || provider.silences >= PATIENCE {
            true => self.fail(key, why),
            false => self.take_back(key),
        }
    }

    /// Nothing comes for one request while others of the same provider are answered.
    fn overlook(&mut self, key: RequestKey) {
        // It may have been taken back together with another one of the same provider.
        let Some(request) = self.requests.get(&key) else { return };
        let owner = request.provider;
        let Some(provider) = self.providers.get_mut(&owner) else { return };
        provider.overlooked += 1;
        match provider.overlooked < OVERLOOKED {
            true => self.abandon(key),
            false => self.fail(owner, Failure::Silent(limits::SILENCE)),
        }
    }

    /// What was on disk in these ranges at the beginning proved damaged: it is missing again, and nobody is to blame.
    pub(crate) fn on_damaged(&mut self, ranges: &[(u64, u64)], now: Instant) {
        for (start, end) in ranges {
            self.blame.lose(*start, *end);
        }
        self.assign(now);
    }

    /// How it stands.
    pub(crate) fn outlook(&self) -> Outlook {
        if self.bytes() == self.size {
            Outlook::Complete
        } else if self.providers.is_empty() {
            Outlook::Exhausted
        } else if self.providers.values().any(|p| p.reachable) {
            Outlook::Working
        } else {
            Outlook::Waiting
        }
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.blame.present().total()
    }

    /// Providers with requests in flight.
    pub(crate) fn active(&self) -> usize {
        let mut keys: Vec<_> = self.requests.values().map(|request| request.provider).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }

    /// True if the provider may still be used.
    #[cfg(test)]
    pub(super) fn is_usable(&self, key: ProviderKey) -> bool {
        self.providers.contains_key(&key)
    }

    fn fail(&mut self, key: ProviderKey, why: Failure) {
        if self.providers.remove(&key).is_none() {
            return;
        }
        self.take_back(key);
        self.actions.push_back(Action::Drop { provider: key, why });
    }

    /// Its requests go back into the pool.
    fn take_back(&mut self, provider: ProviderKey) {
        let keys: Vec<_> =
            self.requests.iter().filter(|(_, r)| r.provider == provider).map(|(k, _)| *k).collect();
        keys.into_iter().for_each(|key| self.abandon(key));
    }

    fn abandon(&mut self, request: RequestKey) {
        if self.give_back(request) {
            // One that was never sent need not be taken back.
            let queued = |a: &Action| matches!(a, Action::Request { request: r, .. } if *r == request);
            if let Some(index) = self.actions.iter().position(queued) {
                self.actions.remove(index);
            } else {
                self.actions.push_back(Action::Abandon { request });
            }
        }
    }

    /// Ends an unfinished request. False: it had ended already.
    fn give_back(&mut self, key: RequestKey) -> bool {
        let Some(request) = self.requests.remove(&key) else { return false };
        if request.relayed {
            self.distrust(&request);
        }
        true
    }

    /// What came for a request may be in the wrong place.
    fn distrust(&mut self, request: &Request) {
        for (start, end) in self.blame.forget(request.provider, request.start, request.at()) {
            self.actions.push_back(Action::Forget { start, end });
        }
    }

    /// The file is complete, with parts of unfinished answers that may be in the wrong place: these are asked again,
    /// for a wrong hash would blame their senders.
    fn distrust_unfinished(&mut self) {
        let unsure = self.requests.iter().filter(|(_, request)| request.relayed && request.got > 0);
        let unsure: Vec<_> = unsure.map(|(key, _)| *key).collect();
        unsure.into_iter().for_each(|key| self.abandon(key));
    }
}
