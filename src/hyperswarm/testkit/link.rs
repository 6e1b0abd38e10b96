//! One link: what it does to each datagram. Everything random comes from the network's seed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::Datagram;

/// Bytes of the IPv4 and UDP headers that every datagram takes on a link besides its own.
pub const HEADERS: usize = 28;

/// How a link treats datagrams. One that is too large vanishes, one that finds the queue full is dropped; others take
/// their part of the rate, also if they are lost at random then. Whether a datagram arrives twice is decided before:
/// of one that is lost the copy may arrive.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Added at random, up to this; datagrams overtake each other by it.
    pub jitter: Duration,
    /// Bytes, IP and UDP headers included: larger datagrams vanish without a word (a black hole).
    pub mtu: Option<usize>,
    /// Bytes per second, IP and UDP headers included. Unlimited if none.
    pub rate: Option<u64>,
    /// Bytes that wait for their turn on a link with a rate, the headers included; what comes when it is full is
    /// dropped (drop tail).
    pub queue: usize,
    /// Probability that a datagram is lost, 0 to 1.
    pub loss: f64,
    /// Losses in bursts, besides those.
    pub bursts: Option<Bursts>,
    /// Probability that a datagram arrives twice, 0 to 1.
    pub duplication: f64,
    /// Probability that a datagram is held back by `held_back`, so that those after it overtake it, 0 to 1.
    pub reorder: f64,
    /// How long it is held back.
    pub held_back: Duration,
    /// Datagrams arrive at multiples of this only, several at once, as from a network card that saves interrupts.
    pub batch: Duration,
}

/// Losses in bursts (Gilbert-Elliott): the link is in its good or its bad state and may change with every datagram. It
/// is good again after [`BURST_PAUSE`] without any, else a sender that retries once a second would never see the end
/// of a burst.
#[derive(Clone, Copy, Debug)]
pub struct Bursts {
    /// Probability of becoming bad.
    pub begin: f64,
    /// Probability of becoming good again; 1 divided by it is the mean length of a burst in datagrams.
    pub end: f64,
    /// Probability that a datagram is lost in the bad state.
    pub loss: f64,
}

/// See [`Bursts`].
const BURST_PAUSE: Duration = Duration::from_millis(100);

impl Link {
    /// No delay, no limit, nothing lost.
    pub const PERFECT: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        mtu: None,
        rate: None,
        queue: usize::MAX,
        loss: 0.0,
        bursts: None,
        duplication: 0.0,
        reorder: 0.0,
        held_back: Duration::ZERO,
        batch: Duration::ZERO,
    };
    /// 10 ms, nothing lost.
    pub const GOOD: Self = Self { delay: Duration::from_millis(10), ..Self::PERFECT };
    /// 20 to 60 ms with reordering, 5 % lost, 1 % twice.
    pub const BAD: Self = Self {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(40),
        loss: 0.05,
        duplication: 0.01,
        ..Self::PERFECT
    };

    /// A link of so many Mbit/s with a queue of so much time.
    pub fn megabits(rate: u64, delay: Duration, queue: Duration) -> Self {
        let rate = rate * 125_000;
        let queue = (u128::from(rate) * queue.as_nanos() / 1_000_000_000) as usize;
        Self { delay, rate: Some(rate), queue, ..Self::PERFECT }
    }
}

/// What a link has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Datagrams handed to it.
    pub offered: u64,
    /// Datagrams lost at random, singly or in bursts.
    pub lost: u64,
    /// Datagrams dropped because its queue was full.
    pub dropped: u64,
    /// Datagrams that vanished because they were too large.
    pub vanished: u64,
    /// Bytes that passed, headers included, copies not.
    pub passed: u64,
    /// The longest time a datagram waited in its queue.
    pub longest_wait: Duration,
}

/// A link in operation.
pub(super) struct Pipe {
    pub(super) link: Link,
    pub(super) stats: LinkStats,
    /// Until when it is busy with what it has accepted.
    busy: Instant,
    bad: bool,
    last: Instant,
    start: Instant,
    /// Datagrams under way that arrive in this order; those that overtake others are in the network's heap.
    pub(super) ordered: VecDeque<Datagram>,
}

impl Pipe {
    pub(super) fn new(start: Instant, link: Link) -> Self {
        let stats = LinkStats::default();
        Self { link, stats, busy: start, bad: false, last: start, start, ordered: VecDeque::new() }
    }

    /// How long a datagram that came now would wait.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.busy.saturating_duration_since(now)
    }

    /// When a datagram of so many bytes arrives, and when its copy does.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        rng: &mut StdRng,
        bytes: usize,
    ) -> (Option<Instant>, Option<Instant>) {
        let size = bytes + HEADERS;
        self.stats.offered += 1;
        if self.link.mtu.is_some_and(|mtu| size > mtu) {
            self.stats.vanished += 1;
            return (None, None);
        }
        let Some(left) = self.transmit(now, size) else {
            self.stats.dropped += 1;
            return (None, None);
        };
        let copy = happens(rng, self.link.duplication).then(|| self.arrival(rng, left));
        let lost = self.in_burst(now, rng) | happens(rng, self.link.loss);
        if lost {
            self.stats.lost += 1;
            return (copy, None);
        }
        self.stats.passed += size as u64;
        (Some(self.arrival(rng, left)), copy)
    }

    /// When its last byte has left; none if the queue is full.
    fn transmit(&mut self, now: Instant, size: usize) -> Option<Instant> {
        let Some(rate) = self.link.rate else { return Some(now) };
        let wait = self.wait(now);
        let waiting = u128::from(rate) * wait.as_nanos() / 1_000_000_000;
        if waiting as usize + size > self.link.queue {
            return None;
        }
        self.stats.longest_wait = self.stats.longest_wait.max(wait);
        self.busy = now.max(self.busy) + Duration::from_nanos(size as u64 * 1_000_000_000 / rate);
        Some(self.busy)
    }

    fn in_burst(&mut self, now: Instant, rng: &mut StdRng) -> bool {
        let Some(bursts) = self.link.bursts else { return false };
        self.bad &= now.saturating_duration_since(self.last) < BURST_PAUSE;
        self.last = now;
        let change = if self.bad { bursts.end } else { bursts.begin };
        self.bad ^= happens(rng, change);
        self.bad && happens(rng, bursts.loss)
    }

    fn arrival(&self, rng: &mut StdRng, left: Instant) -> Instant {
        let mut at = left + self.link.delay;
        if !self.link.jitter.is_zero() {
            at += self.link.jitter.mul_f64(rng.random_range(0.0..1.0));
        }
        if happens(rng, self.link.reorder) {
            at += self.link.held_back;
        }
        let batch = self.link.batch.as_nanos() as u64;
        if batch > 0 {
            let since = (at - self.start).as_nanos() as u64;
            at = self.start + Duration::from_nanos(since.div_ceil(batch) * batch);
        }
        at
    }
}

/// Draws only if the answer is not known.
fn happens(rng: &mut StdRng, probability: f64) -> bool {
    probability > 0.0 && rng.random_bool(probability)
}
