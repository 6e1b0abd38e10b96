//! Turns: after a wrong hash one provider is asked alone, until one has sent the whole file right.
//!
//! A provider may be fast until its turn and slow in it, under many names and at many addresses, and right bytes that
//! come slowly are no lie. So what a turn costs is bounded. While others wait that had no turn yet, each has a trial:
//! all trials of one round together take about [`ROUND`], and providers at one address count as one. After that the
//! provider that was fastest in its own turn is asked first, and keeps its turn while it keeps a good part of its rate
//! and of what others have shown. What the fastest one sent is kept until another one proves faster, so that trials
//! cost time but not what was received.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::keys::ProviderKey;
use super::pace::{ByteClock, per_second};
use super::{Plan, Provider, SMALLEST_REQUEST, Source};
use crate::limits;
use crate::node::peer::Path;

/// The search for a provider of the right file.
#[derive(Debug, Default)]
pub(super) struct Hunt {
    /// The one that is asked alone.
    turn: Option<Turn>,
    /// What became of the turns that providers lost.
    lost: BTreeMap<ProviderKey, Lost>,
    /// Turns that the providers at one address lost, and all relayed ones.
    lost_at: BTreeMap<Option<Path>, u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    turns: u32,
    /// Bytes per second in the last one.
    rate: u64,
}

#[derive(Debug)]
struct Turn {
    provider: ProviderKey,
    began: Instant,
    bytes: u64,
    /// Bytes per second at which the provider keeps its turn.
    rate: u64,
    clock: ByteClock,
    /// How far the clock may lag.
    lag: Duration,
    /// How long the turn may last while others wait that had none yet.
    trial: Duration,
    /// How often the provider became unreachable.
    absences: u32,
}

/// The trials of one round take about this long together, as long as there are no more than fit.
const ROUND: Duration = Duration::from_secs(20);
const SHORTEST_TRIAL: Duration = Duration::from_millis(500);
const LONGEST_TRIAL: Duration = Duration::from_secs(10);
/// A provider asked alone loses its turn when it is this far behind the rate it has to keep.
const LAG: Duration = Duration::from_secs(3);
/// It has to keep this part of the rate that it had before: a liar that was fast in order to be chosen cannot trickle
/// then.
const PART_OF_OWN_RATE: u64 = 4;
/// And this part of the best rate that another one has shown in its turn.
const PART_OF_BEST_RATE: u64 = 2;
/// A provider of unknown rate is expected to have this many times the best known one.
const HOPE: u64 = 4;
/// Each turn that a provider loses after its trial makes its next one longer, and the rate to keep lower, by this factor
/// (as a power of 2): a rate that a liar pretended must not keep honest providers from ever finishing.
const RELAX: u32 = 2;
const MOST_RELAXED: u32 = 10;
/// A lost connection often comes back, and what came over it would have to be fetched again: a turn outlives so many.
const ABSENCES: u32 = 1;

impl Hunt {
    /// The provider that is asked alone.
    pub(super) fn chosen(&self) -> Option<ProviderKey> {
        self.turn.as_ref().map(|turn| turn.provider)
    }

    /// Bytes came from a provider.
    pub(super) fn heard(&mut self, from: ProviderKey, bytes: u64, now: Instant) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.provider == from) {
            turn.clock.add(bytes, turn.rate, now);
            turn.bytes += bytes;
        }
    }

    /// A provider became unreachable.
    pub(super) fn left(&mut self, key: ProviderKey) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.provider == key) {
            turn.absences += 1;
        }
    }

    /// The turn of a provider that is reached in this way is over, without the right file.
    pub(super) fn end_turn(&mut self, path: Option<Path>, now: Instant) {
        let Some(turn) = self.turn.take() else { return };
        let lost = self.lost.entry(turn.provider).or_default();
        lost.turns += 1;
        // It is known, even if nothing came.
        lost.rate = per_second(turn.bytes, now.saturating_duration_since(turn.began)).max(1);
        *self.lost_at.entry(path).or_default() += 1;
    }

    fn lost(&self, key: ProviderKey) -> Lost {
        self.lost.get(&key).copied().unwrap_or_default()
    }

    /// The one of these providers that has shown the best rate in its turn.
    fn leader(&self, among: &BTreeMap<ProviderKey, Provider>) -> Option<ProviderKey> {
        let tried = self.lost.iter().filter(|(key, _)| among.contains_key(key));
        tried.max_by_key(|(key, lost)| (lost.rate, Reverse(**key))).map(|(key, _)| *key)
    }

    fn lost_at(&self, path: Option<Path>) -> u32 {
        self.lost_at.get(&path).copied().unwrap_or(0)
    }

    /// Bytes per second that may be expected of a provider alone: what it has shown, before its trial what it had
    /// beside others. 0: unknown.
    fn rate(&self, key: ProviderKey, provider: &Provider) -> u64 {
        self.lost.get(&key).map_or(provider.rate.average(), |lost| lost.rate)
    }
}

impl Turn {
    /// When a provider that is reached loses it to others.
    fn ends(&self, provider: &Provider) -> Instant {
        self.clock.at().max(provider.since) + self.lag
    }
}

impl Plan {
    /// Gives the turn to the next one when the chosen provider is out, stays away, or is slow while others wait.
    pub(super) fn check_turn(&mut self, now: Instant) {
        let Some(chosen) = self.trust.hunt().map(Hunt::chosen) else { return };
        let Some(chosen) = chosen.filter(|key| self.providers.contains_key(key)) else {
            if !self.providers.is_empty() {
                self.begin_turn(now);
            }
            return;
        };
        if self.end_of_turn().is_none_or(|end| now < end) {
            return;
        }
        self.take_back(chosen);
        self.lose_turn(chosen, now);
        self.begin_turn(now);
    }

    /// When the turn of the chosen provider ends, as things stand. None: nobody else waits for it.
    pub(super) fn end_of_turn(&self) -> Option<Instant> {
        let turn = self.trust.hunt()?.turn.as_ref()?;
        let provider = self.providers.get(&turn.provider)?;
        let others = self.providers.iter().any(|(key, p)| *key != turn.provider && p.reachable);
        let end = match provider.reachable {
            true => turn.ends(provider),
            false if turn.absences > ABSENCES => turn.began,
            false => provider.hopeful_until(),
        };
        let trial = (self.untried(turn.provider) > 0).then(|| turn.began + turn.trial);
        others.then(|| trial.map_or(end, |trial| trial.min(end)))
    }

    /// The provider's turn ends without the right file, if it has it.
    pub(super) fn lose_turn(&mut self, key: ProviderKey, now: Instant) {
        let path = self.providers.get(&key).and_then(|provider| provider.path);
        if let Some(hunt) = self.trust.hunt_mut().filter(|hunt| hunt.chosen() == Some(key)) {
            hunt.end_turn(path, now);
        }
    }

    /// How many others wait that had no turn yet, at addresses that lost no more turns than that of this provider.
    fn untried(&self, key: ProviderKey) -> usize {
        let (Some(hunt), Some(provider)) = (self.trust.hunt(), self.providers.get(&key)) else { return 0 };
        let lost_here = hunt.lost_at(provider.path);
        let waits = |(other, p): &(&ProviderKey, &Provider)| {
            p.reachable
                && **other != key
                && !hunt.lost.contains_key(other)
                && hunt.lost_at(p.path) <= lost_here
        };
        self.providers.iter().filter(waits).count()
    }

    /// Everything is to come from one provider: of those that can be asked, if there are any, one at an address that
    /// lost fewest turns, and of these the one that is likely to be done first.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        let Some(hunt) = self.trust.hunt() else { return };
        let totals = self.blame.totals();
        let sent = |key: ProviderKey| totals.get(&Source::Provider(key)).copied().unwrap_or(0);
        let reachable = self.providers.iter().filter(|(_, provider)| provider.reachable);
        let fastest = reachable.map(|(key, provider)| hunt.rate(*key, provider)).max().unwrap_or(0);
        let expected = |key: ProviderKey, provider: &Provider| match hunt.rate(key, provider) {
            0 => fastest.saturating_mul(HOPE),
            rate => rate,
        };
        let time = |key: ProviderKey, provider: &Provider| {
            self.size.saturating_sub(sent(key)).saturating_mul(1000) / expected(key, provider).max(1)
        };
        let best = self.providers.iter().max_by_key(|(key, provider)| {
            let lost = (Reverse(hunt.lost_at(provider.path)), Reverse(hunt.lost(**key).turns));
            (provider.reachable, lost, Reverse(time(**key, provider)), sent(**key), Reverse(**key))
        });
        let turn = best.map(|(key, provider)| self.turn_of(hunt, *key, expected(*key, provider), now));
        let chosen = turn.as_ref().map(|turn| turn.provider);
        // In the trials of others the best so far keeps what it sent, in case it stays the best.
        let in_trial = chosen.is_some_and(|key| !hunt.lost.contains_key(&key));
        let leader = if in_trial { hunt.leader(&self.providers) } else { None };
        if let Some(hunt) = self.trust.hunt_mut() {
            hunt.turn = turn;
        }
        let others = self.requests.iter().filter(|(_, request)| Some(request.provider) != chosen);
        let others: Vec<_> = others.map(|(key, _)| *key).collect();
        others.into_iter().for_each(|key| self.abandon(key));
        self.trust_only(&Vec::from_iter(chosen.into_iter().chain(leader)));
    }

    fn turn_of(&self, hunt: &Hunt, provider: ProviderKey, expected: u64, now: Instant) -> Turn {
        let lost = hunt.lost(provider).turns;
        let relaxed = RELAX * lost.saturating_sub(1).min(MOST_RELAXED);
        let others = hunt.lost.iter().filter(|(key, _)| {
            **key != provider && self.providers.get(key).is_some_and(|other| other.reachable)
        });
        let best = others.map(|(_, lost)| lost.rate).max().unwrap_or(0);
        let rate = (expected / PART_OF_OWN_RATE).max(best / PART_OF_BEST_RATE).max(SMALLEST_REQUEST);
        let all = hunt.lost.len() + self.untried(provider) + 1;
        let trial = match lost {
            0 => (ROUND / all as u32).max(SHORTEST_TRIAL),
            lost => LONGEST_TRIAL * (1 << (RELAX * lost.min(MOST_RELAXED))),
        };
        Turn {
            provider,
            began: now,
            bytes: 0,
            rate: (rate >> relaxed).max(limits::MINIMUM_RATE),
            clock: ByteClock::new(now),
            lag: LAG.min(trial),
            trial,
            absences: 0,
        }
    }
}
