//! `kachery-store`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use serde_json::json;

use super::{Common, Exit, Failure};
use crate::cli::stored::size_of;
use crate::store::{Algorithm, DirectoryOptions, HowStored, PutOptions, Store, StoreError, StoredAs};

/// Puts files and folders into the store and prints their names.
#[derive(Debug, clap::Parser)]
#[command(name = "kachery-store", version)]
pub(super) struct Arguments {
    /// Files or folders; `-` is standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Which hash names them.
    #[arg(long, short, default_value = "sha1", env = "KACHERY_P2P_ALGORITHM")]
    algorithm: AlgorithmName,
    /// Make the stored file the same file on disk as the source: no room taken, but later changes of the source damage
    /// the store.
    #[arg(long, env = "KACHERY_P2P_USE_HARD_LINKS", value_parser = FalseyValueParser::new())]
    use_hard_links: bool,
    /// For folders: take hash and size of git-annex links from their names, skip .git and .datalad.
    #[arg(long, env = "KACHERY_P2P_GIT_ANNEX_MODE", value_parser = FalseyValueParser::new())]
    git_annex_mode: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum AlgorithmName {
    Sha1,
    Md5,
}

/// Runs `kachery-store` on the arguments of the process.
pub(super) fn kachery_store() -> ExitCode {
    super::run_command::<Arguments>(|a| &mut a.common, all)
}

fn all(arguments: &Arguments) -> Result<(), Failure> {
    let store = arguments.common.open_store()?;
    let mut first = None;
    for path in &arguments.paths {
        if let Err(failure) = one(arguments, &store, path) {
            // The others are stored all the same; the first failure decides the exit code.
            let exit = *first.get_or_insert(failure.exit);
            arguments.common.output().failure(&super::with_advice(failure));
            if exit == Exit::Disk {
                break;
            }
        }
    }
    // Said already.
    first.map_or(Ok(()), |exit| Err(Failure::new(exit, "")))
}

fn one(arguments: &Arguments, store: &Store, path: &Path) -> Result<(), Failure> {
    let common = &arguments.common;
    let algorithm = match arguments.algorithm {
        AlgorithmName::Sha1 => Algorithm::Sha1,
        AlgorithmName::Md5 => Algorithm::Md5,
    };
    let options = PutOptions { algorithm, hard_link: arguments.use_hard_links, ..PutOptions::default() };
    let (stored, uri) = if path == Path::new("-") {
        let stored = store.put_reader(&mut std::io::stdin().lock(), &options)?;
        let uri = uri(&stored, "://", "/", b"stdin");
        (stored, uri)
    } else if path.is_dir() {
        let stored = directory(arguments, store, path, options)?;
        let uri = uri(&stored, "dir://", ".", base_name(path));
        (stored, uri)
    } else if path.is_file() {
        let progress = common.progress(format!("storing {}", path.display()), size_of(path)?);
        let stored = store.put_file_with(path, &PutOptions { progress: &|b| progress.set(b), ..options })?;
        progress.finish();
        if stored.how == HowStored::Reflink {
            common.note(format_args!("{}: shares its blocks with the source (reflink)", path.display()));
        }
        let uri = uri(&stored, "://", "/", base_name(path));
        (stored, uri)
    } else {
        return Err(StoreError::NotAFile { path: path.to_owned() }.into());
    };
    let name = stored.hash.algorithm().name();
    let value = json!({
        "uri": String::from_utf8_lossy(&uri), "path": stored.path.to_string_lossy(), "size": stored.size,
        name: stored.hash.to_string(), "how": how(stored.how),
    });
    common.result([&uri[..]], value)
}

fn directory(
    arguments: &Arguments,
    store: &Store,
    path: &Path,
    put: PutOptions<'_>,
) -> Result<StoredAs, Failure> {
    let progress = std::cell::RefCell::new(arguments.common.progress("", 0));
    let on_file = |path: &Path, size| {
        progress.replace(arguments.common.progress(format!("storing {}", path.display()), size));
    };
    let put = PutOptions { progress: &|bytes| progress.borrow().set(bytes), ..put };
    let options = DirectoryOptions { put, git_annex: arguments.git_annex_mode, on_file: &on_file };
    Ok(store.put_directory(path, &options)?)
}

fn how(how: HowStored) -> &'static str {
    match how {
        HowStored::Already => "already",
        HowStored::Reflink => "reflink",
        HowStored::HardLink => "hard link",
        HowStored::Copy => "copy",
        HowStored::Received => "received",
    }
}

/// As Python's `os.path.basename`: empty after a slash at the end.
fn base_name(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

fn uri(stored: &StoredAs, after_algorithm: &str, before_name: &str, name: &[u8]) -> Vec<u8> {
    let start = format!("{}{after_algorithm}{}{before_name}", stored.hash.algorithm().name(), stored.hash);
    [start.as_bytes(), name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_is_what_follows_the_last_slash() {
        for (path, name) in [("a", "a"), ("/x/b.txt", "b.txt"), ("/x/d/", ""), (".", "."), ("", "")] {
            assert_eq!(base_name(Path::new(path)), name.as_bytes());
        }
    }
}
