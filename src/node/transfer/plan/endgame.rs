//! The end game: all that is missing was asked for, and somebody is idle.
//!
//! An idle provider is asked for the second half of what the slowest other provider still owes. Where the others are
//! far slower than itself, or stalled, it is asked for the beginning, however many others were asked before: so one
//! honest provider completes any file, whatever the others do. This needs a known rate. A provider of unknown rate
//! gets what two or more others were asked for only when it is late, and the number asked doubles each second: this
//! bounds how often the same bytes are sent.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::keys::ProviderKey;
use super::assign::doubling;
use super::{Plan, Request, SMALLEST_REQUEST, STALLED};

/// A provider is far slower than another if it has less than this part of its rate.
const FAR: u64 = 4;

/// Missing bytes that the same providers were asked for.
#[derive(Debug)]
pub(super) struct Held {
    start: u64,
    end: u64,
    /// How many were asked.
    copies: usize,
    /// Bytes per second of the fastest of them; 0: unknown, or no data for a while.
    rate: u64,
    /// When the first of them was asked.
    asked: Instant,
}

impl Plan {
    /// All missing bytes that were asked for, in order, with the little between them that is present.
    pub(super) fn held(&self, now: Instant) -> Vec<Held> {
        let mut requests: Vec<_> = self.requests.values().collect();
        requests.sort_unstable_by_key(|request| request.at());
        let mut cuts: Vec<u64> = requests.iter().flat_map(|r| [r.at(), r.end]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut requests = requests.into_iter().peekable();
        let mut holders: Vec<&Request> = Vec::new();
        let mut all: Vec<Held> = Vec::new();
        for (start, end) in cuts.iter().zip(cuts.iter().skip(1)) {
            holders.retain(|request| request.end > *start);
            while let Some(request) = requests.next_if(|request| request.at() <= *start) {
                holders.push(request);
            }
            let Some(asked) = holders.iter().map(|request| request.asked).min() else { continue };
            let rate = holders.iter().map(|request| self.rate_of(request, now)).max().unwrap_or(0);
            let first = all.len();
            for (start, end) in self.blame.present().gaps(*start, *end) {
                match all.get_mut(first..).and_then(<[_]>::last_mut) {
                    Some(last) if start - last.end < SMALLEST_REQUEST => last.end = end,
                    _ => all.push(Held { start, end, copies: holders.len(), rate, asked }),
                }
            }
        }
        all
    }

    fn rate_of(&self, request: &Request, now: Instant) -> u64 {
        match self.providers.get(&request.provider) {
            Some(owner) if request.clock.lag(now) < STALLED => owner.rate.current(now),
            _ => 0,
        }
    }

    /// True if somebody waits for the moment to help.
    pub(super) fn has_idle_helpers(&self) -> bool {
        let busy: BTreeSet<_> = self.requests.values().map(|request| request.provider).collect();
        self.trust.only().is_none()
            && self.providers.iter().any(|(key, p)| p.reachable && p.kind.has_ranges() && !busy.contains(key))
            && !self.requests.is_empty()
    }

    /// What a provider that can take more work is asked although others were.
    pub(super) fn help(
        &self,
        helper: ProviderKey,
        busy: bool,
        held: &[Held],
        now: Instant,
    ) -> Option<(u64, u64)> {
        let provider = self.providers.get(&helper).filter(|provider| provider.kind.has_ranges())?;
        let own = if busy { provider.rate.current(now) } else { provider.rate.average() };
        let mine: Vec<_> = self.requests.values().filter(|r| r.provider == helper).collect();
        let is_open = |held: &Held| mine.iter().all(|r| held.end <= r.start || r.end <= held.start);
        let is_late = |held: &Held| now.saturating_duration_since(held.asked) >= STALLED;
        let is_far_slower = |held: &Held| is_late(held) && own / FAR >= held.rate.max(1);
        let is_stalled = |held: &Held| is_late(held) && held.rate <= 1;
        let may_help = |held: &Held| {
            let late = doubling(now.saturating_duration_since(held.asked));
            let worth_it = own == 0 || held.rate <= 2 * own;
            is_far_slower(held) || (!busy && worth_it && (held.copies == 1 || held.copies < late))
        };
        let time = |held: &Held| (held.end - held.start).saturating_mul(1000) / held.rate.max(1);
        let open = held.iter().enumerate().filter(|(_, held)| is_open(held) && may_help(held));
        let (index, slowest) = open.max_by_key(|(index, held)| (time(held), std::cmp::Reverse(*index)))?;
        let want = provider.request_size();
        let owed = slowest.end - slowest.start;
        if !is_far_slower(slowest) && !is_stalled(slowest) {
            let middle = if owed <= 2 * SMALLEST_REQUEST { slowest.start } else { slowest.start + owed / 2 };
            return Some((middle.max(slowest.end.saturating_sub(want)), slowest.end));
        }
        // What follows is taken along, so that crumbs cost no request each.
        let (start, mut end) = (slowest.start, slowest.end);
        for next in held.iter().skip(index + 1) {
            if next.start - end >= SMALLEST_REQUEST
                || end - start >= want
                || !is_open(next)
                || !is_far_slower(next)
            {
                break;
            }
            end = next.end;
        }
        Some((start, end.min(start + want)))
    }
}
