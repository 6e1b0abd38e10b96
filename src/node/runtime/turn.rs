//! The turn of a download: a bounded number of them transfers at the same time.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// While others wait, a turn in which nothing came for this long is given back.
const IDLE: Duration = Duration::from_secs(2);

type Acquiring = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;

/// One of the turns, or the wish for one.
pub(super) struct Turn {
    turns: Arc<Semaphore>,
    state: State,
    /// When something came last.
    moved: Option<Instant>,
}

enum State {
    /// There is nothing to transfer.
    Unwanted,
    /// In line for a turn.
    Waiting(Acquiring),
    Mine {
        _permit: OwnedSemaphorePermit,
    },
    /// Given back because nothing came. What was asked for may still come, and then a turn is needed again.
    Lent,
}

impl Turn {
    pub(super) fn new(turns: Arc<Semaphore>) -> Self {
        Self { turns, state: State::Unwanted, moved: None }
    }

    /// There is something to transfer.
    pub(super) fn want(&mut self) {
        if matches!(self.state, State::Unwanted) {
            self.take_or_wait();
        }
    }

    fn take_or_wait(&mut self) {
        self.moved = None;
        self.state = match self.turns.clone().try_acquire_owned() {
            Ok(permit) => State::Mine { _permit: permit },
            Err(_) => State::Waiting(Box::pin(self.turns.clone().acquire_owned())),
        };
    }

    /// Waits in line until it is this download's turn. Ends only then.
    pub(super) async fn come(&mut self) {
        match &mut self.state {
            // The semaphore is never closed.
            State::Waiting(acquiring) => match acquiring.as_mut().await {
                Ok(permit) => self.state = State::Mine { _permit: permit },
                Err(_) => self.state = State::Lent,
            },
            State::Unwanted | State::Mine { .. } | State::Lent => std::future::pending().await,
        }
    }

    /// Called every now and then with whether something came since the last time.
    pub(super) fn check(&mut self, moved: bool, now: Instant) {
        match self.state {
            State::Mine { .. } if moved => self.moved = Some(now),
            State::Mine { .. } => {
                let since = *self.moved.get_or_insert(now);
                if self.turns.available_permits() == 0 && now.saturating_duration_since(since) >= IDLE {
                    self.state = State::Lent;
                }
            }
            State::Lent if moved => self.take_or_wait(),
            State::Lent | State::Unwanted | State::Waiting(_) => {}
        }
    }

    pub(super) fn is_mine(&self) -> bool {
        matches!(self.state, State::Mine { .. })
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// True if what was begun may go on.
    pub(super) fn may_transfer(&self) -> bool {
        matches!(self.state, State::Mine { .. } | State::Lent)
    }
}
