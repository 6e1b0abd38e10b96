//! The commands that need no daemon: `kachery-store`, `-load`, `-cat`, `-info`, `-ls` and `-load-dir`. What they write to
//! standard output is what Python's kachery 0.6.3 writes; everything else goes to standard error.
//!
//! One thing differs on purpose: a file that is not here gives exit code 3 everywhere, where the original `kachery-load`
//! and a `kachery-cat` of a range exited 0 with nothing on standard output.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use super::progress::{Progress, ProgressMode};
use crate::store::uri::{self, Uri};
use crate::store::{Named, Store, StoreError};

mod cat;
mod info;
mod load;
mod load_dir;
mod ls;
mod store;

pub use cat::kachery_cat;
pub use info::kachery_info;
pub use load::kachery_load;
pub use load_dir::kachery_load_dir;
pub use ls::kachery_ls;
pub use store::kachery_store;

/// Files below this many bytes are done before a bar could be seen.
const PROGRESS_FROM: u64 = 64 << 20;

/// Exit codes of USERS that can occur here.
const OTHER: u8 = 1;
const USAGE: u8 = 2;
const NOT_HERE: u8 = 3;
const WRONG_CONTENT: u8 = 5;
const DISK: u8 = 7;

/// Flags that every one of these commands has.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Folder of the stored files, shared with Python's kachery.
    // Not a PathBuf: clap refuses an empty one, which as a variable means that it is not set.
    #[arg(long, value_name = "DIR", env = "KACHERY_STORAGE_DIR")]
    storage_dir: Option<OsString>,
    /// Newline-delimited JSON on standard output: progress, then one result or error.
    #[arg(long, env = "KACHERY_P2P_JSON")]
    json: bool,
    /// Only errors on standard error.
    #[arg(long, short, env = "KACHERY_P2P_QUIET")]
    quiet: bool,
    /// No progress on standard error.
    #[arg(long, env = "KACHERY_P2P_NO_PROGRESS")]
    no_progress: bool,
}

impl Common {
    fn open_store(&self) -> Result<Store, Failure> {
        let given = self.storage_dir.as_deref().filter(|path| !path.is_empty());
        Ok(Store::from_environment(given.map(Path::new))?)
    }

    /// Progress of work on a file of `size` bytes; small files show none.
    fn progress(&self, label: impl Into<String>, size: u64) -> Progress {
        let shown = size >= PROGRESS_FROM;
        let mode = ProgressMode::choose(self.json, self.quiet, self.no_progress || !shown);
        Progress::new(mode, label, Some(size))
    }

    /// One line about what happened, for people.
    fn note(&self, text: impl Display) {
        if !self.quiet && !self.json {
            // Nothing can be done if standard error is gone.
            writeln!(io::stderr(), "{text}").ok();
        }
    }

    /// The result: `text` for people and scripts, or `value` as JSON.
    fn result(&self, text: &[u8], value: serde_json::Value) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            let mut object = serde_json::json!({"type": "result"});
            if let (Some(object), serde_json::Value::Object(fields)) = (object.as_object_mut(), value) {
                object.extend(fields);
            }
            writeln!(out, "{object}")?;
        } else {
            out.write_all(text)?;
        }
        Ok(out.flush()?)
    }
}

/// Why a command failed.
#[derive(Debug)]
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Failure { code, message: message.into() }
    }

    fn not_here(start: &str, what: &str) -> Self {
        let next = "ask the network for it with: kachery-p2p load";
        Failure::new(NOT_HERE, format!("{start}: {what} is not in the store of this machine; {next} {what}"))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let disk = error.is_disk_full_or_readonly();
        match &error {
            StoreError::NoStorageDir => Failure::new(USAGE, error.to_string()),
            StoreError::WrongHash { .. } => Failure::new(WRONG_CONTENT, error.to_string()),
            StoreError::Damaged { .. } => {
                Failure::new(WRONG_CONTENT, format!("{error}; remove it, then store or load it again"))
            }
            _ if disk => Failure::new(
                DISK,
                format!(
                    "{error}; make room or check the permissions, or choose another folder with --storage-dir"
                ),
            ),
            _ => Failure::new(OTHER, error.to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // The reader of our output has enough, as `head` does: no failure, but the end.
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(0, ""),
            _ => Failure::new(OTHER, format!("cannot write the result: {error}")),
        }
    }
}

/// Parses the command line, runs the command, reports its failure.
fn run<A: Parser>(name: &str, common: fn(&A) -> &Common, command: fn(&A) -> Result<(), Failure>) -> ExitCode {
    let arguments = A::parse();
    let common = common(&arguments);
    let level = if common.quiet { "error" } else { "warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time();
    // Only fails if another logger is there, and then that one does it.
    log.with_target(false).try_init().ok();
    let Err(Failure { code, message }) = command(&arguments) else { return ExitCode::SUCCESS };
    if code != 0 {
        if common.json {
            let error = serde_json::json!({"type": "error", "code": code, "message": message});
            writeln!(io::stdout(), "{error}").ok();
        }
        writeln!(io::stderr(), "{name}: {message}").ok();
    }
    ExitCode::from(code)
}

/// What the user named.
enum Target {
    /// A plain path.
    Path(PathBuf),
    /// A URI, and what it names here.
    Uri(Uri, Named),
}

fn target(text: &Path, common: &Common) -> Result<(Target, Option<Store>), Failure> {
    match text.to_str().filter(|t| uri::is_hash_uri(t)) {
        None => Ok((Target::Path(text.to_owned()), None)),
        Some(text) => {
            let uri: Uri = text.parse().map_err(|e| Failure::new(OTHER, format!("{text}: {e}")))?;
            let store = common.open_store()?;
            let named = store.look_up(&uri)?;
            Ok((Target::Uri(uri, named), Some(store)))
        }
    }
}

/// The size of a file.
fn size_of(path: &Path) -> Result<u64, Failure> {
    let cannot = |e| Failure::new(OTHER, format!("cannot read {}: {e}", path.display()));
    Ok(std::fs::metadata(path).map_err(cannot)?.len())
}
