//! Does the network answer? From the counts of answers and time-outs in each tick.

use std::collections::VecDeque;

/// Ticks that are looked at.
const WINDOW: usize = 4;
/// Ticks in a row without an answer after which we are offline.
const OFFLINE_TICKS: usize = 2;
/// A tick with fewer answers and time-outs than this says nothing.
const IDLE: u64 = 4;

/// What the network is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It answers.
    #[default]
    Online,
    /// More than half of the requests of every tick are given up.
    Degraded,
    /// Nothing answers.
    Offline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tick {
    /// Too little happened, or there is nothing to compare with.
    Unknown,
    Offline,
    Degraded,
    Healthy,
}

/// Watches requests tick by tick (dht-rpc `NetworkHealth`). It differs from the original where that miscounts: an
/// offline tick that left the window took a healthy one with it, so that a network could stay degraded for ever.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ticks: VecDeque<Tick>,
    /// Answers and time-outs so far, at the last tick.
    before: (u64, u64),
    offline_ticks: usize,
    state: State,
}

impl Health {
    /// Forgets the past, as after waking up.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// What the network is like.
    pub fn state(&self) -> State {
        self.state
    }

    /// A tick ended; there have been so many `answers` and requests given up (`timeouts`) since the start. True if the
    /// state has changed.
    pub fn tick(&mut self, answers: u64, timeouts: u64) -> bool {
        let (answered, given_up) =
            (answers.saturating_sub(self.before.0), timeouts.saturating_sub(self.before.1));
        self.before = (answers, timeouts);
        let cold = self.ticks.len() < WINDOW - 1;
        let tick = match () {
            () if cold || answered + given_up < IDLE => Tick::Unknown,
            () if answered == 0 => Tick::Offline,
            () if given_up > answered => Tick::Degraded,
            () => Tick::Healthy,
        };
        if self.ticks.len() == WINDOW {
            self.ticks.pop_front();
        }
        self.ticks.push_back(tick);
        let state = self.judge(tick);
        std::mem::replace(&mut self.state, state) != state
    }

    fn judge(&mut self, tick: Tick) -> State {
        match tick {
            Tick::Unknown => return self.state,
            Tick::Offline => self.offline_ticks += 1,
            Tick::Degraded | Tick::Healthy => self.offline_ticks = 0,
        }
        let all = |kind| self.ticks.len() == WINDOW && self.ticks.iter().all(|tick| *tick == kind);
        if self.offline_ticks >= OFFLINE_TICKS {
            State::Offline
        } else if tick == Tick::Offline {
            self.state
        } else if all(Tick::Degraded) {
            State::Degraded
        } else if all(Tick::Healthy) || self.state == State::Offline {
            State::Online
        } else {
            self.state
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state after each tick with these answers and time-outs.
    fn states(ticks: impl IntoIterator<Item = (u64, u64)>) -> Vec<State> {
        let (mut health, mut totals) = (Health::default(), (0, 0));
        let step = |(answers, timeouts): (u64, u64)| {
            totals = (totals.0 + answers, totals.1 + timeouts);
            let (before, changed) = (health.state(), health.tick(totals.0, totals.1));
            assert_eq!(changed, before != health.state());
            health.state()
        };
        ticks.into_iter().map(step).collect()
    }

    fn last(ticks: impl IntoIterator<Item = (u64, u64)>) -> State {
        *states(ticks).last().expect("a tick")
    }

    const GOOD: (u64, u64) = (10, 0);
    const BAD: (u64, u64) = (4, 6);
    const SILENT: (u64, u64) = (0, 5);
    const IDLE_TICK: (u64, u64) = (1, 2);

    #[test]
    fn two_ticks_without_an_answer_are_offline_and_one_answer_ends_that() {
        assert_eq!(last([GOOD, GOOD, GOOD, SILENT]), State::Online);
        assert_eq!(last([GOOD, GOOD, GOOD, SILENT, SILENT]), State::Offline);
        assert_eq!(
            last([GOOD, GOOD, GOOD, SILENT, SILENT, IDLE_TICK]),
            State::Offline,
            "too little is known"
        );
        assert_eq!(last([GOOD, GOOD, GOOD, SILENT, SILENT, BAD]), State::Online);
        assert_eq!(
            last([GOOD, GOOD, GOOD, SILENT, IDLE_TICK, SILENT]),
            State::Offline,
            "an idle one between"
        );
    }

    #[test]
    fn the_first_three_ticks_say_nothing() {
        assert_eq!(last([SILENT; 4]), State::Online);
        assert_eq!(last([SILENT; 5]), State::Offline);
    }

    #[test]
    fn four_bad_ticks_are_degraded_until_four_good_ones() {
        let begun = [GOOD, GOOD, GOOD, BAD, BAD, BAD];
        assert_eq!(last(begun), State::Online);
        let degraded = begun.into_iter().chain([BAD]);
        assert_eq!(last(degraded.clone()), State::Degraded);
        assert_eq!(last(degraded.clone().chain([GOOD; 3])), State::Degraded);
        assert_eq!(last(degraded.chain([GOOD; 4])), State::Online);
    }

    #[test]
    fn half_of_all_given_up_is_not_degraded() {
        assert_eq!(last([(5, 5); 20]), State::Online);
        assert_eq!(last([(5, 6); 20]), State::Degraded);
    }

    #[test]
    fn a_degraded_network_recovers_after_it_was_offline() {
        let offline = [GOOD; 3].into_iter().chain([SILENT; 3]);
        let degraded = offline.chain([BAD; 4]);
        assert_eq!(last(degraded.clone()), State::Degraded);
        assert_eq!(last(degraded.chain([GOOD; 4])), State::Online);
    }

    #[test]
    fn a_reset_forgets_everything() {
        let mut health = Health::default();
        assert!((0..6).map(|at| health.tick(0, at * 5)).fold(false, |any, changed| any | changed));
        assert_eq!(health.state(), State::Offline);
        health.reset();
        assert_eq!(health.state(), State::Online);
        assert!(!health.tick(0, 0));
    }
}
