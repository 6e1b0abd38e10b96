//! A node that does what the test says and remembers what it was asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kachery_p2p::api::{About, Api, Backend};
use kachery_p2p::node::{
    ChannelStatus, Find, Found, Load, LoadError, LoadEvent, LoadOptions, Loaded, NodeError, NodeStatus,
};
use kachery_p2p::store::{ServedFile, Sha1, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub(crate) const HASH: &str = "8843d7f92416211de9ebb963ff4ce28125932878";
pub(crate) const NODE_ID: &str = "02a1fa1d2c5ea1f1a2b2a1fa1d2c5ea1f1a2b202a1fa1d2c5ea1f1a2b2a1fa1d";

/// How the next load goes.
#[derive(Clone)]
pub(crate) enum LoadScript {
    Done(Loaded),
    Fail(LoadError),
    /// Runs until it is dropped.
    Hang,
}

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) channels: Vec<ChannelStatus>,
    pub(crate) found: Vec<Found>,
    pub(crate) load: Option<LoadScript>,
}

pub(crate) struct Scripted {
    pub(crate) script: Mutex<Script>,
    /// What the API asked for, in order.
    pub(crate) calls: Mutex<Vec<String>>,
    /// One message per search or load that was dropped before its end.
    dropped: mpsc::Sender<&'static str>,
    store: Store,
    _folder: tempfile::TempDir,
}

/// A running API and its scripted node.
pub(crate) struct Running {
    pub(crate) port: u16,
    pub(crate) node: Arc<Scripted>,
    pub(crate) dropped: mpsc::Receiver<&'static str>,
    pub(crate) halt: CancellationToken,
    pub(crate) root: PathBuf,
}

pub(crate) async fn start(script: Script) -> Running {
    let folder = tempfile::tempdir().expect("temporary folder");
    let root = folder.path().to_owned();
    // More than any test drops; a send that would wait is a test that forgot to look.
    let (sender, dropped) = mpsc::channel(1000);
    let node = Arc::new(Scripted {
        script: Mutex::new(script),
        calls: Mutex::default(),
        dropped: sender,
        store: Store::open(folder.path()).expect("store"),
        _folder: folder,
    });
    let api = Api::bind(0).await.expect("bind");
    let (port, halt) = (api.port(), CancellationToken::new());
    let about = About {
        version: "1.2.3",
        pid: 42,
        api_port: port,
        config_dir: "/config".into(),
        storage_dir: root.clone(),
    };
    tokio::spawn(api.serve(node.clone(), about, halt.clone()));
    Running { port, node, dropped, halt, root }
}

impl Running {
    pub(crate) fn calls(&self) -> Vec<String> {
        self.node.calls.lock().unwrap().clone()
    }
}

impl Scripted {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn change(&self, name: &str, join: bool) -> Result<(), NodeError> {
        if name.is_empty() {
            return Err(NodeError::ChannelName("must not be empty"));
        }
        let channels = &mut self.script.lock().unwrap().channels;
        channels.retain(|channel| channel.name != name);
        if join {
            channels.push(ChannelStatus { name: name.to_owned(), peers: 0 });
        }
        Ok(())
    }
}

impl Backend for Scripted {
    fn channels(&self) -> Vec<ChannelStatus> {
        self.script.lock().unwrap().channels.clone()
    }

    fn join_channel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        self.note(format!("join {name}"));
        std::future::ready(self.change(name, true)).boxed()
    }

    fn leave_channel<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), NodeError>> {
        self.note(format!("leave {name}"));
        std::future::ready(self.change(name, false)).boxed()
    }

    /// Tells what the script found at once, then goes on searching until the time-out.
    fn find(&self, sha1: Sha1, timeout: Duration) -> Find {
        self.note(format!("find {sha1} {} ms", timeout.as_millis()));
        let (sender, found) = mpsc::channel(16);
        let (finds, dropped) = (self.script.lock().unwrap().found.clone(), self.dropped.clone());
        tokio::spawn(async move {
            for find in finds {
                let _ = sender.send(find).await;
            }
            tokio::select! {
                () = tokio::time::sleep(timeout) => {}
                () = sender.closed() => dropped.send("find").await.unwrap(),
            }
        });
        Find { found, peers_asked: 2 }
    }

    fn load(&self, sha1: Sha1, options: LoadOptions) -> Load {
        self.note(format!("load {sha1} {:?} {} s", options.provider, options.timeout.as_secs()));
        let (event, events) = watch::channel(LoadEvent::Looking { peers: 2 });
        let (sender, done) = oneshot::channel();
        match self.script.lock().unwrap().load.clone().expect("a script for the load") {
            LoadScript::Done(loaded) => drop(sender.send(Ok(loaded))),
            LoadScript::Fail(error) => drop(sender.send(Err(error))),
            LoadScript::Hang => {
                let dropped = self.dropped.clone();
                let mut sender = sender;
                tokio::spawn(async move {
                    sender.closed().await;
                    drop(event);
                    dropped.send("load").await.unwrap();
                });
            }
        }
        Load { events, done }
    }

    fn open_stored(&self, sha1: Sha1) -> BoxFuture<'_, Result<Option<ServedFile>, StoreError>> {
        std::future::ready(self.store.open_served(sha1)).boxed()
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node_id: NODE_ID.into(),
            node_id_spki: format!("302a300506032b6570032100{NODE_ID}"),
            channels: self.channels(),
            swarms: Vec::new(),
            downloads: Vec::new(),
            bytes_served: 5,
            bytes_downloaded: 7,
        }
    }
}

pub(crate) fn found(size: u64) -> Found {
    Found {
        sha1: HASH.parse().unwrap(),
        size,
        node_id: NODE_ID.into(),
        protocol: "kachery-p2p-3",
        channel: "neuro".into(),
    }
}
