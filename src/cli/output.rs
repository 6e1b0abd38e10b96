//! What goes where: results to stdout, everything else to stderr; with `--json` all of it as lines on stdout.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use super::failure::{Exit, Failure};

/// How this command talks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// `--json`.
    pub(super) json: bool,
    /// `--quiet`: nothing but results and errors.
    pub(super) quiet: bool,
}

impl Output {
    /// A result: the text, or with `--json` the value with `"type": "result"` as its first field.
    pub(super) fn result(&self, text: &str, value: Value) -> Result<(), Failure> {
        if !self.json {
            return write_stdout(text.as_bytes());
        }
        let mut line = serde_json::Map::from_iter([("type".to_owned(), Value::from("result"))]);
        if let Value::Object(fields) = value {
            line.extend(fields);
        }
        self.line(&line.into())
    }

    /// One line of `--json`.
    pub(super) fn line(&self, value: &Value) -> Result<(), Failure> {
        write_stdout(format!("{value}\n").as_bytes())
    }

    /// Something worth knowing that is no result.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            write_stderr(&printable(text));
        }
    }

    /// How the command failed.
    pub(super) fn failure(&self, failure: &Failure) {
        if failure.what.is_empty() {
            return;
        }
        if self.json {
            // Without a reader there is nobody to tell.
            let _ = self.line(&failure.json());
        } else {
            write_stderr(&failure.to_string());
        }
    }

    /// Whether a progress bar can be drawn.
    pub(super) fn stderr_is_terminal() -> bool {
        io::stderr().is_terminal()
    }
}

/// A line for a terminal, without what commands it: names and messages come from strangers.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Writes a result. A reader that left (`| head`) has what it wanted, so that fails without a message.
pub(super) fn write_stdout(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| stdout_failure(&error))
}

/// As [`write_stdout`], for whoever writes to stdout otherwise.
pub(super) fn stdout_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::new(Exit::Other, "")
    } else {
        Failure::io("write to standard output", error)
    }
}

fn write_stderr(text: &str) {
    // If stderr is gone there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
