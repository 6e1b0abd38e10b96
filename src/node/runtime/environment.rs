//! What all downloads of a node share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use super::download::now;
use super::legacy::transfers::Transfers;
use crate::node::peer::PeerKey;
use crate::node::transfer::reputation::Reputation;
use crate::store::Store;

/// What all downloads share.
pub(super) struct Environment {
    pub(super) store: Store,
    pub(super) transfers: Arc<Transfers>,
    /// The tasks that write downloads: when all have ended, every byte is safe.
    pub(super) disks: TaskTracker,
    reputation: Mutex<Reputation>,
    downloaded: AtomicU64,
    /// Providers that are played.
    #[cfg(test)]
    pub(super) stage: super::source::played::Stage,
}

impl Environment {
    pub(super) fn new(store: Store, transfers: Arc<Transfers>) -> Self {
        let (disks, reputation, downloaded) = Default::default();
        Self {
            store,
            transfers,
            disks,
            reputation,
            downloaded,
            #[cfg(test)]
            stage: Default::default(),
        }
    }

    pub(super) fn add_liar(&self, peer: PeerKey, address: IpAddr) {
        self.reputation.lock().add_liar(peer, address, now());
    }

    pub(super) fn is_liar(&self, peer: PeerKey, address: IpAddr) -> bool {
        self.reputation.lock().is_liar(peer, address, now())
    }

    /// True if a liar may be asked while nobody else can be.
    pub(super) fn has_rested(&self, peer: PeerKey, address: IpAddr) -> bool {
        self.reputation.lock().has_rested(peer, address, now())
    }

    pub(super) fn add_downloaded(&self, bytes: u64) {
        self.downloaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes received for downloads since the start.
    pub(super) fn downloaded(&self) -> u64 {
        self.downloaded.load(Ordering::Relaxed)
    }
}
