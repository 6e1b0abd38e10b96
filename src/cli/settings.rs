//! What the flags, the environment and the config file say, with the defaults filled in: flag, then environment, then
//! config file, then default.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;

use super::arguments::Global;
use super::config_file::{self, FileSettings, fill, given};
use super::failure::Failure;
use super::output::Output;
use super::progress::ProgressMode;
use crate::api::client::Client;
use crate::store::uri::{self, Uri, UriAlgorithm};
use crate::store::{Algorithm, NotASha1, Sha1, Store, StoreError};

/// The public bootstrap nodes of the v2 network.
const BOOTSTRAP_V2: [&str; 3] =
    ["bootstrap1.hyperdht.org:49737", "bootstrap2.hyperdht.org:49737", "bootstrap3.hyperdht.org:49737"];

/// The settings of one invocation.
pub(super) struct Settings {
    pub(super) output: Output,
    /// Draw or print progress.
    pub(super) progress: bool,
    pub(super) verbosity: u8,
    /// `--timeout`, if given.
    pub(super) timeout: Option<Duration>,
    pub(super) mdns: bool,
    pub(super) api_port: u16,
    pub(super) config_dir: Option<PathBuf>,
    pub(super) storage_dir: Option<PathBuf>,
    /// `--bootstrap-v2`, if given.
    pub(super) bootstrap_v2: Vec<String>,
    /// Use no file from elsewhere (KACHERY_STORAGE_DIR_ALT).
    pub(super) isolated: bool,
}

impl Settings {
    /// `matches`: where the values of `global` came from.
    pub(super) fn new(mut global: Global, matches: &ArgMatches, file: FileSettings) -> Self {
        let given = |id| given(matches, id);
        fill(&mut global.storage_dir, file.storage_dir().map(Some), given("storage_dir"));
        fill(&mut global.timeout, file.timeout().map(Some), given("timeout"));
        fill(&mut global.api_port, file.api_port, given("api_port"));
        fill(&mut global.bootstrap_v2, file.bootstrap_v2, given("bootstrap_v2"));
        fill(&mut global.no_mdns, file.no_mdns, given("no_mdns"));
        fill(&mut global.json, file.json, given("json"));
        fill(&mut global.quiet, file.quiet, given("quiet"));
        fill(&mut global.no_progress, file.no_progress, given("no_progress"));
        fill(&mut global.verbose, file.verbose, given("verbose"));
        Self {
            output: Output { json: global.json, quiet: global.quiet },
            progress: !global.no_progress && !global.quiet,
            verbosity: global.verbose.saturating_add(global.more_verbose),
            timeout: global.timeout,
            mdns: !global.no_mdns,
            api_port: global.api_port,
            config_dir: config_file::folder(global.config_dir.as_deref()),
            storage_dir: global.storage_dir,
            bootstrap_v2: global.bootstrap_v2,
            isolated: false,
        }
    }

    /// The daemon of this machine.
    pub(super) fn daemon(&self) -> Client {
        Client::new(self.api_port)
    }

    /// How progress is shown.
    pub(super) fn progress_mode(&self) -> ProgressMode {
        ProgressMode::choose(self.output.json, self.output.quiet, !self.progress)
    }

    /// `~/.kachery-p2p` unless told otherwise.
    pub(super) fn config_dir(&self) -> Result<PathBuf, Failure> {
        self.config_dir.clone().ok_or_else(|| {
            Failure::usage("no config folder: HOME is not set")
                .next("set KACHERY_P2P_CONFIG_DIR to a folder of yours")
        })
    }

    pub(super) fn store(&self) -> Result<Store, StoreError> {
        match &self.storage_dir {
            Some(folder) if self.isolated => Store::open(folder),
            folder => Store::from_environment(folder.as_deref()),
        }
    }

    pub(super) fn bootstrap_v2(&self) -> Vec<String> {
        if self.bootstrap_v2.is_empty() {
            BOOTSTRAP_V2.map(str::to_owned).to_vec()
        } else {
            self.bootstrap_v2.clone()
        }
    }
}

/// What a URI names for this program.
pub(super) struct Name {
    pub(super) sha1: Sha1,
    /// What follows the hash.
    pub(super) label: String,
}

/// Reads a URI as the original's client does: any `sha1...://HASH/label`; only the hash counts.
pub(super) fn parse_uri(text: &str) -> Result<Name, Failure> {
    if !uri::is_hash_uri(text) {
        let failure = Failure::usage(format!("{text:?} is not the name of a file"));
        return Err(match std::path::Path::new(text).exists() {
            true => failure
                .likely(
                    "it is a path on this machine; files are loaded by the name that kachery-store prints",
                )
                .next(format!("kachery-store {text}   (prints its name)")),
            false => failure.likely("something is missing at its beginning").next(WANTED),
        });
    }
    let cut = |why: String| {
        let failure = Failure::usage(format!("{text:?} is not the name of a file: {why}"));
        failure.likely("it was cut off or changed when it was copied").next(WANTED)
    };
    let uri: Uri = text.parse().map_err(|error: uri::UriError| cut(error.to_string()))?;
    if uri.algorithm != UriAlgorithm::Hash(Algorithm::Sha1) {
        return Err(Failure::usage(format!(
            "{text}: only files named by their sha1 are shared between peers"
        ))
        .likely("it was stored with --algorithm md5")
        .next("kachery-store FILE   (on the machine that has it; prints its sha1:// name)"));
    }
    let sha1 = uri.hash.parse().map_err(|error: NotASha1| cut(error.to_string()))?;
    Ok(Name { sha1, label: uri.rest })
}

/// What is to be typed where the name of a file is expected.
const WANTED: &str = "sha1://HASH/label, as kachery-store printed it, with 40 characters 0-9 and a-f as HASH";

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "8843d7f92416211de9ebb963ff4ce28125932878";

    #[test]
    fn a_uri_gives_its_hash_and_label() {
        for (text, label) in [
            (format!("sha1://{HASH}"), ""),
            (format!("sha1://{HASH}/a/b.bin"), "a/b.bin"),
            (format!("sha1://{HASH}.tar.gz?x=1/y"), "y"),
            (format!("sha1dir://{HASH}.folder/p"), "p"),
        ] {
            let name = parse_uri(&text).unwrap();
            assert_eq!((name.sha1.to_string().as_str(), name.label.as_str()), (HASH, label), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_of_a_file_is_a_usage_error_that_shows_a_good_one() {
        let upper = format!("sha1://{}", HASH.to_uppercase());
        let query = format!("sha1://{HASH}?x=1");
        for text in
            ["", "file.txt", "sha1://", "sha1:////x", &upper, &query, "md5://abc", "key://abc", "http://x/y"]
        {
            let Err(failure) = parse_uri(text) else { panic!("{text:?} was accepted") };
            assert_eq!(failure.exit as u8, 2, "{text}");
        }
    }
}
