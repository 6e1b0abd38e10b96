//! Addresses that sent us something lately.

use std::collections::BTreeSet;
use std::mem;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::limits::v4::MAX_RECENT_SENDERS;

/// An address counts for this long after it was last heard.
const LATELY: Duration = Duration::from_secs(60);

/// Remembers senders in two generations, so that nothing is scanned: a sender is remembered for one minute at least,
/// and two at most, unless a flood of others drives it out.
pub struct Senders {
    fresh: BTreeSet<SocketAddrV4>,
    stale: BTreeSet<SocketAddrV4>,
    turn_at: Instant,
}

impl Senders {
    /// Nobody was heard.
    pub fn new(now: Instant) -> Self {
        Self { fresh: BTreeSet::new(), stale: BTreeSet::new(), turn_at: now + LATELY }
    }

    /// Something came from this address.
    pub fn heard(&mut self, now: Instant, from: SocketAddrV4) {
        if now >= self.turn_at {
            if now >= self.turn_at + LATELY {
                self.fresh.clear();
            }
            self.turn(now);
        }
        self.fresh.insert(from);
        if self.fresh.len() >= MAX_RECENT_SENDERS {
            self.turn(now);
        }
    }

    /// True if something came from this address in the last minute, or little longer ago.
    pub fn heard_lately(&self, now: Instant, addr: SocketAddrV4) -> bool {
        let fresh = now < self.turn_at + LATELY && self.fresh.contains(&addr);
        fresh || now < self.turn_at && self.stale.contains(&addr)
    }

    fn turn(&mut self, now: Instant) {
        self.stale = mem::take(&mut self.fresh);
        self.turn_at = now + LATELY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: usize) -> SocketAddrV4 {
        SocketAddrV4::new((0x0b00_0000 + n as u32).into(), 1000)
    }

    #[test]
    fn a_sender_is_remembered_for_one_to_two_minutes() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let mut senders = Senders::new(now);
        senders.heard(after(59), addr(1));
        senders.heard(after(61), addr(2));
        assert!(senders.heard_lately(after(119), addr(1)) && senders.heard_lately(after(119), addr(2)));
        assert!(!senders.heard_lately(after(119), addr(3)));
        senders.heard(after(122), addr(3));
        assert!(!senders.heard_lately(after(122), addr(1)) && senders.heard_lately(after(122), addr(2)));
        assert!(!senders.heard_lately(after(242), addr(3)), "nothing else has come");
        senders.heard(after(1000), addr(4));
        assert!(!senders.heard_lately(after(1000), addr(3)));
    }

    #[test]
    fn senders_beyond_the_limit_drive_out_the_oldest() {
        let now = Instant::now();
        let mut senders = Senders::new(now);
        (0..10 * MAX_RECENT_SENDERS).for_each(|n| senders.heard(now, addr(n)));
        assert!(senders.fresh.len() + senders.stale.len() <= 2 * MAX_RECENT_SENDERS);
        assert!(senders.heard_lately(now, addr(10 * MAX_RECENT_SENDERS - 1)));
        assert!(senders.heard_lately(now, addr(9 * MAX_RECENT_SENDERS)), "the last are there");
        assert!(!senders.heard_lately(now, addr(0)));
    }
}
