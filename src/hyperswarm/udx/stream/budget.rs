//! What all streams of an endpoint may hold for their readers together.
//!
//! Each window alone is bounded, but a node with hundreds of fast streams, whose readers all wait for one slow disk,
//! would hold hundreds of windows. So the windows shrink as the budget fills: a stream is promised at most half of
//! what is left of three quarters of it (dynamic thresholds, as switches share their buffers). Many stalled streams
//! settle on equal parts, and a single one still gets a full window. The last quarter takes what was under way when
//! the windows shrank. Beyond the budget every stream keeps a small window of bytes in order, so that none starves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::UDX_GUARANTEED_WINDOW_BYTES;

/// The budget of an endpoint.
#[derive(Clone, Debug)]
pub(in crate::udx) struct Budget {
    /// Bytes that all streams hold now.
    held: Arc<AtomicUsize>,
    total: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub(in crate::udx) fn new(total: usize) -> Self {
        Self { held: Arc::default(), total }
    }

    /// Bytes that all streams hold for their readers.
    pub(in crate::udx) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// One stream's part of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Budget,
    held: usize,
}

impl Share {
    pub(super) fn new(budget: Budget) -> Self {
        Self { budget, held: 0 }
    }

    /// The stream holds so many bytes now.
    pub(super) fn set(&mut self, held: usize) {
        let total = &self.budget.held;
        match held.checked_sub(self.held) {
            Some(more) => total.fetch_add(more, Ordering::Relaxed),
            None => total.fetch_sub(self.held - held, Ordering::Relaxed),
        };
        self.held = held;
    }

    /// True if so many bytes more fit the budget.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        self.budget.held().saturating_add(bytes) <= self.budget.total
    }

    /// Bytes that this stream's window may have now.
    pub(super) fn window(&self) -> usize {
        let promised = self.budget.total - self.budget.total / 4;
        (promised.saturating_sub(self.budget.held()) / 2).max(UDX_GUARANTEED_WINDOW_BYTES)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
