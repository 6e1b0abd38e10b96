//! Why something that a node was asked for did not happen.

use std::time::Duration;

use crate::store::{StoreError, StoreErrorKind};

/// Why a node or a change of its channels failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The config folder or a file in it.
    #[error("{what}: {source}")]
    Config {
        /// Step and path.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Another daemon holds the config folder.
    #[error(
        "a daemon is already running with this config folder (process {pid}, API port {api_port}); stop it with: kachery-p2p daemon-stop --api-port {api_port}"
    )]
    AlreadyRunning {
        /// Its process id.
        pid: u32,
        /// Its API port.
        api_port: u16,
    },
    /// Sockets.
    #[error("cannot open the network: {0}")]
    Network(#[source] std::io::Error),
    /// A channel name that cannot be used.
    #[error("channel name: {0}")]
    ChannelName(&'static str),
    /// More channels than a node can be in.
    #[error(
        "a daemon is in at most {} channels at the same time; leave one first: kachery-p2p leave-channel NAME (or remove it from config.json while the daemon is stopped)",
        crate::limits::CHANNELS
    )]
    TooManyChannels,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a load ended without a file; each has its own exit code in the command line.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Not joined to any channel.
    #[error(
        "this daemon has joined no channel: join the one your colleague uses with: kachery-p2p join-channel NAME"
    )]
    NoChannel,
    /// Nobody to ask.
    #[error("no peer is connected in any joined channel ({channels}): nobody could be asked")]
    NoPeers {
        /// Names, comma separated.
        channels: String,
    },
    /// Asked, but nobody said that it has it. No protocol lets a peer say that it does not.
    #[error("{}", nobody_said(*asked, *within))]
    NotFound {
        /// Peers asked.
        asked: usize,
        /// How long they had to answer.
        within: Duration,
    },
    /// Found, but every provider failed.
    #[error("found, but the transfer failed: {}", .reasons.iter().map(|(node, why)| format!("{node}: {why}")).collect::<Vec<_>>().join("; "))]
    Transfer {
        /// Provider and reason.
        reasons: Vec<(String, String)>,
    },
    /// Only daemons offered it that would die of the request, so none was made.
    #[error(
        "found, but only where kachery-p2p 0.1.2 runs, which would die of a request for more than {} bytes, so it was not asked for these {size}: {}",
        crate::limits::V012_MAX_FILE,
        .providers.join(", ")
    )]
    NotAsked {
        /// Node IDs.
        providers: Vec<String>,
        /// Bytes, as they claim.
        size: u64,
    },
    /// Every provider sent wrong bytes.
    #[error("verification failed: {} sent bytes that do not have this sha1", .liars.join(", "))]
    Verification {
        /// Node IDs.
        liars: Vec<String>,
    },
    /// No progress for too long.
    #[error("no progress for {} s", .0.as_secs())]
    Timeout(Duration),
    /// No room on the disk, or in the user's quota.
    #[error("the disk is full: {0}")]
    StoreFull(String),
    /// The store cannot be read or written.
    #[error("the store cannot keep it: {0}")]
    StoreUnwritable(String),
    /// This process has no file descriptor left; nothing is wrong with the disk.
    #[error("the daemon has too many files open: {0}")]
    TooManyOpenFiles(String),
    /// Another program is loading the file into the same store.
    #[error("another program is loading this file into the same store: load again when it has ended ({0})")]
    InUse(String),
    /// Another program changed or replaced what was loaded before it was in the store.
    #[error("the store cannot keep it: {0}")]
    Interfered(String),
    /// Something of somebody else has the name of a file of the store.
    #[error("the store cannot keep it: {0}, then load again")]
    InTheWay(String),
    /// Something that cannot happen, or a bug.
    #[error("a fault of this program: {0}")]
    Fault(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The node was shut down.
    #[error("the daemon was stopped; start it and load again, it resumes")]
    Stopped,
}

fn nobody_said(asked: usize, within: Duration) -> String {
    let seconds = within.as_secs();
    match asked {
        1 => format!("the one connected peer did not say within {seconds} s that it has it"),
        _ => format!("none of {asked} connected peers said within {seconds} s that it has it"),
    }
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        let of_system = matches!(&error, StoreError::Io { source, .. } if source.raw_os_error().is_some());
        match error.kind() {
            StoreErrorKind::DiskFull => Self::StoreFull(text),
            StoreErrorKind::TooManyOpenFiles => Self::TooManyOpenFiles(text),
            StoreErrorKind::InUse => Self::InUse(text),
            StoreErrorKind::InTheWay => Self::InTheWay(text),
            StoreErrorKind::Interfered => Self::Interfered(text),
            StoreErrorKind::NotWritable | StoreErrorKind::FileTooLarge => Self::StoreUnwritable(text),
            // An error of the device, say.
            StoreErrorKind::Other if of_system => Self::StoreUnwritable(text),
            StoreErrorKind::Other => Self::Fault(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::store::Sha1;

    #[test]
    fn an_error_of_the_system_in_the_store_says_what_the_user_can_do() {
        let load_error = |errno: Errno| {
            let what = "write a download".to_owned();
            LoadError::from(StoreError::Io { what, source: errno.into() })
        };
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert!(matches!(load_error(errno), LoadError::StoreFull(_)), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert!(matches!(load_error(errno), LoadError::TooManyOpenFiles(_)), "{errno}");
        }
        for errno in [Errno::ROFS, Errno::ACCESS, Errno::PERM, Errno::FBIG, Errno::IO] {
            assert!(matches!(load_error(errno), LoadError::StoreUnwritable(_)), "{errno}");
        }
    }

    #[test]
    fn silence_of_all_peers_is_not_told_as_their_answer() {
        let text = |asked| LoadError::NotFound { asked, within: Duration::from_secs(10) }.to_string();
        assert_eq!(text(2), "none of 2 connected peers said within 10 s that it has it");
        assert_eq!(text(1), "the one connected peer did not say within 10 s that it has it");
    }

    #[test]
    fn a_download_that_another_program_holds_is_in_use_and_no_fault() {
        let folder = tempfile::tempdir().expect("folder");
        let store = || crate::store::Store::open(folder.path()).expect("store");
        let mut first = store().partial(Sha1([1; 20]), 9).expect("partial");
        first.write_at(0, b"four").expect("write");
        let error = store().partial(Sha1([1; 20]), 9).expect_err("held");
        assert!(matches!(LoadError::from(error), LoadError::InUse(_)));
    }

    #[test]
    fn a_folder_in_place_of_a_download_is_told_with_its_path_and_what_to_do() {
        let error = LoadError::from(StoreError::InTheWay { path: "/store/x.data".into() });
        assert_eq!(
            error.to_string(),
            "the store cannot keep it: /store/x.data is a folder with something in it, where a file of this store belongs: move it away, then load again"
        );
    }

    #[test]
    fn what_another_program_did_to_a_download_is_told_and_no_fault_of_this_one() {
        let error = LoadError::from(StoreError::Interfered { path: "/store/x.data".into() });
        assert_eq!(
            error.to_string(),
            "the store cannot keep it: another program changed or replaced /store/x.data before it was in the store: stop that program, then try again"
        );
        let gone = LoadError::from(StoreError::Gone { path: "/store".into() });
        assert!(
            matches!(&gone, LoadError::StoreUnwritable(text) if text.contains("/store, was removed")),
            "{gone}"
        );
    }

    #[test]
    fn an_error_of_the_store_that_is_none_of_the_system_is_a_fault() {
        let what = "write a download".to_owned();
        let source = std::io::Error::other("a bug");
        assert!(matches!(LoadError::from(StoreError::Io { what, source }), LoadError::Fault(_)));
        assert!(matches!(LoadError::from(StoreError::TooManyPieces), LoadError::Fault(_)));
    }
}
