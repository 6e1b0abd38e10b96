//! `--dest`: where the user wants a file.

use std::path::{Path, PathBuf};

use super::failure::Failure;
use crate::store::is_special;

/// Bytes of a name on every usual file system.
const MAX_FILE_NAME: usize = 255;

/// Where a file is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// `-`.
    Stdout,
    /// This file, replaced if it exists.
    File(PathBuf),
}

impl Destination {
    /// Understands `--dest`. `FILE`, `-`, or `DIR/`: inside it under `label`, the last part of the URI, or under
    /// `hash` if that is no good as a file name (a stranger may have chosen it).
    pub(super) fn parse(dest: &Path, label: &str, hash: &str) -> Result<Self, Failure> {
        if dest == Path::new("-") {
            return Ok(Self::Stdout);
        }
        if dest.as_os_str().is_empty() {
            return Err(Failure::usage("--dest is empty: name a file, a folder with a / at its end, or -"));
        }
        if dest.as_os_str().as_encoded_bytes().ends_with(b"/") {
            check_folder(dest)?;
            return Self::file(dest.join(file_name(label, hash)));
        }
        if dest.is_dir() {
            let shown = dest.display();
            return Err(Failure::usage(format!("--dest {shown} is a folder and is not replaced"))
                .next(format!("--dest {shown}/   (with a / at the end, to write inside it)")));
        }
        check_folder(folder_of(dest))?;
        Self::file(dest.to_owned())
    }

    fn file(path: PathBuf) -> Result<Self, Failure> {
        match is_special(&path) {
            true => Err(Failure::usage(format!(
                "--dest {} is a device, a pipe or a socket and is not replaced",
                path.display()
            ))
            .next("--dest -   (to write to standard output, and > or | to pass that on)")),
            false => Ok(Self::File(path)),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Before anything is downloaded, which can take hours.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Failure::usage(format!("--dest: {shown} is not a folder"))),
        Err(error) => {
            let failure = Failure::usage(format!("--dest: there is no folder {shown}: {error}"));
            Err(failure.next(format!("mkdir -p {shown}")))
        }
    }
}

/// What a file of this label is called in a folder: the last part that can be a name there, else the hash.
pub(super) fn file_name<'a>(label: &'a str, hash: &'a str) -> &'a str {
    let last = label.rsplit('/').find(|name| !matches!(*name, "" | "." | ".."));
    last.filter(|name| name.len() <= MAX_FILE_NAME).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;

    #[test]
    fn a_folder_is_written_into_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let slash = PathBuf::from(format!("{}/", folder.path().display()));
        let inside = |label: &str| Destination::parse(&slash, label, "hash").unwrap();
        assert_eq!(inside("a/data.bin"), Destination::File(folder.path().join("data.bin")));
        assert_eq!(inside("a/../.."), Destination::File(folder.path().join("a")));
        assert_eq!(inside(&"x".repeat(255)), Destination::File(folder.path().join("x".repeat(255))));
        for hostile in ["", "/", "..", "/../.", &"x".repeat(256)] {
            assert_eq!(inside(hostile), Destination::File(folder.path().join("hash")), "{hostile:?}");
        }
        let refused = Destination::parse(folder.path(), "label", "hash").unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert_eq!(Destination::parse(Path::new("-"), "label", "hash").unwrap(), Destination::Stdout);
        assert!(Destination::parse(Path::new(""), "label", "hash").is_err());
    }

    #[test]
    fn a_device_a_pipe_and_a_socket_are_refused_before_anything_is_downloaded() {
        let folder = tempfile::tempdir().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        for (dest, label) in [("socket", "label"), ("", "socket")] {
            let dest = folder.path().join(dest);
            assert_eq!(Destination::parse(&dest, label, "hash").unwrap_err().exit, Exit::Usage, "{dest:?}");
        }
    }
}
