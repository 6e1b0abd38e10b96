//! What is known of one peer, and when to try it again (hyperswarm `lib/peer-info.js`, `lib/retry-timer.js`).

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::LinkId;
use crate::topic::Topic;

/// A connection that lasted this long was a good one.
const GOOD_CONNECTION: Duration = Duration::from_secs(15);
const SHORT: Duration = Duration::from_secs(1);
const MEDIUM: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(15);
const EXTRA_LONG: Duration = Duration::from_secs(600);
/// Upstream's timers have two phases, so that a wait is this part of its nominal length.
const SPREAD: std::ops::Range<f64> = 0.66..1.33;
/// Failures in a row after which a peer is not tried again.
const MOST_ATTEMPTS: u32 = 3;

/// What happens with a peer that is not connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Idle,
    Queued,
    Waiting(Instant),
}

/// The connection to a peer, or the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) id: LinkId,
    /// We dialled.
    pub(super) initiator: bool,
    pub(super) open: bool,
    pub(super) since: Instant,
    /// It has taken so long that another attempt may run in its place.
    pub(super) replaced: bool,
}

/// A peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) relay_addresses: Vec<SocketAddrV4>,
    pub(super) topics: BTreeSet<Topic>,
    pub(super) state: State,
    pub(super) link: Option<Link>,
    pub(super) explicit: bool,
    pub(super) banned: bool,
    pub(super) proven: bool,
    /// The latest connection was one that we dialled.
    pub(super) client: bool,
    pub(super) attempts: u32,
}

impl Peer {
    /// Higher ones are dialled first (`_getPriority`).
    pub(super) fn priority(&self) -> u8 {
        match self.attempts {
            0 => 2,
            1 => 4,
            2 => 3,
            3 => 1,
            _ => 0,
        }
    }

    /// True if it may be queued (`_updatePriority`).
    pub(super) fn may_queue(&mut self) -> bool {
        if self.explicit && self.attempts > MOST_ATTEMPTS {
            self.attempts = MOST_ATTEMPTS;
        }
        !self.banned && self.state != State::Queued && self.attempts <= MOST_ATTEMPTS
    }

    /// It was found again: what had failed before does not count, unless it is in good standing.
    pub(super) fn rediscovered(&mut self) {
        if self.priority() < 2 || !self.client {
            (self.client, self.proven, self.attempts) = (false, false, 0);
        }
    }

    pub(super) fn opened(&mut self) {
        self.proven = true;
        self.client = true;
    }

    /// A connection that we dialled has ended, or the attempt (`_disconnected`).
    pub(super) fn disconnected(&mut self, now: Instant, link: &Link) {
        if link.open && now >= link.since + GOOD_CONNECTION {
            self.attempts = 0;
        }
        self.attempts += 1;
    }

    /// How long to wait before the next attempt; none: there is none (`_selectRetryTimer`).
    pub(super) fn pause(&self, rng: &mut StdRng) -> Option<Duration> {
        if self.banned {
            return None;
        }
        let pause = match (self.attempts, self.proven) {
            (0, _) | (1, true) => SHORT,
            (1, false) | (2, true) => MEDIUM,
            (2 | 3, _) => LONG,
            _ if self.explicit => EXTRA_LONG,
            _ => return None,
        };
        Some(pause.mul_f64(rng.random_range(SPREAD)))
    }

    /// True if nobody needs to remember it (`shouldGC`).
    pub(super) fn is_forgettable(&self) -> bool {
        self.link.is_none() && self.state == State::Idle && !self.banned && !self.explicit
    }
}
