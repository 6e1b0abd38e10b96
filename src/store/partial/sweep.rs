//! Unfinished downloads that nobody takes up again.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use super::Key;
use crate::limits::{MAX_PARTIAL_AGE, MAX_PARTIAL_FILES};
use crate::store::disk::{During, Folder};
use crate::store::layout::{self, OWN};
use crate::store::{Sha1, Store, StoreError};

/// An unfinished download in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialFile {
    /// The name of the file that was to be.
    pub sha1: Sha1,
    /// Bytes of the whole, as somebody claimed.
    pub size: u64,
    /// Bytes that it takes on disk.
    pub on_disk: u64,
    /// When something was last written to it.
    pub changed: SystemTime,
    /// Is it being downloaded now, by this or another process? Then it is never removed.
    pub in_use: bool,
}

impl PartialFile {
    fn key(&self) -> Key {
        Key { sha1: self.sha1, size: self.size }
    }

    fn age(&self) -> Duration {
        self.changed.elapsed().unwrap_or_default()
    }
}

impl Store {
    /// All unfinished downloads, those changed longest ago first.
    pub fn partials(&self) -> Result<Vec<PartialFile>, StoreError> {
        self.look_at(|_| true)
    }

    /// The downloads of this file, by the sizes that were claimed, which some program is writing now.
    pub fn partials_in_use(&self, sha1: Sha1) -> Result<Vec<PartialFile>, StoreError> {
        let mut files = self.look_at(|key| key.sha1 == sha1)?;
        files.retain(|file| file.in_use);
        Ok(files)
    }

    fn look_at(&self, wanted: impl Fn(&Key) -> bool) -> Result<Vec<PartialFile>, StoreError> {
        let mut files = list(&self.inner.root, wanted)?;
        if let Some(folder) = folder(&self.inner.root)? {
            for file in &mut files {
                file.in_use = is_in_use(&folder, file.key())?;
            }
        }
        Ok(files)
    }

    /// Removes the unfinished downloads to which nothing was written for `older_than`, except those that are in use.
    /// Which ones those were. Loading such a file again begins from its start.
    pub fn remove_partials(&self, older_than: Duration) -> Result<Vec<PartialFile>, StoreError> {
        remove(
            &self.inner.root,
            list(&self.inner.root, |_| true)?.into_iter().filter(|file| file.age() >= older_than),
        )
    }
}

fn folder(root: &Folder) -> Result<Option<Folder>, StoreError> {
    layout::descend(root, &[OWN, "partial"])
}

/// Those that are wanted, those changed longest ago first; `in_use` is not looked at.
fn list(root: &Folder, wanted: impl Fn(&Key) -> bool) -> Result<Vec<PartialFile>, StoreError> {
    let Some(folder) = folder(root)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for key in folder.list()?.iter().filter_map(|name| Key::parse(name)).filter(wanted) {
        // What is gone meanwhile, or no file, is passed over.
        let Ok(Some(file)) = folder.open_file(&key.data()) else { continue };
        let metadata = file.metadata().during("look at", &folder.path_of(&key.data()))?;
        found.push(PartialFile {
            sha1: key.sha1,
            size: key.size,
            on_disk: metadata.blocks() * 512,
            changed: metadata.modified().during("look at", &folder.path_of(&key.data()))?,
            in_use: false,
        });
    }
    found.sort_by_key(|file| file.changed);
    Ok(found)
}

/// Removes what is not in use; which ones those were. One that cannot be removed is an error, but keeps no other.
fn remove(root: &Folder, files: impl Iterator<Item = PartialFile>) -> Result<Vec<PartialFile>, StoreError> {
    let Some(folder) = folder(root)? else { return Ok(Vec::new()) };
    let (mut removed, mut result) = (Vec::new(), Ok(()));
    for file in files {
        match remove_one(&folder, file.key()) {
            Ok(true) => removed.push(file),
            Ok(false) => {}
            Err(error) => result = Err(error),
        }
    }
    result.map(|()| removed)
}

/// False: it is in use, or gone.
fn remove_one(folder: &Folder, key: Key) -> Result<bool, StoreError> {
    let Some(file) = unused(folder, key)? else { return Ok(false) };
    // The journal first: data without a journal is nothing, a journal without data could meet new data. The lock is
    // held until both are gone, and a download that waited for it looks whether its file still has the name.
    folder.remove(&key.journal())?;
    folder.remove(&key.data())?;
    drop(file);
    Ok(true)
}

/// The data file, locked. None: it is in use, or there is none.
fn unused(folder: &Folder, key: Key) -> Result<Option<File>, StoreError> {
    let Some(file) = folder.open_file(&key.data())? else { return Ok(None) };
    let free = file.try_lock().is_ok() && folder.names(&key.data(), &file)?;
    Ok(free.then_some(file))
}

fn is_in_use(folder: &Folder, key: Key) -> Result<bool, StoreError> {
    Ok(folder.open_file(&key.data())?.is_some_and(|file| file.try_lock_shared().is_err()))
}

/// Removes files that may be read but not written, unless they are in use; fails with `error` if that is not permitted.
pub(super) fn remove_unwritable(root: &Folder, key: Key, error: StoreError) -> Result<(), StoreError> {
    let Some(folder) = folder(root)? else { return Err(error) };
    match remove_one(&folder, key) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::InUse { path: folder.path_of(&key.data()) }),
        Err(_) => Err(error),
    }
}

/// Removes what is older than [`MAX_PARTIAL_AGE`], the oldest beyond [`MAX_PARTIAL_FILES`], and journals without data.
pub(in crate::store) fn sweep(root: &Folder) {
    let swept = list(root, |_| true).and_then(|files| {
        let too_many = files.len().saturating_sub(MAX_PARTIAL_FILES);
        let old = files
            .into_iter()
            .enumerate()
            .filter(|(number, file)| *number < too_many || file.age() > MAX_PARTIAL_AGE);
        remove(root, old.map(|(_, file)| file))?;
        remove_lone_journals(root)
    });
    if let Err(error) = swept {
        tracing::warn!(%error, "unfinished downloads of long ago could not be removed");
    }
}

fn remove_lone_journals(root: &Folder) -> Result<(), StoreError> {
    let Some(folder) = folder(root)? else { return Ok(()) };
    let names: HashSet<String> = folder.list()?.into_iter().collect();
    let mut result = Ok(());
    for name in &names {
        let data = name.strip_suffix(".journal").map(|stem| format!("{stem}.data"));
        if data.is_some_and(|data| !names.contains(&data)) {
            result = folder.remove(name).and(result);
        }
    }
    result
}

/// After a download came to its place: removes its journal and other downloads of the same hash. One that cannot be
/// removed is an error, but keeps no other.
pub(super) fn remove_finished(folder: &Folder, sha1: Sha1) -> Result<(), StoreError> {
    let mut result = Ok(());
    for name in folder.list()? {
        if let Some(key) = Key::parse(&name).filter(|key| key.sha1 == sha1) {
            result = remove_one(folder, key).map(|_| ()).and(result);
        }
    }
    let prefix = format!("{sha1}-");
    for name in folder.list()?.iter().filter(|name| name.starts_with(&prefix)) {
        let Some(stem) = name.strip_suffix(".journal") else { continue };
        if folder.open_file(&format!("{stem}.data")).is_ok_and(|data| data.is_none()) {
            result = folder.remove(name).and(result);
        }
    }
    result
}
