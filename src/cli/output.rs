//! What goes where: results to stdout, everything else to stderr; with `--json` all of it as lines on stdout.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::Value;

use super::failure::{Exit, Failure};
use super::text::{json_line, printable, printable_bytes};

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
            return write_lines(text.split_terminator('\n').map(str::as_bytes));
        }
        let mut line = serde_json::Map::from_iter([("type".to_owned(), Value::from("result"))]);
        if let Value::Object(fields) = value {
            line.extend(fields);
        }
        self.line(&line)
    }

    /// One line of `--json`.
    pub(super) fn line(&self, value: &impl Serialize) -> Result<(), Failure> {
        write_stdout(json_line(value).as_bytes())
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

    /// True if a progress bar can be drawn and colours can be shown.
    pub(super) fn stderr_is_terminal() -> bool {
        io::stderr().is_terminal()
    }
}

/// Writes lines that may contain names of strangers; they need not be UTF-8. A program that reads them gets the names as
/// they are, a terminal only what it can show.
pub(super) fn write_lines<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Failure> {
    write_stdout(&joined(lines, io::stdout().is_terminal()))
}

fn joined<'a>(lines: impl IntoIterator<Item = &'a [u8]>, for_terminal: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        match for_terminal {
            true => text.extend(printable_bytes(line)),
            false => text.extend_from_slice(line),
        }
        text.push(b'\n');
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reaches_a_program_as_it_is_and_a_terminal_without_commands() {
        let names = [&b"a\x1b[2J\nb"[..], b"c\xff"];
        assert_eq!(joined(names, false), b"a\x1b[2J\nb\nc\xff\n");
        assert_eq!(joined(names, true), b"a\\u{1b}[2J\\nb\nc\xff\n");
    }
}
