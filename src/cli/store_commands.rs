//! The commands that need no daemon: `kachery-store`, `-load`, `-cat`, `-info`, `-ls` and `-load-dir`. What they write to
//! standard output is what Python's kachery 0.6.3 writes; everything else goes to standard error.
//!
//! One thing differs on purpose: a file that is not here gives exit code 3 everywhere, where the original `kachery-load`
//! and a `kachery-cat` of a range exited 0 with nothing on standard output.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{ArgMatches, CommandFactory, Parser};
use tracing::level_filters::LevelFilter;

use super::arguments::without_empty_variables;
use super::config_file::{FileSettings, fill, given};
use super::failure::{Exit, Failure};
use super::load::blocking;
use super::log::Log;
use super::output::{Output, write_lines};
use super::progress::{Progress, ProgressMode};
use super::settings::parse_uri;
use super::stored::{self, size_of};
use super::{program_name, signals, system};
use crate::store::uri::{self, Uri};
use crate::store::{Cancel, ContentHash, Named, Store};

mod cat;
mod info;
mod load;
mod load_dir;
mod ls;
mod store;

/// The `kachery-store` command, or the one of these whose name the first word is.
pub fn run() -> ExitCode {
    match program_name().to_str() {
        Some("kachery-load") => load::kachery_load(),
        Some("kachery-cat") => cat::kachery_cat(),
        Some("kachery-info") => info::kachery_info(),
        Some("kachery-ls") => ls::kachery_ls(),
        Some("kachery-load-dir") => load_dir::kachery_load_dir(),
        _ => store::kachery_store(),
    }
}

/// The definitions of all of them.
pub(super) fn definitions() -> [clap::Command; 6] {
    [
        store::Arguments::command(),
        load::Arguments::command(),
        cat::Arguments::command(),
        info::Arguments::command(),
        ls::Arguments::command(),
        load_dir::Arguments::command(),
    ]
}

/// Files below this many bytes are done before a bar could be seen.
const PROGRESS_FROM: u64 = 64 << 20;

/// Flags that every one of these commands has.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Folder of config.json [default: ~/.kachery-p2p]
    #[arg(long, value_name = "DIR", env = "KACHERY_P2P_CONFIG_DIR")]
    config_dir: Option<PathBuf>,
    /// Folder of the stored files, shared with Python's kachery.
    #[arg(long, value_name = "DIR", env = "KACHERY_STORAGE_DIR")]
    storage_dir: Option<PathBuf>,
    /// Newline-delimited JSON on standard output: progress, then one result or error.
    #[arg(long, env = "KACHERY_P2P_JSON", value_parser = FalseyValueParser::new())]
    json: bool,
    /// Only errors on standard error.
    #[arg(long, short, env = "KACHERY_P2P_QUIET", value_parser = FalseyValueParser::new())]
    quiet: bool,
    /// No progress on standard error.
    #[arg(long, env = "KACHERY_P2P_NO_PROGRESS", value_parser = FalseyValueParser::new())]
    no_progress: bool,
    /// Cancelled by Ctrl-C: nothing unfinished stays behind.
    #[arg(skip)]
    cancel: Cancel,
}

impl Common {
    /// Takes from the config file what neither flags nor variables gave; `matches` says what they did.
    fn fill_from_file(&mut self, matches: &ArgMatches) -> Result<(), Failure> {
        let file = FileSettings::read(self.config_dir.as_deref())?;
        let given = |id| given(matches, id);
        fill(&mut self.storage_dir, file.storage_dir().map(Some), given("storage_dir"));
        fill(&mut self.json, file.json, given("json"));
        fill(&mut self.quiet, file.quiet, given("quiet"));
        fill(&mut self.no_progress, file.no_progress, given("no_progress"));
        Ok(())
    }

    fn open_store(&self) -> Result<Store, Failure> {
        Ok(Store::from_environment(self.storage_dir.as_deref())?)
    }

    /// Progress of work on a file of `size` bytes; small files show none.
    fn progress(&self, label: impl Into<String>, size: u64) -> Progress {
        Progress::new(self.progress_mode(size), label, Some(size))
    }

    fn progress_mode(&self, size: u64) -> ProgressMode {
        ProgressMode::choose(self.json, self.quiet, self.no_progress || size < PROGRESS_FROM)
    }

    fn output(&self) -> Output {
        Output { json: self.json, quiet: self.quiet }
    }

    /// One line about what happened, for people.
    fn note(&self, text: impl Display) {
        self.output().note(&text.to_string());
    }

    /// The result: lines for people and scripts (names need not be UTF-8), or `value` as JSON.
    fn result<'a>(
        &self,
        lines: impl IntoIterator<Item = &'a [u8]>,
        value: serde_json::Value,
    ) -> Result<(), Failure> {
        if self.json { self.output().result("", value) } else { write_lines(lines) }
    }
}

/// A file that is nowhere here; `start` is what the original said then.
fn not_here(start: &str, target: &Path) -> Failure {
    let shown = target.to_string_lossy();
    if target.is_dir() {
        return is_a_folder(start, target);
    }
    if !uri::is_hash_uri(&shown) {
        let failure = Failure::new(Exit::NotFound, format!("{start} there is no file {shown}"));
        return failure.likely("it is mistyped, or seen from another current folder");
    }
    let failure =
        Failure::new(Exit::NotFound, format!("{start} {shown} is not in the store of this machine"));
    match parse_uri(&shown) {
        Ok(_) => failure
            .likely("it was never stored or loaded here, or KACHERY_STORAGE_DIR is another folder")
            .next(format!("kachery-p2p load {shown}")),
        Err(why) => Failure { likely: Some(why.what), next: why.next, ..failure },
    }
}

/// A folder where a file is wanted; `start` is what the original said then.
fn is_a_folder(start: &str, target: &Path) -> Failure {
    let shown = target.to_string_lossy();
    Failure::new(Exit::NotFound, format!("{start} {shown} is a folder, not a file")).next(format!(
        "kachery-ls {shown}   (lists it), or kachery-load-dir {shown} --dest DIR   (copies it)"
    ))
}

/// A folder that is not here.
fn no_directory(target: &Path) -> Failure {
    Failure::new(Exit::NotFound, format!("Error loading directory. {}", target.display()))
        .likely("its manifest is not in the store of this machine, or has no such folder")
        .next("kachery-p2p load URI   (with the URI of the folder, which fetches its manifest)")
}

/// A file where a folder is wanted.
fn not_a_folder(shown: &str) -> Failure {
    Failure::new(Exit::Other, format!("Not a directory: {shown}"))
        .likely("it is a file")
        .next(format!("kachery-info {shown}"))
}

/// Parses the command line, runs the command, reports its failure.
fn run_command<A: Parser + Send + 'static>(
    common: fn(&mut A) -> &mut Common,
    command: fn(&A) -> Result<(), Failure>,
) -> ExitCode {
    let matches = without_empty_variables(A::command()).get_matches();
    let mut arguments = A::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let common = common(&mut arguments);
    let filled = common.fill_from_file(&matches);
    let (output, cancel) = (common.output(), common.cancel.clone());
    let level = if output.quiet { LevelFilter::ERROR } else { LevelFilter::WARN };
    let log = Log { level, time: false, target: false };
    let ready = filled.and_then(|()| log.start());
    match ready.and_then(|()| interruptible(cancel, move || command(&arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let exit = failure.exit;
            output.failure(&with_advice(failure));
            exit.into()
        }
    }
}

/// Runs the work on a thread of its own, so that Ctrl-C ends the command at once.
fn interruptible(
    cancel: Cancel,
    work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let runtime = system::start(&mut tokio::runtime::Builder::new_current_thread())?;
    let result = runtime.block_on(async {
        let interrupted = signals::interrupted()?;
        tokio::select! {
            result = blocking(work) => result,
            () = interrupted => {
                cancel.cancel();
                Err(Failure::interrupted())
            }
        }
    });
    // What a thread still does for something interrupted is of no use.
    runtime.shutdown_background();
    result
}

/// What to type next, if the failure does not say so itself.
fn with_advice(failure: Failure) -> Failure {
    match failure.exit {
        _ if failure.next.is_some() => failure,
        Exit::Disk => {
            failure.next("df -h, make room, check the permissions, or choose another --storage-dir")
        }
        _ => failure,
    }
}

/// What the user named.
enum Target {
    /// A plain path.
    Path(PathBuf),
    /// A URI, the store, and what it names there.
    Uri(Uri, Store, Named),
    /// A URI, and there is no store.
    Nothing,
}

fn target(text: &Path, common: &Common) -> Result<Target, Failure> {
    match text.to_str().filter(|t| uri::is_hash_uri(t)) {
        None => Ok(Target::Path(text.to_owned())),
        Some(text) => {
            let uri: Uri = text.parse().map_err(|e| Failure::new(Exit::Other, format!("{text}: {e}")))?;
            if !stored::may_have_files(common.storage_dir.as_deref()) {
                return Ok(Target::Nothing);
            }
            let store = common.open_store()?;
            let named = store.look_up(&uri)?;
            Ok(Target::Uri(uri, store, named))
        }
    }
}

/// Where a file of the store is, once its content is known to have the hash; `found` is where it seems to be. `hidden`:
/// without progress, which with --json would come between the content on standard output.
fn verified(
    common: &Common,
    store: &Store,
    hash: ContentHash,
    found: &Path,
    hidden: bool,
) -> Result<Option<PathBuf>, Failure> {
    let mode = if hidden { ProgressMode::Hidden } else { common.progress_mode(size_of(found)?) };
    stored::verified(store, hash, found, mode)
}
