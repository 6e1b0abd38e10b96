//! `kachery-info`.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::{Common, Failure, Target};
use crate::cli::stored::size_of;
use crate::store::{Algorithm, Named};

/// Prints path, size and hash of a stored file as JSON.
#[derive(Debug, clap::Parser)]
#[command(name = "kachery-info", version)]
pub(super) struct Arguments {
    /// For instance sha1://HASH/name, or a plain path.
    #[arg(value_name = "URI")]
    uri: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Runs `kachery-info` on the arguments of the process.
pub(super) fn kachery_info() -> ExitCode {
    super::run_command::<Arguments>(|a| &mut a.common, info)
}

fn info(arguments: &Arguments) -> Result<(), Failure> {
    let common = &arguments.common;
    let (path, hash) = match super::target(&arguments.uri, common)? {
        Target::Uri(_, _, Named::File { hash, path: Some(path), .. }) => (path, hash),
        Target::Path(path) if path.is_file() => {
            let progress = common.progress(format!("hashing {}", path.display()), size_of(&path)?);
            let store = common.open_store()?;
            let hash = store.hash_of_file(&path, Algorithm::Sha1, &|bytes| progress.set(bytes))?;
            (path, hash)
        }
        Target::Uri(_, _, Named::Directory(_)) => {
            return Err(super::is_a_folder("Error loading file.", &arguments.uri));
        }
        _ => return Err(super::not_here("Error loading file.", &arguments.uri)),
    };
    let (size, name) = (size_of(&path)?, hash.algorithm().name());
    let path = path.into_os_string();
    let quoted = crate::store::python_string(path.as_ref());
    let (path_line, size_line) = (format!("    \"path\": {quoted},"), format!("    \"size\": {size},"));
    let hash_line = format!("    \"{name}\": \"{hash}\"");
    common.result(
        ["{", &path_line, &size_line, &hash_line, "}"].map(str::as_bytes),
        json!({"path": path.to_string_lossy(), "size": size, name: hash.to_string()}),
    )
}
