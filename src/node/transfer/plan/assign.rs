//! Who is asked for which bytes.

use std::time::{Duration, Instant};

use super::{Action, Plan, Provider, ProviderKey, Request, RequestKey, STALLED};
use crate::node::peer::Unit;
use crate::store::ranges::Ranges;

/// Requests in flight per provider: enough to hide the round trip, few enough that an original, which queues each
/// answer wholly in memory, holds at most 6 MiB for us.
pub(super) const PIPELINE: usize = 3;
const FIRST_REQUEST: u64 = 512 << 10;
const LARGEST_REQUEST: u64 = 2 << 20;
const SMALLEST_REQUEST: u64 = 64 << 10;
/// A request is to take about this long, so that a slow provider never holds much of the file back.
const REQUEST_TIME: Duration = Duration::from_millis(500);
/// A provider that is not reachable for this long is not waited for: a range provider is no reason any more to leave
/// whole-file providers alone, nor is the one chosen after a wrong hash to leave everybody else alone.
const CONNECTING: Duration = Duration::from_secs(5);

impl Plan {
    /// Gives work to everyone who can take more.
    pub(super) fn assign(&mut self, now: Instant) {
        if self.hunting && self.solo_is_lost(now) {
            self.choose_solo();
        }
        // Round by round, so that the first one does not take everything of a small file.
        for depth in 1..=PIPELINE {
            for key in self.ready_providers(now) {
                let in_flight = self.requests.values().filter(|request| request.provider == key).count();
                if in_flight < depth {
                    self.assign_one(key, in_flight == 0, now);
                }
            }
        }
    }

    /// Somebody else is to be asked for everything: nobody is chosen, or the chosen one is out, or away although it
    /// had the time to come back.
    fn solo_is_lost(&self, now: Instant) -> bool {
        match self.solo.and_then(|key| self.providers.get(&key)) {
            None => !self.providers.is_empty(),
            Some(solo) if solo.hopeful(now) => false,
            Some(_) => self.providers.values().any(|provider| provider.reachable),
        }
    }

    fn ready_providers(&self, now: Instant) -> Vec<ProviderKey> {
        let ranges = |p: &Provider| p.kind == Unit::Ranges && p.hopeful(now);
        let ranges_left = self.providers.values().any(ranges);
        let whole_busy = self.requests.values().any(|request| request.whole);
        let mut whole_taken = whole_busy;
        let mut ready = Vec::new();
        for (key, provider) in self.providers.iter().filter(|(_, provider)| provider.reachable) {
            if self.solo.is_some_and(|solo| solo != *key) {
                continue;
            }
            match provider.kind {
                Unit::Ranges => ready.push(*key),
                Unit::Whole => {
                    if (!ranges_left || self.solo.is_some()) && !whole_taken {
                        whole_taken = true;
                        ready.push(*key);
                    }
                }
            }
        }
        ready
    }

    fn assign_one(&mut self, key: ProviderKey, idle: bool, now: Instant) {
        let Some(provider) = self.providers.get(&key) else { return };
        if provider.kind == Unit::Whole {
            if idle && self.present.total() < self.size {
                self.request(key, 0, self.size, true, now);
            }
            return;
        }
        let want = provider.request_size();
        if let Some((start, gap_end)) = self.unassigned() {
            // Later requests begin at multiples, so that fingerprints can be compared.
            let end = gap_end.min((start + want).next_multiple_of(SMALLEST_REQUEST));
            let end = self.blame.stretch_end(start, end);
            self.request(key, start, end, false, now);
        } else if idle && let Some((start, end)) = self.half_of_the_slowest(key, want, now) {
            self.request(key, start, end, false, now);
        }
    }

    fn request(&mut self, provider: ProviderKey, start: u64, end: u64, whole: bool, now: Instant) {
        if let Some(owner) = self.providers.get_mut(&provider) {
            // Idle time is not part of its rate.
            if !self.requests.values().any(|request| request.provider == provider) {
                owner.sample_start = now;
                owner.sample_bytes = 0;
            }
        }
        let request = RequestKey(self.next_request);
        self.next_request += 1;
        self.requests.insert(request, Request { provider, start, end, got: 0, heard: now, whole });
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

    /// End game: the second half of what the slowest other request still owes, if nobody else was asked for it too.
    fn half_of_the_slowest(&self, idle: ProviderKey, want: u64, now: Instant) -> Option<(u64, u64)> {
        let own_rate = self.providers.get(&idle)?.rate;
        let mut best: Option<(u64, (u64, u64))> = None;
        for (key, request) in &self.requests {
            let Some(owner) = self.providers.get(&request.provider) else { continue };
            if request.provider == idle {
                continue;
            }
            let mut free = Ranges::from_ranges(self.present.gaps(request.at(), request.end));
            let others = self.requests.iter().filter(|(other, _)| *other != key);
            others.for_each(|(_, other)| free.remove(other.at(), other.end));
            let Some((start, end)) = free.iter().last() else { continue };
            let owed = end - start;
            let stalled = now.saturating_duration_since(request.heard) >= STALLED;
            let rate = if stalled { 1 } else { owner.rate.max(1) };
            // The idle one would need longer for its half than the owner for all.
            if own_rate > 0 && rate > 2 * own_rate {
                continue;
            }
            let time = owed.saturating_mul(1000) / rate;
            let middle = if owed <= 2 * SMALLEST_REQUEST { start } else { start + owed / 2 };
            let middle = middle.max(end.saturating_sub(want));
            if best.is_none_or(|(longest, _)| time > longest) {
                best = Some((time, (middle, end)));
            }
        }
        best.map(|(_, range)| range)
    }
}

impl Provider {
    /// Reachable, or to be soon: one that was only just found, or lost, is being connected to.
    fn hopeful(&self, now: Instant) -> bool {
        self.reachable || now.saturating_duration_since(self.since) < CONNECTING
    }

    fn request_size(&self) -> u64 {
        if self.rate == 0 {
            return FIRST_REQUEST;
        }
        let size = self.rate.saturating_mul(REQUEST_TIME.as_millis() as u64) / 1000;
        size.clamp(SMALLEST_REQUEST, LARGEST_REQUEST).next_multiple_of(SMALLEST_REQUEST)
    }
}
