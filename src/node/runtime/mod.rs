//! The running node: everything with tasks, locks and a clock.
//!
//! # Map
//!
//! ```text
//! Node -> Inner -+- channels: one SwarmHandle per protocol and channel      (searches, answers to them)
//!                +- own: SwarmHandles of this node's transfer swarms         (files given)
//!                +- Transfers: SwarmHandles of other nodes' transfer swarms  (files taken; left when idle)
//!                +- Downloads: one task per file being loaded, shared by all loads of it
//! ```
//!
//! Tasks of a [`SwarmHandle`]: `accept` (owns the hyperswarm `Swarm`; takes connections, leaves at the end),
//! `keep_time` (wakes the machine at its deadlines), and per connection a reader and a writer (`legacy/connection`).
//! One task ([`pace`]) sees how late tasks are, and has the node read less of strangers while they are late.
//! Per answered seeking and per served request one short task ([`provide`]). Signing runs on tokio's blocking threads.
//!
//! Tasks of a load: the download ([`download`]), one attempt per claimed size that a reached peer backs, with a disk
//! task each ([`disk`], which works on blocking threads), one agent per provider that is looked for (`legacy/source`),
//! the search that feeds the download, and one follower per caller. All end with the download; the disk tasks sync
//! first, and a shutdown waits for them.
//!
//! Locks, all held without waiting: `changing` (async; one join or leave of a channel at a time, held over joining)
//! before any other; a provider's state before the table of transfer swarms; of the others never two at once: the
//! channel list; each machine; the tables of downloads, seekers, files open for peers, liars, remembered offers.
//!
//! Channels between tasks are bounded. Backwards from a slow disk: the disk queue, the attempt's inbox, the readers
//! of its connections, TCP, the provider. Backwards from a slow peer: its socket, the writer, the machine's queue
//! for the connection (`Room::Full`), the task that reads the file.
//!
//! What survives a crash: identity and channels (config folder), files (store), downloads up to their last sync
//! (store). Nothing else is kept: searches, requests and the memory of liars are gone.

mod disk;
mod download;
mod environment;
mod find;
mod inbox;
mod legacy;
mod load;
mod others;
mod pace;
mod provide;
mod remembered;
mod source;
mod turn;

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use self::environment::Environment;
use self::legacy::swarm::SwarmHandle;
use self::legacy::transfers::Transfers;
use self::load::Downloads;
use self::provide::Provider;
use self::remembered::Remembered;
use super::config::{self, ConfigDir, ConfigError};
use super::error::NodeError;
use super::identity::{self, IdentityError};
use super::legacy::{Dialect, NodeId, Protocol, Purpose, SharedBudget, Signer, Style};
use super::peer::PeerKey;
use super::types::{ChannelStatus, Find, Load, LoadOptions, NodeConfig, NodeStatus, SwarmSummary};
use crate::limits;
use crate::store::{ServedFile, Sha1, Store, StoreError};
use hyperswarm::net::v2::{Network, NetworkConfig};

/// Leaving everything takes at most this long.
const SHUTDOWN: Duration = Duration::from_millis(2500);

/// What is behind a [`super::Node`].
pub(super) struct Inner {
    store: Store,
    config: Arc<ConfigDir>,
    network: Network,
    signer: Signer,
    provider: Arc<Provider>,
    /// What strangers may cost this node.
    budget: SharedBudget,
    environment: Arc<Environment>,
    downloads: Downloads,
    own: Vec<Arc<SwarmHandle>>,
    channels: Mutex<Vec<Channel>>,
    changing: tokio::sync::Mutex<()>,
    remembered: Remembered,
    ended: CancellationToken,
}

struct Channel {
    name: String,
    swarms: Vec<Arc<SwarmHandle>>,
}

impl Inner {
    pub(super) async fn start(settings: NodeConfig) -> Result<Arc<Self>, NodeError> {
        let config = Arc::new(ConfigDir::open(&settings.config_dir, settings.api_port)?);
        let keys = identity::load_or_create(&settings.config_dir)?;
        let mut names = config.channels()?;
        for name in settings.channels {
            config::check_channel_name(&name).map_err(NodeError::ChannelName)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.len() > limits::CHANNELS {
            return Err(NodeError::TooManyChannels);
        }
        let network = NetworkConfig { bootstrap: settings.bootstrap_v2, mdns: settings.mdns };
        let network = Network::start(network).await.map_err(NodeError::Network)?;
        let signer = Signer::new(keys);
        let provider = Provider::new(settings.store.clone());
        let budget = SharedBudget::default();
        let transfers = Transfers::new(network.clone(), signer.clone(), provider.clone(), budget.clone());
        let mut inner = Self {
            environment: Arc::new(Environment::new(settings.store.clone(), transfers)),
            store: settings.store,
            config,
            network,
            signer,
            provider,
            budget,
            downloads: Downloads::default(),
            own: Vec::new(),
            channels: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            remembered: Remembered::default(),
            ended: CancellationToken::new(),
        };
        let own = Dialect::ALL.map(|dialect| {
            let node = NodeId::new(inner.signer.public(), dialect.style());
            inner.join(dialect.protocol(), Purpose::Transfer(node))
        });
        inner.own = join_all(own).await.into_iter().collect::<Result<_, _>>()?;
        let joined = join_all(names.iter().map(|name| inner.join_both(name))).await;
        for channel in joined {
            inner.channel_list().push(channel?);
        }
        inner.save_channels(inner.channel_names()).await?;
        tokio::spawn(pace::keep(inner.budget.clone(), inner.ended.clone()));
        Ok(Arc::new(inner))
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) async fn open_stored(&self, sha1: Sha1) -> Result<Option<ServedFile>, StoreError> {
        self.provider.open_verified(sha1).await
    }

    pub(super) fn channels(&self) -> Vec<ChannelStatus> {
        let joined = |channel: &Channel| (channel.name.clone(), channel.swarms.clone());
        let channels: Vec<_> = self.channel_list().iter().map(joined).collect();
        let status = |(name, swarms): (String, Vec<Arc<SwarmHandle>>)| ChannelStatus {
            name,
            peers: keys_in(&swarms).len(),
        };
        channels.into_iter().map(status).collect()
    }

    pub(super) async fn join_channel(&self, name: &str) -> Result<(), NodeError> {
        config::check_channel_name(name).map_err(NodeError::ChannelName)?;
        let _one_at_a_time = self.changing.lock().await;
        if self.channel_list().iter().any(|channel| channel.name == name) {
            return Ok(());
        }
        if self.channel_list().len() >= limits::CHANNELS {
            return Err(NodeError::TooManyChannels);
        }
        let channel = self.join_both(name).await?;
        let mut names = self.channel_names();
        names.push(name.to_owned());
        if let Err(error) = self.save_channels(names).await {
            // Else it would be joined until the restart, although the caller was told that it failed.
            join_all(channel.swarms.iter().map(|swarm| swarm.leave())).await;
            return Err(error);
        }
        self.channel_list().push(channel);
        Ok(())
    }

    pub(super) async fn leave_channel(&self, name: &str) -> Result<(), NodeError> {
        let _one_at_a_time = self.changing.lock().await;
        let mut names = self.channel_names();
        let Some(index) = names.iter().position(|joined| joined == name) else { return Ok(()) };
        names.remove(index);
        // First: what cannot be remembered as left stays joined.
        self.save_channels(names).await?;
        // Only joins and leaves change the list.
        let channel = self.channel_list().remove(index);
        join_all(channel.swarms.iter().map(|swarm| swarm.leave())).await;
        Ok(())
    }

    pub(super) fn find(self: &Arc<Self>, sha1: Sha1, timeout: Duration) -> Find {
        find::find(self, sha1, timeout)
    }

    pub(super) fn load(self: &Arc<Self>, sha1: Sha1, options: LoadOptions) -> Load {
        load::load(self, sha1, options)
    }

    pub(super) fn status(&self) -> NodeStatus {
        let id = |style| NodeId::new(self.signer.public(), style).to_string();
        let summary = |swarm: &Arc<SwarmHandle>| {
            let status = swarm.status();
            SwarmSummary {
                purpose: swarm.label(),
                protocol: swarm.protocol.name().to_owned(),
                port: status.port,
                connections: status.connections,
                dht_nodes: status.dht_nodes,
            }
        };
        NodeStatus {
            node_id: id(Style::Hypersign),
            node_id_spki: id(Style::Spki),
            channels: self.channels(),
            swarms: self.swarms().iter().map(summary).collect(),
            downloads: self.downloads.summaries(),
            bytes_served: self.provider.bytes_served(),
            bytes_downloaded: self.environment.downloaded(),
        }
    }

    /// Ends downloads, leaves all swarms.
    pub(super) async fn shutdown(&self) {
        self.ended.cancel();
        let _no_more_changes = tokio::time::timeout(SHUTDOWN / 5, self.changing.lock()).await;
        let swarms = self.swarms();
        let disks = &self.environment.disks;
        disks.close();
        let leaving =
            async { tokio::join!(join_all(swarms.iter().map(|swarm| swarm.leave())), disks.wait()) };
        if tokio::time::timeout(SHUTDOWN * 4 / 5, leaving).await.is_err() {
            tracing::warn!("some topics could not be unannounced in time; they expire by themselves");
        }
    }

    fn swarms(&self) -> Vec<Arc<SwarmHandle>> {
        let mut swarms = self.channel_swarms();
        swarms.extend(self.own.iter().cloned());
        swarms.extend(self.environment.transfers.swarms());
        swarms
    }

    fn channel_swarms(&self) -> Vec<Arc<SwarmHandle>> {
        self.channel_list().iter().flat_map(|channel| channel.swarms.iter().cloned()).collect()
    }

    fn channel_names(&self) -> Vec<String> {
        self.channel_list().iter().map(|channel| channel.name.clone()).collect()
    }

    /// Distinct nodes connected in the channels.
    fn connected_peers(&self) -> usize {
        self.connected_keys().len()
    }

    fn connected_keys(&self) -> HashSet<PeerKey> {
        keys_in(&self.channel_swarms())
    }

    fn channel_list(&self) -> MutexGuard<'_, Vec<Channel>> {
        self.channels.lock()
    }

    /// On a blocking thread: home folders may be far away.
    async fn save_channels(&self, names: Vec<String>) -> Result<(), NodeError> {
        let config = self.config.clone();
        let saved = tokio::task::spawn_blocking(move || config.set_channels(&names)).await;
        saved.unwrap_or_else(|panic| {
            let source = std::io::Error::other(panic);
            Err(ConfigError::Io { what: "write config.json".to_owned(), source })
        })?;
        Ok(())
    }

    async fn join_both(&self, name: &str) -> Result<Channel, NodeError> {
        let joining = Protocol::ALL.map(|protocol| self.join(protocol, Purpose::Channel(name.to_owned())));
        let swarms = join_all(joining).await.into_iter().collect::<Result<_, _>>()?;
        Ok(Channel { name: name.to_owned(), swarms })
    }

    async fn join(&self, protocol: Protocol, purpose: Purpose) -> Result<Arc<SwarmHandle>, NodeError> {
        let swarm = self.network.join(purpose.topic(protocol)).await.map_err(NodeError::Network)?;
        let (signer, provider) = (self.signer.clone(), self.provider.clone());
        SwarmHandle::start(swarm, protocol, purpose, signer, provider, self.budget.clone())
            .map_err(NodeError::Network)
    }
}

/// Distinct nodes connected in these swarms.
fn keys_in(swarms: &[Arc<SwarmHandle>]) -> HashSet<PeerKey> {
    swarms.iter().flat_map(|swarm| swarm.connected()).map(|node| PeerKey(node.key)).collect()
}

impl From<ConfigError> for NodeError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Io { what, source } => Self::Config { what, source },
            ConfigError::AlreadyRunning { pid, api_port } => Self::AlreadyRunning { pid, api_port },
            ConfigError::Exposed { path, why } => Self::Config {
                what: format!("config folder {}", path.display()),
                source: std::io::Error::new(std::io::ErrorKind::PermissionDenied, why),
            },
            ConfigError::Corrupt { path, why } => Self::Config {
                what: path.display().to_string(),
                source: std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    format!("{why}; correct it or move it away"),
                ),
            },
        }
    }
}

impl From<IdentityError> for NodeError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Io { what, source } => Self::Config { what, source },
            corrupt @ IdentityError::Corrupt { .. } => Self::Config {
                what: "identity".to_owned(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, corrupt.to_string()),
            },
        }
    }
}
