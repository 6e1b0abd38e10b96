//! What the API sends: the lines of a search and of a load, and the codes of what goes wrong. Server and client share
//! these types, so that a code or a line which one of them does not know does not compile. A daemon of another version may
//! send more; the last variant of each type stands for that.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::node::{Found, LoadError, LoadEvent, Loaded};

/// The short name of each way to fail, in answers of the API and in the output of commands with `--json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The daemon is in no channel.
    NoChannel,
    /// No peer could be asked.
    NoPeers,
    /// None of the peers asked has it.
    NotFound,
    /// Found, but every provider failed.
    Transfer,
    /// Found only where asking would do harm.
    NotAsked,
    /// What arrived does not have the hash.
    Verification,
    /// No progress for too long.
    Timeout,
    /// The disk is full or not writable.
    Disk,
    /// The daemon, or this program, has as many files open as it may.
    OpenFiles,
    /// Cancelled by a client.
    Cancelled,
    /// Too many requests are running, or another program is loading the file.
    Busy,
    /// The request or the command line is wrong.
    Usage,
    /// No daemon answers, as commands say, or it was stopped during a load.
    NoDaemon,
    /// Ctrl-C. Only commands say so.
    Interrupted,
    /// Anything else.
    #[serde(other)]
    Other,
}

impl From<&LoadError> for Code {
    fn from(error: &LoadError) -> Self {
        match error {
            LoadError::NoChannel => Self::NoChannel,
            LoadError::NoPeers { .. } => Self::NoPeers,
            LoadError::NotFound { .. } => Self::NotFound,
            LoadError::Transfer { .. } => Self::Transfer,
            LoadError::NotAsked { .. } => Self::NotAsked,
            LoadError::Verification { .. } => Self::Verification,
            LoadError::Timeout(_) => Self::Timeout,
            LoadError::StoreFull(_) | LoadError::StoreUnwritable(_) => Self::Disk,
            LoadError::TooManyOpenFiles(_) => Self::OpenFiles,
            LoadError::InUse(_) => Self::Busy,
            LoadError::InTheWay(_) | LoadError::Interfered(_) | LoadError::Fault(_) => Self::Other,
            LoadError::Cancelled => Self::Cancelled,
            LoadError::Stopped => Self::NoDaemon,
        }
    }
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Problem {
    /// A code with its words.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl From<&LoadError> for Problem {
    fn from(error: &LoadError) -> Self {
        Self::new(error.into(), error)
    }
}

/// The body of an answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why.
    pub error: Problem,
}

/// One line of the answer to `find`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FindLine {
    /// The first line.
    Searching(Asked),
    /// Somebody has it.
    Found {
        /// The provider, as the originals name it.
        #[serde(flatten)]
        provider: Provider,
        /// Where it was found.
        channel: String,
        /// The message protocol on which the answer came.
        protocol: String,
    },
    /// The last line.
    Result {
        /// How many have it.
        found: u64,
        /// As in the first line.
        #[serde(flatten)]
        asked: Asked,
    },
    /// A daemon of another version says something that is not known here.
    #[serde(other)]
    Unknown,
}

/// How far a search reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Joined channels.
    pub channels: usize,
    /// Peers asked.
    pub peers: usize,
}

/// A find as the daemons of 2020 answer it; the transfer swarm of a node is named by its ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// The provider's node ID.
    pub primary_node_id: String,
    /// The same.
    pub swarm_name: String,
    /// What was sought.
    pub file_key: FileKey,
    /// What was found.
    pub file_info: FileInfo,
}

/// The name of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileKey {
    /// 40 lower-case hex characters.
    pub sha1: String,
}

/// A file that somebody has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Bytes.
    pub size: u64,
    /// 40 lower-case hex characters.
    pub sha1: String,
}

impl From<&Found> for Provider {
    fn from(found: &Found) -> Self {
        let sha1 = found.sha1.to_string();
        Self {
            primary_node_id: found.node_id.clone(),
            swarm_name: found.node_id.clone(),
            file_key: FileKey { sha1: sha1.clone() },
            file_info: FileInfo { size: found.size, sha1 },
        }
    }
}

impl From<&Found> for FindLine {
    fn from(found: &Found) -> Self {
        Self::Found {
            provider: found.into(),
            channel: found.channel.clone(),
            protocol: found.protocol.to_owned(),
        }
    }
}

/// One line of the answer to `load`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LoadLine {
    /// The first line.
    Started {
        /// The number by which `cancel` knows this load.
        load: u64,
    },
    /// What it is doing.
    Progress(Progress),
    /// The last line of a load that succeeded.
    Result {
        /// Where the file is in the daemon's store.
        path: String,
        /// Bytes.
        size: u64,
        /// Bytes that came over the network this time.
        downloaded: u64,
    },
    /// The last line of one that failed.
    Error(Problem),
    /// A daemon of another version says something that is not known here.
    #[serde(other)]
    Unknown,
}

impl From<&Loaded> for LoadLine {
    fn from(loaded: &Loaded) -> Self {
        let path = loaded.path.to_string_lossy().into_owned();
        Self::Result { path, size: loaded.size, downloaded: loaded.downloaded }
    }
}

/// What a load is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Progress {
    /// One of the phases of this version.
    Known(LoadEvent),
    /// A daemon of another version says something that is not known here.
    Unknown {
        /// Its word for it.
        phase: String,
    },
}

impl From<&LoadEvent> for Progress {
    fn from(event: &LoadEvent) -> Self {
        Self::Known(*event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line that a daemon writes, as it has been on the wire since version 0.3.0.
    #[test]
    fn the_lines_are_those_that_clients_know() {
        let load = |line: LoadLine, text: &str| {
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
            assert_eq!(serde_json::from_str::<LoadLine>(text).unwrap(), line);
        };
        load(LoadLine::Started { load: 1 }, r#"{"type":"started","load":1}"#);
        load(
            LoadLine::Progress((&LoadEvent::Looking { peers: 2 }).into()),
            r#"{"type":"progress","phase":"looking","peers":2}"#,
        );
        load(
            LoadLine::Progress((&LoadEvent::Downloading { bytes: 1, size: 2, providers: 3, rate: 4 }).into()),
            r#"{"type":"progress","phase":"downloading","bytes":1,"size":2,"providers":3,"rate":4}"#,
        );
        load(
            LoadLine::Progress((&LoadEvent::Verifying).into()),
            r#"{"type":"progress","phase":"verifying"}"#,
        );
        load(
            LoadLine::Progress((&LoadEvent::Waiting { bytes: 1, size: 2 }).into()),
            r#"{"type":"progress","phase":"waiting","bytes":1,"size":2}"#,
        );
        load(
            (&Loaded { path: "/p".into(), size: 1, downloaded: 2 }).into(),
            r#"{"type":"result","path":"/p","size":1,"downloaded":2}"#,
        );
        load(
            LoadLine::Error((&LoadError::Cancelled).into()),
            r#"{"type":"error","code":"cancelled","message":"cancelled"}"#,
        );
        let find = |line: FindLine, text: &str| {
            assert_eq!(serde_json::to_string(&line).unwrap(), text);
            assert_eq!(serde_json::from_str::<FindLine>(text).unwrap(), line);
        };
        let asked = Asked { channels: 1, peers: 2 };
        find(FindLine::Searching(asked), r#"{"type":"searching","channels":1,"peers":2}"#);
        find(FindLine::Result { found: 3, asked }, r#"{"type":"result","found":3,"channels":1,"peers":2}"#);
        let refusal = Refusal { error: Problem::new(Code::Busy, "later") };
        assert_eq!(
            serde_json::to_string(&refusal).unwrap(),
            r#"{"error":{"code":"busy","message":"later"}}"#
        );
    }

    #[test]
    fn what_a_daemon_of_another_version_sends_is_understood_as_far_as_possible() {
        let error = r#"{"type":"error","code":"new kind","message":"why","more":1}"#;
        let line: LoadLine = serde_json::from_str(error).unwrap();
        assert_eq!(line, LoadLine::Error(Problem::new(Code::Other, "why")));
        let line: LoadLine = serde_json::from_str(r#"{"type":"progress","phase":"new","x":1}"#).unwrap();
        assert_eq!(line, LoadLine::Progress(Progress::Unknown { phase: "new".into() }));
        assert_eq!(serde_json::from_str::<LoadLine>(r#"{"type":"new","x":1}"#).unwrap(), LoadLine::Unknown);
        assert_eq!(serde_json::from_str::<FindLine>(r#"{"type":"new"}"#).unwrap(), FindLine::Unknown);
        assert!(serde_json::from_str::<LoadLine>(r#"{"type":"result","size":1}"#).is_err(), "no path");
    }
}
