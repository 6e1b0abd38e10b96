//! The two files of a download, `HASH-SIZE.data` and `HASH-SIZE.journal`.
//!
//! Their mode is that of every file in the store: the umask, or the folder's access list, decides. The finished data file
//! is the stored file, which other users of a shared store read; and to see that a download is under way, to list it or
//! to remove it when it is old, they have to open the unfinished one. What others may write is not believed (`recheck`).

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::store::disk::{self, During, Folder};
use crate::store::journal::{Journal, Record, Replayed};
use crate::store::layout::{self, OWN};
use crate::store::{Inner, Sha1, StoreError};

/// How often, and how far apart, the lock is tried.
const TRIES: u32 = 3;
const MOMENT: Duration = Duration::from_millis(5);

/// Which download: those of one hash with different claimed sizes are different downloads.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::store) struct Key {
    pub(in crate::store) sha1: Sha1,
    pub(in crate::store) size: u64,
}

impl Key {
    pub(super) fn data(self) -> String {
        format!("{}-{}.data", self.sha1, self.size)
    }

    pub(super) fn journal(self) -> String {
        format!("{}-{}.journal", self.sha1, self.size)
    }

    /// From the name of a data file.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (sha1, size) = name.strip_suffix(".data")?.split_once('-')?;
        let key = Key { sha1: sha1.parse().ok()?, size: size.parse().ok()? };
        (key.data() == name).then_some(key)
    }
}

/// Keeps other downloads with the same key out, of this process from the opening on; those of other processes once
/// there are files.
pub(super) struct Claim {
    inner: Arc<Inner>,
    key: Key,
}

impl Claim {
    pub(super) fn new(inner: &Arc<Inner>, key: Key) -> Result<Self, StoreError> {
        match inner.open_partials.lock().insert(key) {
            true => Ok(Claim { inner: Arc::clone(inner), key }),
            false => {
                let source =
                    io::Error::new(io::ErrorKind::WouldBlock, "this program is downloading it already");
                Err(source).during("lock", key.data().as_ref())
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.open_partials.lock().remove(&self.key);
    }
}

/// The open files; the data file is locked.
pub(super) struct Files {
    pub(super) folder: Folder,
    pub(super) data: File,
    pub(super) path: PathBuf,
    pub(super) journal: Journal,
    /// Do the names of both files survive a crash?
    named: bool,
}

impl Files {
    /// Those that an earlier download left, if there are any, and what they say.
    pub(super) fn resume(root: &Folder, key: Key) -> Result<Option<(Self, Replayed)>, StoreError> {
        let Some(folder) = layout::descend(root, &[OWN, "partial"])? else { return Ok(None) };
        let Some(data) = lock(&folder, key, false)? else { return Ok(None) };
        let (mut files, replayed) = Self::of(folder, data, key)?;
        let Some(mut replayed) = replayed else {
            files.start_over(key)?;
            return Ok(Some((files, Replayed::default())));
        };
        let length = files.data.metadata().during("look at", &files.path)?.len();
        if length < key.size {
            // Cut: of the chunk in which it ends now, what is left cannot be checked.
            replayed.present.remove(length - length % super::CHUNK, key.size);
        }
        if length != key.size {
            disk::set_length(&files.data, &files.path, key.size)?;
        }
        Ok(Some((files, replayed)))
    }

    /// Empty ones.
    pub(super) fn create(root: &Folder, key: Key) -> Result<Self, StoreError> {
        let folder = layout::descend_or_create(root, &[OWN, "partial"])?;
        let missing = || StoreError::Io { what: "create".to_owned(), source: io::ErrorKind::NotFound.into() };
        let data = lock(&folder, key, true)?.ok_or_else(missing)?;
        let (mut files, _) = Self::of(folder, data, key)?;
        files.start_over(key)?;
        Ok(files)
    }

    fn of(folder: Folder, data: File, key: Key) -> Result<(Self, Option<Replayed>), StoreError> {
        let path = folder.path_of(&key.data());
        let (journal, replayed) = Journal::open(&folder, &key.journal(), key.sha1, key.size)?;
        Ok((Files { folder, data, path, journal, named: false }, replayed))
    }

    fn start_over(&mut self, key: Key) -> Result<(), StoreError> {
        self.journal.restart(key.sha1, key.size)?;
        disk::set_length(&self.data, &self.path, key.size)
    }

    /// Replaces all the journal says.
    pub(super) fn replace(&mut self, root: &Folder, key: Key, records: &[Record]) -> Result<(), StoreError> {
        self.journal.replace(root, &self.folder, &key.journal(), (key.sha1, key.size), records)?;
        self.named = true;
        Ok(())
    }

    /// Makes records survive a crash.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.journal.append(records)?;
        if !self.named {
            self.folder.sync()?;
            self.named = true;
        }
        Ok(())
    }
}

/// Opens and locks the data file. None: there is none, and none is to be created.
fn lock(folder: &Folder, key: Key, create: bool) -> Result<Option<File>, StoreError> {
    let (name, mut tries) = (key.data(), 0);
    loop {
        let Some(file) = folder.open_unshared_file(&name, create)? else { return Ok(None) };
        tries += 1;
        match file.try_lock() {
            Ok(()) => {}
            // A program that lists or sweeps locks for a moment.
            Err(TryLockError::WouldBlock) if tries < TRIES => {
                std::thread::sleep(MOMENT);
                continue;
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: folder.path_of(&name) }),
            Err(TryLockError::Error(e)) => return Err(e).during("lock", &folder.path_of(&name)),
        }
        // Between opening and locking another process may have finished or removed it.
        if folder.names(&name, &file)? {
            return Ok(Some(file));
        }
    }
}
