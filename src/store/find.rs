//! What a URI means in this store, for local users.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::copy::Hashing;
use super::manifest::{Found, Manifest, ManifestFile};
use super::uri::Uri;
use super::{ContentHash, Sha1, Store, StoreError, layout, memory};
use crate::limits::MAX_MANIFEST_BYTES;

/// What a URI names.
#[derive(Clone, Debug)]
pub enum Named {
    /// A file, here or not.
    File {
        /// Its name in the store.
        hash: ContentHash,
        /// Its size, if a manifest says it.
        size: Option<u64>,
        /// Where it is. None: not here.
        path: Option<PathBuf>,
    },
    /// A folder.
    Directory(Manifest),
    /// Nothing that is here: the manifest is missing or has no such path, or no file can have this name.
    Nothing,
}

impl Store {
    /// Where a local copy is: store, alternate root, hints (in this order); for local use. As in Python's kachery
    /// nothing is hashed.
    pub fn find(&self, sha1: Sha1) -> Result<Option<PathBuf>, StoreError> {
        self.find_any(ContentHash::Sha1(sha1))
    }

    /// As [`Store::find`], for either algorithm.
    pub fn find_any(&self, hash: ContentHash) -> Result<Option<PathBuf>, StoreError> {
        Ok(self.places(hash).next().or_else(|| memory::find_by_hints(&self.inner.root, hash)))
    }

    /// The file in the store and the one in the alternate root, as far as they exist.
    pub(super) fn places(&self, hash: ContentHash) -> impl Iterator<Item = PathBuf> {
        let roots = [Some(self.root()), self.inner.alternate.as_deref()];
        roots.into_iter().flatten().map(move |root| place(root, hash)).filter(|path| path.is_file())
    }

    /// What a URI names here.
    pub fn look_up(&self, uri: &Uri) -> Result<Named, StoreError> {
        let Some(hash) = uri.content_hash() else { return Ok(Named::Nothing) };
        if !uri.is_directory() {
            return Ok(Named::File { hash, size: None, path: self.find_any(hash)? });
        }
        let Some(manifest) = self.read_manifest(hash)? else { return Ok(Named::Nothing) };
        match manifest.look_up(&uri.rest) {
            Some(Found::Directory(_)) => {
                Ok(manifest.into_directory(&uri.rest).map_or(Named::Nothing, Named::Directory))
            }
            Some(Found::File(ManifestFile { size, hash: Some(hash) })) => {
                Ok(Named::File { hash, size, path: self.find_any(hash)? })
            }
            _ => Ok(Named::Nothing),
        }
    }

    /// The manifest of a folder, verified. None: not here.
    fn read_manifest(&self, hash: ContentHash) -> Result<Option<Manifest>, StoreError> {
        let Some(path) = self.find_any(hash)? else { return Ok(None) };
        let unreadable = |source| StoreError::Source { path: path.clone(), source };
        let file = std::fs::File::open(&path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_MANIFEST_BYTES);
        // Room for one byte more, by which the end is noticed.
        let mut text = Vec::with_capacity(length + 1);
        // One more than allowed is read, so that the parser sees that it is too much.
        file.take(MAX_MANIFEST_BYTES as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
        let error = |error| StoreError::Manifest { path: path.clone(), error };
        let manifest = Manifest::parse(&text);
        let mut hashing = Hashing::new(hash.algorithm());
        hashing.update(&text);
        if text.len() <= MAX_MANIFEST_BYTES && hashing.finish().0 != hash {
            return Err(StoreError::Damaged { path, expected: hash });
        }
        manifest.map(Some).map_err(error)
    }
}

/// Where a file of this name belongs below a root.
pub(super) fn place(root: &Path, hash: ContentHash) -> PathBuf {
    let text = hash.to_string();
    root.join(layout::relative(hash.algorithm().name(), &text, &text))
}
