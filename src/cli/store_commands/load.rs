//! `kachery-load`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::{Common, Failure, Target};
use crate::cli::destination;
use crate::cli::progress::Progress;
use crate::cli::stored::{self, size_of};
use crate::store::uri::Uri;
use crate::store::{Algorithm, Named};

/// Prints where a stored file is, or copies it.
#[derive(Debug, clap::Parser)]
#[command(name = "kachery-load", version)]
pub(super) struct Arguments {
    /// For instance sha1://HASH/name, or a plain path.
    #[arg(value_name = "URI")]
    uri: PathBuf,
    /// Copy the content to this file, replacing it; `DIR/` writes inside DIR, `-` to standard output.
    #[arg(long, value_name = "FILE", env = "KACHERY_P2P_DEST")]
    dest: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Runs `kachery-load` on the arguments of the process.
pub(super) fn kachery_load() -> ExitCode {
    super::run_command::<Arguments>(|a| &mut a.common, load)
}

fn load(arguments: &Arguments) -> Result<(), Failure> {
    let common = &arguments.common;
    let not_here = || super::not_here("Unable to load file:", &arguments.uri);
    let to_stdout = arguments.dest.as_deref() == Some(Path::new("-"));
    let (path, hash, label, store) = match super::target(&arguments.uri, common)? {
        Target::Path(path) if path.is_file() => (path.clone(), None, path, None),
        Target::Uri(uri, store, Named::File { hash, path: Some(path), .. }) => {
            let path = super::verified(common, &store, hash, &path, common.json && to_stdout)?;
            (path.ok_or_else(not_here)?, Some(hash), label(&uri), Some(store))
        }
        Target::Uri(_, _, Named::Directory(_)) => {
            return Err(super::is_a_folder("Unable to load file:", &arguments.uri));
        }
        _ => return Err(not_here()),
    };
    let Some(dest) = &arguments.dest else { return done(common, &path) };
    if to_stdout {
        return stored::write_out(&path, 0, size_of(&path)?);
    }
    let dest = match dest.as_os_str().as_bytes().ends_with(b"/") {
        true => dest.join(label.file_name().unwrap_or_default()),
        false => dest.clone(),
    };
    let store = store.map_or_else(|| common.open_store(), Ok)?;
    let mode = common.progress_mode(size_of(&path)?);
    let hash = match hash {
        Some(hash) => hash,
        None => {
            let progress = Progress::new(mode, format!("hashing {}", path.display()), Some(size_of(&path)?));
            store.hash_of_file(&path, Algorithm::Sha1, &|bytes| progress.set(bytes))?
        }
    };
    stored::copy_out(&store, &path, hash, &dest, &common.cancel, mode)?;
    done(common, &dest)
}

fn done(common: &Common, path: &Path) -> Result<(), Failure> {
    common.result([path.as_os_str().as_bytes()], json!({"path": path.to_string_lossy()}))
}

/// The name for `--dest DIR/`: the last element after the hash, else the hash.
fn label(uri: &Uri) -> PathBuf {
    destination::file_name(&uri.rest, &uri.hash).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_never_leads_elsewhere() {
        let name = |text: &str| label(&text.parse().unwrap()).into_os_string();
        let hash = "f572d396fae9206628714fb2ce00f72e94f2258f";
        assert_eq!(name(&format!("sha1://{hash}/a/b.txt")), "b.txt");
        assert_eq!(name(&format!("sha1://{hash}/a/../..")), "a");
        for rest in ["", "/", "/..", "/./", "//"] {
            assert_eq!(name(&format!("sha1://{hash}{rest}")), hash);
        }
    }
}
