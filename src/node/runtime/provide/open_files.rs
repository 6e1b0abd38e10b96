//! Stored files that are open for peers. A request that waits for room holds none of them, so no number of requests
//! takes all descriptors; those that move find their file still open.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits;
use crate::store::{ServedFile, Sha1};

/// The open files, and how many requests are being served: with the last one all are closed.
#[derive(Default)]
pub(super) struct OpenFiles {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The least recently used first.
    files: VecDeque<(Sha1, Arc<ServedFile>)>,
    requests: usize,
}

/// A request being served, until dropped.
pub(crate) struct InUse<'a> {
    open: &'a OpenFiles,
}

impl OpenFiles {
    /// A request begins.
    pub(super) fn begin(&self) -> InUse<'_> {
        self.state.lock().requests += 1;
        InUse { open: self }
    }

    /// The file, if it is open.
    pub(super) fn get(&self, sha1: Sha1) -> Option<Arc<ServedFile>> {
        let mut state = self.state.lock();
        let at = state.files.iter().position(|(known, _)| *known == sha1)?;
        let entry = state.files.remove(at)?;
        let file = entry.1.clone();
        state.files.push_back(entry);
        Some(file)
    }

    /// Keeps a file open while anybody is served; the one that was not used for longest makes place.
    pub(super) fn add(&self, sha1: Sha1, file: Arc<ServedFile>) -> Arc<ServedFile> {
        let mut state = self.state.lock();
        if state.requests > 0 {
            state.files.retain(|(known, _)| *known != sha1);
            if state.files.len() >= limits::SERVED_FILES {
                state.files.pop_front();
            }
            state.files.push_back((sha1, file.clone()));
        }
        file
    }

    /// Closes all that are not just being read.
    pub(super) fn clear(&self) {
        self.state.lock().files.clear();
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut state = self.open.state.lock();
        state.requests -= 1;
        if state.requests == 0 {
            state.files.clear();
        }
    }
}
