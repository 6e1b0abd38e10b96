//! Folders and files of the store as the system sees them: opened one component at a time and never through a
//! symbolic link below the root, so that a planted link cannot lead outside. Every change is made here, with a
//! [`faults::step`] before it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use super::{StoreError, faults};

/// Odd things under one name that are removed before a file of that name is given up: somebody puts them there.
const REMOVALS: u32 = 3;

/// May what this file says about hashes be believed? Only if nobody else could write it: a store may be shared, and
/// others can put what they like beside our files, or into those of ours that they may write. Otherwise the caller does
/// without it and hashes again.
pub(super) fn is_ours(metadata: &Metadata) -> bool {
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    // A group with the number of its user is that user's alone, by the custom of most systems.
    let others = if metadata.gid() == owner { 0o002 } else { 0o022 };
    (owner == own || owner == 0) && metadata.mode() & others == 0
}

/// Takes from everybody else the right to write the file, so that what it says [can be believed](is_ours).
pub(super) fn keep_others_from_writing(file: &File, path: &Path) -> Result<(), StoreError> {
    let mode = file.metadata().during("look at", path)?.mode();
    match mode & 0o022 {
        0 => Ok(()),
        _ => {
            rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o755)).during("set the permissions of", path)
        }
    }
}

/// What identifies one state of one file: if all of it is unchanged, so is the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds of the last change of the content.
    pub(super) modified: (i64, i64),
    /// Seconds and nanoseconds of the last change of content, links, name or permissions.
    pub(super) changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Equal but for the ctime, which a rename changes?
    pub(super) fn has_same_content(&self, other: &Stamp) -> bool {
        (self.inode, self.size, self.modified) == (other.inode, other.size, other.modified)
    }
}

/// Names the step and the path of a system error.
pub(super) trait During<T> {
    fn during(self, step: &str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: &str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|e| StoreError::Io { what: format!("{step} {}", path.display()), source: e.into() })
    }
}

/// An open folder.
pub(super) struct Folder {
    handle: File,
    path: PathBuf,
    /// Folders above in which something of this path was created: made durable together with this one, after the
    /// content, when one commit of the file system covers all of them.
    unsynced: Vec<File>,
}

impl Folder {
    /// Opens the folder at `path`, following links: for roots only.
    pub(super) fn open_root(path: &Path) -> Result<Self, StoreError> {
        let handle = rustix::fs::openat(
            CWD,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .during("open the folder", path)?;
        Ok(Folder { handle: handle.into(), path: path.to_owned(), unsynced: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails if the folder was removed since it was opened: nothing that is created in it can be found any more.
    pub(super) fn is_there(&self) -> Result<(), StoreError> {
        let found = rustix::fs::fstat(&self.handle).during("look at the folder", &self.path)?;
        match found.st_nlink {
            0 => Err(StoreError::Gone { path: self.path.clone() }),
            _ => Ok(()),
        }
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The folder `name` in this one. None: there is none. A link is an error.
    pub(super) fn child(&self, name: &str) -> Result<Option<Folder>, StoreError> {
        let path = self.path_of(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.handle, name, flags, Mode::empty()) {
            Ok(handle) => Ok(Some(Folder { handle: handle.into(), path, unsynced: Vec::new() })),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(e).during("open without following links the folder", &path),
        }
    }

    /// The folder `name` in this one, created if there is none. Its existence is durable after its [`Folder::sync`].
    pub(super) fn child_or_create(&self, name: &str) -> Result<Folder, StoreError> {
        let path = self.path_of(name);
        let mut unsynced = Vec::new();
        for above in &self.unsynced {
            unsynced.push(above.try_clone().during("keep open", &path)?);
        }
        if let Some(folder) = self.child(name)? {
            return Ok(Folder { unsynced, ..folder });
        }
        faults::step("mkdir").during("create the folder", &path)?;
        match rustix::fs::mkdirat(&self.handle, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e).during("create the folder", &path),
        }
        unsynced.push(self.handle.try_clone().during("keep open", &path)?);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let folder = self.child(name)?.ok_or_else(missing).during("open the new folder", &path)?;
        Ok(Folder { unsynced, ..folder })
    }

    /// Opens the regular file `name` for reading. None: there is none. Links, pipes and such are errors.
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>, StoreError> {
        self.open_regular(name, OFlags::RDONLY)
    }

    /// As [`Folder::open_file`], but only a file that [can be believed](is_ours).
    pub(super) fn open_own_file(&self, name: &str) -> Result<Option<File>, StoreError> {
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let metadata = file.metadata().during("look at", &self.path_of(name))?;
        Ok(is_ours(&metadata).then_some(file))
    }

    /// Opens `name`, a file of ours, for reading and writing. None: there is none, and none is to be created. Whatever
    /// else has the name is removed first, so that it cannot keep us out for ever: a link (which is not followed), a
    /// pipe, an empty folder, a second name of some other file, which writing here would change. A folder with something
    /// in it is [`StoreError::InTheWay`].
    pub(super) fn open_unshared_file(&self, name: &str, create: bool) -> Result<Option<File>, StoreError> {
        for _ in 0..REMOVALS {
            let opened = match create {
                true => self.open_or_create_file(name).map(Some),
                false => self.open_regular(name, OFlags::RDWR),
            };
            // The open file is looked at, not the name, which may mean another file by now.
            match &opened {
                Ok(Some(file)) if has_other_names(file) => {
                    self.remove_odd(name)?;
                }
                Err(_) if self.remove_odd(name)? => {}
                _ => return opened,
            }
        }
        Err(io::Error::other("something else has this name, again and again"))
            .during("open", &self.path_of(name))
    }

    /// Removes what has the name of a file of ours and cannot be one. False: there is no such thing.
    fn remove_odd(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.path_of(name);
        let there = match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => there,
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(e) => return Err(e).during("look at", &path),
        };
        let kind = FileType::from_raw_mode(there.st_mode);
        if kind == FileType::RegularFile && there.st_nlink <= 1 {
            return Ok(false);
        }
        tracing::warn!(path = %path.display(), ?kind, "removed: it is no file of this store");
        self.remove(name)?;
        Ok(true)
    }

    /// Opens the regular file `name` for reading and writing, created if there is none.
    pub(super) fn open_or_create_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path_of(name);
        faults::step("create").during("create", &path)?;
        let file = self.open_regular(name, OFlags::RDWR | OFlags::CREATE)?;
        file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)).during("create", &path)
    }

    fn open_regular(&self, name: &str, flags: OFlags) -> Result<Option<File>, StoreError> {
        let path = self.path_of(name);
        // NONBLOCK: opening a pipe that somebody planted must not hang.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File = match rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(0o666)) {
            Ok(handle) => handle.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e).during("open without following links", &path),
        };
        if !file.metadata().during("look at", &path)?.is_file() {
            let odd = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
            return Err(odd).during("open", &path);
        }
        Ok(Some(file))
    }

    /// Creates the file `name`, which must not exist, for reading and writing.
    pub(super) fn create_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path_of(name);
        faults::step("create").during("create", &path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::from_raw_mode(0o666));
        Ok(handle.during("create", &path)?.into())
    }

    /// Makes `name` here a hard link to `source` (its links are followed).
    pub(super) fn link_from(&self, source: &Path, name: &str) -> Result<(), StoreError> {
        let path = self.path_of(name);
        faults::step("link").during("link", &path)?;
        rustix::fs::linkat(CWD, source, &self.handle, name, AtFlags::SYMLINK_FOLLOW).during(
            "make a hard link (source and store must be on one file system; without --use-hard-links it is copied)",
            &path,
        )
    }

    /// Renames atomically, replacing. Durable after the [`Folder::sync`] of `to`.
    pub(super) fn rename(&self, name: &str, to: &Folder, to_name: &str) -> Result<(), StoreError> {
        let path = to.path_of(to_name);
        faults::step("rename").during("rename to", &path)?;
        rustix::fs::renameat(&self.handle, name, &to.handle, to_name).during("rename to", &path)
    }

    /// Removes the file `name`, or whatever else has that name, but for a folder with something in it, which is
    /// [`StoreError::InTheWay`]. It is fine if there is nothing.
    pub(super) fn remove(&self, name: &str) -> Result<(), StoreError> {
        use rustix::io::Errno;
        let path = self.path_of(name);
        faults::step("unlink").during("remove", &path)?;
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            // What Linux, and what others say of a folder.
            Err(e @ (Errno::ISDIR | Errno::PERM)) => {
                match rustix::fs::unlinkat(&self.handle, name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => Ok(()),
                    Err(Errno::NOTEMPTY | Errno::EXIST) => Err(StoreError::InTheWay { path }),
                    Err(_) => Err(e).during("remove", &path),
                }
            }
            Err(e) => Err(e).during("remove", &path),
        }
    }

    /// Does `name` mean exactly the open `file`?
    pub(super) fn names(&self, name: &str, file: &File) -> Result<bool, StoreError> {
        let path = self.path_of(name);
        let own = file.metadata().during("look at", &path)?;
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok(there.st_ino == own.ino() && there.st_dev == own.dev()),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(e) => Err(e).during("look at", &path),
        }
    }

    /// The names in this folder that are UTF-8 (all of ours are).
    pub(super) fn list(&self) -> Result<Vec<String>, StoreError> {
        let entries = std::fs::read_dir(&self.path).during("list", &self.path)?;
        Ok(entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect())
    }

    /// Fails if no file of `size` bytes can ever be on this file system.
    pub(super) fn can_hold(&self, size: u64) -> Result<(), StoreError> {
        let total = rustix::fs::fstatvfs(&self.handle)
            .map_or(0, |found| found.f_blocks.saturating_mul(found.f_frsize));
        // Not every file system says how large it is.
        if total > 0 && size > total {
            return Err(rustix::io::Errno::FBIG).during(&format!("keep {size} bytes in"), &self.path);
        }
        Ok(())
    }

    /// Makes names in this folder durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        faults::step("fsync folder").during("make durable", &self.path)?;
        self.handle.sync_all().during("make durable", &self.path)?;
        for above in self.unsynced.iter().rev() {
            faults::step("fsync folder").during("make durable", &self.path)?;
            above.sync_all().during("make durable", &self.path)?;
        }
        Ok(())
    }
}

/// True if the open file has a second name somewhere. While another process holds its lock, its names are the business
/// of that process.
fn has_other_names(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() > 1) && file.try_lock().is_ok()
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_at(file: &File, path: &Path, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
    faults::step("write").during("write", path)?;
    file.write_all_at(bytes, offset).during("write", path)
}

/// Sets the length of a file; what is added reads as zeros and takes no room.
pub(super) fn set_length(file: &File, path: &Path, length: u64) -> Result<(), StoreError> {
    faults::step("truncate").during("set the length of", path)?;
    file.set_len(length).during("set the length of", path)
}

/// Reserves room for `length` bytes, where the file system can.
pub(super) fn reserve(file: &File, path: &Path, length: u64) -> Result<(), StoreError> {
    use rustix::io::Errno;
    faults::step("reserve").during("reserve room for", path)?;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, length) {
        Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO | Errno::ROFS)) => {
            Err(e).during("reserve room for", path)
        }
        // Not every file system knows how.
        _ => Ok(()),
    }
}

/// Switches writing around the page cache on or off. Is it on?
#[cfg(target_os = "linux")]
pub(super) fn set_direct(file: &File, on: bool) -> bool {
    let Ok(flags) = rustix::fs::fcntl_getfl(file) else { return false };
    let wanted = if on { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
    rustix::fs::fcntl_setfl(file, wanted).is_ok() && on
}

/// Only Linux has it.
#[cfg(not(target_os = "linux"))]
pub(super) fn set_direct(_file: &File, _on: bool) -> bool {
    false
}

/// Makes content and length durable.
pub(super) fn sync_file(file: &File, path: &Path) -> Result<(), StoreError> {
    faults::step("fsync").during("make durable", path)?;
    file.sync_all().during("make durable", path)
}

/// Makes content and length durable, but not the times.
pub(super) fn sync_data(file: &File, path: &Path) -> Result<(), StoreError> {
    faults::step("fdatasync").during("make durable", path)?;
    file.sync_data().during("make durable", path)
}

/// Reads as many bytes as there are, up to the length of the buffer.
pub(super) fn read_up_to(file: &File, mut offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let wanted = buffer.len();
    let mut rest = buffer;
    while !rest.is_empty() {
        match file.read_at(rest, offset) {
            Ok(0) => break,
            Ok(count) => {
                offset += count as u64;
                rest = rest.get_mut(count..).unwrap_or_default();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(wanted - rest.len())
}
