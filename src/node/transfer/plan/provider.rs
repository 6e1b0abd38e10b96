//! One provider of a plan: what it can be asked, how it did so far, and how much it is asked at a time.

use std::time::{Duration, Instant};

use super::pace::{ByteClock, Rate};
use crate::limits;
use crate::node::peer::{Path, Unit};

/// Ranges end at multiples of this, and are not made smaller.
pub(super) const SMALLEST_REQUEST: u64 = 64 << 10;
/// What the originals send in one message, and no more than ours do.
const ORIGINAL_PIECE: u64 = 64 << 10;
/// A request is to take about this long, so that a slow provider never holds much of the file back.
const REQUEST_TIME: Duration = Duration::from_millis(500);
/// A provider that is not reachable for this long is not waited for: a range provider is no reason any more to leave
/// whole-file providers alone, nor is the one chosen after a wrong hash to leave everybody else alone.
const CONNECTING: Duration = Duration::from_secs(5);

/// A provider rests this long after a short answer, or when it is busy, and twice as long each further time, up to the
/// second time.
const REST: Duration = Duration::from_millis(250);
const LONGEST_REST: Duration = Duration::from_secs(8);
/// A provider that was busy so often, without an answer in between, does not keep whole-file providers from being asked.
const OFTEN_BUSY: u32 = 3;

/// How much a provider is asked at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Bytes of a request while the provider's rate is unknown.
    first: u64,
    /// Bytes of the smallest and the largest request once it is known.
    smallest: u64,
    largest: u64,
    /// Requests in flight.
    pub(super) requests: usize,
}

impl Terms {
    /// Enough requests in flight to hide the round trip, few enough that an original, which queues each answer wholly
    /// in memory, holds at most 6 MiB for us.
    pub(super) const RANGES: Self =
        Self { first: 512 << 10, smallest: SMALLEST_REQUEST, largest: 2 << 20, requests: 3 };
    /// As the loader of the originals asks (4,000,000 bytes), and a second range so that the provider's next process
    /// starts while the first answer is under way.
    const LARGE_RANGES: Self = Self { first: 4 << 20, smallest: 4 << 20, largest: 4 << 20, requests: 2 };
    /// Relays drop what does not fit into their queue, so all requests together fit.
    const RELAYED: Self = Self {
        first: limits::RELAYED_BYTES / 2,
        smallest: SMALLEST_REQUEST,
        largest: limits::RELAYED_BYTES / 2,
        requests: 2,
    };
    /// A relay that mixes up the pieces of an answer, which have no offsets, cannot do so with a single one.
    const SINGLE_PIECES: Self =
        Self { first: ORIGINAL_PIECE, smallest: ORIGINAL_PIECE, largest: ORIGINAL_PIECE, requests: 1 };
    const WHOLE: Self = Self { requests: 1, ..Self::RANGES };
}

#[derive(Debug)]
pub(super) struct Provider {
    pub(super) kind: Unit,
    pub(super) reachable: bool,
    /// How it is reached, or was last.
    pub(super) path: Option<Path>,
    /// While it is relayed it is asked for one piece at a time: the pieces of longer answers were mixed up.
    pub(super) single_pieces: bool,
    /// Since when it has been as (un)reachable as it is.
    pub(super) since: Instant,
    pub(super) rate: Rate,
    /// Lags while it sends less than [`limits::MINIMUM_RATE`] although it was asked for more.
    pub(super) clock: ByteClock,
    pub(super) last_data: Option<Instant>,
    /// Silences since it last answered a whole request: one that begins to answer and falls silent again and again
    /// would otherwise be asked for ever smaller pieces.
    pub(super) silences: u32,
    /// Requests that fell silent while it sent data for others, since it last answered a whole one.
    pub(super) overlooked: usize,
    /// Answers that came up short, since it last answered a whole request.
    pub(super) short: u32,
    /// How often it was too busy, since it last answered a whole request.
    pub(super) busy: u32,
    /// It is not asked before this time.
    pub(super) rests_until: Option<Instant>,
}

impl Provider {
    pub(super) fn new(kind: Unit, now: Instant) -> Self {
        Self {
            kind,
            reachable: false,
            path: None,
            single_pieces: false,
            since: now,
            rate: Rate::new(now),
            clock: ByteClock::new(now),
            last_data: None,
            silences: 0,
            overlooked: 0,
            short: 0,
            busy: 0,
            rests_until: None,
        }
    }

    /// Reachable, or to be soon: one that was only just found, or lost, is being connected to.
    pub(super) fn hopeful(&self, now: Instant) -> bool {
        self.reachable || now < self.hopeful_until()
    }

    /// Until when one that is not reachable is waited for.
    pub(super) fn hopeful_until(&self) -> Instant {
        self.since + CONNECTING
    }

    /// It is reached through other peers only.
    pub(super) fn is_relayed(&self) -> bool {
        self.path == Some(Path::Relayed)
    }

    /// Serves ranges now, or probably soon.
    pub(super) fn promises_ranges(&self, now: Instant) -> bool {
        self.kind.has_ranges() && self.hopeful(now) && self.busy < OFTEN_BUSY
    }

    /// Keeps it from being asked for a while; `times` in succession.
    pub(super) fn rest(&mut self, times: u32, now: Instant) {
        let rest = REST.saturating_mul(1 << times.saturating_sub(1).min(16));
        self.rests_until = Some(now + rest.min(LONGEST_REST));
    }

    /// Can be asked now.
    pub(super) fn ready(&self, now: Instant) -> bool {
        self.reachable && self.rests_until.is_none_or(|until| until <= now)
    }

    pub(super) fn terms(&self) -> Terms {
        match self.kind {
            Unit::Whole => Terms::WHOLE,
            Unit::Ranges | Unit::LargeRanges if self.is_relayed() && self.single_pieces => {
                Terms::SINGLE_PIECES
            }
            Unit::Ranges | Unit::LargeRanges if self.is_relayed() => Terms::RELAYED,
            Unit::Ranges => Terms::RANGES,
            Unit::LargeRanges => Terms::LARGE_RANGES,
        }
    }

    /// Bytes of its next request.
    pub(super) fn request_size(&self) -> u64 {
        let (terms, rate) = (self.terms(), self.rate.average());
        if rate == 0 {
            return terms.first;
        }
        let size = rate.saturating_mul(REQUEST_TIME.as_millis() as u64) / 1000;
        size.clamp(terms.smallest, terms.largest).next_multiple_of(SMALLEST_REQUEST)
    }

    /// It has answered a whole request.
    pub(super) fn answered(&mut self, now: Instant) {
        self.rate.answered(now);
        (self.silences, self.overlooked, self.short, self.busy) = (0, 0, 0, 0);
        self.rests_until = None;
    }
}
