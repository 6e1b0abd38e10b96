//! Temporary files of ours, in `kachery-p2p/tmp`. Each is locked by its writer for as long as it lives, so that one
//! that can be locked by somebody else belongs to a process that died.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rand::{TryRng, rngs::SysRng};

use super::StoreError;
use super::disk::{self, During, Folder};
use super::layout::{self, OWN};

const SUFFIX: &str = ".temporary";

/// A file that is removed when dropped, unless it was moved to its place or something else has its name.
pub(super) struct Temporary {
    folder: Folder,
    name: String,
    file: File,
}

fn folder(root: &Folder) -> Result<Folder, StoreError> {
    layout::descend_or_create(root, &[OWN, "tmp"])
}

/// A number nobody else has, from the operating system.
pub(crate) fn unpredictable() -> io::Result<u64> {
    SysRng.try_next_u64().map_err(io::Error::other)
}

/// Random: several machines may share the folder.
fn new_name(folder: &Folder) -> Result<String, StoreError> {
    let number = unpredictable().during("name a file in", folder.path())?;
    Ok(format!("{number:016x}{SUFFIX}"))
}

impl Temporary {
    /// An empty file.
    pub(super) fn create(root: &Folder) -> Result<Self, StoreError> {
        loop {
            let folder = folder(root)?;
            let name = new_name(&folder)?;
            let file = folder.create_file(&name)?;
            let temporary = Temporary { folder, name, file };
            temporary.file.lock().during("lock", &temporary.path())?;
            // Between creation and lock a cleaning process may have taken it for a dead one.
            if temporary.is_itself()? {
                return Ok(temporary);
            }
        }
    }

    /// A second name of the file at `source`, which is the open `file`.
    pub(super) fn hard_link(root: &Folder, source: &Path, file: File) -> Result<Self, StoreError> {
        let folder = folder(root)?;
        let name = new_name(&folder)?;
        // Shared: the file is the user's; any lock on it keeps the cleaning away, theirs too.
        match file.try_lock_shared() {
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(e)) => return Err(e).during("lock", source),
        }
        folder.link_from(source, &name)?;
        Ok(Temporary { folder, name, file })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path_of(&self.name)
    }

    /// Does the name still mean the open file?
    pub(super) fn is_itself(&self) -> Result<bool, StoreError> {
        self.folder.names(&self.name, &self.file)
    }

    /// Makes the content durable and then durably visible as `name` in `to`, replacing what was there.
    pub(super) fn move_to(self, to: &Folder, name: &str) -> Result<File, StoreError> {
        disk::sync_file(&self.file, &self.path())?;
        let file = self.move_unsynced(to, name)?;
        to.sync()?;
        Ok(file)
    }

    /// As [`Temporary::move_to`], but a crash may undo it or leave a damaged file: for what checks itself.
    pub(super) fn move_unsynced(self, to: &Folder, name: &str) -> Result<File, StoreError> {
        let path = to.path_of(name);
        self.folder.rename(&self.name, to, name)?;
        self.file.try_clone().during("keep open", &path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Also after it was moved: renaming one of two names of one inode over the other does nothing.
        if self.is_itself().unwrap_or(true)
            && let Err(error) = self.folder.remove(&self.name)
        {
            tracing::warn!(%error, "a temporary file stays behind until the next start");
        }
    }
}

/// Removes the temporaries of processes that died. Never touches anything else.
pub(super) fn remove_dead(root: &Folder) -> Result<(), StoreError> {
    let Some(folder) = layout::descend(root, &[OWN, "tmp"])? else { return Ok(()) };
    for name in folder.list()?.iter().filter(|n| n.ends_with(SUFFIX)) {
        let Ok(Some(file)) = folder.open_file(name) else { continue };
        if file.try_lock().is_ok() && folder.names(name, &file)? {
            folder.remove(name)?;
        }
    }
    Ok(())
}
