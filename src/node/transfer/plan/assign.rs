//! Who is asked for which bytes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::keys::{ProviderKey, RequestKey};
use super::pace::ByteClock;
use super::{Action, Plan, Request, SMALLEST_REQUEST, Terms};
use crate::limits;
use crate::node::peer::Unit;

/// A provider of the whole file slower than this (bytes per second) keeps no other from being asked.
const SLOW_WHOLE: u64 = 4 * limits::MINIMUM_RATE;

impl Plan {
    /// Gives work to everyone who can take more.
    pub(super) fn assign(&mut self, now: Instant) {
        self.check_turn(now);
        let mut in_flight: BTreeMap<ProviderKey, usize> = BTreeMap::new();
        self.requests.values().for_each(|request| *in_flight.entry(request.provider).or_default() += 1);
        // Made when it is needed, and anew after each request.
        let mut held = None;
        // Round by round, so that the first one does not take everything of a small file.
        for depth in 1..=Terms::RANGES.requests {
            for key in &self.ready_providers(now) {
                let count = in_flight.entry(*key).or_default();
                let terms = self.providers.get(key).map_or(0, |provider| provider.terms().requests);
                if *count >= depth.min(terms) {
                    continue;
                }
                let range = match self.fresh_range(*key) {
                    Some(range) => Some(range),
                    None => {
                        let held = held.get_or_insert_with(|| self.held(now));
                        self.help(*key, *count > 0, held, now)
                    }
                };
                if let Some((start, end)) = range {
                    self.request(*key, start, end, now);
                    *count += 1;
                    held = None;
                }
            }
        }
    }

    fn ready_providers(&self, now: Instant) -> Vec<ProviderKey> {
        let only = self.trust.only();
        let mut wholes = self.wholes_to_ask(now);
        let mut ready = Vec::new();
        for (key, provider) in self.providers.iter().filter(|(_, provider)| provider.ready(now)) {
            if only.is_some_and(|only| only != *key) {
                continue;
            }
            if provider.kind == Unit::Whole {
                if wholes == 0 {
                    continue;
                }
                wholes -= 1;
            }
            ready.push(*key);
        }
        ready
    }

    /// How many providers may be asked for the whole file: one, once no range provider is left. While all that were
    /// asked are slow: twice as many each second.
    fn wholes_to_ask(&self, now: Instant) -> usize {
        let ranges_left = self.providers.values().any(|p| p.promises_ranges(now));
        if ranges_left && self.trust.only().is_none() {
            return 0;
        }
        let asked: Vec<_> = self.requests.values().filter(|request| request.whole).collect();
        let rate = |request: &Request| self.providers.get(&request.provider).map(|p| p.rate.current(now));
        let fast = |request: &&Request| rate(request).is_some_and(|rate| rate >= SLOW_WHOLE);
        if asked.iter().any(fast) {
            return 0;
        }
        let oldest = asked.iter().map(|request| request.asked).min().unwrap_or(now);
        doubling(now.saturating_duration_since(oldest)).saturating_sub(asked.len())
    }

    /// What the provider is asked that nobody was asked yet.
    fn fresh_range(&self, key: ProviderKey) -> Option<(u64, u64)> {
        let provider = self.providers.get(&key)?;
        if provider.kind == Unit::Whole {
            let asked = self.requests.values().any(|request| request.provider == key);
            return (!asked && self.present.total() < self.size).then_some((0, self.size));
        }
        let (start, gap_end) = self.unassigned()?;
        // After a turn that was lost soon, a slow provider sends what it was asked for before anything else.
        let is_trial = self.trust.only().is_some() && provider.rate.average() == 0;
        let want = if is_trial { SMALLEST_REQUEST } else { provider.request_size() };
        // Later requests begin at multiples, so that fingerprints can be compared. A relay's room has no play for that.
        let end = if provider.is_relayed() {
            start + want
        } else {
            (start + want).next_multiple_of(SMALLEST_REQUEST)
        };
        Some((start, self.blame.stretch_end(start, gap_end.min(end))))
    }

    fn request(&mut self, provider: ProviderKey, start: u64, end: u64, now: Instant) {
        let busy = self.requests.values().any(|request| request.provider == provider);
        let Some(owner) = self.providers.get_mut(&provider) else { return };
        if !busy {
            owner.rate.restart(now);
            owner.clock = ByteClock::new(now);
        }
        let (whole, relayed) = (owner.kind == Unit::Whole, owner.is_relayed());
        let request = RequestKey(self.next_request);
        self.next_request += 1;
        let clock = ByteClock::new(now);
        let made = Request { provider, start, end, got: 0, asked: now, clock, whole, relayed };
        self.requests.insert(request, made);
        self.actions.push_back(Action::Request { request, provider, start, end, whole });
    }

    /// The first missing range that nobody was asked for.
    fn unassigned(&self) -> Option<(u64, u64)> {
        let mut at = 0;
        loop {
            let (start, end) = self.present.first_gap(at, self.size)?;
            let mut low = start;
            // The furthest end of requests that cover `low`, again and again.
            while let Some(request) = self.requests.values().find(|r| r.at() <= low && low < r.end) {
                low = request.end;
            }
            if low < end {
                let next = self.requests.values().map(Request::at).filter(|at| *at > low).min();
                return Some((low, next.map_or(end, |next| next.min(end))));
            }
            at = low.max(end);
        }
    }
}

/// How many may be asked for the same bytes when none of them has sent these for `time`: bounds what is sent in vain,
/// and lets one honest provider among hundreds that trickle have its try after a few seconds.
pub(super) fn doubling(time: Duration) -> usize {
    1 << time.as_secs().min(8)
}
