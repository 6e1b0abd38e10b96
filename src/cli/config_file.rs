//! What `config.json` of the config folder says in the place of flags: an object `"settings"`, beside the channels, whose
//! keys are the names of the flags with underscores. The original daemons keep it when they rewrite the file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::Deserialize;

use super::failure::Failure;
use crate::node::config::{self, ConfigError};

/// The settings of the file; what it does not name is `None`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSettings {
    storage_dir: Option<String>,
    pub(super) api_port: Option<u16>,
    pub(super) bootstrap_v2: Option<Vec<String>>,
    pub(super) no_mdns: Option<bool>,
    pub(super) json: Option<bool>,
    pub(super) quiet: Option<bool>,
    pub(super) no_progress: Option<bool>,
    timeout: Option<f64>,
    pub(super) verbose: Option<u8>,
}

impl FileSettings {
    /// Reads the settings in the config folder that was given, or in `~/.kachery-p2p`. A missing folder or file says
    /// nothing.
    pub(super) fn read(config_dir: Option<&Path>) -> Result<Self, Failure> {
        let Some(folder) = folder(config_dir) else { return Ok(Self::default()) };
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("{}: settings: {why}", folder.join(config::CONFIG_FILE).display()))
                .next("correct it there; every setting is also a flag, see --help")
        };
        let value = match config::settings(&folder) {
            Ok(Some(value)) => value,
            Ok(None) => return Ok(Self::default()),
            // Only a daemon needs the folder, and says so.
            Err(ConfigError::Io { source, .. }) if source.kind() == ErrorKind::NotADirectory => {
                return Ok(Self::default());
            }
            Err(ConfigError::Io { what, source }) => {
                return Err(Failure::folder(format!("{what}: {source}"), &source));
            }
            Err(error) => return Err(Failure::usage(error.to_string())),
        };
        let settings: Self = serde_json::from_value(value).map_err(|error| wrong(&error))?;
        if let Some(storage) = &settings.storage_dir
            && settings.storage_dir().is_none_or(|path| !path.is_absolute())
        {
            return Err(wrong(&format!(
                "storage_dir: {storage:?} is neither a whole path nor begins with ~/"
            )));
        }
        if settings.timeout.is_some() && settings.timeout().is_none() {
            return Err(wrong(&"timeout: expected a positive number of seconds"));
        }
        Ok(settings)
    }

    /// `~/` is the home folder: no shell reads this file.
    pub(super) fn storage_dir(&self) -> Option<PathBuf> {
        let text = self.storage_dir.as_ref()?;
        match text.strip_prefix("~/") {
            Some(rest) => home().map(|home| home.join(rest)),
            None => Some(text.into()),
        }
    }

    pub(super) fn timeout(&self) -> Option<Duration> {
        let timeout = Duration::try_from_secs_f64(self.timeout?).ok()?;
        Some(timeout).filter(|timeout| !timeout.is_zero())
    }
}

/// Takes the file's value unless a flag or a variable gave one.
pub(super) fn fill<T>(slot: &mut T, from_file: Option<T>, given: bool) {
    if let (Some(value), false) = (from_file, given) {
        *slot = value;
    }
}

/// True if a flag or a variable gave this argument.
pub(super) fn given(matches: &ArgMatches, id: &str) -> bool {
    matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// The config folder; none without a home.
pub(super) fn folder(given: Option<&Path>) -> Option<PathBuf> {
    given.map(Path::to_owned).or_else(|| Some(home()?.join(".kachery-p2p")))
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;

    fn read(text: &str) -> Result<FileSettings, Failure> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(config::CONFIG_FILE), text).unwrap();
        FileSettings::read(Some(folder.path()))
    }

    #[test]
    fn a_file_without_settings_and_no_file_say_nothing() {
        for text in ["{}", "{\"channels\":[]}", "{\"settings\":{}}"] {
            assert!(read(text).unwrap().api_port.is_none(), "{text}");
        }
        let nowhere = tempfile::tempdir().unwrap().path().join("x");
        assert!(FileSettings::read(Some(&nowhere)).unwrap().api_port.is_none());
    }

    #[test]
    fn settings_are_read_by_the_names_of_the_flags() {
        let text = r#"{"settings": {"storage_dir": "/data/kachery", "api_port": 7, "bootstrap_v2": ["a:1"],
            "no_mdns": true, "timeout": 1.5, "verbose": 2}}"#;
        let settings = read(text).unwrap();
        assert_eq!(settings.storage_dir(), Some("/data/kachery".into()));
        assert_eq!((settings.api_port, settings.verbose, settings.no_mdns), (Some(7), Some(2), Some(true)));
        assert_eq!(settings.bootstrap_v2, Some(vec!["a:1".to_owned()]));
        assert_eq!(settings.timeout(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named_with_the_file() {
        for (text, part) in [
            ("{\"settings\":{\"api_prot\":7}}", "unknown field `api_prot`"),
            ("{\"settings\":{\"api_port\":70000}}", "70000"),
            ("{\"settings\":{\"timeout\":0}}", "timeout: expected a positive number"),
            ("{\"settings\":{\"timeout\":-1}}", "timeout: expected a positive number"),
            ("{\"settings\":{\"storage_dir\":\"data\"}}", "neither a whole path"),
            ("{\"settings\":7}", "settings"),
            ("{", "not JSON"),
        ] {
            let failure = read(text).expect_err(text);
            assert_eq!(failure.exit, Exit::Usage, "{text}");
            assert!(failure.what.contains(part) && failure.what.contains("config.json"), "{failure}");
        }
    }
}
