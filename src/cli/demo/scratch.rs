//! A temporary folder that does not outlive its owner.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io, thread};

use crate::cli::failure::{Exit, Failure};

/// A thread that was interrupted may still create a file while the folder is being removed.
const ATTEMPTS: u32 = 20;

/// Removed when dropped; [`Scratch::remove`] also tells whether that worked.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// In the system's place for temporary files (TMPDIR), for this user only.
    pub(super) fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("kachery-p2p-demo-{:016x}", unpredictable()?));
        let created = DirBuilder::new().mode(0o700).create(&path);
        created.map_err(|e| Failure::io(format!("create the folder {}", path.display()), &e))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn remove(self) -> Result<(), Failure> {
        self.remove_all().map_err(|e| Failure::io(format!("remove the folder {}", self.path.display()), &e))
    }

    fn remove_all(&self) -> io::Result<()> {
        let mut left = ATTEMPTS;
        loop {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(_) if left > 0 => {
                    left -= 1;
                    thread::sleep(Duration::from_millis(20));
                }
                result => return result,
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // `remove` tells if it failed; here nobody can be told.
        let _ = self.remove_all();
    }
}

/// A number nobody else has.
pub(super) fn unpredictable() -> Result<u64, Failure> {
    crate::store::unpredictable()
        .map_err(|e| Failure::new(Exit::Other, format!("the system has no random numbers: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_it() {
        let scratch = Scratch::create().unwrap();
        let path = scratch.path().to_owned();
        fs::create_dir_all(path.join("a/b")).unwrap();
        fs::write(path.join("a/b/c"), "x").unwrap();
        scratch.remove().unwrap();
        assert!(!path.exists());
        let dropped = Scratch::create().unwrap();
        let path = dropped.path().to_owned();
        drop(dropped);
        assert!(!path.exists());
    }
}
