//! A child process whose lines are collected, and which does not outlive its test.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What a process printed, standard output and standard error apart.
#[derive(Default)]
struct Output {
    stdout: Vec<String>,
    stderr: Vec<String>,
    open: usize,
}

/// A running child. Killed when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: Arc<(Mutex<Output>, Condvar)>,
}

impl Process {
    /// Starts `command`; `name` is for messages.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let output = Arc::new((Mutex::new(Output { open: 2, ..Output::default() }), Condvar::new()));
        collect(child.stdout.take().expect("piped"), Arc::clone(&output), |o| &mut o.stdout);
        collect(child.stderr.take().expect("piped"), Arc::clone(&output), |o| &mut o.stderr);
        Self { name: name.to_owned(), child, output }
    }

    /// The first line of either stream that `wanted` accepts, past ones included. Panics after `limit`, or when the
    /// process has ended without it.
    pub(crate) fn line<T>(&self, what: &str, limit: Duration, wanted: impl Fn(&str) -> Option<T>) -> T {
        let until = Instant::now() + limit;
        let (lock, changed) = &*self.output;
        let mut output = lock.lock().expect("reader thread");
        loop {
            if let Some(found) = output.stdout.iter().chain(&output.stderr).find_map(|line| wanted(line)) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || output.open == 0 {
                drop(output);
                panic!("{what}: not seen within {limit:?}\n{self}");
            }
            output = changed.wait_timeout(output, left).expect("reader thread").0;
        }
    }

    /// True if a line that `wanted` accepts has been printed so far.
    pub(crate) fn has_printed(&self, wanted: impl Fn(&str) -> bool) -> bool {
        let output = self.output.0.lock().expect("reader thread");
        output.stdout.iter().chain(&output.stderr).any(|line| wanted(line))
    }

    /// Waits for the end; panics after `limit`.
    pub(crate) fn end(&mut self, limit: Duration) -> ExitStatus {
        self.end_within(limit).unwrap_or_else(|| panic!("still running after {limit:?}\n{self}"))
    }

    /// Waits for the end; None after `limit`.
    pub(crate) fn end_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        let (lock, changed) = &*self.output;
        let mut output = lock.lock().expect("reader thread");
        while output.open > 0 && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            output = changed.wait_timeout(output, left).expect("reader thread").0;
        }
        let ended = output.open == 0;
        drop(output);
        ended.then(|| self.child.wait().expect("wait for a child"))
    }

    /// Its process ID.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, named as for the command `kill`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {name} to {}", self.name);
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        let output = self.output.0.lock().expect("reader thread");
        output.stdout.iter().chain(&output.stderr).cloned().collect()
    }

    /// True if it is still running.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("ask for a child").is_none()
    }

    /// Kills it: it gets no chance to say goodbye to anybody.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill a child");
        self.child.wait().expect("wait for a child");
    }

    /// All of its standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.output.0.lock().expect("reader thread").stdout.join("\n")
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = self.output.0.lock().map_err(|_| fmt::Error)?;
        writeln!(f, "--- {} printed:", self.name)?;
        let tail = |lines: &[String]| lines[lines.len().saturating_sub(40)..].join("\n");
        write!(f, "{}\n--- {} complained:\n{}", tail(&output.stdout), self.name, tail(&output.stderr))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is fine, and there is nobody to tell anything else.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{self}");
        }
    }
}

fn collect(
    stream: impl Read + Send + 'static,
    output: Arc<(Mutex<Output>, Condvar)>,
    pick: fn(&mut Output) -> &mut Vec<String>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            pick(&mut output.0.lock().expect("other reader thread")).push(line);
            output.1.notify_all();
        }
        output.0.lock().expect("other reader thread").open -= 1;
        output.1.notify_all();
    });
}
