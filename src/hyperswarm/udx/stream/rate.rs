//! The rate at which the network delivers, sampled over the flight of each packet (as in
//! draft-cheng-iccrg-delivery-rate-estimation).

use std::time::{Duration, Instant};

/// What is remembered when a packet leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    app_limited: bool,
}

#[derive(Debug)]
pub(super) struct RateSampler {
    /// Bytes acknowledged in the stream's life.
    delivered: u64,
    delivered_at: Instant,
    first_sent_at: Instant,
    /// Until more than this is delivered, samples say how little there was to send: after a pause exactly as much is.
    /// 0: there always was enough.
    app_limited_until: u64,
}

/// The newest of the packets that one acknowledgement delivered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newest {
    pub(super) stamp: Stamp,
    pub(super) sent_at: Instant,
}

impl RateSampler {
    pub(super) fn new(now: Instant) -> Self {
        Self { delivered: 0, delivered_at: now, first_sent_at: now, app_limited_until: 0 }
    }

    /// A packet leaves, with `in_flight` bytes under way before it.
    pub(super) fn stamp(&mut self, now: Instant, in_flight: u64) -> Stamp {
        if in_flight == 0 {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        Stamp {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.app_limited_until != 0 && self.app_limited_until >= self.delivered,
        }
    }

    /// Nothing more could be sent for want of data or of the peer's window, with `in_flight` bytes under way.
    pub(super) fn limited(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    /// `bytes` were delivered.
    pub(super) fn deliver(&mut self, now: Instant, bytes: u64) {
        self.delivered += bytes;
        self.delivered_at = now;
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes per second over the flight of the newest packet, and whether they were limited by the sender. No rate
    /// from a span shorter than the shortest round trip: such an acknowledgement was compressed on its way.
    pub(super) fn sample(&mut self, newest: &Newest, min_rtt: Option<Duration>) -> (Option<u64>, u64, bool) {
        let Newest { stamp, sent_at } = newest;
        self.first_sent_at = *sent_at;
        let send = sent_at.saturating_duration_since(stamp.first_sent_at);
        let ack = self.delivered_at.saturating_duration_since(stamp.delivered_at);
        let span = send.max(ack);
        let bytes = self.delivered.saturating_sub(stamp.delivered);
        let usable = !span.is_zero() && span >= min_rtt.unwrap_or_default();
        let rate = usable.then(|| (u128::from(bytes) * 1_000_000_000 / span.as_nanos().max(1)) as u64);
        (rate, stamp.delivered, stamp.app_limited)
    }
}

impl Newest {
    /// Whether a packet left later.
    pub(super) fn is_older_than(&self, sent_at: Instant, stamp: &Stamp) -> bool {
        (stamp.delivered, sent_at) >= (self.stamp.delivered, self.sent_at)
    }
}
