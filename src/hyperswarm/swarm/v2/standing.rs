//! What a connection is worth to the application.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Tells the swarm what a connection is worth, which matters when all places are taken and somebody has to go: first
/// connections that nothing was ever heard on, then those that were never of use to us, then those longest unused, and
/// those that answered a load last. What a peer wants of us is no use: strangers can ask for anything, for ever. Cheap to clone, and without a lock: call it with every message if you like.
#[derive(Clone, Debug)]
pub struct Standing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    opened: Instant,
    worth: AtomicU8,
    /// Milliseconds from opening to the last use.
    used: AtomicU64,
}

/// What a connection has shown, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Worth {
    /// Nothing: perhaps it is not even open.
    Nothing,
    /// It speaks our protocol.
    Greeted,
    /// It told us what we had asked, or took data that we have.
    Used,
    /// It answered a load.
    Proven,
}

impl Standing {
    /// Of a connection that is opened now.
    pub(super) fn new(now: Instant) -> Self {
        let (worth, used) = (AtomicU8::new(Worth::Nothing as u8), AtomicU64::new(0));
        Self(Arc::new(Inner { opened: now, worth, used }))
    }

    /// The peer has shown that it speaks our protocol.
    pub fn greeted(&self) {
        self.raise(Worth::Greeted);
    }

    /// It told us something that we had asked, or took data that we have: useful now.
    pub fn used(&self, now: Instant) {
        self.touch(now);
        self.raise(Worth::Used);
    }

    /// It sent what a load asked for. Of all connections the last for which this was said keeps its place in any case.
    pub fn proven(&self, now: Instant) {
        self.touch(now);
        self.raise(Worth::Proven);
    }

    /// True if it was of use to us, or took data that we have, at any time.
    pub fn is_of_use(&self) -> bool {
        self.rank().0 >= Worth::Used
    }

    /// What it has shown, and when it was last of use (else: opened).
    pub(super) fn rank(&self) -> (Worth, Instant) {
        let worth = match self.0.worth.load(Ordering::Relaxed) {
            0 => Worth::Nothing,
            1 => Worth::Greeted,
            2 => Worth::Used,
            _ => Worth::Proven,
        };
        (worth, self.0.opened + Duration::from_millis(self.0.used.load(Ordering::Relaxed)))
    }

    /// When the connection was opened.
    pub(super) fn opened(&self) -> Instant {
        self.0.opened
    }

    fn raise(&self, worth: Worth) {
        self.0.worth.fetch_max(worth as u8, Ordering::Relaxed);
    }

    fn touch(&self, now: Instant) {
        let since = now.saturating_duration_since(self.0.opened).as_millis();
        self.0.used.fetch_max(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worth_goes_before_the_time_of_use_and_is_never_lost() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let [open, greeted, used, early, proven] = std::array::from_fn(|_| Standing::new(now));
        greeted.greeted();
        used.used(after(5));
        early.used(after(3));
        proven.proven(after(1));
        proven.greeted();
        let of_use = [&open, &greeted, &early, &used, &proven].map(Standing::is_of_use);
        assert_eq!(of_use, [false, false, true, true, true]);
        let ranks = [&open, &greeted, &early, &used, &proven].map(Standing::rank);
        assert!(ranks.is_sorted(), "{ranks:?}");
        assert_eq!(proven.rank(), (Worth::Proven, after(1)));
    }
}
