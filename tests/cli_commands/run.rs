//! Running the binaries, away from the user's own folders and daemon.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Far above anything a command takes; a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A home of its own for each test.
pub(crate) struct Home {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    /// Keeps `port` taken, while nobody listens on it.
    _reserved: Option<socket2::Socket>,
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    /// Nothing listens on its API port.
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        Self { folder: tempfile::tempdir().unwrap(), port, _reserved: Some(socket) }
    }

    /// Somebody listens on it.
    pub(crate) fn with_port(port: u16) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), port, _reserved: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, binary: &str, words: &[&str]) -> Command {
        self.command_at(&binary_path(binary), words)
    }

    /// The same under a limit, in the words of the shell.
    pub(crate) fn limited(&self, limit: &str, binary: &str, words: &[&str]) -> Command {
        let script = format!("{limit} && exec \"$0\" \"$@\"");
        let mut command = self.command_at(Path::new("/bin/sh"), &["-c", &script]);
        command.arg(binary_path(binary)).args(words);
        command
    }

    /// A program that lies elsewhere.
    pub(crate) fn command_at(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.folder.path())
            .env("KACHERY_STORAGE_DIR", self.path("storage"))
            .env("KACHERY_P2P_CONFIG_DIR", self.path("config"))
            .env("KACHERY_P2P_API_PORT", self.port.to_string())
            // Nobody answers there, and nothing outside this machine is asked.
            .env("KACHERY_P2P_BOOTSTRAP_V2", "127.0.0.1:9")
            .env("KACHERY_P2P_NO_MDNS", "1")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Done {
        self.run_binary("kachery-p2p", words)
    }

    pub(crate) fn run_binary(&self, binary: &str, words: &[&str]) -> Done {
        finish(self.command(binary, words).spawn().unwrap())
    }
}

/// Every binary of the package lies beside the main one.
pub(crate) fn binary_path(binary: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_kachery-p2p")).with_file_name(binary)
}

/// Waits for the end.
pub(crate) fn finish(child: Child) -> Done {
    let id = child.id();
    let (ended, watch) = std::sync::mpsc::sync_channel::<()>(1);
    thread::spawn(move || {
        if watch.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            signal(id, rustix::process::Signal::KILL);
        }
    });
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let _ = ended.send(());
    Done {
        code: status.code().unwrap_or_else(|| panic!("ended by a signal: {status}")),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

pub(crate) fn signal(id: u32, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

/// A daemon that runs; killed if the test fails before it ends.
pub(crate) struct Daemon {
    child: Option<Child>,
    _stdout: BufReader<ChildStdout>,
    pub(crate) home: Home,
    pub(crate) ready: Value,
}

impl Daemon {
    pub(crate) fn start(words: &[&str]) -> Self {
        let mut home = Home::with_port(0);
        let mut words = words.to_vec();
        words.push("--json");
        let mut child = home.command("kachery-p2p", &words).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut errors = String::new();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("the daemon did not start: {errors}");
        }
        let ready: Value = serde_json::from_str(&line).unwrap();
        home.port = u16::try_from(ready["api_port"].as_u64().unwrap()).unwrap();
        Self { child: Some(child), _stdout: stdout, home, ready }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits for its end; its exit code and how long it took.
    pub(crate) fn end(mut self) -> (Done, Duration) {
        let begun = Instant::now();
        let done = finish(self.child.take().unwrap());
        (done, begun.elapsed())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A pretended daemon: answers every request with `lines` as newline-delimited JSON. None: never answers.
pub(crate) fn pretend(lines: Option<&'static str>) -> u16 {
    pretend_by(move |mut socket| {
        match lines {
            Some(lines) => answer(&mut socket, lines),
            None => return Some(socket),
        }
        None
    })
}

/// A pretended daemon that leaves its answers open: only their lines tell a client that there is nothing more to come.
pub(crate) fn pretend_without_end(lines: &'static str) -> u16 {
    pretend_by(move |mut socket| {
        answer(&mut socket, lines);
        Some(socket)
    })
}

/// Keeps open what `answer` gives back.
fn pretend_by(answer: impl Fn(TcpStream) -> Option<TcpStream> + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept() {
            held.extend(answer(socket));
        }
    });
    port
}

fn answer(socket: &mut TcpStream, lines: &str) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|_| line != "\r\n") {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    let _ = write!(socket, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{lines}");
}
