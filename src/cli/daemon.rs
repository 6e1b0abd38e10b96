//! `daemon-start` and `daemon-stop`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::process::{Pid, test_kill_process};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::failure::{Exit, Failure};
use super::settings::Settings;
use super::{signals, system};
use crate::api::client::{ClientError, Holder};
use crate::api::{About, Api, ApiError, Backend};
use crate::node::{ChannelStatus, Find, Load, LoadOptions, Node, NodeConfig, NodeError, NodeStatus};
use crate::store::{ServedFile, Sha1, StoreError};

/// From the signal to the end of the process, less what the runtime needs.
const SHUTDOWN: Duration = Duration::from_millis(2700);
/// How long `daemon-stop` waits for the daemon's process to end.
const STOP: Duration = Duration::from_secs(5);
/// For the files that the API hands out.
const API_BLOCKING_THREADS: usize = 4;
/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);

/// Runs until a signal, Ctrl-C or a client's `daemon-stop`.
pub(super) async fn start(settings: &Settings, channels: Vec<String>) -> Result<(), Failure> {
    let mut interrupted = Box::pin(signals::interrupted()?);
    let daemon = tokio::select! {
        daemon = Daemon::start(settings, channels) => daemon?,
        () = &mut interrupted => return Ok(()),
    };
    let halt = CancellationToken::new();
    let watch = tokio::spawn({
        let halt = halt.clone();
        async move {
            interrupted.await;
            tracing::info!("stopping");
            halt.cancel();
        }
    });
    let (text, value) = daemon.ready();
    // Without a reader there is nobody to tell; the daemon works all the same.
    let _ = settings.output.result(&text, value);
    daemon.run(halt).await;
    watch.abort();
    Ok(())
}

/// A node and the API in front of it.
pub(super) struct Daemon {
    api: Api,
    about: About,
    node: Node,
}

impl Daemon {
    /// Binds the API, then takes the config folder and joins the channels.
    pub(super) async fn start(settings: &Settings, channels: Vec<String>) -> Result<Self, Failure> {
        let store = settings.store()?;
        let config_dir = settings.config_dir()?;
        let api = Api::bind(settings.api_port).await.map_err(|error| cannot_listen(&error))?;
        let about = About {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            api_port: api.port(),
            config_dir: config_dir.clone(),
            storage_dir: store.root().to_owned(),
        };
        let config = NodeConfig {
            config_dir,
            store,
            channels,
            bootstrap_v2: settings.bootstrap_v2(),
            mdns: settings.mdns,
            api_port: api.port(),
        };
        let node = Node::start(config).await.map_err(cannot_start)?;
        Ok(Self { api, about, node })
    }

    /// Where its API listens.
    pub(super) fn api_port(&self) -> u16 {
        self.about.api_port
    }

    /// Its node, for whoever runs it in this process.
    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// The line that tells scripts that everything works, as text and as JSON.
    fn ready(&self) -> (String, Value) {
        let status = self.node.status();
        let names: Vec<String> = status.channels.into_iter().map(|channel| channel.name).collect();
        let port = self.api_port();
        let shown = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let text = format!(
            "daemon ready: node ID {}, API http://127.0.0.1:{port}, channels {shown}\n",
            status.node_id
        );
        let value = json!({"ready": true, "pid": self.about.pid, "node_id": status.node_id, "api_port": port, "channels": names});
        (text, value)
    }

    /// Serves until `halt`; then leaves the network while running answers finish.
    pub(super) async fn run(self, halt: CancellationToken) {
        let Self { api, about, node } = self;
        let leaving = async {
            halt.cancelled().await;
            if tokio::time::timeout(SHUTDOWN, node.shutdown()).await.is_err() {
                tracing::warn!("leaving the network took too long; peers will notice by themselves");
            }
        };
        let backend = Arc::new(Outside { node: node.clone(), inside: Handle::current() });
        tokio::join!(apart(api.serve(backend, about, halt.clone())), leaving);
    }
}

/// Runs the API on a thread of its own: the system gives it its share of the processor, however much strangers send to the
/// node.
async fn apart(serving: impl Future<Output = ()> + Send + 'static) {
    let (done, ended) = oneshot::channel();
    let serve = move || {
        match system::start(Builder::new_current_thread().max_blocking_threads(API_BLOCKING_THREADS)) {
            Ok(runtime) => runtime.block_on(serving),
            Err(error) => tracing::error!("the API is not served: {error}"),
        }
        // Nobody waits for it when the daemon has to end at once.
        let _ = done.send(());
    };
    match std::thread::Builder::new().name("api".to_owned()).spawn(serve) {
        Ok(_) => drop(ended.await),
        Err(error) => tracing::error!("the API is not served: {error}"),
    }
}

/// A node as the API's thread uses it: its tasks stay on its own runtime.
struct Outside {
    node: Node,
    inside: Handle,
}

impl Outside {
    /// Runs a change of channels, which starts tasks.
    fn inside(
        &self,
        change: impl Future<Output = Result<(), NodeError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), NodeError>> {
        let changing = AbortOnDropHandle::new(self.inside.spawn(change));
        let ended = async move {
            changing.await.unwrap_or_else(|panic| Err(NodeError::Network(io::Error::other(panic))))
        };
        ended.boxed()
    }
}

impl Backend for Outside {
    fn channels(&self) -> Vec<ChannelStatus> {
        self.node.channels()
    }
    fn join_channel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        let (node, name) = (self.node.clone(), name.to_owned());
        self.inside(async move { node.join_channel(&name).await })
    }
    fn leave_channel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        let (node, name) = (self.node.clone(), name.to_owned());
        self.inside(async move { node.leave_channel(&name).await })
    }
    fn find(&self, sha1: Sha1, timeout: Duration) -> Find {
        let _inside = self.inside.enter();
        self.node.find(sha1, timeout)
    }
    fn load(&self, sha1: Sha1, options: LoadOptions) -> Load {
        let _inside = self.inside.enter();
        self.node.load(sha1, options)
    }
    fn open_stored(&self, sha1: Sha1) -> BoxFuture<'_, Result<Option<ServedFile>, StoreError>> {
        self.node.open_stored(sha1).boxed()
    }
    fn status(&self) -> NodeStatus {
        self.node.status()
    }
}

/// Asks the daemon to stop and waits until it has. Without a daemon there is nothing to do, as in the original.
pub(super) async fn stop(settings: &Settings) -> Result<(), Failure> {
    let client = settings.daemon();
    let holder = Holder::of(client.port()).await;
    match client.get("/halt").await {
        Ok(_) => {}
        Err(ClientError::Unreachable { port, .. }) => {
            settings.output.note(&format!("no daemon is running on port {port}"));
            return settings.output.result("", json!({"stopped": false}));
        }
        Err(error) => return Err(error.into()),
    }
    let ended = async {
        while !has_ended(&holder, settings).await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(STOP, ended).await.map_err(|_| {
        Failure::new(
            Exit::Timeout,
            format!("the daemon was told to stop but runs on after {} s", STOP.as_secs()),
        )
        .next("kachery-p2p status, or end its process by hand")
    })?;
    settings.output.result("", json!({"stopped": true}))
}

/// Its process is gone; of a daemon that does not tell its process, nobody listens any more.
async fn has_ended(holder: &Holder, settings: &Settings) -> bool {
    match holder {
        Holder::Daemon { pid, .. } => match i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // A process of another user (EPERM) still exists.
            Some(id) => test_kill_process(id) == Err(rustix::io::Errno::SRCH) || is_zombie(*pid),
            None => true,
        },
        _ => matches!(settings.daemon().get("/probe").await, Err(ClientError::Unreachable { .. })),
    }
}

/// Ended, but its parent has not asked how. Only Linux tells.
fn is_zombie(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the program's name, which is in parentheses and may contain any.
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z'))
}

fn cannot_listen(error: &ApiError) -> Failure {
    let failure = Failure::new(Exit::Other, format!("cannot start the daemon: {error}"));
    match error {
        ApiError::PortInUse { holder: Holder::Unknown, port } => failure.next(format!(
            "kachery-p2p daemon-start --api-port {}   (and the same port for every other command)",
            port.wrapping_add(1).max(1024)
        )),
        ApiError::PortInUse { .. } => failure
            .next("kachery-p2p daemon-stop, or another --api-port and --config-dir for a second daemon"),
        ApiError::Listen { source, .. } => failure.unless_out_of_files(source),
    }
}

fn cannot_start(error: NodeError) -> Failure {
    let what = format!("cannot start the daemon: {error}");
    match error {
        NodeError::ChannelName(_) | NodeError::TooManyChannels => Failure::usage(what),
        NodeError::Store(error) => error.into(),
        NodeError::Config { source, .. } if source.kind() != io::ErrorKind::InvalidData => {
            Failure::folder(what, &source)
        }
        NodeError::Network(source) if source.kind() == io::ErrorKind::InvalidInput => {
            Failure::usage(what).next("--bootstrap-v2 HOST:49737")
        }
        NodeError::Network(source) => Failure::new(Exit::Other, what).unless_out_of_files(&source),
        _ => Failure::new(Exit::Other, what),
    }
}
