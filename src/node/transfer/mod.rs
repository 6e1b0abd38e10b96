//! Downloads. The pure parts: [`plan`] decides what to ask of whom, [`blame`] keeps the books, [`candidates`]
//! and [`reputation`] remember who claimed and did what. [`download`] drives them, [`disk`] writes.

pub(crate) mod blame;
pub(crate) mod candidates;
pub(crate) mod disk;
pub(crate) mod download;
mod failure;
pub(crate) mod plan;
pub(crate) mod reputation;
#[cfg(test)]
mod tests;

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;

use self::plan::{ProviderKey, RequestKey};
use self::reputation::Reputation;
use super::legacy::RequestFailure;
use super::runtime::transfers::{Lease, Transfers};
use crate::store::Store;
use hyperswarm::crypto::PublicKey;

/// What reaches a download.
pub(crate) enum Arrival {
    /// The next bytes of a request.
    Data(RequestKey, Bytes),
    /// The request is answered.
    Finished(RequestKey),
    /// It will not be.
    Failed(RequestKey, RequestFailure),
    /// The provider's transfer swarm is joined.
    Joined(ProviderKey, Lease),
    /// The provider can be sent requests, or not any more.
    Reachable(ProviderKey, bool),
    /// The provider's transfer swarm cannot be joined.
    Unusable(ProviderKey, String),
}

/// What all downloads share.
pub(crate) struct Environment {
    pub(crate) store: Store,
    pub(crate) transfers: Arc<Transfers>,
    reputation: Mutex<Reputation>,
    downloaded: AtomicU64,
}

impl Environment {
    pub(crate) fn new(store: Store, transfers: Arc<Transfers>) -> Self {
        Self { store, transfers, reputation: Mutex::default(), downloaded: AtomicU64::new(0) }
    }

    pub(crate) fn add_liar(&self, key: PublicKey) {
        self.reputation.lock().add_liar(key, Instant::now());
    }

    pub(crate) fn is_liar(&self, key: &PublicKey) -> bool {
        self.reputation.lock().is_liar(key, Instant::now())
    }

    pub(crate) fn add_downloaded(&self, bytes: u64) {
        self.downloaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes received for downloads since the start.
    pub(crate) fn downloaded(&self) -> u64 {
        self.downloaded.load(Ordering::Relaxed)
    }
}
