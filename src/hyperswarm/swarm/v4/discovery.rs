//! When the peers of one topic are looked for, and we announce ourselves there (hyperswarm `lib/peer-discovery.js`).

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::Mode;

const REFRESH: Duration = Duration::from_secs(600);
/// Added to the pause, so that not everybody comes at the same time.
const SPREAD_MILLIS: std::ops::Range<u64> = 0..120_000;
/// So late, the machine was asleep.
const OVERDUE: Duration = Duration::from_secs(30);

/// One walk for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Announce our own key; peers are found on the way.
    pub announce: bool,
    /// Remove what our key has announced before.
    pub clear: bool,
}

/// A topic that somebody has joined.
#[derive(Debug)]
pub(super) struct Discovery {
    pub(super) mode: Mode,
    sessions: Vec<(u64, Mode)>,
    running: Option<Walk>,
    next: Option<Instant>,
    announced: bool,
    /// The next walk only looks: who announced at the same time as we has become visible meanwhile.
    looks_again: bool,
}

impl Discovery {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::default(),
            sessions: Vec::new(),
            running: None,
            next: None,
            announced: false,
            looks_again: false,
        }
    }

    /// Joined once more, or again in another mode: the modes of all sessions are what counts.
    pub(super) fn join(&mut self, now: Instant, session: u64, mode: Mode) {
        self.sessions.retain(|(each, _)| *each != session);
        self.sessions.push((session, mode));
        self.update(now);
    }

    /// True if nobody is left.
    pub(super) fn leave(&mut self, now: Instant, session: u64) -> bool {
        self.sessions.retain(|(each, _)| *each != session);
        self.update(now);
        self.sessions.is_empty()
    }

    fn update(&mut self, now: Instant) {
        let before = self.mode;
        self.mode = Mode {
            server: self.sessions.iter().any(|(_, mode)| mode.server),
            client: self.sessions.iter().any(|(_, mode)| mode.client),
        };
        if self.mode != before {
            self.refresh(now);
        }
    }

    /// Looks again at once; a walk of the same kind that runs already is the same.
    pub(super) fn refresh(&mut self, now: Instant) {
        let announces = self.running.map(|walk| walk.announce);
        if self.looks_again || announces != Some(self.mode.server) {
            self.looks_again = false;
            self.running = None;
            self.next = Some(now);
        }
    }

    /// The walk to begin now.
    pub(super) fn begin(&mut self, now: Instant, rng: &mut StdRng) -> Option<Walk> {
        let due = self.next.filter(|next| *next <= now)?;
        if now > due + OVERDUE {
            self.next = Some(now + Duration::from_millis(rng.random_range(SPREAD_MILLIS)));
            return None;
        }
        self.next = None;
        let announce = self.mode.server && !self.looks_again;
        let clear = announce != self.announced && !self.looks_again;
        let walk = Walk { announce, clear };
        self.running = Some(walk);
        Some(walk)
    }

    /// A walk has ended.
    pub(super) fn ended(&mut self, now: Instant, rng: &mut StdRng) {
        let Some(walk) = self.running.take() else { return };
        let looked_again = std::mem::take(&mut self.looks_again);
        if !looked_again {
            let first = walk.announce && !self.announced;
            self.announced = walk.announce;
            self.looks_again = first && self.mode.client;
        }
        self.next = Some(match self.looks_again {
            true => now,
            false => now + REFRESH + Duration::from_millis(rng.random_range(SPREAD_MILLIS)),
        });
    }

    /// True if a walk runs, or is due.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.running.is_some() || self.next.is_some_and(|next| next <= now)
    }

    /// True if our key is announced, or may be.
    pub(super) fn is_announced(&self) -> bool {
        self.announced || self.running.is_some_and(|walk| walk.announce)
    }

    pub(super) fn suspend(&mut self) {
        (self.running, self.next, self.announced, self.looks_again) = (None, None, false, false);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}
