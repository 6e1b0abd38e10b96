//! What to ask of whom: the pure part of a download of one file of known size.
//!
//! The executor adds providers, tells when they are reachable and what arrives, performs [`Action`]s, and calls
//! [`Plan::handle_timeout`] at [`Plan::poll_timeout`]. The plan cuts the missing bytes into requests sized by each
//! provider's rate, keeps a few in flight per provider, gives the second half of what a slow provider still owes
//! to an idle one, and drops providers that are silent, refuse, or send too much, too little or wrong bytes.
//!
//! A reachable provider that is lost (its connection closed) is no failure: its requests go back into the pool.

mod assign;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use self::assign::PIPELINE;
use super::blame::{Blame, Source};
pub(crate) use super::failure::Failure;
use crate::limits;
use crate::node::peer::Unit;
use crate::store::ranges::Ranges;

/// A provider within one plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ProviderKey(pub(crate) u32);

/// A request within one plan; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestKey(pub(crate) u64);

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

/// Rates are averaged over samples of this length.
const SAMPLE: Duration = Duration::from_millis(250);
/// Silences without an answered request between them at which even the only provider left is given up.
const PATIENCE: u32 = 3;
/// Requests that fall silent while others are begun to be answered, without a whole answer between them, at which a
/// provider is given up: else one that answers half of each, in turn, would be asked for ever smaller pieces.
const OVERLOOKED: usize = PIPELINE * PATIENCE as usize;
/// A request without data for this long is taken to be stalled when an idle provider looks for something to help with.
const STALLED: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Provider {
    kind: Unit,
    reachable: bool,
    /// Since when it has been as (un)reachable as it is.
    since: Instant,
    /// Bytes per second; 0: unknown.
    rate: u64,
    sample_start: Instant,
    sample_bytes: u64,
    /// Silences since it last answered a whole request: one that begins to answer and falls silent again and again
    /// would otherwise be asked for ever smaller pieces.
    silences: u32,
    /// Requests that fell silent while it sent data for others, since it last answered a whole one.
    overlooked: usize,
    last_data: Option<Instant>,
}

#[derive(Debug)]
struct Request {
    provider: ProviderKey,
    start: u64,
    end: u64,
    /// Bytes that arrived.
    got: u64,
    /// Silence is counted from here.
    heard: Instant,
    whole: bool,
}

impl Request {
    fn at(&self) -> u64 {
        self.start + self.got
    }
}

/// The plan of one download.
#[derive(Debug)]
pub(crate) struct Plan {
    size: u64,
    present: Ranges,
    blame: Blame,
    /// Those not dropped.
    providers: BTreeMap<ProviderKey, Provider>,
    next_provider: u32,
    requests: BTreeMap<RequestKey, Request>,
    next_request: u64,
    /// After a wrong hash: only this provider is asked until the hash is right.
    solo: Option<ProviderKey>,
    hunting: bool,
    actions: VecDeque<Action>,
    last_progress: Instant,
    last_timeout: Instant,
}

impl Plan {
    /// For a file of `size` bytes of which `present` are on disk.
    pub(crate) fn new(size: u64, present: &[(u64, u64)], now: Instant) -> Self {
        let present = Ranges::from_ranges(present.iter().map(|(start, end)| (*start, (*end).min(size))));
        let mut blame = Blame::default();
        present.iter().for_each(|(start, end)| blame.on_disk(start, end));
        Self {
            size,
            present,
            blame,
            providers: BTreeMap::new(),
            next_provider: 0,
            requests: BTreeMap::new(),
            next_request: 0,
            solo: None,
            hunting: false,
            actions: VecDeque::new(),
            last_progress: now,
            last_timeout: now,
        }
    }

    /// A provider, not reachable yet. The caller bounds their number.
    pub(crate) fn add_provider(&mut self, kind: Unit, now: Instant) -> ProviderKey {
        let key = ProviderKey(self.next_provider);
        self.next_provider += 1;
        let provider = Provider {
            kind,
            reachable: false,
            since: now,
            rate: 0,
            sample_start: now,
            sample_bytes: 0,
            silences: 0,
            overlooked: 0,
            last_data: None,
        };
        self.providers.insert(key, provider);
        key
    }

    /// The provider can (or cannot) be sent requests now. Being unreachable takes its requests back.
    pub(crate) fn set_reachable(&mut self, key: ProviderKey, reachable: bool, now: Instant) {
        let changed = |provider: &&mut Provider| provider.reachable != reachable;
        let Some(provider) = self.providers.get_mut(&key).filter(changed) else { return };
        provider.reachable = reachable;
        provider.since = now;
        if !reachable {
            self.take_back(key);
        }
        self.assign(now);
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
        let provider_key = request.provider;
        let start = request.at();
        if bytes.len() as u64 > request.end - start {
            self.fail(provider_key, Failure::Long);
            self.assign(now);
            return Vec::new();
        }
        if bytes.is_empty() {
            return Vec::new();
        }
        request.got += bytes.len() as u64;
        let end = request.at();
        // Later requests of the same provider may be waiting behind this one: they are not silent meanwhile.
        self.requests
            .range_mut(key..)
            .filter(|(_, other)| other.provider == provider_key)
            .for_each(|(_, other)| other.heard = now);
        if let Some(provider) = self.providers.get_mut(&provider_key) {
            provider.last_data = Some(now);
            provider.sample(bytes.len() as u64, now);
        }
        let mut pieces = Vec::new();
        for (low, high) in self.present.gaps(start, end) {
            let piece = bytes.get((low - start) as usize..(high - start) as usize).unwrap_or_default();
            self.blame.add(provider_key, low, piece);
            self.present.insert(low, high);
            self.last_progress = now;
            pieces.push((low, piece));
        }
        pieces
    }

    /// The provider said that a request is answered.
    pub(crate) fn on_finished(&mut self, key: RequestKey, now: Instant) {
        let Some(request) = self.requests.remove(&key) else { return };
        let wanted = request.end - request.start;
        if request.got != wanted {
            self.fail(request.provider, Failure::Short { wanted, got: request.got });
        } else if let Some(provider) = self.providers.get_mut(&request.provider) {
            provider.silences = 0;
            provider.overlooked = 0;
        }
        self.assign(now);
    }

    /// The provider answered with an error, or something is wrong with the answer.
    pub(crate) fn on_error(&mut self, key: RequestKey, why: Failure, now: Instant) {
        let Some(request) = self.requests.remove(&key) else { return };
        self.fail(request.provider, why);
        self.assign(now);
    }

    /// When [`Plan::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let next = |request: &Request| {
            let stalled = request.heard + STALLED;
            if stalled > self.last_timeout { stalled } else { request.heard + limits::SILENCE }
        };
        self.requests.values().map(next).min()
    }

    /// Drops silent providers, lets idle ones help where a request stalls.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.last_timeout = now;
        let silent = |request: &Request| now.saturating_duration_since(request.heard) >= limits::SILENCE;
        let keys: Vec<_> = self.requests.iter().filter(|(_, r)| silent(r)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.silent(key, now));
        self.assign(now);
    }

    /// No data came for this request for too long.
    pub(crate) fn on_silence(&mut self, key: RequestKey, now: Instant) {
        self.silent(key, now);
        self.assign(now);
    }

    /// The connection over which the answer came is gone; the provider is not to blame.
    pub(crate) fn on_lost(&mut self, key: RequestKey, now: Instant) {
        self.requests.remove(&key);
        self.assign(now);
    }

    fn silent(&mut self, key: RequestKey, now: Instant) {
        // Taken back already together with another one of the same provider.
        let Some(request) = self.requests.get(&key) else { return };
        let owner = request.provider;
        let others = self.providers.iter().any(|(key, p)| *key != owner && p.reachable);
        let Some(provider) = self.providers.get_mut(&owner) else { return };
        // It is slow, or overlooked this one request: others of it are being answered.
        if provider.last_data.is_some_and(|last| now.saturating_duration_since(last) < limits::SILENCE) {
            provider.overlooked += 1;
            return match provider.overlooked < OVERLOOKED {
                true => self.abandon(key),
                false => self.fail(owner, Failure::Silent(limits::SILENCE)),
            };
        }
        provider.silences += 1;
        let time = limits::SILENCE * provider.silences;
        match others || provider.silences >= PATIENCE {
            true => self.fail(owner, Failure::Silent(time)),
            false => self.take_back(owner),
        }
    }

    /// How it stands.
    pub(crate) fn outlook(&self) -> Outlook {
        if self.present.total() == self.size {
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
        self.present.total()
    }

    /// When the last new byte came (or the plan was made).
    pub(crate) fn last_progress(&self) -> Instant {
        self.last_progress
    }

    /// Providers with requests in flight.
    pub(crate) fn active(&self) -> usize {
        let mut keys: Vec<_> = self.requests.values().map(|request| request.provider).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }

    /// Whether the provider may still be used.
    pub(crate) fn is_usable(&self, key: ProviderKey) -> bool {
        self.providers.contains_key(&key)
    }

    /// The complete file has another hash. A single sender is dropped as a liar; of several, one is chosen from whom
    /// everything is fetched ([`Action::Forget`] names what others sent).
    pub(crate) fn on_wrong_hash(&mut self, now: Instant) {
        let totals = self.blame.totals();
        self.hunting |= totals.len() > 1;
        if let (1, Some(Source::Provider(liar))) = (totals.len(), totals.keys().next()) {
            self.fail(*liar, Failure::WrongBytes);
        }
        let in_flight: Vec<_> = self.requests.keys().copied().collect();
        in_flight.into_iter().for_each(|key| self.abandon(key));
        self.last_progress = now;
        self.solo = None;
        if self.hunting {
            self.choose_solo();
        } else {
            self.trust_only(None);
        }
        self.assign(now);
    }

    /// What was on disk in these ranges at the beginning proved damaged: it is missing again, and nobody is to blame.
    pub(crate) fn on_damaged(&mut self, ranges: &[(u64, u64)], now: Instant) {
        for (start, end) in ranges {
            self.present.remove(*start, *end);
            self.blame.forget(*start, *end);
        }
        self.last_progress = now;
        self.assign(now);
    }

    /// The hash is right: drops those who sent other bytes before.
    pub(crate) fn on_right_hash(&mut self) {
        for liar in self.blame.liars() {
            self.fail(liar, Failure::WrongBytes);
        }
    }

    /// Everything is to come from the usable provider that sent most, so that least is fetched again: of those that
    /// can be asked, if there are any.
    fn choose_solo(&mut self) {
        let totals = self.blame.totals();
        let rank = |key: ProviderKey, provider: &Provider| {
            let sent = totals.get(&Source::Provider(key)).copied().unwrap_or(0);
            (provider.reachable, sent, Reverse(key))
        };
        self.solo =
            self.providers.iter().max_by_key(|(key, provider)| rank(**key, provider)).map(|(key, _)| *key);
        self.trust_only(self.solo);
    }

    fn trust_only(&mut self, provider: Option<ProviderKey>) {
        for (start, end) in self.blame.suspect_all_but(provider) {
            self.present.remove(start, end);
            self.actions.push_back(Action::Forget { start, end });
        }
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
        if self.requests.remove(&request).is_some() {
            // One that was never sent need not be taken back.
            let queued = |a: &Action| matches!(a, Action::Request { request: r, .. } if *r == request);
            if let Some(index) = self.actions.iter().position(queued) {
                self.actions.remove(index);
            } else {
                self.actions.push_back(Action::Abandon { request });
            }
        }
    }
}

impl Provider {
    fn sample(&mut self, bytes: u64, now: Instant) {
        self.sample_bytes += bytes;
        let time = now.saturating_duration_since(self.sample_start);
        if time < SAMPLE {
            return;
        }
        let rate = (u128::from(self.sample_bytes) * 1000 / time.as_millis().max(1)) as u64;
        self.rate = if self.rate == 0 { rate } else { self.rate / 2 + rate / 2 }.max(1);
        self.sample_bytes = 0;
        self.sample_start = now;
    }
}
