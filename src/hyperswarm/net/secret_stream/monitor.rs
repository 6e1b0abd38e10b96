use std::sync::Weak;

use super::shared::{Counters, Over, Shared};
use super::transport::Transport;

/// Looks after a stream that somebody else reads and writes, without keeping it. Once the stream is dropped, nothing
/// happens any more.
pub struct Monitor<T> {
    pub(super) shared: Weak<Shared<T>>,
}

impl<T: Transport> Monitor<T> {
    /// How much went over it; None if it was dropped.
    pub fn counters(&self) -> Option<Counters> {
        self.shared.upgrade().map(|shared| shared.counters())
    }

    /// Sends an empty message now, so that the transport finds out if the peer is still there (`sendKeepAlive`).
    pub fn keep_alive(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.keep_alive_now();
        }
    }

    /// Ends both directions at once.
    pub fn destroy(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.destroy(Over::Destroyed);
        }
    }
}

impl<T> Clone for Monitor<T> {
    fn clone(&self) -> Self {
        Self { shared: Weak::clone(&self.shared) }
    }
}
