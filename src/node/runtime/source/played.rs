//! Providers that are played, for tests of downloads in virtual time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::super::inbox::Sink;
use crate::node::peer::{Path, PeerKey};
use crate::node::transfer::keys::RequestKey;
use crate::node::transfer::{Arrival, Ask, AskFailure, Offer, Reach};

/// How a provider behaves once it is asked.
#[derive(Clone)]
pub(in crate::node::runtime) struct Part {
    /// The bytes of which it sends what it is asked for; beyond their end it sends zeros.
    pub(in crate::node::runtime) content: Bytes,
    /// Bytes in each piece.
    pub(in crate::node::runtime) piece: usize,
    /// Time before each piece.
    pub(in crate::node::runtime) pause: Duration,
    /// It floods the download with what nobody asked for, without a pause, instead of answering.
    pub(in crate::node::runtime) floods: bool,
    /// It says of every request that it has too much to do.
    pub(in crate::node::runtime) busy: bool,
    /// How it is reached.
    pub(in crate::node::runtime) path: Path,
    /// After it was reached for this time, this is how it is reached, if it still is.
    pub(in crate::node::runtime) moves: Option<(Duration, Reach)>,
    /// It is reached after this time.
    pub(in crate::node::runtime) connects_after: Duration,
}

/// The parts by key.
#[derive(Default)]
pub(in crate::node::runtime) struct Stage {
    parts: Mutex<HashMap<PeerKey, Part>>,
    noted: Arc<AtomicUsize>,
    /// Attempts at a size that were started.
    pub(in crate::node::runtime) attempts: AtomicUsize,
}

pub(in crate::node::runtime) struct Source {
    size: u64,
    part: Part,
    noted: Arc<AtomicUsize>,
    reach: Arc<Mutex<Reach>>,
    connecting: AbortHandle,
}

pub(in crate::node::runtime) struct Asked {
    answering: AbortHandle,
    noted: Arc<AtomicUsize>,
}

impl Stage {
    pub(in crate::node::runtime) fn add(&self, peer: PeerKey, part: Part) {
        self.parts.lock().insert(peer, part);
    }

    /// How often it was noted that wanted data came.
    pub(in crate::node::runtime) fn noted(&self) -> usize {
        self.noted.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self, offer: Offer, changed: &Arc<Notify>) -> Option<Source> {
        let part = self.parts.lock().get(&offer.peer)?.clone();
        let reach = Arc::new(Mutex::new(Reach::Connecting));
        let connect = {
            let (reach, changed) = (reach.clone(), changed.clone());
            let connects = (part.connects_after, Reach::Reached(part.path));
            let moves = part.moves.clone();
            async move {
                for (after, next) in [Some(connects), moves].into_iter().flatten() {
                    tokio::time::sleep(after).await;
                    *reach.lock() = next;
                    changed.notify_one();
                }
            }
        };
        let connecting = tokio::spawn(connect).abort_handle();
        Some(Source { size: offer.size, part, noted: self.noted.clone(), reach, connecting })
    }
}

impl Source {
    pub(super) fn reach(&self) -> Reach {
        self.reach.lock().clone()
    }

    pub(super) fn request(&self, ask: Ask, sink: Sink) -> Asked {
        let (start, end) = match ask {
            Ask::Whole => (0, self.size),
            Ask::Range(start, end) => (start, end),
        };
        let answering = tokio::spawn(send(self.part.clone(), start, end, sink)).abort_handle();
        Asked { answering, noted: self.noted.clone() }
    }
}

async fn send(part: Part, start: u64, end: u64, sink: Sink) {
    if part.floods {
        let crumb = || Arrival::Data(RequestKey(u64::MAX), Bytes::from_static(&[0]));
        while sink.inbox.send(crumb()).await.is_ok() {}
        return;
    }
    if part.busy {
        let _ = sink.inbox.send(Arrival::Failed(sink.request, AskFailure::Busy)).await;
        return;
    }
    let mut at = start;
    while at < end {
        tokio::time::sleep(part.pause).await;
        let count = (end - at).min(part.piece as u64) as usize;
        let have = part
            .content
            .slice(part.content.len().min(at as usize)..part.content.len().min(at as usize + count));
        let mut piece = have.to_vec();
        piece.resize(count, 0);
        at += count as u64;
        if sink.inbox.send(Arrival::Data(sink.request, piece.into())).await.is_err() {
            return;
        }
    }
    let _ = sink.inbox.send(Arrival::Finished(sink.request)).await;
}

impl Drop for Source {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Asked {
    pub(super) fn note_data(&self) {
        self.noted.fetch_add(1, Ordering::Relaxed);
    }
}
