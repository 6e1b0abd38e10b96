//! Deadlines of a stream, and what happens when they pass.

use std::time::{Duration, Instant};

use super::sending::{Notes, Sending};
use crate::udx::types::CloseReason;

#[derive(Debug)]
pub(super) struct Timers {
    /// Retransmission.
    pub(super) rto: Option<Instant>,
    /// Tail loss probe.
    pub(super) tail: Option<Instant>,
    /// A packet overtaken by others counts as lost.
    pub(super) reorder: Option<Instant>,
    /// The pacer lets more leave.
    pub(super) pace: Option<Instant>,
    /// The peer, whose window was closed, is asked again.
    pub(super) window: Option<Instant>,
    keep_alive: Option<Instant>,
    interval: Option<Duration>,
}

impl Timers {
    pub(super) fn new(interval: Option<Duration>) -> Self {
        // As in udx-native; a timer that is always due would never let go of the stream.
        let interval = interval.filter(|interval| !interval.is_zero());
        Self { rto: None, tail: None, reorder: None, pace: None, window: None, keep_alive: None, interval }
    }

    /// Something was sent: the next heartbeat is an interval away.
    pub(super) fn touch_keep_alive(&mut self, now: Instant) {
        self.keep_alive = self.interval.and_then(|interval| now.checked_add(interval));
    }

    pub(super) fn set_keep_alive(&mut self, now: Instant, interval: Option<Duration>, connected: bool) {
        self.interval = interval.filter(|interval| !interval.is_zero());
        self.keep_alive = None;
        if connected {
            self.touch_keep_alive(now);
        }
    }

    fn next(&self) -> Option<Instant> {
        [self.rto, self.tail, self.reorder, self.pace, self.window, self.keep_alive]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(None);
    }
}

fn is_due(timer: Option<Instant>, now: Instant) -> bool {
    timer.is_some_and(|at| at <= now)
}

impl Sending {
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match (self.timers.next(), self.mtu.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Does what is due; why the stream is over, if it is.
    pub(super) fn handle_timeout(&mut self, now: Instant, notes: &mut Notes) -> Option<CloseReason> {
        if is_due(self.timers.reorder, now) {
            notes.counters.lost += self.detect_losses(now).1;
        }
        if is_due(self.timers.tail, now) {
            self.on_tail_timeout();
        }
        if is_due(self.timers.rto, now) {
            match self.on_rto(now) {
                Ok(lost) => notes.counters.lost += lost,
                Err(reason) => return Some(reason),
            }
        }
        if is_due(self.timers.pace, now) {
            self.timers.pace = None;
        }
        if is_due(self.timers.window, now) {
            notes.control.heartbeat = true;
            self.timers.window = Some(now + 2 * self.recovery.rtt.rto());
        }
        if is_due(self.timers.keep_alive, now) {
            notes.control.heartbeat = true;
            self.timers.touch_keep_alive(now);
        }
        self.mtu.on_timeout(now);
        notes.wake();
        None
    }

    /// Bytes were written: if the peer's window is closed and nothing is under way that would tell when it opens, it
    /// is asked at once.
    pub(super) fn probe_window(&mut self, now: Instant, notes: &mut Notes) {
        if self.is_shut() && self.timers.window.is_none() {
            notes.control.heartbeat = true;
            self.timers.window = Some(now + self.recovery.rtt.rto());
        }
    }

    /// The peer's window may have closed or opened.
    pub(super) fn watch_window(&mut self, now: Instant) {
        if !self.is_shut() {
            self.timers.window = None;
        } else if self.timers.window.is_none() {
            self.timers.window = Some(now + self.recovery.rtt.rto());
        }
    }

    /// Bytes wait, but the peer takes none.
    fn is_shut(&self) -> bool {
        self.peer_window.bytes == 0
            && self.flight.is_empty()
            && self.queue.unsent() > 0
            && self.paths.current().is_some()
    }
}
