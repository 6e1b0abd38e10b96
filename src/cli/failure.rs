//! How a command ends when it does not succeed: one exit code per outcome, and a message that says what happened,
//! the likely reason, and what to type next.

use std::fmt;
use std::io;
use std::process::ExitCode;

use rustix::io::Errno;
use serde_json::{Value, json};

use super::text::printable;
use crate::api::client::ClientError;
use crate::api::wire::{Code, Problem};
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
    pub code: Code,
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
            Exit::Other => Code::Other,
            Exit::Usage => Code::Usage,
            Exit::NotFound => Code::NotFound,
            Exit::Transfer => Code::Transfer,
            Exit::Verification => Code::Verification,
            Exit::NoDaemon => Code::NoDaemon,
            Exit::Disk => Code::Disk,
            Exit::Timeout => Code::Timeout,
            Exit::Interrupted => Code::Interrupted,
        };
        Self { exit, code, what: what.into(), likely: None, next: None }
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
        Self::new(Exit::Disk, what).explained_by(error)
    }

    /// Reading or writing a file or a pipe; `what` names the step and the path.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        let what = format!("{what}: {error}");
        match error.kind() {
            Kind::NotFound => Self::new(Exit::Other, what),
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
                Self::new(Exit::Disk, what).explained_by(error)
            }
            _ => Self::new(Exit::Disk, what).unless_out_of_files(error),
        }
    }

    /// Why the system refused to write, and what helps, if that is known.
    fn explained_by(self, error: &io::Error) -> Self {
        match trouble(error) {
            Some((likely, next)) => self.likely(likely).next(next),
            None => self.unless_out_of_files(error),
        }
    }

    /// This failure, or if there are too many open files, that: neither the disk nor a peer has to do with it.
    pub(super) fn unless_out_of_files(self, error: &io::Error) -> Self {
        if !is_out_of_files(error) {
            return self;
        }
        Self { exit: Exit::Other, code: Code::OpenFiles, ..self }
            .likely("this program may not open more files (ulimit -n), or the whole system has too many open")
            .next("ulimit -n $(ulimit -Hn)   (then run the command again)")
    }

    /// What a load's or a request's error of the API means; `uri` is what was asked for.
    pub fn from_api(problem: Problem, uri: &str) -> Self {
        let Problem { code, message } = problem;
        let failure = match code {
            Code::NoChannel => Self::new(Exit::NotFound, message).next("kachery-p2p join-channel NAME"),
            Code::NoPeers => Self::new(Exit::NotFound, message)
                .likely(
                    "no other daemon is in these channels now, their names differ, or a firewall is between",
                )
                .next("kachery-p2p get-channels   (here and on the machine that has the file)"),
            Code::NotFound => Self::new(Exit::NotFound, message)
                .likely("the file was never stored there, its owner's daemon is in another channel, or a peer hangs")
                .next("kachery-store FILE   (on the machine that has it, then run this again)"),
            Code::Transfer => Self::new(Exit::Transfer, message)
                .next(format!("kachery-p2p load {uri}   (it resumes; what has arrived is kept)")),
            Code::NotAsked => Self::new(Exit::Transfer, message)
                .likely("that old daemon cannot send larger files to anybody")
                .next(
                    "kachery-p2p daemon-start --channel NAME   (on the machine that has it, in place of the old daemon and with the same storage folder; then run this again)",
                ),
            Code::Verification => Self::new(Exit::Verification, message)
                .likely("the file was changed or damaged where it is stored; nothing of it was kept")
                .next(format!("kachery-p2p find {uri}   (to see who else has it)")),
            Code::Timeout => {
                Self::new(Exit::Timeout, message).likely("the connection to the providers stalled").next(
                    format!("kachery-p2p load {uri} --timeout 300   (it resumes; what has arrived is kept)"),
                )
            }
            Code::Disk => Self::new(Exit::Disk, message).next(
                "df -h and ls -ld on the daemon's storage folder   (make room, or let it write there, then run this again)",
            ),
            Code::OpenFiles => Self::new(Exit::Other, message)
                .likely("the daemon has as many files and connections open as it may (ulimit -n)")
                .next(
                    "ulimit -Hn   (where the daemon runs; raise it in limits.conf or with LimitNOFILE, then restart the daemon)",
                ),
            Code::Cancelled => Self::new(Exit::Interrupted, "cancelled"),
            Code::Interrupted => Self::interrupted(),
            Code::Busy => Self::new(Exit::Other, message).next("kachery-p2p status   (shows what is running)"),
            Code::Usage => Self::usage(message),
            // A daemon says so only when it stops.
            Code::NoDaemon => Self::new(Exit::NoDaemon, message)
                .next(format!("kachery-p2p daemon-start --channel NAME   (then kachery-p2p load {uri})")),
            Code::Other => Self::new(Exit::Other, message),
        };
        Self { code, ..failure }
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
            ClientError::Unreachable { ref source, .. } if is_out_of_files(source) => {
                Self::new(Exit::NoDaemon, what).unless_out_of_files(source)
            }
            ClientError::Unreachable { .. } => Self::new(
                Exit::NoDaemon,
                format!("the daemon is not running: {what}"),
            )
            .likely("it was not started, or it listens on another port (KACHERY_P2P_API_PORT, --api-port)")
            .next("kachery-p2p daemon-start --channel NAME"),
            ClientError::Broken(_) | ClientError::Timeout { .. } => Self::new(Exit::NoDaemon, what)
                .likely("the daemon stopped or hangs")
                .next("kachery-p2p status"),
            ClientError::Unexpected(_) => Self::new(Exit::NoDaemon, what)
                .likely("another program, or a daemon of the original kachery-p2p, listens on this port")
                .next("ss -ltnp   (shows which program it is: end it, or give every command the same other --api-port)"),
            ClientError::Refused { code, message, .. } => Self::from_api(Problem { code, message }, "URI"),
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
            StoreError::InTheWay { path } => {
                let shown = path.display();
                failure.next(format!("mv {shown} {shown}.away   (then run the command again)"))
            }
            StoreError::Io { source, .. } => failure.explained_by(&source),
            StoreError::Source { source, .. } => failure.unless_out_of_files(&source),
            _ => failure,
        }
    }
}

/// True if this process or the system has as many files open as it may.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
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
        Kind::FileTooLarge => (
            "files may not become so large here: a limit of this shell, or of the file system",
            "ulimit -f unlimited   (then run the command again), or choose another file system",
        ),
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
        for code in [Code::NoPeers, Code::NotFound, Code::Transfer, Code::NotAsked, Code::Verification] {
            failures.push(Failure::from_api(Problem::new(code, "why"), "sha1://x"));
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
        let failure = Failure::from_api(Problem::new(Code::NoPeers, "nobody could be asked"), "sha1://x");
        let text = failure.to_string();
        assert!(text.starts_with("error: nobody could be asked\n  likely: no other daemon"), "{text}");
        assert!(text.contains("\n  next: kachery-p2p get-channels"), "{text}");
        assert_eq!(failure.json()["exit_code"], 3);
        assert_eq!(failure.json()["code"], "no_peers");
    }

    #[test]
    fn what_a_stranger_named_cannot_command_the_terminal_or_fake_a_line() {
        let failure =
            Failure::from_api(Problem::new(Code::Other, "\u{1b}[2J\u{9b}x\n  next: evil\r"), "sha1://x");
        assert_eq!(failure.to_string(), "error: \\u{1b}[2J\\u{9b}x\\n  next: evil\\r");
    }

    #[test]
    fn a_full_disk_is_exit_code_7() {
        let full = Failure::io("write x", &io::ErrorKind::StorageFull.into());
        assert_eq!((full.exit as u8, full.next.is_some()), (7, true));
        let api = |code| Failure::from_api(Problem::new(code, "why"), "sha1://x").exit as u8;
        assert_eq!((api(Code::Disk), api(Code::Timeout)), (7, 8));
        assert_eq!(Failure::interrupted().exit as u8, 130);
    }

    /// EMFILE and ENFILE, wherever they come from: not the disk (7), not "nobody has it" (3), not "no daemon" (6).
    #[test]
    fn too_many_open_files_are_told_as_that() {
        for errno in [Errno::MFILE, Errno::NFILE] {
            let error = || io::Error::from(errno);
            for failure in [
                Failure::io("read x", &error()),
                Failure::folder("create x", &error()),
                StoreError::Io { what: "open x".into(), source: error() }.into(),
                StoreError::Source { path: "x".into(), source: error() }.into(),
                ClientError::Unreachable { port: 1, source: error() }.into(),
                Failure::from_api(Problem::new(Code::OpenFiles, "the daemon"), "sha1://x"),
            ] {
                assert_eq!((failure.exit, failure.code), (Exit::Other, Code::OpenFiles), "{failure}");
                assert!(failure.next.as_ref().is_some_and(|next| next.contains("ulimit -")), "{failure}");
            }
        }
    }

    #[test]
    fn a_limit_on_the_size_of_files_is_told_as_that() {
        let too_large = Failure::io("write x", &io::ErrorKind::FileTooLarge.into());
        assert_eq!(too_large.exit, Exit::Disk);
        assert!(too_large.next.is_some_and(|next| next.starts_with("ulimit -f unlimited")));
    }
}
