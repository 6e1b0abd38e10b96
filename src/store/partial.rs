//! Downloads on disk: a sparse data file and a journal of what of it is durable. Nothing is visible in the store
//! before the whole has the right hash.
//!
//! What survives a crash: everything written before the last [`Partial::sync`]. The files appear with the first byte, so
//! that a claimed size alone leaves nothing. The data file is locked (flock) for as long as the download is open; the
//! lock dies with the process. How what an earlier process wrote is believed: `recheck`. How what nobody takes up again
//! is removed: `sweep`.

use std::collections::BTreeMap;
use std::io;

use super::chain::{ChainHasher, ChainState};
use super::disk::{self, During, Stamp};
use super::journal::{Record, Sum, forget_sums};
use super::place::Hashed;
use super::ranges::Ranges;
use super::{ContentHash, HowStored, Sha1, Store, StoreError, StoreErrorKind, Stored};
use crate::limits::{MAX_PARTIAL_RANGES, PARTIAL_SYNC_BYTES};
use files::{Claim, Files};
use recheck::Old;

mod files;
mod recheck;
mod sweep;

use super::chain::CHUNK;
pub(super) use files::Key;
pub use recheck::Rechecked;
pub use sweep::PartialFile;
pub(super) use sweep::sweep;

/// Bytes that are read again for sums at one sync. Crumbs all over a file would otherwise have much of it read each
/// time; chunks beyond this have no sum and are suspects after a restart.
const SUM_BUDGET: u64 = 2 * PARTIAL_SYNC_BYTES;

/// A download on disk: survives restarts, becomes a stored file only by [`Partial::commit`].
pub struct Partial {
    store: Store,
    key: Key,
    /// None: nothing was written yet.
    files: Option<Files>,
    present: Ranges,
    /// The part of it that the journal does not say yet.
    unsynced: Ranges,
    unsynced_bytes: u64,
    /// The part of it that this process has not written.
    old: Old,
    /// The data file as it was after this process last wrote to it or looked at it.
    stamp: Option<Stamp>,
    /// The hash of the beginning, by this process, as far as it was present when looked at.
    hasher: ChainHasher,
    /// The states that the journal says. Hints: an earlier process may have written them.
    said: Vec<ChainState>,
    /// So many of them are those of the hasher.
    agreed: usize,
    /// The sums that the journal says.
    sums: BTreeMap<u64, Sum>,
    /// Room to read back in, taken and returned: allocated anew by one blocking thread after the other it would stay
    /// behind in the memory of each.
    scratch: Vec<u8>,
    _claim: Claim,
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partial")
            .field("sha1", &self.key.sha1)
            .field("size", &self.key.size)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens or resumes the download of a file. Exclusive: a second open waits for nothing and gets `StoreError::Io` of
    /// kind `WouldBlock` in this process, [`StoreError::InUse`] in another one, which gets that at its first write while
    /// nothing was written here. Downloads of one hash
    /// with different claimed sizes are different downloads, so that a false claim cannot spoil what is there. A size
    /// that the file system cannot hold is [`StoreErrorKind::FileTooLarge`].
    pub fn partial(&self, sha1: Sha1, size: u64) -> Result<Partial, StoreError> {
        let key = Key { sha1, size };
        let claim = Claim::new(&self.inner, key)?;
        self.inner.root.is_there()?;
        self.inner.root.can_hold(size)?;
        let (files, left) = match Files::resume(&self.inner.root, key) {
            // Left by another user of a shared store: it cannot be gone on with, but it can be replaced.
            Err(error) if error.kind() == StoreErrorKind::NotWritable => {
                sweep::remove_unwritable(&self.inner.root, key, error)?;
                None
            }
            resumed => resumed?,
        }
        .unzip();
        let left = left.unwrap_or_default();
        Ok(Partial {
            store: self.clone(),
            key,
            files,
            old: Old::new(&left.present),
            stamp: None,
            present: left.present,
            unsynced: Ranges::default(),
            unsynced_bytes: 0,
            hasher: ChainHasher::default(),
            said: left.states,
            agreed: 0,
            sums: left.sums,
            scratch: Vec::new(),
            _claim: claim,
        })
    }
}

impl Partial {
    /// Its name.
    pub fn sha1(&self) -> Sha1 {
        self.key.sha1
    }

    /// Bytes of the whole.
    pub fn size(&self) -> u64 {
        self.key.size
    }

    /// Ranges `[start, end)` that are on disk, ascending, disjoint, not touching.
    pub fn present(&self) -> Vec<(u64, u64)> {
        self.present.iter().collect()
    }

    /// Ranges `[start, end)` that are not on disk, ascending.
    pub fn missing(&self) -> Vec<(u64, u64)> {
        self.present.gaps(0, self.key.size)
    }

    /// Is every byte on disk?
    pub fn is_complete(&self) -> bool {
        self.present.covered_to(0) == self.key.size
    }

    fn files(&mut self) -> Result<&mut Files, StoreError> {
        if self.files.is_none() {
            self.files = Some(Files::create(&self.store.inner.root, self.key)?);
            sweep(&self.store.inner.root);
        }
        let missing = || StoreError::Io { what: "create".to_owned(), source: io::ErrorKind::NotFound.into() };
        self.files.as_mut().ok_or_else(missing)
    }

    /// Writes bytes; they count as present at once, and survive a crash from the next `sync` on (done every
    /// [`PARTIAL_SYNC_BYTES`]). What is present already is kept: to replace it, `forget` it first. Fails with
    /// `InvalidInput` beyond the size, and with `TooManyPieces` beyond [`MAX_PARTIAL_RANGES`].
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.key.size);
        let beyond = || io::Error::new(io::ErrorKind::InvalidInput, "bytes beyond the end of the file");
        let end = end.ok_or_else(beyond).during("write", self.key.data().as_ref())?;
        self.notice_others()?;
        for (from, to) in self.present.gaps(offset, end) {
            let skip = usize::try_from(from - offset).unwrap_or(usize::MAX);
            let count = usize::try_from(to - from).unwrap_or(usize::MAX);
            let piece = bytes.get(skip..).and_then(|b| b.get(..count)).unwrap_or_default();
            if self.present.count() >= MAX_PARTIAL_RANGES && !self.present.touches(from, to) {
                return Err(StoreError::TooManyPieces);
            }
            let files = self.files()?;
            disk::write_at(&files.data, &files.path, from, piece)?;
            self.present.insert(from, to);
            self.unsynced.insert(from, to);
            self.unsynced_bytes += to - from;
            if self.hasher.length() == from {
                self.hasher.update(piece);
            }
        }
        self.stamp = self.stamp_now()?;
        self.continue_hash(CHUNK)?;
        if self.unsynced_bytes >= PARTIAL_SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn stamp_now(&self) -> Result<Option<Stamp>, StoreError> {
        let stamp = |files: &Files| Ok(Stamp::of(&files.data.metadata().during("look at", &files.path)?));
        self.files.as_ref().map(stamp).transpose()
    }

    /// If somebody else has changed the data file since this process wrote to it, nothing there counts as hashed any
    /// more: all of it is to be read back, and what was added behind its end is cut off. True: that is so.
    fn notice_others(&mut self) -> Result<bool, StoreError> {
        let mut now = self.stamp_now()?;
        // The stamp after our last write may be of a file that was lengthened during that write.
        let longer = now.is_some_and(|stamp| stamp.size > self.key.size);
        let changed = longer || (self.stamp.is_some() && self.stamp != now);
        if longer && let Some(files) = &self.files {
            disk::set_length(&files.data, &files.path, self.key.size)?;
            now = self.stamp_now()?;
        }
        self.stamp = now;
        if changed {
            tracing::warn!(sha1 = %self.key.sha1, "another program wrote to an unfinished download; it is read back");
            self.old = Old::new(&self.present);
            self.hasher = ChainHasher::default();
            self.agreed = 0;
        }
        Ok(changed)
    }

    /// Makes everything present survive a crash.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced_bytes == 0 {
            return Ok(());
        }
        let files = self.files()?;
        disk::sync_data(&files.data, &files.path)?;
        let mut records: Vec<_> = self.unsynced.iter().map(|(s, e)| Record::Present(s, e)).collect();
        records.extend(self.new_states());
        records.extend(self.new_sums()?);
        if let Err(error) = self.say(&records) {
            // What the journal says now is not known: the next time everything is said.
            self.said.clear();
            self.agreed = 0;
            self.sums.clear();
            return Err(error);
        }
        self.unsynced = Ranges::default();
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// The states that the journal does not say yet, or says differently.
    fn new_states(&mut self) -> Vec<Record> {
        let vouched = usize::try_from(self.old.vouched_to() / CHUNK + 1).unwrap_or(usize::MAX);
        let states = self.hasher.states();
        let states = states.get(..vouched.min(states.len())).unwrap_or_default();
        let alike = states.iter().zip(&self.said).skip(self.agreed).take_while(|(own, said)| own == said);
        self.agreed += alike.count();
        let new = states.get(self.agreed..).unwrap_or_default();
        if !new.is_empty() {
            self.said.truncate(self.agreed);
            self.said.extend_from_slice(new);
        }
        let first = self.agreed;
        self.agreed += new.len();
        new.iter().zip(first as u64..).map(|(state, chunk)| Record::State(chunk, *state)).collect()
    }

    /// Sums of the chunks with new bytes, as far as the states do not reach.
    fn new_sums(&mut self) -> Result<Vec<Record>, StoreError> {
        let mut chunks: Vec<u64> = Vec::new();
        for (start, end) in self.unsynced.iter() {
            let first = chunks.last().map_or(0, |last| last + 1).max(start / CHUNK);
            chunks.extend(first..end.div_ceil(CHUNK));
        }
        let (mut records, mut read) = (Vec::new(), 0);
        for chunk in chunks {
            let (start, end) = (chunk * CHUNK, self.key.size.min((chunk + 1) * CHUNK));
            if self.old.doubts(chunk) {
                continue;
            }
            self.sums.remove(&chunk);
            if chunk + 1 < self.said.len() as u64 || read >= SUM_BUDGET {
                continue;
            }
            let bytes = self.read(&recheck::within(&self.present, start, end))?;
            read += bytes.len() as u64;
            let sum = recheck::sum(&bytes);
            self.sums.insert(chunk, sum);
            records.push(Record::Sum(chunk, sum));
            self.scratch = bytes;
        }
        Ok(records)
    }

    /// Puts records into the journal, or all there is to say if it has become long.
    fn say(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let Some(files) = &mut self.files else { return Ok(()) };
        if !files.journal.is_long(self.key.size) {
            return files.append(records);
        }
        let states = self.said.iter().zip(0..).map(|(state, chunk)| Record::State(chunk, *state));
        let all = self.present.iter().map(|(s, e)| Record::Present(s, e)).chain(states);
        let all: Vec<_> = all.chain(self.sums.iter().map(|(chunk, sum)| Record::Sum(*chunk, *sum))).collect();
        files.replace(&self.store.inner.root, self.key, &all)
    }

    /// Forgets ranges (they came from a liar), durably.
    pub fn forget(&mut self, start: u64, end: u64) -> Result<(), StoreError> {
        self.sync()?;
        self.present.remove(start, end);
        self.old.remove(start, end);
        forget_sums(&mut self.sums, start, end);
        self.hasher.rewind(start);
        self.said.truncate(usize::try_from(start / CHUNK + 1).unwrap_or(usize::MAX));
        self.agreed = self.agreed.min(self.said.len());
        self.say(&[Record::Forgotten(start, end)])
    }

    /// Gives the download up: nothing of it is left.
    pub fn discard(self) -> Result<(), StoreError> {
        let Some(files) = &self.files else { return Ok(()) };
        files.folder.remove(&self.key.data())?;
        files.folder.remove(&self.key.journal())
    }

    /// Verifies the whole and makes it visible in the store: every byte was hashed by this process, when it wrote it or
    /// when it read it back. On `WrongHash`, or if it is incomplete (perhaps because damage was found just now: see
    /// [`Partial::missing`]) or the disk refuses, nothing is visible and the partial is given back, so that the caller
    /// can fetch what is missing, find out who lied or try again. Without a partial in the error the file may be
    /// visible, whole, but not yet durable.
    #[allow(
        clippy::result_large_err,
        reason = "the partial is given back, and this happens once per download"
    )]
    pub fn commit(mut self) -> Result<Stored, (StoreError, Option<Partial>)> {
        if let Err(error) = self.check_and_make_durable() {
            return Err((error, Some(self)));
        }
        match self.place() {
            Ok(stored) => Ok(stored),
            Err(error) => {
                let name = self.key.data();
                let still_ours = self.files.as_ref().map(|files| files.folder.names(&name, &files.data));
                Err((error, matches!(still_ours, Some(Ok(true))).then_some(self)))
            }
        }
    }

    fn check_and_make_durable(&mut self) -> Result<(), StoreError> {
        let incomplete = |partial: &Self| StoreError::Incomplete { present: partial.present.total() };
        if !self.is_complete() {
            return Err(incomplete(self));
        }
        let files = self.files()?;
        disk::sync_file(&files.data, &files.path)?;
        self.notice_others()?;
        self.hash_all()?;
        if self.notice_others()? {
            // Written to while it was read back. Once more, but not for as long as somebody goes on writing.
            self.hash_all()?;
        }
        Ok(())
    }

    /// Hashes what is on disk from the beginning to the end, as far as this process has not done so.
    fn hash_all(&mut self) -> Result<(), StoreError> {
        let incomplete = |partial: &Self| StoreError::Incomplete { present: partial.present.total() };
        while self.recheck_step()? != Rechecked::Done {}
        if !self.is_complete() {
            return Err(incomplete(self));
        }
        let found = self.hasher.digest();
        if found == self.key.sha1 {
            return Ok(());
        }
        Err(match self.forget_unchecked() {
            true => incomplete(self),
            false => StoreError::WrongHash { expected: self.key.sha1, found },
        })
    }

    fn place(&self) -> Result<Stored, StoreError> {
        let (Key { sha1, size }, name) = (self.key, self.key.data());
        let (Some(files), Some(stamp)) = (&self.files, self.stamp) else {
            return Err(StoreError::Incomplete { present: 0 });
        };
        let path = self.store.move_in(&Hashed {
            file: &files.data,
            folder: &files.folder,
            name: &name,
            stamp,
            hash: ContentHash::Sha1(sha1),
            size,
            states: self.hasher.states(),
        })?;
        self.remove_others();
        Ok(Stored { sha1, size, path, how: HowStored::Received })
    }

    /// Removes what is left of this and other downloads of the same hash, except those under way.
    fn remove_others(&self) {
        let Some(files) = &self.files else { return };
        if let Err(error) = sweep::remove_finished(&files.folder, self.key.sha1) {
            tracing::warn!(%error, "a finished download left something behind");
        }
    }
}
