//! When a topic is announced in the DHT: `Topic._startDht` of `@hyperswarm/discovery` 1.11.5.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Wait between the end of one announce and the next; as much again at random.
const PERIOD: Duration = Duration::from_secs(300);
/// First wait after an announce that reached nobody; doubles up to the period. Upstream waits the whole period, and
/// so a computer that starts before its network is up stays alone for 5 to 10 minutes.
const RETRY: Duration = Duration::from_secs(10);
/// Wait after the first announce that reached somebody: should it, or the lookup after it, have been lost.
const SECOND: Duration = Duration::from_secs(10);

/// Says when to announce (and thereby look up) one topic. One announce runs at a time.
pub struct Announcer {
    next: Option<Instant>,
    failures: u32,
    /// An announce has reached somebody before.
    announced: bool,
    /// A lookup is due.
    look_again: bool,
    rng: StdRng,
}

impl Announcer {
    /// The first announce is due at once.
    pub fn new(now: Instant, seed: [u8; 32]) -> Self {
        Self {
            next: Some(now),
            failures: 0,
            announced: false,
            look_again: false,
            rng: StdRng::from_seed(seed),
        }
    }

    /// Whether to start an announce now. The next comes only after [`Announcer::ended`].
    pub fn poll_announce(&mut self, now: Instant) -> bool {
        self.next.take_if(|next| *next <= now).is_some()
    }

    /// The running announce has ended; `reached` nodes answered it.
    pub fn ended(&mut self, now: Instant, reached: usize) {
        let wait = if reached > 0 {
            self.look_again |= !self.announced || self.failures > 0;
            self.failures = 0;
            if std::mem::replace(&mut self.announced, true) { PERIOD } else { SECOND }
        } else {
            self.failures = self.failures.saturating_add(1);
            (RETRY * 2u32.saturating_pow((self.failures - 1).min(8))).min(PERIOD)
        };
        self.next = Some(now + wait.mul_f64(self.rng.random_range(1.0..2.0)));
    }

    /// Whether to look up once more now: our announcement is stored since a moment ago. Two nodes that start together both
    /// look up before the other has announced, and upstream they meet 5 to 10 minutes later. The one whose announcement
    /// was stored last finds the other now.
    pub fn poll_lookup(&mut self) -> bool {
        std::mem::take(&mut self.look_again)
    }

    /// There are new nodes to enter the network by: do not wait any longer if the last announce reached nobody.
    pub fn network_changed(&mut self, now: Instant) {
        if self.failures > 0 && self.next.is_some() {
            self.next = Some(now);
        }
    }

    /// When [`Announcer::poll_announce`] will say yes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> (Instant, Announcer) {
        let now = Instant::now();
        (now, Announcer::new(now, [3; 32]))
    }

    fn wait_after(announcer: &mut Announcer, now: Instant, reached: usize) -> Duration {
        assert!(announcer.poll_announce(announcer.poll_timeout().unwrap()));
        announcer.ended(now, reached);
        announcer.poll_timeout().unwrap() - now
    }

    #[test]
    fn the_first_announce_is_due_at_once_and_only_one_runs() {
        let (now, mut announcer) = started();
        assert!(announcer.poll_announce(now));
        assert!(!announcer.poll_announce(now + PERIOD * 10));
        assert_eq!(announcer.poll_timeout(), None);
    }

    #[test]
    fn an_announce_is_repeated_300_to_600_seconds_after_its_end() {
        let (now, mut announcer) = started();
        wait_after(&mut announcer, now, 4);
        let waits: Vec<_> = (0..200).map(|_| wait_after(&mut announcer, now, 4).as_secs()).collect();
        assert!(waits.iter().all(|w| (300..600).contains(w)), "{waits:?}");
        assert!(waits.iter().max().unwrap() - waits.iter().min().unwrap() > 250, "{waits:?}");
    }

    #[test]
    fn the_second_announce_comes_soon_for_whoever_started_in_the_same_moment() {
        let (now, mut announcer) = started();
        let wait = wait_after(&mut announcer, now, 4).as_secs();
        assert!((10..20).contains(&wait), "{wait}");
        assert!(wait_after(&mut announcer, now, 4).as_secs() >= 300);
    }

    #[test]
    fn after_the_first_stored_announce_it_is_time_to_look_again_once() {
        let (now, mut announcer) = started();
        assert!(!announcer.poll_lookup());
        wait_after(&mut announcer, now, 0);
        assert!(!announcer.poll_lookup(), "not stored");
        wait_after(&mut announcer, now, 1);
        assert!(announcer.poll_lookup() && !announcer.poll_lookup());
        wait_after(&mut announcer, now, 1);
        assert!(!announcer.poll_lookup(), "every announce looks up before it stores");
        wait_after(&mut announcer, now, 0);
        wait_after(&mut announcer, now, 1);
        assert!(announcer.poll_lookup(), "back after a time alone");
    }

    #[test]
    fn an_announce_that_reached_nobody_is_repeated_soon_and_then_more_rarely() {
        let (now, mut announcer) = started();
        for low in [10, 20, 40, 80, 160, 300, 300] {
            let wait = wait_after(&mut announcer, now, 0).as_secs();
            assert!((low..low * 2).contains(&wait), "{wait} s, expected from {low} s");
        }
        assert!(wait_after(&mut announcer, now, 1).as_secs() < 20);
        assert!(wait_after(&mut announcer, now, 1).as_secs() >= 300);
        assert!(wait_after(&mut announcer, now, 0).as_secs() < 20);
    }

    #[test]
    fn new_bootstrap_nodes_end_the_wait_of_a_failed_announce_only() {
        let (now, mut announcer) = started();
        wait_after(&mut announcer, now, 0);
        announcer.network_changed(now);
        assert_eq!(announcer.poll_timeout(), Some(now));
        let wait = wait_after(&mut announcer, now, 1);
        announcer.network_changed(now);
        assert_eq!(announcer.poll_timeout(), Some(now + wait));
    }
}
