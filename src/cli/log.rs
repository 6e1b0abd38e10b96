//! The log, on standard error.

use std::fmt;

use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::prelude::*;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::text::printable;

/// How much is logged, and with what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    /// The most that is logged.
    pub(super) level: LevelFilter,
    /// The time of each line.
    pub(super) time: bool,
    /// The module that says it.
    pub(super) target: bool,
}

impl Log {
    /// Begins. Colours go to a terminal only.
    pub(super) fn start(self) -> Result<(), Failure> {
        let lines = tracing_subscriber::fmt::layer()
            .fmt_fields(format::debug_fn(field).delimited(" "))
            .with_writer(std::io::stderr)
            .with_ansi(Output::stderr_is_terminal())
            .with_target(self.target);
        let lines = if self.time { lines.boxed() } else { lines.without_time().boxed() };
        let ours = ["kachery_p2p", "hyperswarm"].map(|package| (package, self.level));
        tracing_subscriber::registry()
            .with(lines)
            .with(Targets::new().with_targets(ours))
            .try_init()
            .map_err(|error| Failure::new(Exit::Other, format!("cannot start the log: {error}")))
    }
}

/// The message and the fields of a line contain names of strangers.
fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    match field.name() {
        "message" => write!(writer, "{}", printable(&value)),
        name => write!(writer, "{name}={}", printable(&value)),
    }
}
