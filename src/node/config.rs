//! The config folder: `config.json` as the originals write it, and the lock that keeps a second daemon away.

use std::io;
use std::path::{Path, PathBuf};

/// Why the config folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// Step and path.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// `config.json` is no JSON of the expected shape; it was not touched.
    #[error("{}: {why}; correct it or move it away", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another daemon holds the folder.
    #[error(
        "a daemon is already running with this config folder (process {pid}, API port {api_port}); stop it with: kachery-p2p daemon-stop"
    )]
    AlreadyRunning {
        /// Its process ID; 0: it has not written it yet.
        pid: u32,
        /// Its API port.
        api_port: u16,
    },
}

/// The folder while this process holds it. The lock is released when this is dropped or the process ends.
pub struct ConfigDir {
    _lock: std::fs::File,
}

/// What a running daemon wrote into the lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningDaemon {
    /// Process.
    pub pid: u32,
    /// Port of its HTTP API.
    pub api_port: u16,
}

#[allow(unused_variables)]
impl ConfigDir {
    /// Creates the folder if it is missing and takes its lock (`daemon.lock`).
    pub fn open(path: &Path, api_port: u16) -> Result<Self, ConfigError> {
        todo!()
    }

    /// The daemon that holds the folder, if one does.
    pub fn running(path: &Path) -> Result<Option<RunningDaemon>, ConfigError> {
        todo!()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        todo!()
    }

    /// The channels of `config.json`, in order, without duplicates and without names that cannot be used.
    pub fn channels(&self) -> Result<Vec<String>, ConfigError> {
        todo!()
    }

    /// Replaces the channels of `config.json` atomically; its other keys are kept.
    pub fn set_channels(&self, channels: &[String]) -> Result<(), ConfigError> {
        todo!()
    }
}

/// Checks a channel name: 1 to 256 bytes, no control characters, no space at either end.
#[allow(unused_variables)]
pub fn check_channel_name(name: &str) -> Result<(), &'static str> {
    todo!()
}
