//! Content-addressed files on disk, in the folder shared with the Python package `kachery` 0.6.3, crash-safe.
//!
//! All calls block: asynchronous callers run them on a blocking thread.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A SHA-1, the name of a file. Text form: exactly 40 lower-case hex characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha1(pub [u8; 20]);

impl fmt::Display for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha1({self})")
    }
}

/// The text is not 40 lower-case hex characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-1: expected 40 lower-case hexadecimal characters")]
pub struct NotASha1;

impl FromStr for Sha1 {
    type Err = NotASha1;
    fn from_str(text: &str) -> Result<Self, NotASha1> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| NotASha1)?;
        bytes.try_into().map(Sha1).map_err(|_| NotASha1)
    }
}

/// What can go wrong with the store; messages say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// KACHERY_STORAGE_DIR is not set.
    #[error(
        "no storage folder: set KACHERY_STORAGE_DIR to a folder on a disk with room (it is created), or pass --storage-dir"
    )]
    NoStorageDir,
    /// The system said no; `what` names the step and the path.
    #[error("{what}: {source}")]
    Io {
        /// Step and path.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The bytes do not have the hash they were announced with.
    #[error("the content has sha1 {found}, not {expected}")]
    WrongHash {
        /// What was asked for.
        expected: Sha1,
        /// What arrived.
        found: Sha1,
    },
}

/// The store. Cheap to clone, usable from many threads and processes at once.
#[derive(Clone)]
pub struct Store {}

/// How the content came to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HowStored {
    /// It was there.
    Already,
    /// The file system shares the blocks with the source.
    Reflink,
    /// Source and store are one inode.
    HardLink,
    /// Copied.
    Copy,
    /// Downloaded.
    Received,
}

/// The result of storing one file.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its name.
    pub sha1: Sha1,
    /// Bytes.
    pub size: u64,
    /// Where it is now.
    pub path: PathBuf,
    /// How it got there.
    pub how: HowStored,
}

/// A file opened for peers: only from the store (or its read-only alternate), never through hints; its size was
/// checked against the chain states, and its hash once per (inode, size, mtime).
pub struct ServedFile {}

/// A download on disk: survives restarts, becomes a stored file only by [`Partial::commit`].
pub struct Partial {}

#[allow(unused_variables, missing_docs)]
impl Store {
    /// The store in `root`, created if missing.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        todo!()
    }
    pub fn root(&self) -> &Path {
        todo!()
    }
    /// Where a local copy is: store, alternate root, hints (in this order); for local use.
    pub fn find(&self, sha1: Sha1) -> Result<Option<PathBuf>, StoreError> {
        todo!()
    }
    /// For peers and HTTP. None: not in the store.
    pub fn open_served(&self, sha1: Sha1) -> Result<Option<ServedFile>, StoreError> {
        todo!()
    }
    /// The size of a file we would serve, without hashing anything; None: not in the store.
    pub fn served_size(&self, sha1: Sha1) -> Result<Option<u64>, StoreError> {
        todo!()
    }
    /// Opens or resumes the download of a file. Exclusive: a second open (this or another process) waits for nothing
    /// and gets `StoreError::Io` of kind `WouldBlock`.
    pub fn partial(&self, sha1: Sha1, size: u64) -> Result<Partial, StoreError> {
        todo!()
    }
}

#[allow(unused_variables, missing_docs, clippy::len_without_is_empty)]
impl ServedFile {
    pub fn size(&self) -> u64 {
        todo!()
    }
    /// Reads exactly `buffer.len()` bytes at `offset`; an error if the file ends before.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        todo!()
    }
    /// An independent std file for streaming (HTTP bodies).
    pub fn file(&self) -> Result<std::fs::File, StoreError> {
        todo!()
    }
}

#[allow(unused_variables, missing_docs)]
impl Partial {
    /// Ranges `[start, end)` that are on disk, ascending, disjoint, not touching.
    pub fn present(&self) -> Vec<(u64, u64)> {
        todo!()
    }
    /// Writes bytes; they count as present at once, and survive a crash from the next `sync` on (done every few MiB).
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        todo!()
    }
    pub fn sync(&mut self) -> Result<(), StoreError> {
        todo!()
    }
    /// Forgets ranges (they came from a liar).
    pub fn forget(&mut self, start: u64, end: u64) -> Result<(), StoreError> {
        todo!()
    }
    /// Verifies the whole and makes it visible in the store. On `WrongHash` nothing is visible and the partial is
    /// given back as it was, so that the caller can find out who lied.
    pub fn commit(self) -> Result<Stored, (StoreError, Option<Partial>)> {
        todo!()
    }
    /// Removes it from the disk.
    pub fn discard(self) -> Result<(), StoreError> {
        todo!()
    }
}
