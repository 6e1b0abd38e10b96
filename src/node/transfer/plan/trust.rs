//! How the bytes of a file are found right, and what is asked of whom until they are.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::keys::ProviderKey;
use super::pace::ByteClock;
use super::{Action, Failure, Plan, Provider, SMALLEST_REQUEST, Source};
use crate::limits;

/// What tells right bytes from wrong ones.
#[derive(Debug)]
pub(super) enum Trust {
    /// The hash of the whole file, and nothing before.
    Whole(Asked),
}

/// Where the bytes of a file come from that can only be checked as a whole.
#[derive(Debug)]
pub(super) enum Asked {
    /// From everybody: nothing that several senders had a part in was wrong.
    Everybody,
    /// Something was: from one provider at a time, until the hash is right.
    OneByOne(Hunt),
}

/// The search for the sender of wrong bytes.
#[derive(Debug, Default)]
pub(super) struct Hunt {
    /// The one that is asked alone.
    turn: Option<Turn>,
    /// How often a provider lost its turn because it was slow.
    lost: BTreeMap<ProviderKey, u32>,
}

#[derive(Debug)]
struct Turn {
    provider: ProviderKey,
    /// Bytes per second at which the provider keeps its turn.
    rate: u64,
    clock: ByteClock,
    began: Instant,
    /// How long the turn may last while others wait for theirs.
    share: Duration,
}

/// A provider asked alone loses its turn when it is this far behind the rate it has to keep.
const LAG: Duration = Duration::from_secs(3);
/// It has to keep this part of the rate that it had beside the others: a liar that was fast in order to be chosen
/// cannot trickle then.
const PART_OF_RATE: u64 = 4;
/// A turn may last this long in any case.
const SHORTEST_SHARE: Duration = Duration::from_secs(30);
/// And this many times as long as the file would take at the best rate seen.
const SHARE: u64 = 4;
/// Each turn that a provider loses makes its next one longer, and the rate to keep lower, by this factor (as a power of
/// 2): a rate that a liar pretended must not keep honest providers from ever finishing.
const RELAX: u32 = 2;
const MOST_RELAXED: u32 = 10;

impl Trust {
    pub(super) fn new() -> Self {
        Self::Whole(Asked::Everybody)
    }

    fn hunt(&self) -> Option<&Hunt> {
        match self {
            Self::Whole(Asked::Everybody) => None,
            Self::Whole(Asked::OneByOne(hunt)) => Some(hunt),
        }
    }

    fn hunt_mut(&mut self) -> Option<&mut Hunt> {
        match self {
            Self::Whole(Asked::Everybody) => None,
            Self::Whole(Asked::OneByOne(hunt)) => Some(hunt),
        }
    }

    /// The only provider that may be asked, if others may not.
    pub(super) fn only(&self) -> Option<ProviderKey> {
        self.hunt()?.turn.as_ref().map(|turn| turn.provider)
    }

    /// Bytes came from a provider.
    pub(super) fn heard(&mut self, from: ProviderKey, bytes: u64, now: Instant) {
        let turn = self.hunt_mut().and_then(|hunt| hunt.turn.as_mut());
        if let Some(turn) = turn.filter(|turn| turn.provider == from) {
            turn.clock.add(bytes, turn.rate, now);
        }
    }
}

impl Turn {
    /// When the provider loses it to others, as things stand.
    fn ends(&self, provider: &Provider) -> Instant {
        let lags = self.clock.at().max(provider.since) + LAG;
        lags.min(self.began.max(provider.since) + self.share)
    }
}

impl Plan {
    /// The complete file has another hash. A single sender is dropped as a liar; of several, one is chosen from whom
    /// everything is fetched ([`Action::Forget`] names what others sent).
    pub(crate) fn on_wrong_hash(&mut self, now: Instant) {
        let totals = self.blame.totals();
        if let (1, Some(Source::Provider(liar))) = (totals.len(), totals.keys().next()) {
            self.fail(*liar, self.wrong_bytes_of(*liar));
        }
        let in_flight: Vec<_> = self.requests.keys().copied().collect();
        in_flight.into_iter().for_each(|key| self.abandon(key));
        if totals.len() > 1 && self.trust.hunt().is_none() {
            self.trust = Trust::Whole(Asked::OneByOne(Hunt::default()));
        }
        match self.trust.hunt_mut() {
            Some(hunt) => {
                hunt.turn = None;
                self.begin_turn(now);
            }
            None => self.trust_only(None),
        }
        self.assign(now);
    }

    /// The hash is right: drops those who sent other bytes before.
    pub(crate) fn on_right_hash(&mut self) {
        for liar in self.blame.liars() {
            self.fail(liar, self.wrong_bytes_of(liar));
        }
    }

    /// What it means that the bytes of a provider are wrong.
    fn wrong_bytes_of(&self, key: ProviderKey) -> Failure {
        if self.ever_relayed.contains(&key) { Failure::Garbled } else { Failure::WrongBytes }
    }

    /// Gives the turn to the next one when the chosen provider is out, stays away, or is slow while others wait.
    pub(super) fn check_turn(&mut self, now: Instant) {
        let Some(hunt) = self.trust.hunt() else { return };
        let chosen = hunt.turn.as_ref().and_then(|turn| Some((turn, self.providers.get(&turn.provider)?)));
        let Some((turn, provider)) = chosen else {
            if !self.providers.is_empty() {
                self.begin_turn(now);
            }
            return;
        };
        let key = turn.provider;
        let others = self.providers.iter().any(|(other, p)| *other != key && p.reachable);
        if !others || (!provider.reachable && provider.hopeful(now)) {
            return;
        }
        if provider.reachable {
            if now < turn.ends(provider) {
                return;
            }
            self.take_back(key);
            let lost = self.trust.hunt_mut().map(|hunt| hunt.lost.entry(key).or_default());
            lost.into_iter().for_each(|lost| *lost += 1);
        }
        self.begin_turn(now);
    }

    /// When the turn of the chosen provider ends.
    pub(super) fn end_of_turn(&self) -> Option<Instant> {
        let turn = self.trust.hunt()?.turn.as_ref()?;
        let provider = self.providers.get(&turn.provider).filter(|provider| provider.reachable)?;
        Some(turn.ends(provider))
    }

    /// Everything is to come from one provider: of those that can be asked, if there are any, and that lost fewest
    /// turns, the one that sent most, so that least is fetched again.
    fn begin_turn(&mut self, now: Instant) {
        let Some(hunt) = self.trust.hunt() else { return };
        let totals = self.blame.totals();
        let sent = |key: ProviderKey| totals.get(&Source::Provider(key)).copied().unwrap_or(0);
        let lost = |key: ProviderKey| hunt.lost.get(&key).copied().unwrap_or(0);
        let rank = |key: ProviderKey, provider: &Provider| {
            (provider.reachable, Reverse(lost(key)), sent(key), provider.rate.average(), Reverse(key))
        };
        let best = self.providers.iter().max_by_key(|(key, provider)| rank(**key, provider));
        let turn = best.map(|(key, provider)| {
            let relaxed = RELAX * lost(*key).min(MOST_RELAXED);
            let rate = (provider.rate.average() / PART_OF_RATE).max(SMALLEST_REQUEST) >> relaxed;
            let fastest = self.providers.values().filter(|p| p.reachable).map(|p| p.rate.average()).max();
            let missing = self.size.saturating_sub(sent(*key));
            let time = SHARE.saturating_mul(missing) / fastest.unwrap_or(0).max(SMALLEST_REQUEST);
            Turn {
                provider: *key,
                rate: rate.max(limits::MINIMUM_RATE),
                clock: ByteClock::new(now),
                began: now,
                share: Duration::from_secs(time).clamp(SHORTEST_SHARE, limits::SEARCH_TIME) * (1 << relaxed),
            }
        });
        let chosen = turn.as_ref().map(|turn| turn.provider);
        if let Some(hunt) = self.trust.hunt_mut() {
            hunt.turn = turn;
        }
        self.trust_only(chosen);
    }

    fn trust_only(&mut self, provider: Option<ProviderKey>) {
        for (start, end) in self.blame.suspect_all_but(provider) {
            self.present.remove(start, end);
            self.actions.push_back(Action::Forget { start, end });
        }
    }
}
