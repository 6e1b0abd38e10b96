//! The last step of every way into the store: a file that was hashed gets its name, if it is still that file. In a shared
//! store another program can write to it, lengthen it, or move it away and put something else under its name; so the
//! open file is compared with the name and with the state in which it was hashed, before and after the rename.

use std::fs::File;
use std::path::PathBuf;

use super::chain::ChainState;
use super::disk::{During, Folder, Stamp};
use super::{ContentHash, Store, StoreError, layout, sidecar};

/// A file that was hashed, and is not yet visible under its hash. Its content is durable.
pub(super) struct Hashed<'a> {
    pub(super) file: &'a File,
    /// The folder in which it has its present name.
    pub(super) folder: &'a Folder,
    pub(super) name: &'a str,
    /// Its state when it was hashed.
    pub(super) stamp: Stamp,
    pub(super) hash: ContentHash,
    /// Bytes that were hashed.
    pub(super) size: u64,
    pub(super) states: &'a [ChainState],
}

impl Hashed<'_> {
    fn stamp_now(&self) -> Result<Stamp, StoreError> {
        Ok(Stamp::of(&self.file.metadata().during("look at", &self.folder.path_of(self.name))?))
    }

    /// Is it under its present name, and all of it as it was hashed?
    fn is_unchanged(&self) -> Result<bool, StoreError> {
        let same = self.stamp.size == self.size && self.stamp_now()? == self.stamp;
        Ok(same && self.folder.names(self.name, self.file)?)
    }

    /// Is it under this name now? The rename has changed its ctime.
    fn came_to(&self, folder: &Folder, name: &str) -> Result<bool, StoreError> {
        Ok(folder.names(name, self.file)? && self.stamp_now()?.has_same_content(&self.stamp))
    }
}

impl Store {
    /// Makes a file durably visible under its hash, in place of what has that name, and remembers it as verified. Its
    /// path. Fails with [`StoreError::Interfered`] if another program changed or replaced it; then nothing of that stays
    /// visible, and nothing of it is removed.
    pub(super) fn move_in(&self, hashed: &Hashed<'_>) -> Result<PathBuf, StoreError> {
        let interfered = || StoreError::Interfered { path: hashed.folder.path_of(hashed.name) };
        if !hashed.is_unchanged()? {
            return Err(interfered());
        }
        let folder = layout::content_folder_or_create(&self.inner.root, hashed.hash)?;
        let name = hashed.hash.to_string();
        hashed.folder.rename(hashed.name, &folder, &name)?;
        // What cannot be looked at is not taken for the file.
        let came = hashed.came_to(&folder, &name).unwrap_or(false);
        // Another program may have stored the same file a moment after the rename: that one stays.
        if !came && !self.is_right(hashed.hash).unwrap_or(false) {
            if let Err(error) = folder.rename(&name, hashed.folder, hashed.name) {
                tracing::warn!(%error, "what another program put in the place of a file could not be moved back");
            }
            return Err(interfered());
        }
        folder.sync()?;
        if came && let Err(error) = sidecar::write_for_placed(&self.inner.root, hashed) {
            // The file itself is safe; without a sidecar it is hashed once more when a peer asks for it.
            tracing::warn!(%error, "the chain states of a new file could not be kept");
        }
        Ok(folder.path_of(&name))
    }
}
