//! Verifications of files for peers.
//!
//! Requests put files into the [`Line`] and wait for results, in any number for one file. One task, started with the
//! first file and ended when none is left, takes turns and lets the next file be verified in each. A verification that
//! has begun goes on if nobody waits for it: its result is remembered by the store. The lock is held for microseconds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::line::{Asker, Line};
use super::unless_panicked;
use crate::store::{ServedFile, Sha1, Store, StoreError};

/// The file, open, if it is in the store and good.
pub(super) type Opened = Result<Option<Arc<ServedFile>>, StoreError>;

/// What is verified for peers, and what waits for it.
pub(super) struct Verifications {
    store: Store,
    turns: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: Line,
    under_way: HashSet<Sha1>,
    /// To the requests that wait for a file.
    results: HashMap<Sha1, watch::Sender<Option<Arc<Opened>>>>,
    /// True while the task runs that takes turns.
    driven: bool,
}

/// A request that waits, until dropped.
struct Waiting<'a> {
    verifications: &'a Verifications,
    sha1: Sha1,
    asker: Asker,
}

impl Verifications {
    pub(super) fn new(store: Store, turns: Arc<Semaphore>) -> Arc<Self> {
        Arc::new(Self { store, turns, state: Mutex::default() })
    }

    /// Waits for the file until it is verified. None: not within `patience`, but it may be when it is asked for again.
    pub(super) async fn wait(
        self: &Arc<Self>,
        sha1: Sha1,
        size: u64,
        asker: Asker,
        patience: Duration,
    ) -> Option<Arc<Opened>> {
        let _waiting = Waiting { verifications: self, sha1, asker };
        let mut result = self.ask(sha1, size, asker);
        let opened = tokio::time::timeout(patience, result.wait_for(Option::is_some)).await;
        opened.ok()?.ok()?.clone()
    }

    /// Verifies a file for nobody if nothing else is verified or waits for that.
    pub(super) async fn ahead(self: &Arc<Self>, sha1: Sha1) {
        let mut result = {
            let mut state = self.state.lock();
            let Ok(turn) = self.turns.clone().try_acquire_owned() else { return };
            if !state.line.is_empty() || !state.under_way.insert(sha1) {
                return;
            }
            tokio::spawn(self.clone().verify(turn, sha1, None));
            state.result(sha1)
        };
        // What is wrong with the file is told to those that ask for it.
        let _ = result.wait_for(Option::is_some).await;
    }

    /// The turns, for tests.
    #[cfg(test)]
    pub(super) fn turns(&self) -> &Arc<Semaphore> {
        &self.turns
    }

    fn ask(self: &Arc<Self>, sha1: Sha1, size: u64, asker: Asker) -> watch::Receiver<Option<Arc<Opened>>> {
        let mut state = self.state.lock();
        if !state.under_way.contains(&sha1) {
            state.line.ask(now(), sha1, size, asker);
            if !std::mem::replace(&mut state.driven, true) {
                tokio::spawn(self.clone().drive());
            }
        }
        state.result(sha1)
    }

    async fn drive(self: Arc<Self>) {
        // The semaphore is never closed.
        while let Ok(turn) = self.turns.clone().acquire_owned().await {
            let Some((sha1, asker)) = self.state.lock().begin() else { return };
            tokio::spawn(self.clone().verify(turn, sha1, Some(asker)));
        }
    }

    /// The turn lasts until the result is told, so that the line knows of it before the next one is chosen.
    async fn verify(self: Arc<Self>, turn: OwnedSemaphorePermit, sha1: Sha1, asker: Option<Asker>) {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || Ok(store.open_served(sha1)?.map(Arc::new))).await;
        self.state.lock().end(sha1, asker, unless_panicked(done));
        drop(turn);
    }
}

impl State {
    fn result(&mut self, sha1: Sha1) -> watch::Receiver<Option<Arc<Opened>>> {
        // Files that nobody waits for any more leave their channel behind.
        self.results.retain(|_, result| result.receiver_count() > 0);
        self.results.entry(sha1).or_default().subscribe()
    }

    /// The file that is verified next, and the asker whose turn it is.
    fn begin(&mut self) -> Option<(Sha1, Asker)> {
        let next = self.line.take_next(now());
        match next {
            Some((sha1, _)) => drop(self.under_way.insert(sha1)),
            None => self.driven = false,
        }
        next
    }

    fn end(&mut self, sha1: Sha1, asker: Option<Asker>, opened: Opened) {
        self.under_way.remove(&sha1);
        if let Some(asker) = asker {
            self.line.had_turn(now(), asker);
        }
        if let Some(result) = self.results.remove(&sha1) {
            result.send_replace(Some(Arc::new(opened)));
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.verifications.state.lock().line.leave(now(), self.sha1, self.asker);
    }
}

/// Virtual in tests.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
