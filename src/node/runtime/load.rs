//! Loads: several of one file share a download; a bounded number of downloads is active, the rest wait their turn.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::download::{Download, EMPTY_FILE};
use super::find::Search;
use super::inbox::Heard;
use crate::limits;
use crate::node::error::LoadError;
use crate::node::legacy::NodeId;
use crate::node::peer::PeerKey;
use crate::node::transfer::Offer;
use crate::node::transfer::candidates::Candidates;
use crate::node::types::{DownloadSummary, Load, LoadEvent, LoadOptions, Loaded};
use crate::store::{Sha1, StoreError};

type Outcome = Result<Loaded, LoadError>;

/// Offers that wait for the download; when full the search waits.
const OFFERS: usize = 16;

/// The number of peers asked is brought up to date this often.
const PEERS_REFRESH: Duration = Duration::from_secs(2);

/// All downloads under way or waiting.
pub(super) struct Downloads {
    table: Mutex<HashMap<Sha1, Shared>>,
    turns: Semaphore,
}

struct Shared {
    events: watch::Receiver<LoadEvent>,
    outcome: watch::Receiver<Option<Outcome>>,
    /// Loads that want it.
    users: usize,
    /// Tells a cancelled download from its successor.
    cancel: CancellationToken,
}

impl Default for Downloads {
    fn default() -> Self {
        Self { table: Mutex::default(), turns: Semaphore::new(limits::ACTIVE_DOWNLOADS) }
    }
}

impl Downloads {
    /// For the status.
    pub(super) fn summaries(&self) -> Vec<DownloadSummary> {
        let summary = |(sha1, shared): (&Sha1, &Shared)| {
            let (bytes, size) = match *shared.events.borrow() {
                LoadEvent::Downloading { bytes, size, .. } => (bytes, size),
                LoadEvent::Looking { .. } | LoadEvent::Verifying => (0, 0),
            };
            DownloadSummary { sha1: sha1.to_string(), bytes, size }
        };
        self.table().iter().map(summary).collect()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Sha1, Shared>> {
        self.table.lock()
    }

    /// A load does not want it any more; the last one cancels.
    fn release(&self, sha1: Sha1, cancel: &CancellationToken) {
        let mut table = self.table();
        let Some(shared) = table.get_mut(&sha1).filter(|shared| shared.cancel == *cancel) else { return };
        shared.users -= 1;
        if shared.users == 0 {
            table.remove(&sha1);
            cancel.cancel();
        }
    }
}

/// Starts a load, or joins the one under way.
pub(super) fn load(inner: &Arc<Inner>, sha1: Sha1, options: LoadOptions) -> Load {
    let (done, result) = oneshot::channel();
    let peers = inner.connected_peers();
    let mut table = inner.downloads.table();
    if !table.contains_key(&sha1) && table.len() >= limits::WAITING_DOWNLOADS {
        let why = format!("{} downloads are waiting already", limits::WAITING_DOWNLOADS);
        let _ = done.send(Err(LoadError::Transfer { reasons: vec![("this daemon".to_owned(), why)] }));
        let (_, events) = watch::channel(LoadEvent::Looking { peers: 0 });
        return Load { events, done: result };
    }
    let shared = table.entry(sha1).or_insert_with(|| begin(inner, sha1, options, peers));
    shared.users += 1;
    let (events, outcome, cancel) = (shared.events.clone(), shared.outcome.clone(), shared.cancel.clone());
    drop(table);
    tokio::spawn(follow(inner.clone(), sha1, outcome, cancel, done));
    Load { events, done: result }
}

/// Hands the outcome to one load, or notices that it is not wanted any more.
async fn follow(
    inner: Arc<Inner>,
    sha1: Sha1,
    mut outcome: watch::Receiver<Option<Outcome>>,
    cancel: CancellationToken,
    mut done: oneshot::Sender<Outcome>,
) {
    tokio::select! {
        () = done.closed() => {}
        ended = outcome.wait_for(Option::is_some) => {
            let outcome = ended.ok().and_then(|outcome| outcome.clone());
            let _ = done.send(outcome.unwrap_or(Err(LoadError::Cancelled)));
        }
    }
    inner.downloads.release(sha1, &cancel);
}

fn begin(inner: &Arc<Inner>, sha1: Sha1, options: LoadOptions, peers: usize) -> Shared {
    let (events, events_seen) = watch::channel(LoadEvent::Looking { peers });
    let (ended, outcome) = watch::channel(None);
    let cancel = CancellationToken::new();
    let (inner, token) = (inner.clone(), cancel.clone());
    tokio::spawn(async move {
        let result = tokio::select! {
            () = token.cancelled() => Err(LoadError::Cancelled),
            () = inner.ended.cancelled() => Err(LoadError::Cancelled),
            result = perform(&inner, sha1, options, events) => result,
        };
        match &result {
            Ok(loaded) => tracing::info!(%sha1, size = loaded.size, downloaded = loaded.downloaded, "loaded"),
            Err(error) => tracing::info!(%sha1, %error, "not loaded"),
        }
        // A load that comes now starts anew.
        let mut table = inner.downloads.table();
        if table.get(&sha1).is_some_and(|shared| shared.cancel == token) {
            table.remove(&sha1);
        }
        drop(table);
        ended.send_replace(Some(result));
    });
    Shared { events: events_seen, outcome, users: 0, cancel }
}

async fn perform(
    inner: &Arc<Inner>,
    sha1: Sha1,
    options: LoadOptions,
    events: watch::Sender<LoadEvent>,
) -> Outcome {
    if let Some(loaded) = local(inner, sha1, &events).await? {
        return Ok(loaded);
    }
    // Never closed.
    let _turn = inner.downloads.turns.acquire().await;
    let (sender, offers) = mpsc::channel(OFFERS);
    let mut candidates = Candidates::default();
    let mut wanted = wanted_provider(&options)?;
    if let Some((node, size)) = &mut wanted {
        *size = size.or_else(|| inner.remembered.size(*node, sha1));
    }
    let mut searching = sha1 != EMPTY_FILE;
    if let Some((node, Some(size))) = wanted {
        for candidate in inner.remembered.as_offers(node, size) {
            candidates.add(candidate, false);
        }
        searching = false;
    }
    let asked = inner.connected_peers();
    let search = searching
        .then(|| forward(inner, sha1, options.timeout, wanted.map(|(node, _)| node), sender, &events));
    let download = Download {
        sha1,
        timeout: options.timeout,
        environment: inner.environment.clone(),
        offers,
        searching,
        candidates,
        events,
    };
    let outcome = download.run().await;
    let asked = search.map_or(asked, |search| search.asked());
    outcome.unwrap_or_else(|| Err(nobody(inner, asked)))
}

/// From the store, if what is there has the hash: what is damaged is loaded again, which replaces it.
async fn local(
    inner: &Inner,
    sha1: Sha1,
    events: &watch::Sender<LoadEvent>,
) -> Result<Option<Loaded>, LoadError> {
    let looking = events.borrow().clone();
    let hashing = || {
        events.send_replace(LoadEvent::Verifying);
    };
    let path = match inner.provider.find_verified(sha1, hashing).await {
        Ok(Some(path)) => path,
        Ok(None) => return Ok(None),
        Err(StoreError::Damaged { .. }) => {
            events.send_replace(looking);
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let look = |source| StoreError::Io { what: format!("look at {}", path.display()), source };
    let size = tokio::fs::metadata(&path).await.map_err(look)?.len();
    Ok(Some(Loaded { path, size, downloaded: 0 }))
}

fn wanted_provider(options: &LoadOptions) -> Result<Option<(NodeId, Option<u64>)>, LoadError> {
    let Some((text, size)) = &options.provider else { return Ok(None) };
    match text.parse() {
        Ok(node) => Ok(Some((node, *size))),
        Err(error) => {
            let shown: String = text.chars().take(100).collect();
            let reason = (shown.escape_debug().to_string(), format!("{error}"));
            Err(LoadError::Transfer { reasons: vec![reason] })
        }
    }
}

/// A search whose answers go to a download.
struct Forward {
    task: tokio::task::JoinHandle<()>,
    asked: watch::Receiver<usize>,
}

impl Forward {
    fn asked(&self) -> usize {
        *self.asked.borrow()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn forward(
    inner: &Arc<Inner>,
    sha1: Sha1,
    timeout: Duration,
    only: Option<NodeId>,
    sender: mpsc::Sender<Offer>,
    events: &watch::Sender<LoadEvent>,
) -> Forward {
    let mut search = Search::begin(inner, sha1, timeout);
    let (peers, asked) = watch::channel(search.asked);
    let (inner, events) = (inner.clone(), events.clone());
    let task = tokio::spawn(async move {
        let mut tick = tokio::time::interval(PEERS_REFRESH);
        loop {
            let heard = tokio::select! {
                heard = search.next() => heard,
                _ = tick.tick() => {
                    let connected = inner.connected_peers().max(*peers.borrow());
                    peers.send_replace(connected);
                    events.send_if_modified(|event| match event {
                        LoadEvent::Looking { peers } if *peers != connected => { *peers = connected; true }
                        _ => false,
                    });
                    continue;
                }
            };
            let Some(Heard { offer, .. }) = heard else { return };
            inner.remembered.add(sha1, offer);
            if only.is_some_and(|only| PeerKey(only.key) != offer.peer) {
                continue;
            }
            if sender.send(offer).await.is_err() {
                return;
            }
        }
    });
    Forward { task, asked }
}

fn nobody(inner: &Inner, asked: usize) -> LoadError {
    let names: Vec<String> = inner.channel_names();
    if names.is_empty() {
        LoadError::NoChannel
    } else if asked == 0 {
        LoadError::NoPeers { channels: names.join(", ") }
    } else {
        LoadError::NotFound { asked }
    }
}
