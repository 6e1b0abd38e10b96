//! Copying a stored file out of the store: the destination is replaced at once, and only by content that has the hash.
//! Never a hard link: whoever changed the destination would change what the store gives to others.

use std::fs::File;
use std::path::Path;

use super::copy::{self, Sink};
use super::disk::During;
use super::replacement::{Cancel, Replacement};
use super::{ContentHash, HowStored, Store, StoreError};

/// Permissions of a new file, before the umask.
const MODE: u32 = 0o666;

impl Store {
    /// Copies `source` (which [`Store::find`] gave for `hash`) to `destination`, replacing a file there atomically after
    /// the content was verified. Says how: reflink or copy. `progress` is told the bytes so far. Whoever has `cancel` can
    /// end it from elsewhere.
    pub fn copy_out(
        &self,
        source: &Path,
        hash: ContentHash,
        destination: &Path,
        cancel: &Cancel,
        progress: &dyn Fn(u64),
    ) -> Result<HowStored, StoreError> {
        let unreadable = |e| StoreError::Source { path: source.to_owned(), source: e };
        let mut file = File::open(source).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let replacement = Replacement::begin(destination, MODE, cancel).during("write", destination)?;
        let mut copy = replacement.file();
        let (passed, how) = if reflink_copy::reflink_file(&file, copy).is_ok() {
            (copy::pass(&mut copy, destination, None, hash.algorithm(), progress)?, HowStored::Reflink)
        } else {
            let sink = Sink::new(copy, destination, size)?;
            (copy::pass(&mut file, source, Some(sink), hash.algorithm(), progress)?, HowStored::Copy)
        };
        if passed.hash != hash {
            return Err(StoreError::Damaged { path: source.to_owned(), expected: hash });
        }
        replacement.commit().during("write", destination)?;
        Ok(how)
    }
}
