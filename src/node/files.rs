//! Files of the config folder: opened without hanging, read with a bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Opens a file, which must be a regular one: a pipe that somebody planted would hang whoever opens it, a device could
/// be read for ever. With `flags` of the system's beside.
pub(super) fn open(options: &mut OpenOptions, path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK;
    let file = options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file; move it away")),
    }
}

/// Reads a file of at most `limit` bytes; None: it does not exist.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match open(OpenOptions::new().read(true), path, OFlags::empty()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something at a new path that is no regular file.
    fn planted(folder: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
        let path = folder.path().join(name);
        match name {
            "pipe" => rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap(),
            _ => std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
        }
        path
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pipe", "device"] {
            let error = read(&planted(&folder, name), 10).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{name}: {error}");
        }
        assert!(read(folder.path(), 10).is_err(), "a folder");
    }
}
