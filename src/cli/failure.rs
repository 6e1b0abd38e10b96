//! How a command ends when it does not succeed: one exit code per outcome, and a message that says what happened,
//! the likely reason, and what to type next.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::printable;
use crate::api::client::ClientError;
use crate::store::{ContentHash, StoreError};

/// The exit codes, chosen once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Anything else.
    Other = 1,
    /// Wrong arguments.
    Usage = 2,
    /// Nobody has it (or there is nobody to ask).
    NotFound = 3,
    /// Found, but the transfer failed.
    Transfer = 4,
    /// What arrived does not have the hash.
    Verification = 5,
    /// The daemon is not reachable.
    NoDaemon = 6,
    /// The disk is full or not writable.
    Disk = 7,
    /// No progress for too long.
    Timeout = 8,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// Short name of the outcome, for `--json`.
    pub code: String,
    /// What happened.
    pub what: String,
    /// The likely reason, if it is not plain from `what`.
    pub likely: Option<String>,
    /// What to type next.
    pub next: Option<String>,
}

impl Failure {
    /// With only a message.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        let code = match exit {
            Exit::Other => "other",
            Exit::Usage => "usage",
            Exit::NotFound => "not_found",
            Exit::Transfer => "transfer",
            Exit::Verification => "verification",
            Exit::NoDaemon => "no_daemon",
            Exit::Disk => "disk",
            Exit::Timeout => "timeout",
            Exit::Interrupted => "interrupted",
        };
        Self { exit, code: code.into(), what: what.into(), likely: None, next: None }
    }

    /// Adds the likely reason.
    pub fn likely(mut self, reason: impl Into<String>) -> Self {
        self.likely = Some(reason.into());
        self
    }

    /// Adds what to type next.
    pub fn next(mut self, command: impl Into<String>) -> Self {
        self.next = Some(command.into());
        self
    }

    /// Wrong arguments that clap could not see.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Ctrl-C.
    pub fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }

    /// A folder that cannot be used; `what` names the step and the path.
    pub fn folder(what: impl Into<String>, error: &io::Error) -> Self {
        let failure = Self::new(Exit::Disk, what);
        match trouble(error) {
            Some((likely, next)) => failure.likely(likely).next(next),
            None => failure,
        }
    }

    /// Reading or writing a file or a pipe; `what` names the step and the path.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let failure = Self::new(Exit::Disk, format!("{what}: {error}"));
        match error.kind() {
            io::ErrorKind::NotFound => Self { exit: Exit::Other, code: "other".into(), ..failure },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                failure.next("df -h, free some space, then run the command again")
            }
            _ => failure,
        }
    }

    /// What a load's or a request's error code of the API means; `uri` is what was asked for.
    pub fn from_api(code: &str, message: &str, uri: &str) -> Self {
        let failure = match code {
            "no_channel" => Self::new(Exit::NotFound, message).next("kachery-p2p join-channel NAME"),
            "no_peers" => Self::new(Exit::NotFound, message)
                .likely(
                    "no other daemon is in these channels now, their names differ, or a firewall is between",
                )
                .next("kachery-p2p get-channels   (here and on the machine that has the file)"),
            "not_found" => Self::new(Exit::NotFound, message)
                .likely("the file was never stored there, or its owner's daemon is in another channel")
                .next("kachery-store FILE   (on the machine that has it, then run this again)"),
            "transfer" => Self::new(Exit::Transfer, message)
                .next(format!("kachery-p2p load {uri}   (it resumes; what has arrived is kept)")),
            "not_asked" => Self::new(Exit::Transfer, message)
                .likely("that old daemon cannot send larger files to anybody")
                .next(
                    "kachery-p2p daemon-start --channel NAME   (on the machine that has it, in place of the old daemon and with the same storage folder; then run this again)",
                ),
            "verification" => Self::new(Exit::Verification, message)
                .likely("the file was changed or damaged where it is stored; nothing of it was kept")
                .next(format!("kachery-p2p find {uri}   (to see who else has it)")),
            "timeout" => {
                Self::new(Exit::Timeout, message).likely("the connection to the providers stalled").next(
                    format!("kachery-p2p load {uri} --timeout 300   (it resumes; what has arrived is kept)"),
                )
            }
            "disk" => Self::new(Exit::Disk, message).next(
                "df -h, free some space (or restart the daemon with another --storage-dir), then again",
            ),
            "cancelled" => Self::new(Exit::Interrupted, "cancelled"),
            "usage" => Self::usage(message),
            _ => Self::new(Exit::Other, message),
        };
        Self { code: code.into(), ..failure }
    }

    /// The object that ends the output with `--json`.
    pub fn json(&self) -> Value {
        json!({
            "type": "error",
            "code": self.code,
            "exit_code": self.exit as u8,
            "message": self.what,
            "likely": self.likely,
            "next": self.next,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", printable(&self.what))?;
        if let Some(likely) = &self.likely {
            write!(f, "\n  likely: {}", printable(likely))?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next: {}", printable(next))?;
        }
        Ok(())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let what = error.to_string();
        match error {
            ClientError::Unreachable { .. } => Self::new(
                Exit::NoDaemon,
                format!("the daemon is not running: {what}"),
            )
            .likely("it was not started, or it listens on another port (KACHERY_P2P_API_PORT, --api-port)")
            .next("kachery-p2p daemon-start --channel NAME"),
            ClientError::Broken(_) | ClientError::Timeout(_) => Self::new(Exit::NoDaemon, what)
                .likely("the daemon stopped or hangs")
                .next("kachery-p2p status"),
            ClientError::Unexpected(_) => Self::new(Exit::NoDaemon, what)
                .likely("another program, or a daemon of the original kachery-p2p, listens on this port")
                .next("ss -ltnp   (shows which program it is: end it, or give every command the same other --api-port)"),
            ClientError::Refused { code, message, .. } => Self::from_api(&code, &message, "URI"),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let exit = match &error {
            StoreError::NoStorageDir => Exit::Usage,
            StoreError::WrongHash { .. } | StoreError::Damaged { .. } => Exit::Verification,
            error if error.is_disk_full_or_readonly() => Exit::Disk,
            _ => Exit::Other,
        };
        let failure = Self::new(exit, error.to_string());
        match error {
            StoreError::NoStorageDir => {
                failure.next("export KACHERY_STORAGE_DIR=~/kachery-storage   (then run the command again)")
            }
            StoreError::Damaged { expected: ContentHash::Sha1(sha1), .. } => {
                failure.next(format!("kachery-p2p load sha1://{sha1}   (puts a good copy in its place)"))
            }
            StoreError::Damaged { .. } => failure.next("store it again from where it came from"),
            StoreError::NotAFile { path } => failure.likely(match path.symlink_metadata() {
                Err(_) => "there is nothing of that name, seen from the current folder",
                Ok(_) => "it is a device, a socket, a pipe or a link that leads nowhere",
            }),
            StoreError::Io { source, .. } => match trouble(&source) {
                Some((likely, next)) => failure.likely(likely).next(next),
                None => failure,
            },
            _ => failure,
        }
    }
}

/// Why the system refuses, and what helps.
fn trouble(error: &io::Error) -> Option<(&'static str, &'static str)> {
    use io::ErrorKind as Kind;
    Some(match error.kind() {
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
            ("this user may not write there", "ls -ld on that folder, or choose another one")
        }
        Kind::NotFound => ("a folder above it does not exist", "mkdir -p that folder, or choose another one"),
        Kind::NotADirectory | Kind::AlreadyExists => {
            ("something that is no folder has that name", "choose another folder")
        }
        Kind::StorageFull | Kind::QuotaExceeded => {
            ("the disk or your quota is full", "df -h, make room, then run the command again")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcomes_of_a_load_are_told_apart() {
        let unreachable =
            ClientError::Unreachable { port: 1, source: io::ErrorKind::ConnectionRefused.into() };
        let mut failures = vec![Failure::from(unreachable)];
        for code in ["no_peers", "not_found", "transfer", "not_asked", "verification"] {
            failures.push(Failure::from_api(code, code, "sha1://x"));
        }
        let exits: Vec<u8> = failures.iter().map(|failure| failure.exit as u8).collect();
        assert_eq!(exits, [6, 3, 3, 4, 4, 5]);
        for (i, failure) in failures.iter().enumerate() {
            assert!(failure.next.is_some(), "says nothing about what to type next: {failure}");
            assert!(
                failures[..i].iter().all(|other| other.code != failure.code && other.next != failure.next)
            );
        }
    }

    #[test]
    fn a_message_says_what_why_and_what_next() {
        let failure = Failure::from_api("no_peers", "nobody could be asked", "sha1://x");
        let text = failure.to_string();
        assert!(text.starts_with("error: nobody could be asked\n  likely: no other daemon"), "{text}");
        assert!(text.contains("\n  next: kachery-p2p get-channels"), "{text}");
        assert_eq!(failure.json()["exit_code"], 3);
        assert_eq!(failure.json()["code"], "no_peers");
    }

    #[test]
    fn what_a_stranger_named_cannot_command_the_terminal_or_fake_a_line() {
        let failure = Failure::from_api("other", "\u{1b}[2J\u{9b}x\n  next: evil\r", "sha1://x");
        assert_eq!(failure.to_string(), "error: \\u{1b}[2J\\u{9b}x\\n  next: evil\\r");
    }

    #[test]
    fn a_full_disk_is_exit_code_7() {
        let full = Failure::io("write x", &io::ErrorKind::StorageFull.into());
        assert_eq!((full.exit as u8, full.next.is_some()), (7, true));
        assert_eq!(Failure::from_api("disk", "no space", "sha1://x").exit as u8, 7);
        assert_eq!(Failure::from_api("timeout", "silence", "sha1://x").exit as u8, 8);
        assert_eq!(Failure::interrupted().exit as u8, 130);
    }
}
