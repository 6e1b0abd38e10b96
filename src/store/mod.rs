//! Content-addressed files on disk, in the folder shared with the Python package `kachery` 0.6.3, crash-safe.
//!
//! All calls block: asynchronous callers run them on a blocking thread.
//!
//! Where things are: `layout`. How bytes come in: `put` (store a local file) and [`Partial`] (a download); how they
//! go out: [`ServedFile`] (to peers) and [`Store::find`] (to local users). Rules that hold everywhere:
//!
//! * nothing is visible under a hash before its content had that hash, is durable, and was renamed into place;
//! * what another program makes of a file of ours before that is cut off, hashed again or refused: `place`;
//! * what a crash leaves is nothing, a temporary that the next start removes, or a download that resumes;
//! * what an earlier process left of a download is hashed again before it counts, what another user may have written
//!   about hashes is not believed;
//! * below the root no symbolic link is followed when files are served or written;
//! * the Python package's temporaries and lock files are left alone, its JSON is written under its locks.
//!
//! Locks: a temporary and a download's data file are locked with flock by the process that writes them; nothing else
//! is locked between processes, since equal names have equal content and renames are atomic.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;

use disk::{During, Folder};

pub mod chain;
mod copy;
mod directory;
mod disk;
mod export;
mod faults;
mod find;
mod journal;
mod layout;
pub mod manifest;
mod memory;
mod partial;
mod place;
mod put;
mod python_json;
pub(crate) mod ranges;
mod replacement;
mod serve;
mod sidecar;
mod temporary;
#[cfg(test)]
mod tests;
pub mod uri;

pub use directory::DirectoryOptions;
pub use find::Named;
pub use partial::{Partial, PartialFile, Rechecked};
pub use put::{PutOptions, StoredAs};
pub(crate) use replacement::is_special;
pub use replacement::{Cancel, replace_file};
pub use serve::ServedFile;
pub(crate) use temporary::unpredictable;

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

/// A path as Python's `json.dumps` writes it, with its quotes: for output that must be like that of the original.
pub fn python_string(path: &Path) -> String {
    python_json::string(path)
}

/// Which hash names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// The usual one.
    Sha1,
    /// Found in old manifests and git-annex.
    Md5,
}

impl Algorithm {
    /// As in URIs and folder names.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha1 => "sha1",
            Algorithm::Md5 => "md5",
        }
    }
}

/// The name of a file under one of the algorithms. Text form: lower-case hex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentHash {
    /// 20 bytes.
    Sha1(Sha1),
    /// 16 bytes.
    Md5([u8; 16]),
}

impl ContentHash {
    /// Which algorithm it is of.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            ContentHash::Sha1(_) => Algorithm::Sha1,
            ContentHash::Md5(_) => Algorithm::Md5,
        }
    }

    /// From lower-case hex of the right length; anything else is no name of a file.
    pub fn parse(algorithm: Algorithm, text: &str) -> Option<Self> {
        match algorithm {
            Algorithm::Sha1 => text.parse().ok().map(ContentHash::Sha1),
            Algorithm::Md5 => {
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
                bytes.try_into().ok().map(ContentHash::Md5)
            }
        }
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentHash::Sha1(sha1) => sha1.fmt(f),
            ContentHash::Md5(bytes) => f.write_str(&data_encoding::HEXLOWER.encode(bytes)),
        }
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
        source: io::Error,
    },
    /// The bytes do not have the hash they were announced with.
    #[error("the content has sha1 {found}, not {expected}")]
    WrongHash {
        /// What was asked for.
        expected: Sha1,
        /// What arrived.
        found: Sha1,
    },
    /// A download cannot be committed yet.
    #[error("the download is incomplete: only {present} bytes are here")]
    Incomplete {
        /// Bytes on disk.
        present: u64,
    },
    /// A file to be stored cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Neither a regular file nor a folder.
    #[error("Not a file or directory: {}", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// The content changed while it was read, so that there was no one content to name.
    #[error("{} changed while it was being stored; store it again when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A manifest of a folder that cannot be used.
    #[error("{}: {error}", path.display())]
    Manifest {
        /// The folder or the manifest.
        path: PathBuf,
        /// Why.
        error: manifest::ManifestError,
    },
    /// A file is not what its name says.
    #[error("{} is damaged: its content does not have the {} {expected}", path.display(), expected.algorithm().name())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The hash it should have.
        expected: ContentHash,
    },
    /// A download came in crumbs all over the file; see [`crate::limits::MAX_PARTIAL_RANGES`].
    #[error("the download is in too many pieces: ask for larger ranges in order")]
    TooManyPieces,
    /// Another program is downloading the same file into this store.
    #[error("another program is writing {}", path.display())]
    InUse {
        /// Its data file.
        path: PathBuf,
    },
    /// Another program changed, moved or replaced a file of ours between its hashing and its coming into the store.
    #[error(
        "another program changed or replaced {} before it was in the store: stop that program, then try again",
        path.display()
    )]
    Interfered {
        /// The file, as it was named.
        path: PathBuf,
    },
    /// The root was removed while this program had it open: what is written there is lost.
    #[error(
        "the folder of the store, {}, was removed while this program ran: start the program again, which makes a new one",
        path.display()
    )]
    Gone {
        /// Where it was.
        path: PathBuf,
    },
    /// A folder with content has the name of a file of ours. It is not removed: somebody may need what is in it.
    #[error("{} is a folder with something in it, where a file of this store belongs: move it away", path.display())]
    InTheWay {
        /// The folder.
        path: PathBuf,
    },
}

/// What a caller can do about an error of the store; see [`StoreError::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// ENOSPC, EDQUOT: the disk or the quota is full.
    DiskFull,
    /// EROFS, EACCES, EPERM: the store, or a part of it, may not be written; or its folder is gone.
    NotWritable,
    /// EMFILE, ENFILE: this process or the system has no file descriptor left. Nothing is wrong with the disk.
    TooManyOpenFiles,
    /// EFBIG: the file system or RLIMIT_FSIZE does not allow a file of this size.
    FileTooLarge,
    /// Another program, or another download of this one, is writing it; it can be had once that one has ended.
    InUse,
    /// Another program changed a file of ours while it came into the store; that program has to stop.
    Interfered,
    /// A folder that is not ours has the name of a file that is to be written; somebody has to move it away.
    InTheWay,
    /// Everything else: damage, wrong content, an error of the device, a file that cannot be read.
    Other,
}

impl StoreError {
    /// Which kind of refusal it is. Errors that are not from the system are [`StoreErrorKind::Other`], and so is a
    /// source that may not be read.
    pub fn kind(&self) -> StoreErrorKind {
        use rustix::io::Errno;
        let (source, of_store) = match self {
            StoreError::Io { source, .. } => (source, true),
            StoreError::Source { source, .. } => (source, false),
            StoreError::InUse { .. } => return StoreErrorKind::InUse,
            StoreError::InTheWay { .. } => return StoreErrorKind::InTheWay,
            StoreError::Interfered { .. } => return StoreErrorKind::Interfered,
            StoreError::Gone { .. } => return StoreErrorKind::NotWritable,
            _ => return StoreErrorKind::Other,
        };
        if of_store && source.kind() == io::ErrorKind::WouldBlock {
            return StoreErrorKind::InUse;
        }
        match Errno::from_io_error(source) {
            Some(Errno::MFILE | Errno::NFILE) => StoreErrorKind::TooManyOpenFiles,
            Some(Errno::NOSPC | Errno::DQUOT) if of_store => StoreErrorKind::DiskFull,
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) if of_store => StoreErrorKind::NotWritable,
            Some(Errno::FBIG) if of_store => StoreErrorKind::FileTooLarge,
            _ => StoreErrorKind::Other,
        }
    }

    /// Did the disk refuse: full, over quota, read-only, not permitted, too large a file?
    pub fn is_disk_full_or_readonly(&self) -> bool {
        use StoreErrorKind as Kind;
        matches!(self.kind(), Kind::DiskFull | Kind::NotWritable | Kind::FileTooLarge)
    }
}

/// The store. Cheap to clone, usable from many threads and processes at once.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: Folder,
    alternate: Option<PathBuf>,
    verdicts: serve::Verdicts,
    /// Downloads that this process has open.
    open_partials: Mutex<HashSet<partial::Key>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.root()).finish()
    }
}

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

impl Store {
    /// The store in `root`, created if missing. Temporaries of processes that died are removed, and unfinished downloads
    /// that are old or too many (see [`crate::limits::MAX_PARTIAL_AGE`]).
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_with_alternate(root, None)
    }

    /// As [`Store::open`], with a second, read-only root of the same layout.
    pub fn open_with_alternate(root: &Path, alternate: Option<PathBuf>) -> Result<Self, StoreError> {
        let root = std::path::absolute(root).during("find the folder", root)?;
        faults::step("mkdir").during("create the folder", &root)?;
        std::fs::create_dir_all(&root).during("create the folder", &root)?;
        let root = Folder::open_root(&root)?;
        if let Err(error) = temporary::remove_dead(&root) {
            tracing::warn!(%error, "temporary files of an earlier run could not be removed");
        }
        partial::sweep(&root);
        let (verdicts, open_partials) = Default::default();
        Ok(Store { inner: Arc::new(Inner { root, alternate, verdicts, open_partials }) })
    }

    /// The store that the environment names: `storage_dir` if given, else KACHERY_STORAGE_DIR; with
    /// KACHERY_STORAGE_DIR_ALT as alternate root if set.
    pub fn from_environment(storage_dir: Option<&Path>) -> Result<Self, StoreError> {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let root = storage_dir.map(Path::to_owned).or_else(|| variable("KACHERY_STORAGE_DIR"));
        Self::open_with_alternate(&root.ok_or(StoreError::NoStorageDir)?, variable("KACHERY_STORAGE_DIR_ALT"))
    }

    /// The root folder, absolute.
    pub fn root(&self) -> &Path {
        self.inner.root.path()
    }
}
