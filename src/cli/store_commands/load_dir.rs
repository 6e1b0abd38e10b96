//! `kachery-load-dir`.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{Common, Exit, Failure, Target, ls};
use crate::cli::stored::{self, size_of, unreadable};
use crate::limits::MAX_MANIFEST_DEPTH;
use crate::store::manifest::Manifest;
use crate::store::{Algorithm, ContentHash, Named, Store};

/// Bytes of the longest path that the system takes (PATH_MAX without the end of the text).
const MAX_PATH: usize = 4095;

/// Copies a stored folder to a new folder.
#[derive(Debug, clap::Parser)]
#[command(name = "kachery-load-dir", version)]
pub(super) struct Arguments {
    /// For instance sha1dir://HASH.name/sub, or the path of a folder.
    #[arg(value_name = "URI")]
    uri: PathBuf,
    /// The new folder; it must not exist yet.
    #[arg(long, value_name = "DIR", env = "KACHERY_P2P_DEST")]
    dest: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Runs `kachery-load-dir` on the arguments of the process.
pub(super) fn kachery_load_dir() -> ExitCode {
    super::run_command::<Arguments>(|a| &mut a.common, load_dir)
}

struct Loading<'a> {
    store: Store,
    common: &'a Common,
    loaded: u64,
    /// Files that are not here, as far as their manifest names them: a count, and what to load first.
    missing: u64,
    first_missing: Option<ContentHash>,
}

fn load_dir(arguments: &Arguments) -> Result<(), Failure> {
    let (common, dest) = (&arguments.common, &arguments.dest);
    let shown = arguments.uri.to_string_lossy();
    let target = super::target(&arguments.uri, common)?;
    if dest.symlink_metadata().is_ok() {
        return Err(Failure::new(
            Exit::Other,
            format!("Destination directory already exists: {}", dest.display()),
        ));
    }
    let store = match &target {
        Target::Uri(_, store, _) => store.clone(),
        Target::Path(_) => common.open_store()?,
        Target::Nothing => return Err(super::no_directory(&arguments.uri)),
    };
    let mut loading = Loading { store, common, loaded: 0, missing: 0, first_missing: None };
    match target {
        Target::Path(path) if path.is_dir() => loading.plain(&path, dest, &mut Vec::new())?,
        Target::Uri(_, _, Named::Directory(manifest)) => {
            check(&manifest, &shown, dest)?;
            loading.manifest(&manifest, &shown, dest)?;
        }
        _ => return Err(super::no_directory(&arguments.uri)),
    }
    let (missing, loaded) = (loading.missing, loading.loaded);
    if missing == 0 {
        return common.result([&b"Done."[..]], json!({"path": dest.to_string_lossy(), "files": loaded}));
    }
    let what = format!("{missing} files are not in the store of this machine ({loaded} were loaded)");
    let failure = Failure::new(Exit::NotFound, format!("Unable to load the whole folder: {what}"));
    Err(match loading.first_missing {
        // Without the file's name: a stranger chose it, and this is there to be pasted into a shell.
        Some(hash) => {
            let uri = format!("{}://{hash}", hash.algorithm().name());
            failure.next(format!("kachery-p2p load {uri}   (and so on; then remove the folder and repeat)"))
        }
        None => failure.likely("their hashes were not known when the folder was stored"),
    })
}

/// Can the whole folder be written? Asked before anything is: a stranger made the manifest, and half a folder would be in
/// the way of the next attempt.
fn check(manifest: &Manifest, shown: &str, dest: &Path) -> Result<(), Failure> {
    let refused = |why: &dyn std::fmt::Display| Failure::new(Exit::Other, format!("{shown}: {why}"));
    manifest.check_names().map_err(|error| refused(&error))?;
    let whole = std::path::absolute(dest).unwrap_or_else(|_| dest.to_owned());
    let mut folders = vec![(manifest, whole.as_os_str().len())];
    while let Some((folder, length)) = folders.pop() {
        let files: HashSet<&OsString> = folder.files.iter().map(|(name, _)| name).collect();
        if let Some((name, _)) = folder.dirs.iter().find(|(name, _)| files.contains(name)) {
            return Err(refused(&format_args!("a file and a folder have the same name: {name:?}")));
        }
        let longest = files.iter().map(|name| name.len()).max().unwrap_or_default();
        if length + 1 + longest > MAX_PATH {
            return Err(refused(&"a path in it would be too long").next("--dest with a shorter path"));
        }
        folders.extend(folder.dirs.iter().map(|(name, dir)| (dir, length + 1 + name.len())));
    }
    Ok(())
}

impl Loading<'_> {
    fn create(&self, from: &str, dest: &Path) -> Result<(), Failure> {
        self.common.note(format_args!("Loading directory {from} -> {}", dest.display()));
        let what = || format!("create {}", dest.display());
        std::fs::create_dir(dest)
            .map_err(|source| Failure::from(crate::store::StoreError::Io { what: what(), source }))
    }

    fn copy(&mut self, path: &Path, hash: ContentHash, dest: &Path) -> Result<(), Failure> {
        let mode = self.common.progress_mode(size_of(path)?);
        stored::copy_out(&self.store, path, hash, dest, &self.common.cancel, mode)?;
        self.loaded += 1;
        Ok(())
    }

    fn manifest(&mut self, manifest: &Manifest, from: &str, dest: &Path) -> Result<(), Failure> {
        self.create(from, dest)?;
        for (name, file) in &manifest.files {
            let shown = || format!("{from}/{}", name.to_string_lossy());
            let Some(hash) = file.hash else {
                self.common.note(format_args!("not here: {}", shown()));
                self.missing += 1;
                continue;
            };
            match self.store.find_any(hash)? {
                Some(path) => self.copy(&path, hash, &dest.join(name))?,
                None => {
                    let algorithm = hash.algorithm().name();
                    self.common.note(format_args!("not here: {} ({algorithm}://{hash})", shown()));
                    self.missing += 1;
                    self.first_missing.get_or_insert(hash);
                }
            }
        }
        for (name, dir) in &manifest.dirs {
            let from = format!("{}/{}", from.trim_end_matches('/'), name.to_string_lossy());
            self.manifest(dir, &from, &dest.join(name))?;
        }
        Ok(())
    }

    /// `above`: device and inode of the folders we are in, to notice links that lead back up.
    fn plain(&mut self, path: &Path, dest: &Path, above: &mut Vec<(u64, u64)>) -> Result<(), Failure> {
        let cannot = |e| unreadable(path, &e);
        let metadata = std::fs::metadata(path).map_err(cannot)?;
        let own = (metadata.dev(), metadata.ino());
        if above.contains(&own) {
            self.common
                .note(format_args!("skipped: {} leads back to a folder that contains it", path.display()));
            return Ok(());
        }
        if above.len() > MAX_MANIFEST_DEPTH {
            return Err(Failure::new(
                Exit::Other,
                format!("{}: folders are nested too deep", path.display()),
            ));
        }
        above.push(own);
        let (dirs, files) = ls::plain(path)?;
        self.create(&path.to_string_lossy(), dest)?;
        for name in files {
            let source = path.join(&name);
            let hash = self.store.hash_of_file(&source, Algorithm::Sha1, &|_| {})?;
            self.copy(&source, hash, &dest.join(&name))?;
        }
        for name in dirs {
            self.plain(&path.join(&name), &dest.join(&name), above)?;
        }
        above.pop();
        Ok(())
    }
}
