//! Progress on standard error: a bar on a terminal, else a line every few seconds; as JSON on standard output if asked.

use parking_lot::Mutex;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::text::{json_line, printable};

/// Between two lines when standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two JSON objects.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// Not at all.
    Hidden,
    /// A bar that is redrawn.
    Bar,
    /// A line every 5 seconds.
    Lines,
    /// `{"type":"progress",...}` lines on standard output.
    Json,
}

impl ProgressMode {
    /// What suits the flags `--json`, `--quiet` and `--no-progress`, and standard error.
    pub fn choose(json: bool, quiet: bool, no_progress: bool) -> Self {
        match (json, quiet || no_progress) {
            (_, true) => ProgressMode::Hidden,
            (true, false) => ProgressMode::Json,
            (false, false) if std::io::stderr().is_terminal() => ProgressMode::Bar,
            (false, false) => ProgressMode::Lines,
        }
    }
}

struct State {
    label: String,
    total: Option<u64>,
    bytes: u64,
    started: Instant,
    shown: Instant,
}

/// The progress of one piece of work. Usable from several threads.
pub struct Progress {
    mode: ProgressMode,
    bar: ProgressBar,
    state: Mutex<State>,
}

impl Progress {
    /// Begins; `total` is in bytes, None if not known yet.
    pub fn new(mode: ProgressMode, label: impl Into<String>, total: Option<u64>) -> Self {
        let label = printable(&label.into()).into_owned();
        let bar = match mode {
            ProgressMode::Bar => ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10)),
            _ => ProgressBar::hidden(),
        };
        bar.set_style(style(total));
        bar.set_message(label.clone());
        let now = Instant::now();
        Progress { mode, bar, state: Mutex::new(State { label, total, bytes: 0, started: now, shown: now }) }
    }

    /// Bytes done so far, those that were there before included; more than the total counts as the total.
    pub fn set(&self, bytes: u64) {
        self.change(false, |state| state.bytes = bytes);
    }

    /// The total, once known.
    pub fn set_total(&self, total: u64) {
        self.bar.set_length(total);
        self.bar.set_style(style(Some(total)));
        self.change(false, |state| state.total = Some(total));
    }

    /// Another phase of the same work, for instance `verifying`.
    pub fn phase(&self, label: impl Into<String>) {
        let label = printable(&label.into()).into_owned();
        self.bar.set_message(label.clone());
        self.change(true, |state| state.label = label);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn change(&self, at_once: bool, change: impl FnOnce(&mut State)) {
        if self.mode == ProgressMode::Hidden {
            return;
        }
        let mut state = self.state.lock();
        change(&mut state);
        state.bytes = state.bytes.min(state.total.unwrap_or(u64::MAX));
        self.bar.set_position(state.bytes);
        let every = if self.mode == ProgressMode::Json { JSON_EVERY } else { LINE_EVERY };
        let now = Instant::now();
        if self.mode != ProgressMode::Bar && (at_once || now.duration_since(state.shown) >= every) {
            state.shown = now;
            // A reader of the progress that went away does not stop the work.
            self.write(&state, now).ok();
        }
    }

    fn write(&self, state: &State, now: Instant) -> std::io::Result<()> {
        match self.mode {
            ProgressMode::Json => write!(std::io::stdout(), "{}", json_line(&json(state))),
            _ => writeln!(std::io::stderr(), "{}", line(state, now)),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(total: Option<u64>) -> ProgressStyle {
    let template = match total {
        Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        None => "{msg} {spinner} {bytes} {binary_bytes_per_sec}",
    };
    // A template that does not parse shows the default bar instead of nothing.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn json(state: &State) -> serde_json::Value {
    serde_json::json!({"type": "progress", "phase": state.label, "bytes": state.bytes, "total": state.total})
}

fn line(state: &State, now: Instant) -> String {
    let done = HumanBytes(state.bytes);
    let rate = state.bytes as f64 / now.duration_since(state.started).as_secs_f64().max(0.001);
    let rate = HumanBytes(rate as u64);
    match state.total {
        Some(total) if total > 0 => {
            let percent = u128::from(state.bytes) * 100 / u128::from(total);
            format!("{}: {done} of {} ({percent} %), {rate}/s", state.label, HumanBytes(total))
        }
        _ => format!("{}: {done}, {rate}/s", state.label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_never_goes_above_its_total() {
        let progress = Progress::new(ProgressMode::Bar, "hashing", Some(100));
        progress.set(250);
        let state = progress.state.lock();
        assert_eq!(state.bytes, 100);
        let now = state.started + Duration::from_secs(2);
        assert_eq!(line(&state, now), "hashing: 100 B of 100 B (100 %), 50 B/s");
        assert_eq!(
            json(&state).to_string(),
            r#"{"type":"progress","phase":"hashing","bytes":100,"total":100}"#
        );
    }

    #[test]
    fn a_label_cannot_command_the_terminal() {
        let progress = Progress::new(ProgressMode::Lines, "copying to \u{1b}[2J\n", None);
        assert_eq!(progress.state.lock().label, "copying to \\u{1b}[2J\\n");
        progress.phase("\r");
        assert_eq!(progress.state.lock().label, "\\r");
    }

    #[test]
    fn a_total_may_become_known_later() {
        let progress = Progress::new(ProgressMode::Lines, "looking for providers", None);
        progress.set(5);
        progress.set_total(10);
        progress.phase("downloading");
        let state = progress.state.lock();
        assert!(line(&state, state.started).starts_with("downloading: 5 B of 10 B (50 %)"));
    }
}
