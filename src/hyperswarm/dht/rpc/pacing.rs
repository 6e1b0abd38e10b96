//! Which requests have to wait, so that a burst of them does not fill the queues of the path.

use std::time::{Duration, Instant};

/// Pacing of one node's requests.
#[derive(Clone, Copy, Debug)]
pub enum Pacing {
    /// By how many are in flight and how many were sent per second (dht-rpc 4.9).
    Rate(Rate),
    /// By a window of four slots of time (dht-rpc 6, `CongestionWindow`).
    Window(Window),
}

impl Pacing {
    /// As the nodes of v2 do it: requests wait while so many are in flight and so many per second are sent.
    pub fn rate(now: Instant, in_flight: usize, per_second: f64) -> Self {
        Self::Rate(Rate { start: now, slots: [0; Rate::SLOTS], latest: 0, in_flight, per_second })
    }

    /// As the nodes of v4 do it: so many datagrams more than answers leave in 750 ms, and twice as many in 3 s.
    pub fn window(now: Instant, size: u32) -> Self {
        Self::Window(Window { turned: now, slots: [0; Window::SLOTS], size })
    }

    /// A request left for the first time.
    pub(super) fn sent_first(&mut self, now: Instant) {
        match self {
            Self::Rate(rate) => rate.add(now),
            Self::Window(window) => window.sent(now),
        }
    }

    /// A request left again.
    pub(super) fn sent(&mut self, now: Instant) {
        match self {
            // The original counts the requests.
            Self::Rate(_) => {}
            Self::Window(window) => window.sent(now),
        }
    }

    /// A request was answered or given up.
    pub(super) fn ended(&mut self, now: Instant) {
        match self {
            Self::Rate(_) => {}
            Self::Window(window) => window.ended(now),
        }
    }

    /// True if no further request may leave now.
    pub(super) fn is_full(&mut self, now: Instant, in_flight: usize) -> bool {
        match self {
            Self::Rate(rate) => in_flight >= rate.in_flight && rate.per_second(now) >= rate.per_second,
            Self::Window(window) => window.is_full(now),
        }
    }

    /// When requests that wait may leave although none ends before.
    pub(super) fn turn(&self) -> Option<Instant> {
        match self {
            Self::Rate(_) => None,
            Self::Window(window) => Some(window.turned + Window::SLOT),
        }
    }
}

/// Requests per second, averaged over up to 5 s in quarters of a second (npm speedometer).
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    start: Instant,
    slots: [u32; Self::SLOTS],
    latest: u64,
    in_flight: usize,
    per_second: f64,
}

impl Rate {
    const SLOTS: usize = 20;
    const PER_SECOND: u64 = 4;

    fn add(&mut self, now: Instant) {
        self.advance(now);
        let at = (self.latest % Self::SLOTS as u64) as usize;
        if let Some(slot) = self.slots.get_mut(at) {
            *slot += 1;
        }
    }

    fn per_second(&mut self, now: Instant) -> f64 {
        self.advance(now);
        let slots = (self.latest + 1).clamp(Self::PER_SECOND, Self::SLOTS as u64);
        f64::from(self.slots.iter().sum::<u32>()) * Self::PER_SECOND as f64 / slots as f64
    }

    fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.start).as_millis() as u64;
        let current = elapsed * Self::PER_SECOND / 1000;
        for passed in (self.latest + 1..=current).take(Self::SLOTS) {
            if let Some(slot) = self.slots.get_mut((passed % Self::SLOTS as u64) as usize) {
                *slot = 0;
            }
        }
        self.latest = self.latest.max(current);
    }
}

/// Datagrams sent less requests ended, in slots of time.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When the present slot began.
    turned: Instant,
    /// The present one, then those before it.
    slots: [u32; Self::SLOTS],
    size: u32,
}

impl Window {
    const SLOTS: usize = 4;
    const SLOT: Duration = Duration::from_millis(750);

    fn is_full(&mut self, now: Instant) -> bool {
        let size = self.size;
        *self.slot(now) >= size || self.slots.iter().sum::<u32>() >= 2 * size
    }

    fn sent(&mut self, now: Instant) {
        *self.slot(now) += 1;
    }

    fn ended(&mut self, now: Instant) {
        let slot = self.slot(now);
        *slot = slot.saturating_sub(1);
    }

    /// The slot of this moment; slots that begin are empty.
    fn slot(&mut self, now: Instant) -> &mut u32 {
        let passed = now.saturating_duration_since(self.turned).as_nanos() / Self::SLOT.as_nanos();
        for _ in 0..passed.min(Self::SLOTS as u128) {
            let [first, second, third, _] = self.slots;
            self.slots = [0, first, second, third];
        }
        self.turned += Self::SLOT * u32::try_from(passed).unwrap_or(u32::MAX);
        let [first, ..] = &mut self.slots;
        first
    }
}
