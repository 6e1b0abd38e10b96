//! Storing a folder: its files, then the manifest that names them. Links are followed; what is neither file nor folder
//! is skipped. (Python's kachery 0.6.3 meant to store the files too, but did not.)

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::manifest::{Manifest, ManifestError, ManifestFile};
use super::{Algorithm, ContentHash, PutOptions, Store, StoreError, StoredAs};
use crate::limits::MAX_MANIFEST_DEPTH;

/// How to store a folder.
#[derive(Clone, Copy)]
pub struct DirectoryOptions<'a> {
    /// How to store each file, and which hash names the manifest.
    pub put: PutOptions<'a>,
    /// Take hash and size of git-annex links from their names, without reading what they point to; skip `.git` and
    /// `.datalad`.
    pub git_annex: bool,
    /// Told each file before it is read.
    pub on_file: &'a dyn Fn(&Path, u64),
}

impl Store {
    /// Stores the files of a folder and its manifest; the answer is about the manifest.
    pub fn put_directory(&self, path: &Path, options: &DirectoryOptions<'_>) -> Result<StoredAs, StoreError> {
        let manifest = self.walk(path, options, &mut Vec::new())?;
        let text =
            manifest.to_text().map_err(|error| StoreError::Manifest { path: path.to_owned(), error })?;
        let quiet = PutOptions { progress: &|_| {}, ..options.put };
        self.put_reader(&mut text.as_bytes(), &quiet)
    }

    /// `above`: device and inode of the folders we are in, to notice links that lead back up.
    fn walk(
        &self,
        path: &Path,
        options: &DirectoryOptions<'_>,
        above: &mut Vec<(u64, u64)>,
    ) -> Result<Manifest, StoreError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Source { path, source }
        };
        let metadata = std::fs::metadata(path).map_err(unreadable(path))?;
        let own = (metadata.dev(), metadata.ino());
        if above.len() > MAX_MANIFEST_DEPTH {
            return Err(StoreError::Manifest { path: path.to_owned(), error: ManifestError::TooDeep });
        }
        above.push(own);
        let mut manifest = Manifest::default();
        for child in sorted_entries(path).map_err(unreadable(path))? {
            let name = child.file_name().unwrap_or_default().to_owned();
            if options.git_annex && (name == ".git" || name == ".datalad") {
                continue;
            }
            if let Some(file) = options.git_annex.then(|| annex_file(&child)).flatten() {
                manifest.files.push((name, file));
                continue;
            }
            // A link to nothing is skipped like everything that is neither file nor folder.
            let Ok(metadata) = std::fs::metadata(&child) else {
                tracing::warn!(path = %child.display(), "skipped: it cannot be read, or is a link to nothing");
                continue;
            };
            if metadata.is_dir() && above.contains(&(metadata.dev(), metadata.ino())) {
                tracing::warn!(path = %child.display(), "skipped: this link leads back to a folder that contains it");
            } else if metadata.is_dir() {
                manifest.dirs.push((name, self.walk(&child, options, above)?));
            } else if metadata.is_file() {
                (options.on_file)(&child, metadata.len());
                let StoredAs { hash, size, .. } = self.put_file_with(&child, &options.put)?;
                manifest.files.push((name, ManifestFile { size: Some(size), hash: Some(hash) }));
            }
        }
        above.pop();
        Ok(manifest)
    }
}

/// Sorted by name, so that the same folder has the same manifest on every machine.
fn sorted_entries(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = std::fs::read_dir(path)?.map(|e| Ok(e?.path())).collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// What the name of a git-annex object says: `MD5E-s<size>--<md5>.<extension>`.
fn annex_file(path: &Path) -> Option<ManifestFile> {
    let target = std::fs::read_link(path).ok()?;
    if !target.as_os_str().as_bytes().windows(18).any(|w| w == b".git/annex/objects") {
        return None;
    }
    let name = target.file_name().and_then(OsStr::to_str)?;
    let (size, rest) = name.strip_prefix("MD5E-s")?.split_once("--")?;
    let hash = ContentHash::parse(Algorithm::Md5, rest.split('.').next()?)?;
    Some(ManifestFile { size: Some(size.parse().ok()?), hash: Some(hash) })
}
