//! `--dest`: where the user wants a file.

use std::path::{Path, PathBuf};

use super::failure::Failure;

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
            return Ok(Self::File(dest.join(file_name(label).unwrap_or(hash))));
        }
        if dest.is_dir() {
            let shown = dest.display();
            return Err(Failure::usage(format!("--dest {shown} is a folder and is not replaced"))
                .next(format!("--dest {shown}/   (with a / at the end, to write inside it)")));
        }
        Ok(Self::File(dest.to_owned()))
    }
}

/// The last part of a label, if it can name a file in a folder without leaving it.
fn file_name(label: &str) -> Option<&str> {
    let name = label.rsplit('/').next()?;
    let usable = !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
    usable.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;

    #[test]
    fn a_folder_is_written_into_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let slash = PathBuf::from(format!("{}/", folder.path().display()));
        let inside = |label| Destination::parse(&slash, label, "hash").unwrap();
        assert_eq!(inside("a/data.bin"), Destination::File(folder.path().join("data.bin")));
        for hostile in ["", "..", "a/..", "x/.", "a\0b", &"x".repeat(256)] {
            assert_eq!(inside(hostile), Destination::File(folder.path().join("hash")), "{hostile:?}");
        }
        let refused = Destination::parse(folder.path(), "label", "hash").unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert_eq!(Destination::parse(Path::new("-"), "label", "hash").unwrap(), Destination::Stdout);
        assert!(Destination::parse(Path::new(""), "label", "hash").is_err());
    }
}
