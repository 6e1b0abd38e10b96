//! Files of the local store, for the commands that need no daemon and for those that ask one: where a file is once it is
//! verified, a copy of it, and its content on standard output.

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::failure::{Exit, Failure};
use super::output::stdout_failure;
use super::progress::{Progress, ProgressMode};
use crate::store::{Cancel, ContentHash, HowStored, Store};

/// False if nothing can be in the store because its folder does not exist: a command that only looks for a file does not
/// open it then, which would create the folder. `folder` is None if none was named.
pub(super) fn may_have_files(folder: Option<&Path>) -> bool {
    let is_missing = |folder: &Path| folder.try_exists().is_ok_and(|exists| !exists);
    // Another store may be looked into, too.
    !folder.is_some_and(is_missing) || std::env::var_os("KACHERY_STORAGE_DIR_ALT").is_some()
}

/// Where a file of the store is, once its content is known to have the hash; `found` is where it seems to be. None: its
/// content is another.
pub(super) fn verified(
    store: &Store,
    hash: ContentHash,
    found: &Path,
    mode: ProgressMode,
) -> Result<Option<PathBuf>, Failure> {
    // Begun by the first bytes that are hashed: mostly none are.
    let (progress, size) = (OnceCell::new(), size_of(found)?);
    let begin = || Progress::new(mode, "verifying", Some(size));
    Ok(store.find_verified(hash, &|bytes| progress.get_or_init(begin).set(bytes))?)
}

/// Puts a verified copy at `target`; cancelled, it leaves nothing behind.
pub(super) fn copy_out(
    store: &Store,
    source: &Path,
    hash: ContentHash,
    target: &Path,
    cancel: &Cancel,
    mode: ProgressMode,
) -> Result<HowStored, Failure> {
    let label = format!("copying to {}", target.display());
    let progress = Progress::new(mode, label, Some(size_of(source)?));
    Ok(store.copy_out(source, hash, target, cancel, &|bytes| progress.set(bytes))?)
}

/// Writes bytes `start` to `end` of a file to standard output.
pub(super) fn write_out(path: &Path, start: u64, end: u64) -> Result<(), Failure> {
    let cannot = |e| unreadable(path, &e);
    let mut file = File::open(path).map_err(cannot)?;
    file.seek(SeekFrom::Start(start)).map_err(cannot)?;
    let mut out = io::stdout().lock();
    let copied = io::copy(&mut file.take(end - start), &mut out);
    let copied = copied.and_then(|count| out.flush().map(|()| count)).map_err(|e| stdout_failure(&e))?;
    match copied == end - start {
        true => Ok(()),
        false => {
            Err(Failure::new(Exit::Other, format!("{} became shorter while it was read", path.display())))
        }
    }
}

/// The size of a file.
pub(super) fn size_of(path: &Path) -> Result<u64, Failure> {
    Ok(std::fs::metadata(path).map_err(|e| unreadable(path, &e))?.len())
}

/// Reading a file failed.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Other, format!("cannot read {}: {error}", path.display())).unless_out_of_files(error)
}
