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
        let mut fresh = Fresh::new(self);
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
                let range = match self.fresh_range(*key, &mut fresh) {
                    Some((start, end)) => {
                        fresh.at = end;
                        Some((start, end))
                    }
                    None => {
                        let held = held.get_or_insert_with(|| self.held(now));
                        self.help(*key, *count > 0, held, now)
                    }
                };
                if let Some((start, end)) = range {
                    self.request(*key, start, end, *count > 0, now);
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
    fn fresh_range(&self, key: ProviderKey, fresh: &mut Fresh) -> Option<(u64, u64)> {
        let provider = self.providers.get(&key)?;
        if provider.kind == Unit::Whole {
            let asked = self.requests.values().any(|request| request.provider == key);
            return (!asked && self.bytes() < self.size).then_some((0, self.size));
        }
        let start = fresh.start(self)?;
        // After a turn that was lost soon, a slow provider sends what it was asked for before anything else.
        let is_trial = self.trust.only().is_some() && provider.rate.average() == 0;
        let want = if is_trial { SMALLEST_REQUEST } else { provider.request_size() };
        // Later requests begin at multiples, so that fingerprints can be compared. A relay's room has no play for that.
        let end = if provider.is_relayed() {
            start + want
        } else {
            (start + want).next_multiple_of(SMALLEST_REQUEST)
        };
        Some((start, self.blame.stretch_end(start, fresh.end(self, start, end))))
    }

    fn request(&mut self, provider: ProviderKey, start: u64, end: u64, busy: bool, now: Instant) {
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
}

/// The missing bytes that nobody was asked for, in order: each is looked for once in a round of assignments, however
/// many small parts are missing.
struct Fresh {
    /// What requests in flight are still to bring, the last first. None of them ends before `at`.
    asked: Vec<(u64, u64)>,
    /// Nothing before this is missing and was not asked for.
    at: u64,
}

impl Fresh {
    fn new(plan: &Plan) -> Self {
        let mut asked: Vec<_> = plan.requests.values().map(|request| (request.at(), request.end)).collect();
        asked.sort_unstable_by(|a, b| b.cmp(a));
        Self { asked, at: 0 }
    }

    /// The first such byte.
    fn start(&mut self, plan: &Plan) -> Option<u64> {
        while let Some((start, end)) = plan.blame.present().first_gap(self.at, plan.size) {
            self.at = start;
            while let Some((_, end)) = self.asked.pop_if(|(start, _)| *start <= self.at) {
                self.at = self.at.max(end);
            }
            if self.at < end {
                return Some(self.at);
            }
        }
        self.at = plan.size;
        None
    }

    /// Where a request ends that begins at such a byte and is to end at `most`: before what others were asked for, and
    /// before what is present, unless that is so little that two requests would cost more.
    fn end(&self, plan: &Plan, start: u64, most: u64) -> u64 {
        let next_asked = self.asked.last().map_or(plan.size, |(start, _)| *start);
        let most = most.min(next_asked);
        let mut end = start;
        while let Some((next, gap_end)) = plan.blame.present().first_gap(end, most) {
            if next > start && next - end >= SMALLEST_REQUEST {
                break;
            }
            end = gap_end;
        }
        end
    }
}

/// How many may be asked for the same bytes when none of them has sent these for `time`: bounds what is sent in vain,
/// and lets one honest provider among hundreds that trickle have its try after a few seconds.
pub(super) fn doubling(time: Duration) -> usize {
    1 << time.as_secs().min(8)
}
