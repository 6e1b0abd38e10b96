//! A file that takes the place of another one all at once: written, made durable, then given its name. Until then it has
//! no name at all where the file system can do that (`O_TMPFILE`: most on Linux, not NFS), so that whatever ends the
//! process leaves nothing behind; elsewhere it is a hidden file beside its destination, which whoever drops or
//! [cancels](Cancel) it removes.

use parking_lot::{Mutex, MutexGuard};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, OFlags};

use super::faults;
use super::temporary::unpredictable;

/// Replaces a small file so that at any moment, and after a crash, either the old or the new content is there. `mode`:
/// its permissions, less the umask.
///
/// # Errors
/// Creating, writing, syncing or renaming; the old content is then still there, or the new one is already.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let replacement = Replacement::begin(path, mode, &Cancel::default())?;
    replacement.file().write_all(bytes)?;
    replacement.commit()
}

/// Lets somebody else give up the writing of a file, whatever its writer is waiting for, so that nothing of it is left
/// when the process ends. May be used for several files one after the other.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    /// The name of what is being written, while it has one.
    unfinished: Option<PathBuf>,
}

impl Cancel {
    /// From now on no file appears at its destination.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.cancelled = true;
        state.remove();
    }

    /// Held while names change, so that none is given after the removal.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn go_on(&self) -> io::Result<()> {
        // Not ErrorKind::Interrupted, after which callers try again.
        if self.cancelled { Err(io::Error::other("cancelled")) } else { Ok(()) }
    }

    fn remove(&mut self) {
        if let Some(path) = self.unfinished.take() {
            // Best effort: what led here is what matters.
            fs::remove_file(path).ok();
        }
    }
}

/// A file on its way to its destination; nothing of it is left if it is dropped before [`Replacement::commit`].
pub(super) struct Replacement {
    file: File,
    destination: PathBuf,
    cancel: Cancel,
}

impl Replacement {
    /// An empty file that is to be `destination`.
    pub(super) fn begin(destination: &Path, mode: u32, cancel: &Cancel) -> io::Result<Self> {
        if destination.file_name().is_none() || destination.is_dir() {
            let why = "it is a folder; add / to write a file inside";
            return Err(io::Error::new(io::ErrorKind::IsADirectory, why));
        }
        if is_special(destination) {
            let why = "it is a device, a pipe or a socket; use - for standard output";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(mode);
        let file = match unnamed(destination, &options) {
            Some(file) => file,
            None => named(destination, options.create_new(true), cancel)?,
        };
        Ok(Self { file, destination: destination.to_owned(), cancel: cancel.clone() })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Makes it durable, puts it in the place of what is there, makes that durable.
    pub(super) fn commit(self) -> io::Result<()> {
        faults::step("fsync")?;
        self.file.sync_all()?;
        self.rename()?;
        faults::step("fsync folder")?;
        File::open(folder_of(&self.destination))?.sync_all()
    }

    fn rename(&self) -> io::Result<()> {
        let mut state = self.cancel.state();
        state.go_on()?;
        faults::step("rename")?;
        if state.unfinished.is_none() {
            match link(&self.file, &self.destination) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let path = name_beside(&self.destination)?;
                    link(&self.file, &path)?;
                    state.unfinished = Some(path);
                }
                other => return other,
            }
        }
        if let Some(path) = &state.unfinished {
            fs::rename(path, &self.destination)?;
            state.unfinished = None;
        }
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        self.cancel.state().remove();
    }
}

/// Is there something at `path` that holds no content, so that a file in its place would take away what it is for?
pub(crate) fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// None: not on this system.
fn unnamed(destination: &Path, options: &OpenOptions) -> Option<File> {
    let flags = OFlags::TMPFILE.bits();
    faults::step("create unnamed").ok()?;
    let file = options.clone().custom_flags(flags.cast_signed()).open(folder_of(destination)).ok()?;
    // Without /proc it could not be given a name later.
    fs::exists(descriptor(&file)).ok()?.then_some(file)
}

fn descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, descriptor(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

fn named(destination: &Path, options: &OpenOptions, cancel: &Cancel) -> io::Result<File> {
    let path = name_beside(destination)?;
    let mut state = cancel.state();
    state.go_on()?;
    faults::step("create")?;
    let file = options.open(&path)?;
    state.unfinished = Some(path);
    Ok(file)
}

fn name_beside(destination: &Path) -> io::Result<PathBuf> {
    let number = unpredictable()?;
    // Names may be 255 bytes long already: only the beginning is used.
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    let start: String = name.chars().take(40).collect();
    Ok(folder_of(destination).join(format!(".{start}.{number:016x}.unfinished")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faults::for_tests::{Fault, plan};
    use std::os::unix::fs::PermissionsExt;

    /// With a file that has no name, and with one that has (the first step fails).
    const WAYS: [Option<(usize, Fault)>; 2] = [None, Some((0, Fault::Fails(95)))];

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        for way in WAYS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            for content in ["first", "second"] {
                plan(way);
                replace_file(&path, content.as_bytes(), 0o600).unwrap();
                plan(None);
                assert_eq!(fs::read_to_string(&path).unwrap(), content);
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
                assert_eq!(names(folder.path()), ["file"]);
            }
        }
    }

    #[test]
    fn an_unfinished_file_has_no_name_where_the_system_can_do_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let replacement = Replacement::begin(&path, 0o600, &Cancel::default()).unwrap();
        replacement.file().write_all(b"x").unwrap();
        let can = unnamed(&path, OpenOptions::new().write(true)).is_some();
        assert_eq!(names(folder.path()).is_empty(), can, "{:?}", names(folder.path()));
    }

    #[test]
    fn what_is_dropped_or_cancelled_leaves_nothing_and_the_old_file() {
        for way in WAYS {
            for cancelled in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("file");
                fs::write(&path, "old").unwrap();
                let cancel = Cancel::default();
                plan(way);
                let replacement = Replacement::begin(&path, 0o644, &cancel).unwrap();
                plan(None);
                replacement.file().write_all(b"new").unwrap();
                if cancelled {
                    cancel.cancel();
                    assert_eq!(names(folder.path()), ["file"], "removed while the writer still works");
                    assert_eq!(replacement.commit().unwrap_err().to_string(), "cancelled");
                    assert!(Replacement::begin(&path, 0o644, &cancel).and_then(Replacement::commit).is_err());
                } else {
                    drop(replacement);
                }
                assert_eq!(names(folder.path()), ["file"]);
                assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            }
        }
    }

    #[test]
    fn a_socket_and_a_pipe_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, pipe, link) =
            (folder.path().join("socket"), folder.path().join("pipe"), folder.path().join("link"));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for path in [socket, pipe, link] {
            let before = fs::symlink_metadata(&path).unwrap().file_type();
            let error = replace_file(&path, b"", 0o644).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(fs::symlink_metadata(&path).unwrap().file_type(), before);
        }
    }

    #[test]
    fn a_folder_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let error = replace_file(folder.path(), b"", 0o644).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }
}
