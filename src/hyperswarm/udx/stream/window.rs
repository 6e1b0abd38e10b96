//! The receive window: what the reader can be expected to take. It grows while the reader empties it within a few
//! round trips, is back at its start after the reader stopped, and is never more than the endpoint's budget allows.

use std::time::{Duration, Instant};

use crate::limits::{UDX_WINDOW_BYTES, UDX_WINDOW_MAX_BYTES, UDX_WINDOW_SLACK_BYTES};

/// Taken for the round trip of a stream that has not measured one: growing too early costs only memory.
const UNKNOWN_RTT: Duration = Duration::from_millis(100);
/// A reader that took nothing for so long while the window was full has stopped.
const STALLED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Window {
    limit: usize,
    consumed: usize,
    epoch: Option<Instant>,
    /// Bytes from the stream's start that the peer was told it may send: never more than `limit` beyond what was read.
    /// At first it assumes more.
    edge: u64,
    /// Bytes from the stream's start that the peer was told last: less than `edge` after the window shrank.
    told: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        let edge = UDX_WINDOW_BYTES as u64;
        Self { limit: UDX_WINDOW_BYTES, consumed: 0, epoch: None, edge, told: edge }
    }

    /// Bytes free, to be told to the peer, if the budget allows `most`.
    pub(super) fn free(&self, unread: usize, most: usize) -> u32 {
        let free = self.limit.min(most).saturating_sub(unread);
        // So little would only bring small packets.
        if free < 4096 { 0 } else { u32::try_from(free).unwrap_or(u32::MAX) }
    }

    /// Bytes that may be held, with overhead. An honest peer stays below: it sends at most the window, in packets of
    /// at least 1132 bytes or fewer of them. A window that shrank still takes what was promised before: else a peer
    /// would repeat it until it gives up.
    pub(super) fn hard_limit(&self, received: u64, unread: usize) -> usize {
        let promised = (self.edge + unread as u64).saturating_sub(received);
        let bytes = usize::try_from(promised).unwrap_or(usize::MAX).max(self.limit);
        bytes + bytes / 8 + UDX_WINDOW_SLACK_BYTES
    }

    /// The peer is told about `free` bytes after the first `received`.
    pub(super) fn advertise(&mut self, received: u64, unread: usize, most: usize) -> u32 {
        let free = self.free(unread, most);
        self.told = received + u64::from(free);
        if free > 0 {
            self.edge = self.edge.max(self.told);
        }
        free
    }

    /// The reader took bytes. True if the peer may be waiting to hear of it.
    pub(super) fn on_read(&mut self, bytes: usize, received: u64, unread: usize, most: usize) -> bool {
        self.consumed = self.consumed.saturating_add(bytes);
        let limit = self.limit.min(most);
        let told = usize::try_from(self.told.saturating_sub(received)).unwrap_or(usize::MAX);
        bytes > 0 && told < limit / 2 && self.free(unread, most) as usize >= told + limit / 4
    }

    /// Something arrived: looks at how the reader did since the last epoch began.
    pub(super) fn tune(&mut self, now: Instant, rtt: Option<Duration>, unread: usize, most: usize) {
        let epoch = *self.epoch.get_or_insert(now);
        let elapsed = now.saturating_duration_since(epoch);
        if self.consumed >= self.limit / 2 {
            if elapsed < 2 * rtt.unwrap_or(UNKNOWN_RTT) {
                self.limit = (2 * self.limit).min(UDX_WINDOW_MAX_BYTES);
            }
            (self.consumed, self.epoch) = (0, Some(now));
        } else if elapsed >= STALLED {
            if self.consumed == 0 && self.free(unread, most) == 0 {
                self.limit = UDX_WINDOW_BYTES;
            }
            (self.consumed, self.epoch) = (0, Some(now));
        }
    }
}
