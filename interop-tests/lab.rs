//! A private network on loopback: one DHT bootstrap node, our daemons, JavaScript peers, files.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha1::{Digest, Sha1};
use tempfile::TempDir;

use crate::process::Process;

/// For anything that should be over at once but shares two cores with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// For a transfer of tens of megabytes in a debug build.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// The channel of a lab; labs do not see each other.
pub(crate) const CHANNEL: &str = "interop";

/// 64 MiB.
pub(crate) const LARGE: usize = 64 << 20;

/// One test's network and folders.
pub(crate) struct Lab {
    folder: TempDir,
    /// Kept for its life only.
    _bootstrap: Process,
    /// `HOST:PORT` of the DHT.
    pub(crate) bootstrap: String,
}

/// A file with its name.
pub(crate) struct Content {
    pub(crate) path: PathBuf,
    pub(crate) sha1: String,
    pub(crate) bytes: Vec<u8>,
}

impl Lab {
    /// A lab whose DHT is the original's. None, loudly, where the JavaScript peers cannot run.
    pub(crate) fn new() -> Option<Self> {
        Self::with(|| js_bootstrap(&[]))
    }

    /// A lab whose DHT is ours.
    pub(crate) fn with_our_bootstrap() -> Option<Self> {
        Self::with(our_bootstrap)
    }

    fn with(bootstrap: impl FnOnce() -> (Process, String)) -> Option<Self> {
        if !can_run() {
            return None;
        }
        let (process, address) = bootstrap();
        let folder = tempfile::tempdir().expect("temporary folder");
        Some(Self { folder, _bootstrap: process, bootstrap: address })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of `size` pseudo-random bytes that depend on its name.
    pub(crate) fn file(&self, name: &str, size: usize) -> Content {
        let mut state = name
            .bytes()
            .fold(0x9e37_79b9_7f4a_7c15_u64, |s, b| (s ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes.truncate(size);
        let path = self.path(name);
        fs::write(&path, &bytes).expect("write a test file");
        Content { path, sha1: data_encoding::HEXLOWER.encode(&Sha1::digest(&bytes)), bytes }
    }

    /// A daemon of ours in the lab's channel; of the same name as one that has ended: that one, started again.
    pub(crate) fn daemon(&self, name: &str) -> Daemon {
        self.daemon_started_by(name, &[])
    }

    /// A daemon that `prefix` starts: a command that ends with executing its arguments.
    pub(crate) fn daemon_started_by(&self, name: &str, prefix: &[&str]) -> Daemon {
        let home = self.path(name);
        let store = home.join("store");
        fs::create_dir_all(&store).expect("create the store folder");
        let api_port = free_port();
        let process = Process::start(
            name,
            ours_started_by(prefix, "kachery-p2p", &home).arg("daemon-start").args([
                "--channel",
                CHANNEL,
                "--bootstrap-v2",
                &self.bootstrap,
                "--no-mdns",
                "--config-dir",
                &home.join("config").to_string_lossy(),
                "--storage-dir",
                &store.to_string_lossy(),
                "--api-port",
                &api_port.to_string(),
            ]),
        );
        process.line("the daemon's ready line", SOON, |line| line.starts_with("daemon ready:").then_some(()));
        Daemon { process, home, store, api_port }
    }

    /// A JavaScript daemon in the lab's channel that provides `files`, or misbehaves, as `arguments` say.
    pub(crate) fn peer(&self, dialect: &str, files: &[&Content], arguments: &[&str]) -> Peer {
        let mut command = js("kachery_peer.js");
        command.args([
            "--dialect",
            dialect,
            "--channel",
            CHANNEL,
            "--bootstrap",
            &self.bootstrap,
            "--no-mdns",
        ]);
        for file in files {
            command.arg("--file").arg(&file.path);
        }
        let process = Process::start(&format!("JavaScript {dialect} {arguments:?}"), command.args(arguments));
        let peer = Peer { process };
        peer.event("ready", SOON, |_| true);
        peer
    }

    /// A JavaScript attacker in the lab's channel; returns when the attack is under way.
    pub(crate) fn attacker(&self, arguments: &[&str]) -> Peer {
        let mut command = js("attacker.js");
        command.args(["--channel", CHANNEL, "--bootstrap", &self.bootstrap]).args(arguments);
        let peer = Peer { process: Process::start(&format!("attacker {arguments:?}"), &mut command) };
        peer.event("ready", LONG, |_| true);
        peer
    }

    /// A JavaScript daemon loads `content` into a file of its own; checks every byte.
    pub(crate) fn js_loads(&self, dialect: &str, content: &Content) -> Duration {
        let copy = self.path(&format!("copy for {dialect}"));
        let limit = LONG.as_secs().to_string();
        let destination = copy.to_string_lossy();
        let mut peer =
            self.peer(dialect, &[], &["--load", &content.sha1, "--dest", &destination, "--timeout", &limit]);
        let loaded = peer.event("loaded", LONG, |_| true);
        assert_eq!(peer.process.end(SOON).code(), Some(0), "{}", peer.process);
        assert!(fs::read(&copy).expect("the loaded file") == content.bytes, "the bytes differ");
        Duration::from_secs_f64(loaded["seconds"].as_f64().expect("seconds"))
    }
}

/// A daemon of ours.
pub(crate) struct Daemon {
    pub(crate) process: Process,
    home: PathBuf,
    store: PathBuf,
    pub(crate) api_port: u16,
}

/// How a `kachery-p2p load` ended.
pub(crate) struct Loading {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) took: Duration,
    /// Everything printed, for messages.
    pub(crate) shown: String,
}

impl Daemon {
    /// `kachery-store`: offers a file.
    pub(crate) fn store(&self, content: &Content) {
        let mut storing = Process::start(
            "kachery-store",
            ours("kachery-store", &self.home).env("KACHERY_STORAGE_DIR", &self.store).arg(&content.path),
        );
        assert!(storing.end(LONG).success(), "{storing}");
        assert!(storing.stdout().contains(&content.sha1), "{storing}");
    }

    /// Waits until that many peers are connected in the channel.
    pub(crate) fn connected(&self, peers: u64) {
        let until = Instant::now() + SOON;
        loop {
            let count = self.peers();
            if count >= peers {
                return;
            }
            assert!(Instant::now() < until, "only {count} of {peers} peers\n{}", self.process);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Joins one more channel.
    pub(crate) fn joins(&self, channel: &str) {
        let answer = post(self.api_port, "/joinChannel", &format!(r#"{{"channelName":"{channel}"}}"#));
        assert_eq!(answer["success"], true, "{answer}");
    }

    /// How many peers are connected in the channel.
    pub(crate) fn peers(&self) -> u64 {
        post(self.api_port, "/getState", "{}")["state"]["channels"][0]["numPeers"].as_u64().unwrap_or(0)
    }

    /// `kachery-p2p load` through this daemon, giving up after so many seconds without progress.
    pub(crate) fn load(&self, sha1: &str, timeout: u32) -> Loading {
        let loading = self.load_within(LONG, sha1, timeout);
        assert!(loading.code.is_some(), "still running after {LONG:?}\n{}", loading.shown);
        loading
    }

    /// The same, but stopped after `limit`: then there is no exit code.
    pub(crate) fn load_within(&self, limit: Duration, sha1: &str, timeout: u32) -> Loading {
        let started = Instant::now();
        let mut process = self.begin_load(sha1, timeout);
        let code = process.end_within(limit).and_then(|status| status.code());
        Loading {
            code,
            stdout: process.stdout(),
            took: started.elapsed(),
            shown: format!("{process}\n{}", self.process),
        }
    }

    /// The same, under way.
    pub(crate) fn begin_load(&self, sha1: &str, timeout: u32) -> Process {
        Process::start(
            "kachery-p2p load",
            ours("kachery-p2p", &self.home)
                .args(["load", &format!("sha1://{sha1}/file"), "--timeout", &timeout.to_string()])
                .args(["--api-port", &self.api_port.to_string(), "--dest"])
                .arg(self.destination()),
        )
    }

    /// Where loads put what they loaded.
    pub(crate) fn destination(&self) -> PathBuf {
        self.home.join("loaded")
    }

    /// Loads `content` and checks every byte at the destination and in the store.
    pub(crate) fn loads(&self, content: &Content) -> Duration {
        let loading = self.load(&content.sha1, 30);
        assert_eq!(loading.code, Some(0), "{}", loading.shown);
        assert_eq!(
            loading.stdout,
            self.destination().to_string_lossy(),
            "load prints exactly the destination"
        );
        for copy in [self.destination(), self.stored(&content.sha1)] {
            assert!(
                fs::read(&copy).expect("a loaded file") == content.bytes,
                "the bytes differ: {}",
                copy.display()
            );
        }
        loading.took
    }

    /// Loads `content`, which must fail as a transfer does, and leave nothing that looks like the file.
    pub(crate) fn fails_to_load(&self, content: &Content) -> Loading {
        let loading = self.load(&content.sha1, 12);
        assert!(matches!(loading.code, Some(4 | 5)), "exit code {:?}\n{}", loading.code, loading.shown);
        assert_eq!(loading.stdout, "", "standard output");
        assert!(!self.destination().exists(), "a destination was written");
        assert!(!self.stored(&content.sha1).exists(), "something is stored under the hash");
        loading
    }

    /// Its node ID as the 0.2 dialect writes it.
    pub(crate) fn node_id(&self) -> String {
        get(self.api_port, "/api/v1/node-info")["node_id_spki"].as_str().expect("a node ID").to_owned()
    }

    /// Its folder with the store, its configuration and what it loaded.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Where the store keeps a hash.
    pub(crate) fn stored(&self, sha1: &str) -> PathBuf {
        self.store.join("sha1").join(&sha1[..2]).join(&sha1[2..4]).join(&sha1[4..6]).join(sha1)
    }
}

/// A JavaScript daemon.
pub(crate) struct Peer {
    pub(crate) process: Process,
}

impl Peer {
    /// The first event of that name that `wanted` accepts.
    pub(crate) fn event(&self, name: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        self.process.line(name, limit, |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            (event["event"] == name && wanted(&event)).then_some(event)
        })
    }

    /// All events of that name so far.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let event =
            |line: &str| serde_json::from_str::<Value>(line).ok().filter(|event| event["event"] == name);
        self.process.lines().iter().filter_map(|line| event(line)).collect()
    }

    /// Its node ID.
    pub(crate) fn node_id(&self) -> String {
        self.event("ready", SOON, |_| true)["nodeId"].as_str().expect("a node ID").to_owned()
    }

    /// Whether somebody asked it for bytes.
    pub(crate) fn was_asked(&self) -> bool {
        self.process.has_printed(|line| line.starts_with(r#"{"event":"serving""#))
    }
}

fn node_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop-tests/node")
}

/// Whether Node.js and its packages are there. Says so loudly where not; where `CI` is set that is a failure.
pub(crate) fn can_run() -> bool {
    let available = peers_available();
    if let Err(why) = &available {
        assert!(std::env::var_os("CI").is_none(), "the interop tests cannot run: {why}");
        eprintln!("SKIPPED: an interop test cannot run: {why}");
    }
    available.is_ok()
}

/// Err says what is missing and what to do.
fn peers_available() -> Result<(), String> {
    match Command::new("node").arg("--version").output() {
        Ok(output) if output.status.success() => {}
        _ => return Err("the command node is missing (Node.js 18 or later)".to_owned()),
    }
    if !["hyperswarm", "hyperdht"].iter().all(|name| node_folder().join("node_modules").join(name).exists()) {
        return Err("its packages are missing: run npm ci in interop-tests/node, or scripts/test".to_owned());
    }
    Ok(())
}

/// One of the JavaScript peers.
pub(crate) fn js(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(node_folder().join(script));
    command
}

/// One of our programs, with no settings but those of the test.
fn ours(program: &str, home: &Path) -> Command {
    ours_started_by(&[], program, home)
}

fn ours_started_by(prefix: &[&str], program: &str, home: &Path) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_kachery-p2p")).with_file_name(program);
    let mut command = match prefix {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KACHERY_")) {
        command.env_remove(name);
    }
    command.env("HOME", home).env("RUST_BACKTRACE", "1").current_dir(std::env::temp_dir());
    command
}

/// The original's DHT node: process and address.
pub(crate) fn js_bootstrap(arguments: &[&str]) -> (Process, String) {
    let process = Process::start("JavaScript bootstrap", js("bootstrap.js").args(arguments));
    let address = process.line("the bootstrap node's address", SOON, |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        Some(format!("{}:{}", event["host"].as_str()?, event["port"].as_u64()?))
    });
    (process, address)
}

fn our_bootstrap() -> (Process, String) {
    let mut command = ours("kachery-p2p", &std::env::temp_dir());
    command.args(["dht-node", "--network", "v2", "--listen", "127.0.0.1:0"]);
    let process = Process::start("our bootstrap", &mut command);
    let address = process.line("our DHT node's address", SOON, |line| {
        line.split_whitespace()
            .find(|word| word.starts_with("127.0.0.1:") && !word.ends_with(":0"))
            .map(str::to_owned)
    });
    (process, address)
}

/// The command's nodes of today's DHT, a private network by themselves: process and addresses.
pub(crate) fn our_dht_v4() -> (Process, Vec<SocketAddrV4>) {
    let mut command = ours("kachery-p2p", &std::env::temp_dir());
    command.args(["dht-node", "--network", "v4", "--listen", "127.0.0.1:0", "--json"]);
    let process = Process::start("our nodes", &mut command);
    let addresses = process.line("the addresses of our nodes", SOON, |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["nodes"].as_array()?.iter().map(|node| node.as_str()?.parse().ok()).collect()
    });
    (process, addresses)
}

/// A port nobody listens on now. Somebody could take it before the daemon does; the daemon would then say so.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port").port()
}

/// A POST to the HTTP API; null if it is not answered with JSON.
pub(crate) fn post(port: u16, path: &str, body: &str) -> Value {
    let answer = exchange(port, SOON, &format!("POST {path}"), body).unwrap_or_default();
    serde_json::from_str(&answer).unwrap_or(Value::Null)
}

/// A GET of the HTTP API; null if it is not answered with JSON.
pub(crate) fn get(port: u16, path: &str) -> Value {
    let answer = exchange(port, SOON, &format!("GET {path}"), "").unwrap_or_default();
    serde_json::from_str(&answer).unwrap_or(Value::Null)
}

/// A request to the HTTP API, and the body of its answer as it stands on the wire.
/// An error if nothing comes for `limit`.
pub(crate) fn exchange(
    port: u16,
    limit: Duration,
    method_and_path: &str,
    body: &str,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(limit))?;
    write!(
        stream,
        "{method_and_path} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned())
}
