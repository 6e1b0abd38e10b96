//! `--dest`: putting a stored file where the user wants it, as a whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rand::RngExt;

use super::failure::{Exit, Failure};
use crate::store::HowStored;

/// Where a file is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `-`.
    Stdout,
    /// This file, replaced if it exists.
    File(PathBuf),
}

impl Destination {
    /// Understands `--dest`. `FILE`, `-`, or `DIR/`: inside it under `label`, the last part of the URI, or under
    /// `hash` if that is no good as a file name (a stranger may have chosen it).
    pub fn parse(dest: &Path, label: &str, hash: &str) -> Result<Self, Failure> {
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

/// A copy beside its destination, not yet under its name. Dropping it removes it; that also holds for a caller that
/// was interrupted while another thread still writes.
pub struct Copy {
    temporary: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Chooses the temporary name, in the folder of `target`, so that the rename stays on one file system.
    pub fn beside(target: &Path) -> Self {
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{:08x}.partial", rand::rng().random::<u32>()));
        Self { temporary: target.with_file_name(name), target: target.to_owned() }
    }

    /// What fills the copy from `source`; it may run on another thread and blocks.
    pub fn filler(&self, source: &Path, hard_link: bool) -> impl FnOnce() -> Result<HowStored, Failure> + use<> {
        let (source, temporary, target) = (source.to_owned(), self.temporary.clone(), self.target.clone());
        move || {
            fill(&source, &temporary, hard_link)
                .map_err(|error| Failure::io(format!("copy {} to {}", source.display(), target.display()), &error))
        }
    }

    /// Gives the filled copy its name, atomically.
    pub fn publish(self) -> Result<(), Failure> {
        let fail = |error| Failure::io(format!("write {}", self.target.display()), &error);
        if self.target.is_dir() {
            let what = format!("{} has become a folder and is not replaced", self.target.display());
            return Err(Failure::new(Exit::Other, what));
        }
        fs::rename(&self.temporary, &self.target).map_err(fail)?;
        let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(fail)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // After a rename, and before the filler began, there is nothing to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Reflink, then hard link if wanted, then copy.
fn fill(source: &Path, temporary: &Path, hard_link: bool) -> io::Result<HowStored> {
    if reflink_copy::reflink(source, temporary).is_ok() {
        File::open(temporary)?.sync_all()?;
        return Ok(HowStored::Reflink);
    }
    if hard_link && fs::hard_link(source, temporary).is_ok() {
        return Ok(HowStored::HardLink);
    }
    let mut from = File::open(source)?;
    let mut to = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    Ok(HowStored::Copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(source: &Path, target: &Path, hard_link: bool) -> Result<HowStored, Failure> {
        let copy = Copy::beside(target);
        let how = copy.filler(source, hard_link)()?;
        copy.publish().map(|()| how)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_destination_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::write(&source, "new").unwrap();
        fs::write(&target, "older and longer").unwrap();
        put(&source, &target, false).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(names(folder.path()), ["source", "target"], "a temporary file is left");
    }

    #[test]
    fn a_failed_copy_leaves_the_destination_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "precious").unwrap();
        let failure = put(&folder.path().join("missing"), &target, false).unwrap_err();
        assert!(failure.what.contains("missing") && failure.what.contains("target"), "{failure}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(names(folder.path()), ["target"]);
    }

    #[test]
    fn an_interrupted_copy_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::write(&source, "new").unwrap();
        let copy = Copy::beside(&target);
        copy.filler(&source, false)().unwrap();
        drop(copy);
        assert_eq!(names(folder.path()), ["source"]);
    }

    #[test]
    fn a_hard_link_is_made_only_when_asked_for() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::write(&source, "x").unwrap();
        let copied = put(&source, &folder.path().join("copy"), false).unwrap();
        assert_ne!(copied, HowStored::HardLink);
        if put(&source, &folder.path().join("link"), true).unwrap() == HowStored::HardLink {
            assert_eq!(fs::metadata(&source).unwrap().nlink(), 2);
        }
    }

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
