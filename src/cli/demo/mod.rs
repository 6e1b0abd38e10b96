//! `demo`: two nodes on this machine share a file over a network of their own, through the code that every other
//! command uses.
//!
//! One process: a DHT node on loopback, and two daemons with their own config folder, store and API port. Everything
//! lies in one scratch folder, which is removed at the end, also after an error or Ctrl-C.

mod file;
mod scratch;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::daemon::Daemon;
use super::failure::{Exit, Failure};
use super::load::{blocking, obtain};
use super::output::Output;
use super::settings::{Settings, parse_uri};
use super::signals;
use crate::node::Node;
use crate::store::{Sha1, Store};
use file::Original;
use hyperswarm::net::v2;
use scratch::Scratch;

const CHANNEL: &str = "demo";
/// Two nodes with one DHT node between them meet within a second or two.
const MEETING: Duration = Duration::from_secs(30);
/// How often to look whether they have.
const LOOK: Duration = Duration::from_millis(20);
/// For leaving the network at the end.
const GOODBYE: Duration = Duration::from_secs(3);

/// Succeeds only if the loaded file was verified.
pub(super) async fn run(settings: &Settings, size: u64, file: Option<PathBuf>) -> Result<(), Failure> {
    let interrupted = signals::interrupted()?;
    file::check(file.as_deref(), &std::env::temp_dir(), size)?;
    let scratch = Scratch::create()?;
    let mut stage = Stage { tasks: JoinSet::new(), halt: CancellationToken::new() };
    let played = tokio::select! {
        played = stage.play(settings, scratch.path(), size, file) => played,
        () = interrupted => Err(Failure::interrupted()),
    };
    stage.halt.cancel();
    let ending = async { while stage.tasks.join_next().await.is_some() {} };
    // What has not ended by then ends with the process.
    let _ = tokio::time::timeout(GOODBYE, ending).await;
    let removed = scratch.remove();
    let summary = played?;
    removed?;
    settings.output.result("Nothing is left behind. It works.\n", summary)
}

/// What runs during the demo.
struct Stage {
    tasks: JoinSet<()>,
    halt: CancellationToken,
}

impl Stage {
    async fn play(
        &mut self,
        settings: &Settings,
        scratch: &Path,
        size: u64,
        file: Option<PathBuf>,
    ) -> Result<Value, Failure> {
        let mut story = Story { output: settings.output, since: Instant::now() };
        let bootstrap = self.bootstrap().await?;
        story.tell(&format!("a private DHT of one node listens on {bootstrap}"))?;
        let ours = |name: &str| node_settings(settings, scratch, name, bootstrap);
        let (here, there) = (ours("alice"), ours("bob"));
        let alice = self.daemon(&here).await?;
        let bob = self.daemon(&there).await?;
        story.tell(&format!(
            "two nodes joined the channel {CHANNEL:?}, with APIs on ports {} and {}",
            alice.port, bob.port
        ))?;

        let original = blocking({
            let target = scratch.join("original");
            move || Original::prepare(file, &target, size)
        })
        .await?;
        story.tell(&original.describe())?;
        let (sha1, original) = store(&here, original).await?;
        let uri = format!("sha1://{sha1}/{}", original.label());
        story.tell(&format!("alice stored it as {uri}"))?;

        meet(&bob.node).await?;
        story.tell("bob is connected to alice")?;
        let bob_settings = Settings { api_port: bob.port, ..there };
        let begun = Instant::now();
        let loaded = obtain(&bob_settings, &parse_uri(&uri)?, &uri).await?;
        let rate = loaded.size as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 20);
        story.tell(&format!("bob loaded {} bytes from alice ({rate:.0} MiB/s)", loaded.downloaded))?;

        if loaded.local || loaded.downloaded != original.size() {
            let what =
                format!("only {} of {} bytes came over the network", loaded.downloaded, original.size());
            return Err(Failure::new(Exit::Verification, what));
        }
        let expected = original.sha256();
        let found = blocking(move || file::sha256(&loaded.path)).await?;
        if found != expected {
            return Err(Failure::new(Exit::Verification, format!("the SHA-256 is {found}, not {expected}")));
        }
        story.tell(&format!("verified: bob's file has the SHA-256 of the original, {found}"))?;
        Ok(
            json!({"uri": uri, "size": original.size(), "sha256": found, "mib_per_second": rate, "verified": true}),
        )
    }

    /// Starts the DHT node; its address.
    async fn bootstrap(&mut self) -> Result<SocketAddrV4, Failure> {
        let (ready, address) = oneshot::channel();
        let halt = self.halt.clone();
        self.tasks.spawn(async move {
            let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
            let node = v2::run_dht_node(listen, Vec::new(), |address| {
                // Nobody waits for it any more after an interruption.
                let _ = ready.send(address);
            });
            tokio::select! {
                ended = node => if let Err(error) = ended {
                    tracing::warn!("the DHT node ended: {error}");
                },
                () = halt.cancelled() => {}
            }
        });
        address.await.map_err(|_| Failure::new(Exit::Other, "the DHT node did not start"))
    }

    async fn daemon(&mut self, settings: &Settings) -> Result<Running, Failure> {
        let daemon = Daemon::start(settings, vec![CHANNEL.into()]).await?;
        let running = Running { port: daemon.api_port(), node: daemon.node().clone() };
        self.tasks.spawn(daemon.run(self.halt.clone()));
        Ok(running)
    }
}

/// A daemon in this process.
struct Running {
    port: u16,
    node: Node,
}

fn node_settings(settings: &Settings, scratch: &Path, name: &str, bootstrap: SocketAddrV4) -> Settings {
    let home = scratch.join(name);
    Settings {
        output: Output { json: false, quiet: true },
        progress: false,
        verbosity: settings.verbosity,
        timeout: settings.timeout,
        mdns: false,
        api_port: 0,
        config_dir: Some(home.join("config")),
        storage_dir: Some(home.join("storage")),
        bootstrap_v2: vec![bootstrap.to_string()],
        isolated: true,
    }
}

/// Stores the original, which is then no longer needed where it is.
async fn store(settings: &Settings, original: Original) -> Result<(Sha1, Original), Failure> {
    let store: Store = settings.store()?;
    blocking(move || {
        let stored = store.put_file(original.path())?;
        original.discard();
        Ok((stored.sha1, original))
    })
    .await
}

/// Waits until the node has a peer in the channel.
async fn meet(node: &Node) -> Result<(), Failure> {
    let meeting = async {
        while node.channels().iter().all(|channel| channel.peers == 0) {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(MEETING, meeting).await.map_err(|_| {
        let what = format!("the two nodes did not find each other within {} s", MEETING.as_secs());
        Failure::new(Exit::Timeout, what).likely("a firewall on this machine blocks loopback")
    })
}

/// Tells each step with the time it took.
struct Story {
    output: Output,
    since: Instant,
}

impl Story {
    fn tell(&mut self, what: &str) -> Result<(), Failure> {
        let took = self.since.elapsed();
        self.since = Instant::now();
        if self.output.json {
            return self.output.line(&json!({"type": "step", "what": what, "seconds": took.as_secs_f64()}));
        }
        super::output::write_stdout(format!("[{:>7.3} s] {what}\n", took.as_secs_f64()).as_bytes())
    }
}
