//! Downloads on disk: a sparse data file and a journal of what of it is durable. Nothing is visible in the store
//! before the whole has the right hash.
//!
//! What survives a crash: everything written before the last [`Partial::sync`]. The data file is locked (flock) for
//! as long as the download is open; the lock dies with the process.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

use super::chain::{self, ChainHasher};
use super::disk::{self, During, Folder, Stamp};
use super::journal::{Journal, Record};
use super::layout::{self, OWN};
use super::ranges::Ranges;
use super::{ContentHash, HowStored, Sha1, Store, StoreError, Stored, sidecar};
use crate::limits::{MAX_PARTIAL_RANGES, PARTIAL_SYNC_BYTES};

/// At most this much is read back per write to continue the hash of the beginning.
const CATCH_UP: u64 = chain::CHUNK;

/// A download on disk: survives restarts, becomes a stored file only by [`Partial::commit`].
pub struct Partial {
    store: Store,
    sha1: Sha1,
    size: u64,
    folder: Folder,
    data: File,
    journal: Journal,
    present: Ranges,
    /// Of these, what the journal does not say yet.
    unsynced: Ranges,
    unsynced_bytes: u64,
    /// The hash of the beginning, as far as it was present when looked at.
    hasher: ChainHasher,
    /// How many of its states the journal has.
    journaled_states: usize,
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partial").field("sha1", &self.sha1).field("size", &self.size).finish_non_exhaustive()
    }
}

fn data_name(sha1: Sha1, size: u64) -> String {
    format!("{sha1}-{size}.data")
}

fn journal_name(sha1: Sha1, size: u64) -> String {
    format!("{sha1}-{size}.journal")
}

impl Store {
    /// Opens or resumes the download of a file. Exclusive: a second open (this or another process) waits for nothing
    /// and gets `StoreError::Io` of kind `WouldBlock`. Downloads of one hash with different claimed sizes are
    /// different downloads, so that a false claim cannot spoil what is there.
    pub fn partial(&self, sha1: Sha1, size: u64) -> Result<Partial, StoreError> {
        let folder = layout::descend_or_create(&self.inner.root, &[OWN, "partial"])?;
        let data = lock_data(&folder, sha1, size)?;
        let path = folder.path_of(&data_name(sha1, size));
        let (mut journal, mut replayed) = Journal::open(&folder, &journal_name(sha1, size), sha1, size)?;
        if data.metadata().during("look at", &path)?.len() != size {
            // New, or not what the journal speaks of: start over.
            journal.restart(sha1, size)?;
            replayed = Default::default();
            disk::set_length(&data, &path, 0)?;
            disk::set_length(&data, &path, size)?;
            disk::sync_file(&data, &path)?;
            folder.sync()?;
        }
        let journaled_states = replayed.states.len();
        Ok(Partial {
            store: self.clone(),
            sha1,
            size,
            folder,
            data,
            journal,
            present: replayed.present,
            unsynced: Ranges::default(),
            unsynced_bytes: 0,
            hasher: ChainHasher::resume(replayed.states),
            journaled_states,
        })
    }
}

fn lock_data(folder: &Folder, sha1: Sha1, size: u64) -> Result<File, StoreError> {
    let name = data_name(sha1, size);
    let path = folder.path_of(&name);
    loop {
        let file = folder.open_or_create_file(&name)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let busy = io::Error::new(io::ErrorKind::WouldBlock, "it is being downloaded already");
                return Err(busy).during("lock", &path);
            }
            Err(TryLockError::Error(e)) => return Err(e).during("lock", &path),
        }
        // Between opening and locking another process may have finished it: then the file is in the store now.
        if folder.names(&name, &file)? {
            return Ok(file);
        }
    }
}

impl Partial {
    /// Its name.
    pub fn sha1(&self) -> Sha1 {
        self.sha1
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ranges `[start, end)` that are on disk, ascending, disjoint, not touching.
    pub fn present(&self) -> Vec<(u64, u64)> {
        self.present.iter().collect()
    }

    /// Is every byte on disk?
    pub fn is_complete(&self) -> bool {
        self.present.covered_to(0) == self.size
    }

    fn data_path(&self) -> PathBuf {
        self.folder.path_of(&data_name(self.sha1, self.size))
    }

    /// Writes bytes; they count as present at once, and survive a crash from the next `sync` on (done every
    /// [`PARTIAL_SYNC_BYTES`]). What is present already is kept: to replace it, `forget` it first. Fails with
    /// `InvalidInput` beyond the size, and with `TooManyPieces` beyond [`MAX_PARTIAL_RANGES`].
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.data_path();
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.size);
        let beyond = || io::Error::new(io::ErrorKind::InvalidInput, "bytes beyond the end of the file");
        let end = end.ok_or_else(beyond).during("write", &path)?;
        for (from, to) in self.present.gaps(offset, end) {
            let skip = usize::try_from(from - offset).unwrap_or(usize::MAX);
            let count = usize::try_from(to - from).unwrap_or(usize::MAX);
            let piece = bytes.get(skip..).and_then(|b| b.get(..count)).unwrap_or_default();
            if self.present.count() >= MAX_PARTIAL_RANGES && !self.present.touches(from, to) {
                return Err(StoreError::TooManyPieces);
            }
            disk::write_at(&self.data, &path, from, piece)?;
            self.present.insert(from, to);
            self.unsynced.insert(from, to);
            self.unsynced_bytes += to - from;
            if self.hasher.length() == from {
                self.hasher.update(piece);
            }
        }
        self.continue_hash(CATCH_UP)?;
        if self.unsynced_bytes >= PARTIAL_SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    /// Hashes what follows the hashed beginning and is present, at most `budget` bytes.
    fn continue_hash(&mut self, budget: u64) -> Result<(), StoreError> {
        let start = self.hasher.length();
        let mut rest = (self.present.covered_to(start) - start).min(budget);
        if rest == 0 {
            return Ok(());
        }
        let path = self.data_path();
        let mut buffer = vec![0; usize::try_from(rest.min(chain::CHUNK)).unwrap_or_default()];
        while rest > 0 {
            let length = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
            let piece = buffer.get_mut(..length).unwrap_or_default();
            let count = disk::read_up_to(&self.data, self.hasher.length(), piece).during("read", &path)?;
            if count < length {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).during("read", &path);
            }
            self.hasher.update(piece);
            rest -= length as u64;
        }
        Ok(())
    }

    /// Makes everything present survive a crash.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced_bytes == 0 {
            return Ok(());
        }
        disk::sync_data(&self.data, &self.data_path())?;
        let mut records: Vec<_> = self.unsynced.iter().map(|(s, e)| Record::Present(s, e)).collect();
        records.extend(self.state_records(self.journaled_states));
        self.say(&records)?;
        self.journaled_states = self.hasher.states().len();
        self.unsynced = Ranges::default();
        self.unsynced_bytes = 0;
        Ok(())
    }

    fn state_records(&self, from: usize) -> impl Iterator<Item = Record> + '_ {
        let states = self.hasher.states().iter().enumerate().skip(from);
        states.map(|(chunk, state)| Record::State(chunk as u64, *state))
    }

    /// Puts records into the journal, or all there is to say if it has become long.
    fn say(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if !self.journal.is_long(self.size) {
            return self.journal.append(records);
        }
        let mut all: Vec<_> = self.present.iter().map(|(s, e)| Record::Present(s, e)).collect();
        all.extend(self.state_records(0));
        let name = journal_name(self.sha1, self.size);
        self.journal.replace(&self.store.inner.root, &self.folder, &name, (self.sha1, self.size), &all)
    }

    /// Forgets ranges (they came from a liar), durably.
    pub fn forget(&mut self, start: u64, end: u64) -> Result<(), StoreError> {
        self.sync()?;
        self.present.remove(start, end);
        self.hasher.rewind(start);
        self.journaled_states = self.journaled_states.min(self.hasher.states().len());
        self.say(&[Record::Forgotten(start, end)])
    }

    /// Verifies the whole and makes it visible in the store. On `WrongHash`, or if it is incomplete or the disk
    /// refuses, nothing is visible and the partial is given back as it was, so that the caller can find out who
    /// lied or try again. Without a partial in the error the file may be visible, whole, but not yet durable.
    #[allow(
        clippy::result_large_err,
        reason = "the partial is given back, and this happens once per download"
    )]
    pub fn commit(mut self) -> Result<Stored, (StoreError, Option<Partial>)> {
        let folder = match self.check_and_make_durable() {
            Ok(folder) => folder,
            Err(error) => return Err((error, Some(self))),
        };
        match self.place(&folder) {
            Ok(stored) => Ok(stored),
            Err(error) => {
                let still_ours = self.folder.names(&data_name(self.sha1, self.size), &self.data);
                Err((error, still_ours.unwrap_or(false).then_some(self)))
            }
        }
    }

    fn check_and_make_durable(&mut self) -> Result<Folder, StoreError> {
        if !self.is_complete() {
            return Err(StoreError::Incomplete { present: self.present.total() });
        }
        self.continue_hash(u64::MAX)?;
        let found = self.hasher.digest();
        if found != self.sha1 {
            return Err(StoreError::WrongHash { expected: self.sha1, found });
        }
        disk::sync_file(&self.data, &self.data_path())?;
        layout::content_folder_or_create(&self.store.inner.root, ContentHash::Sha1(self.sha1))
    }

    fn place(&self, folder: &Folder) -> Result<Stored, StoreError> {
        let name = self.sha1.to_string();
        let path = folder.path_of(&name);
        let before = Stamp::of(&self.data.metadata().during("look at", &path)?);
        self.folder.rename(&data_name(self.sha1, self.size), folder, &name)?;
        folder.sync()?;
        let hash = ContentHash::Sha1(self.sha1);
        let states = self.hasher.states();
        if let Err(error) =
            sidecar::write_for_placed(&self.store.inner.root, hash, &self.data, &before, states)
        {
            // The file itself is safe; without a sidecar it is hashed once more when a peer asks for it.
            tracing::warn!(%error, "the chain states of a downloaded file could not be kept");
        }
        self.remove_others();
        Ok(Stored { sha1: self.sha1, size: self.size, path, how: HowStored::Received })
    }

    /// Removes what is left of this and other downloads of the same hash, except those under way.
    fn remove_others(&self) {
        let prefix = format!("{}-", self.sha1);
        let names = self.folder.list().unwrap_or_default();
        for stem in names.iter().filter(|n| n.starts_with(&prefix)).filter_map(|n| n.strip_suffix(".journal"))
        {
            let data = format!("{stem}.data");
            let under_way = match self.folder.open_file(&data) {
                Ok(Some(file)) => file.try_lock().is_err(),
                _ => false,
            };
            if !under_way {
                for name in [data, format!("{stem}.journal")] {
                    if let Err(error) = self.folder.remove(&name) {
                        tracing::warn!(%error, "a finished download left something behind");
                    }
                }
            }
        }
    }
}
