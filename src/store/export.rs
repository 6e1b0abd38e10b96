//! Copying a stored file out of the store: the destination is replaced at once, and only by content that has the hash.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rand::{TryRng, rngs::SysRng};

use super::copy::{self, Sink};
use super::disk::{self, During};
use super::{ContentHash, HowStored, Store, StoreError, faults};

/// Removes the unfinished copy unless it was moved to its place.
struct Unfinished {
    path: PathBuf,
    moved: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.moved {
            // Best effort: the error that led here is the one that matters.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

impl Store {
    /// Copies `source` (which [`Store::find`] gave for `hash`) to `destination`, replacing a file there atomically after
    /// the content was verified. Says how: reflink or copy. `progress` is told the bytes so far.
    pub fn copy_out(
        &self,
        source: &Path,
        hash: ContentHash,
        destination: &Path,
        progress: &dyn Fn(u64),
    ) -> Result<HowStored, StoreError> {
        let unreadable = |e| StoreError::Source { path: source.to_owned(), source: e };
        let mut file = File::open(source).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let (copy, mut unfinished) = create_beside(destination)?;
        let path = unfinished.path.clone();
        let (passed, how) = if reflink_copy::reflink_file(&file, &copy).is_ok() {
            (copy::pass(&mut &copy, &path, None, hash.algorithm(), progress)?, HowStored::Reflink)
        } else {
            let sink = Sink::new(&copy, &path, size)?;
            (copy::pass(&mut file, source, Some(sink), hash.algorithm(), progress)?, HowStored::Copy)
        };
        if passed.hash != hash {
            return Err(StoreError::Damaged { path: source.to_owned(), expected: hash });
        }
        disk::sync_file(&copy, &path)?;
        faults::step("rename").during("rename to", destination)?;
        std::fs::rename(&path, destination).during("rename to", destination)?;
        unfinished.moved = true;
        faults::step("fsync folder").during("make durable", destination)?;
        File::open(folder_of(destination)).and_then(|f| f.sync_all()).during("make durable", destination)?;
        Ok(how)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn create_beside(destination: &Path) -> Result<(File, Unfinished), StoreError> {
    let name = destination.file_name().filter(|_| !destination.is_dir());
    let is_folder =
        || io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; add / to write a file inside");
    let name = name.ok_or_else(is_folder).during("write", destination)?;
    let number = SysRng.try_next_u64().map_err(io::Error::other).during("name a file beside", destination)?;
    // Names may be 255 bytes long already: only the beginning is used.
    let start: String = name.to_string_lossy().chars().take(40).collect();
    let path = folder_of(destination).join(format!(".{start}.{number:016x}.unfinished"));
    faults::step("create").during("create", &path)?;
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).open(&path).during("create", &path)?;
    Ok((file, Unfinished { path, moved: false }))
}
