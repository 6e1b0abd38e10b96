//! `kachery-ls`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Common, Failure, Target};
use crate::cli::stored::unreadable;
use crate::cli::text::printable_bytes;
use crate::store::Named;

/// Lists a stored folder: its folders, then its files.
#[derive(Debug, clap::Parser)]
#[command(name = "kachery-ls", version)]
pub(super) struct Arguments {
    /// For instance sha1dir://HASH.name/sub, or a plain path.
    #[arg(value_name = "URI")]
    uri: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Runs `kachery-ls` on the arguments of the process.
pub(super) fn kachery_ls() -> ExitCode {
    super::run_command::<Arguments>(|a| &mut a.common, list)
}

fn list(arguments: &Arguments) -> Result<(), Failure> {
    let shown = arguments.uri.to_string_lossy();
    let (mut dirs, mut files) = match super::target(&arguments.uri, &arguments.common)? {
        Target::Path(path) if path.is_dir() => plain(&path)?,
        Target::Uri(_, _, Named::Directory(manifest)) => (
            manifest.dirs.into_iter().map(|(name, _)| name).collect(),
            manifest.files.into_iter().map(|(name, _)| name).collect(),
        ),
        Target::Path(path) if path.is_file() => {
            return Err(super::not_a_folder(&shown));
        }
        Target::Uri(uri, _, Named::File { .. }) if !uri.is_directory() => {
            return Err(super::not_a_folder(&shown));
        }
        _ => return Err(super::no_directory(&arguments.uri)),
    };
    dirs.sort();
    files.sort();
    // Also for programs one line is one name: a name with a line end in it must not look like two.
    let line = |name: &OsString, end: &[u8]| [&printable_bytes(name.as_bytes()), end].concat();
    let lines: Vec<Vec<u8>> =
        dirs.iter().map(|name| line(name, b"/")).chain(files.iter().map(|name| line(name, b""))).collect();
    let strings =
        |names: &[OsString]| names.iter().map(|n| n.to_string_lossy().into_owned()).collect::<Vec<_>>();
    // Only for those who ask for it: a folder may have half a million names.
    let value = match arguments.common.json {
        true => json!({"dirs": strings(&dirs), "files": strings(&files)}),
        false => Value::Null,
    };
    arguments.common.result(lines.iter().map(Vec::as_slice), value)
}

/// Folders and files of a folder on disk.
pub(super) fn plain(path: &Path) -> Result<(Vec<OsString>, Vec<OsString>), Failure> {
    let cannot = |e| unreadable(path, &e);
    let (mut dirs, mut files) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = entry.path();
        if path.is_dir() {
            dirs.push(entry.file_name());
        } else if path.is_file() {
            files.push(entry.file_name());
        }
    }
    Ok((dirs, files))
}
