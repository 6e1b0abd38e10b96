//! The pace at which places change hands among equals, and at which a member that has enough connections looks for others.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::dht::shares::network_of;
use crate::limits::v2::EXCHANGES_REMEMBERED;

/// Between two exchanges, the newcomer being of a network that took part in none lately.
const EXCHANGE_EVERY: Duration = Duration::from_secs(2);
/// Between two exchanges, the newcomer being of a network that did. Addresses that knock all the time so use up their
/// turns, and the time between the two waits belongs to others. A laboratory behind one address is one network.
const EXCHANGE_AGAIN_EVERY: Duration = Duration::from_secs(15);
/// How long a network counts as having taken part.
const LATELY: Duration = Duration::from_secs(60);
/// Between two exploring dials: the first wait, and the longest. The wait doubles, so that a new member finds others
/// soon, and a channel of old ones is at rest.
const EXPLORE_EVERY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

/// Exchanges of places that do not make shares more equal.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    /// The networks that won or lost a place, the latest last.
    networks: VecDeque<(Instant, Ipv4Addr)>,
    last: Option<Instant>,
}

impl Exchanges {
    /// True if `newcomer` may have somebody's place now.
    pub(super) fn are_due(&self, now: Instant, newcomer: Ipv4Addr) -> bool {
        let network = network_of(newcomer);
        let is_late = |at: Instant| now.saturating_duration_since(at) < LATELY;
        let lately = self.networks.iter().any(|(at, other)| *other == network && is_late(*at));
        let wait = if lately { EXCHANGE_AGAIN_EVERY } else { EXCHANGE_EVERY };
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= wait)
    }

    /// A place goes from one host to another.
    pub(super) fn note(&mut self, now: Instant, winner: Ipv4Addr, loser: Ipv4Addr) {
        self.last = Some(now);
        for network in [winner, loser].map(network_of) {
            if self.networks.len() >= EXCHANGES_REMEMBERED {
                self.networks.pop_front();
            }
            self.networks.push_back((now, network));
        }
    }
}

/// Dials that are made although there are connections enough. Where strangers fill the places of all members, nobody
/// would dial anybody else.
#[derive(Debug, Default)]
pub(super) struct Exploring {
    /// A dial may begin.
    due: bool,
    next: Option<Instant>,
    wait: Duration,
}

impl Exploring {
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// An exploring dial begins, or there are connections enough now: the next one waits.
    pub(super) fn begin(&mut self, now: Instant) {
        let [first, longest] = EXPLORE_EVERY;
        self.due = false;
        self.wait = (self.wait * 2).clamp(first, longest);
        self.next = Some(now + self.wait);
    }

    /// `enough`: no other dial may begin.
    pub(super) fn handle_timeout(&mut self, now: Instant, enough: bool) {
        if !enough {
            *self = Self::default();
        } else if self.next.is_some_and(|next| next <= now) {
            (self.due, self.next) = (true, None);
        } else if self.next.is_none() && !self.due {
            self.begin(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_network_that_had_its_turn_waits_longer_than_others_for_a_minute() {
        let (now, mut exchanges) = (Instant::now(), Exchanges::default());
        let [winner, loser, third] = [1, 2, 3].map(|n| Ipv4Addr::new(203, 0, n, 9));
        assert!(exchanges.are_due(now, winner));
        exchanges.note(now, winner, loser);
        assert!(!exchanges.are_due(after(now, 1), third) && exchanges.are_due(after(now, 2), third));
        for network in [winner, loser, Ipv4Addr::new(203, 0, 1, 77)] {
            assert!(
                !exchanges.are_due(after(now, 14), network) && exchanges.are_due(after(now, 15), network)
            );
        }
        exchanges.note(after(now, 58), third, third);
        assert!(exchanges.are_due(after(now, 60), winner), "its turn is long ago");
    }

    #[test]
    fn no_more_networks_are_remembered_than_the_limit() {
        let (now, mut exchanges) = (Instant::now(), Exchanges::default());
        let host = |n: usize| Ipv4Addr::new(203, 0, n as u8, 9);
        exchanges.note(now, host(0), host(1));
        for _ in 1..EXCHANGES_REMEMBERED / 2 {
            exchanges.note(now, host(2), host(2));
        }
        assert!(!exchanges.are_due(after(now, 2), host(0)));
        exchanges.note(now, host(2), host(2));
        assert!(exchanges.are_due(after(now, 2), host(0)), "the oldest is forgotten");
        assert_eq!(exchanges.networks.len(), EXCHANGES_REMEMBERED);
    }

    #[test]
    fn exploring_dials_become_rare() {
        let (start, mut exploring) = (Instant::now(), Exploring::default());
        let mut times = Vec::new();
        for second in 0..300 {
            exploring.handle_timeout(after(start, second), true);
            if exploring.is_due() {
                times.push(second);
                exploring.begin(after(start, second));
            }
        }
        assert_eq!(times, [2, 6, 14, 30, 62, 122, 182, 242]);
        exploring.handle_timeout(after(start, 400), false);
        assert!(!exploring.is_due(), "there is room again");
    }
}
