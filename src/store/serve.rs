//! Files for peers: only from the store or its read-only alternate, never through hints or links, and only after
//! their content was verified once in the state they are in.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::chain::{self, ChainHasher};
use super::disk::{self, During, Folder, Stamp};
use super::find::place;
use super::memory::{self, SMALL};
use super::{ContentHash, Sha1, Store, StoreError, layout, sidecar};
use crate::limits::MAX_REMEMBERED_VERDICTS;

/// A file opened for peers: only from the store (or its read-only alternate), never through hints; its size was
/// checked against the chain states, and its hash once per (inode, size, mtime, ctime).
#[derive(Debug)]
pub struct ServedFile {
    file: File,
    path: PathBuf,
    size: u64,
}

#[allow(clippy::len_without_is_empty)]
impl ServedFile {
    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads exactly `buffer.len()` bytes at `offset`; an error if the file ends before.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.file.read_exact_at(buffer, offset).during("read", &self.path)
    }

    /// An independent std file for streaming (HTTP bodies).
    pub fn file(&self) -> Result<File, StoreError> {
        // Opened anew rather than duplicated: duplicates share the position.
        let again = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.file)));
        again.or_else(|_| File::open(&self.path)).during("open again", &self.path)
    }
}

/// What is known about files in the state of a stamp; saves reading sidecars and hashing corrupted files again.
#[derive(Default)]
pub(super) struct Verdicts {
    /// By hash and inode: there may be a damaged file in the store and a good one in the alternate root.
    known: Mutex<HashMap<(Sha1, u64), (Stamp, bool)>>,
}

impl Verdicts {
    fn lookup(&self, sha1: Sha1, stamp: &Stamp) -> Option<bool> {
        let known = self.known.lock();
        known.get(&(sha1, stamp.inode)).filter(|(at, _)| at == stamp).map(|(_, good)| *good)
    }

    pub(super) fn remember(&self, sha1: Sha1, stamp: Stamp, good: bool) {
        let mut known = self.known.lock();
        // When full everything is forgotten: the sidecars on disk still know.
        let key = (sha1, stamp.inode);
        if known.len() >= MAX_REMEMBERED_VERDICTS && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, (stamp, good));
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.known.lock().len()
    }
}

impl Store {
    /// For peers and HTTP. None: not in the store, or what is there is not what its name says (a warning is
    /// logged). May hash the file, once per (inode, size, mtime, ctime): see [`Store::needs_hashing`].
    pub fn open_served(&self, sha1: Sha1) -> Result<Option<ServedFile>, StoreError> {
        for (root, file, stamp) in self.candidates(sha1)? {
            let path = place(&root, ContentHash::Sha1(sha1));
            if self.verify(sha1, &path, &file, stamp, &|_| {})? {
                return Ok(Some(ServedFile { file, path, size: stamp.size }));
            }
        }
        Ok(None)
    }

    /// Would [`Store::open_served`] hash a file that takes a while?
    pub fn needs_hashing(&self, sha1: Sha1) -> Result<bool, StoreError> {
        for (_, _, stamp) in self.candidates(sha1)? {
            match self.known_verdict(sha1, &stamp)? {
                Some(true) => return Ok(false),
                None if stamp.size >= SMALL => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    /// The size of a file we would serve, without hashing anything; None: not in the store, or known to be damaged.
    pub fn served_size(&self, sha1: Sha1) -> Result<Option<u64>, StoreError> {
        for (_, _, stamp) in self.candidates(sha1)? {
            let contradicted = match self.inner.verdicts.lookup(sha1, &stamp) {
                Some(good) => !good,
                None => sidecar::read_stamp(&self.inner.root, sha1)?.is_some_and(|s| s.size != stamp.size),
            };
            if !contradicted {
                return Ok(Some(stamp.size));
            }
        }
        Ok(None)
    }

    /// As [`Store::find_any`], but only what has the hash: hashes what was not verified in its state yet, telling
    /// `progress` the bytes so far. Fails with [`StoreError::Damaged`] if what is here does not have it.
    pub fn find_verified(
        &self,
        hash: ContentHash,
        progress: &dyn Fn(u64),
    ) -> Result<Option<PathBuf>, StoreError> {
        let mut damaged = None;
        for path in self.places(hash) {
            let good = match hash {
                ContentHash::Sha1(sha1) => {
                    let unreadable = |source| StoreError::Source { path: path.clone(), source };
                    let file = File::open(&path).map_err(unreadable)?;
                    let stamp = Stamp::of(&file.metadata().map_err(unreadable)?);
                    self.verify(sha1, &path, &file, stamp, progress)?
                }
                ContentHash::Md5(_) => self.hash_of_file(&path, hash.algorithm(), progress)? == hash,
            };
            if good {
                return Ok(Some(path));
            }
            damaged = Some(path);
        }
        // What a hint leads to is in the state in which it was hashed.
        match (memory::find_by_hints(&self.inner.root, hash), damaged) {
            (None, Some(path)) => Err(StoreError::Damaged { path, expected: hash }),
            (found, _) => Ok(found),
        }
    }

    /// Is a file of this name in the store itself (not the alternate), with its content verified? Hashes only small
    /// files for that. Its size.
    pub(super) fn known_good(&self, sha1: Sha1) -> Result<Option<u64>, StoreError> {
        for (root, file, stamp) in self.candidates(sha1)? {
            let own = root == self.root();
            if own && (stamp.size < SMALL || self.known_verdict(sha1, &stamp)? == Some(true)) {
                let path = place(&root, ContentHash::Sha1(sha1));
                return Ok(self.verify(sha1, &path, &file, stamp, &|_| {})?.then_some(stamp.size));
            }
        }
        Ok(None)
    }

    /// Has the file of this name in the store itself (not the alternate) the right content? Hashes it if that is not
    /// known.
    pub(super) fn is_right(&self, hash: ContentHash) -> Result<bool, StoreError> {
        let path = place(self.root(), hash);
        let Some(file) = open_content(&self.inner.root, hash)? else { return Ok(false) };
        let ContentHash::Sha1(sha1) = hash else {
            return Ok(self.hash_of_file(&path, hash.algorithm(), &|_| {})? == hash);
        };
        let stamp = Stamp::of(&file.metadata().during("look at", &path)?);
        self.verify(sha1, &path, &file, stamp, &|_| {})
    }

    /// The file in the store and the one in the alternate root, as far as they exist.
    fn candidates(&self, sha1: Sha1) -> Result<Vec<(PathBuf, File, Stamp)>, StoreError> {
        let mut found = Vec::new();
        let alternate = self.inner.alternate.as_deref().and_then(|path| Folder::open_root(path).ok());
        for root in [Some(&self.inner.root), alternate.as_ref()].into_iter().flatten() {
            match open_content(root, ContentHash::Sha1(sha1)) {
                Ok(Some(file)) => {
                    let stamp = Stamp::of(&file.metadata().during("look at", root.path())?);
                    found.push((root.path().to_owned(), file, stamp));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, %sha1, "a stored file is not offered to peers"),
            }
        }
        Ok(found)
    }

    fn known_verdict(&self, sha1: Sha1, stamp: &Stamp) -> Result<Option<bool>, StoreError> {
        if let Some(good) = self.inner.verdicts.lookup(sha1, stamp) {
            return Ok(Some(good));
        }
        if sidecar::read_stamp(&self.inner.root, sha1)?.as_ref() == Some(stamp) {
            self.inner.verdicts.remember(sha1, *stamp, true);
            return Ok(Some(true));
        }
        Ok(None)
    }

    /// Is the content what its name says? Hashes it if that is not known.
    fn verify(
        &self,
        sha1: Sha1,
        path: &Path,
        file: &File,
        stamp: Stamp,
        progress: &dyn Fn(u64),
    ) -> Result<bool, StoreError> {
        if let Some(good) = self.known_verdict(sha1, &stamp)? {
            return Ok(good);
        }
        let hasher = hash_file(file, progress).during("read", path)?;
        let unchanged = Stamp::of(&file.metadata().during("look at", path)?) == stamp;
        let found = hasher.digest();
        let good = found == sha1 && unchanged && hasher.length() == stamp.size;
        if unchanged {
            self.inner.verdicts.remember(sha1, stamp, good);
        }
        if !good {
            tracing::warn!(
                path = %path.display(), %found,
                "a file in the store is damaged: its content is not what its name says, so it is not given to anybody; \
                 store or load it again to repair it"
            );
            return Ok(false);
        }
        // A store that cannot be written (the alternate root alone may be there) still serves; it hashes again
        // after a restart.
        if stamp.size >= SMALL
            && let Err(error) = sidecar::write(&self.inner.root, sha1, &stamp, &hasher.into_states())
        {
            tracing::warn!(%error, "the chain states of a stored file could not be kept");
        }
        Ok(true)
    }
}

/// Opens a stored file without following links. None: not there.
pub(super) fn open_content(root: &Folder, hash: ContentHash) -> Result<Option<File>, StoreError> {
    match layout::content_folder(root, hash)? {
        Some(folder) => folder.open_file(&hash.to_string()),
        None => Ok(None),
    }
}

fn hash_file(file: &File, progress: &dyn Fn(u64)) -> std::io::Result<ChainHasher> {
    let mut hasher = ChainHasher::default();
    let mut buffer = vec![0; chain::CHUNK as usize];
    loop {
        let count = disk::read_up_to(file, hasher.length(), &mut buffer)?;
        hasher.update(buffer.get(..count).unwrap_or_default());
        progress(hasher.length());
        if count < buffer.len() {
            return Ok(hasher);
        }
    }
}
