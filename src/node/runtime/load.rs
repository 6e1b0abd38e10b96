//! Loads: several of one file share a download; a bounded number of downloads is active, the rest wait their turn.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::download::{self, Download, EMPTY_FILE};
use super::find::Search;
use super::inbox::Heard;
use super::others::Others;
use crate::limits;
use crate::node::error::LoadError;
use crate::node::legacy::NodeId;
use crate::node::peer::{Origin, PeerKey};
use crate::node::transfer::candidates::Candidates;
use crate::node::types::{DownloadSummary, Load, LoadEvent, LoadOptions, Loaded};
use crate::store::{Sha1, StoreError};

type Outcome = Result<Loaded, LoadError>;

/// Offers that wait for the download; when full the search waits.
const OFFERS: usize = 16;

/// Peers that connect while a search runs are looked for this often.
const PEERS_REFRESH: Duration = Duration::from_millis(500);
/// The search of a load is over this long after the last peer that could be asked was asked: the files of a peer that
/// has not answered by then are on a disk too slow to load from.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// All downloads under way or waiting.
pub(super) struct Downloads {
    table: Mutex<HashMap<Sha1, Shared>>,
    turns: Arc<Semaphore>,
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
        Self { table: Mutex::default(), turns: Arc::new(Semaphore::new(limits::ACTIVE_DOWNLOADS)) }
    }
}

impl Downloads {
    /// For the status.
    pub(super) fn summaries(&self) -> Vec<DownloadSummary> {
        let summary = |(sha1, shared): (&Sha1, &Shared)| {
            let (bytes, size) = match *shared.events.borrow() {
                LoadEvent::Downloading { bytes, size, .. } | LoadEvent::Waiting { bytes, size } => {
                    (bytes, size)
                }
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
            () = inner.ended.cancelled() => Err(LoadError::Stopped),
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
    let mut others = Others::new(options.timeout);
    loop {
        if let Some(loaded) = local(inner, sha1, &events).await? {
            return Ok(loaded);
        }
        match download(inner, sha1, &options, &events).await {
            Err(LoadError::InUse(why)) => others.wait(inner.store(), sha1, &events, why).await?,
            outcome => return outcome,
        }
        events.send_replace(LoadEvent::Looking { peers: inner.connected_peers() });
    }
}

/// From peers, into the store.
async fn download(
    inner: &Arc<Inner>,
    sha1: Sha1,
    options: &LoadOptions,
    events: &watch::Sender<LoadEvent>,
) -> Outcome {
    let began = download::now();
    let (sender, offers) = mpsc::channel(OFFERS);
    let mut candidates = Candidates::default();
    let mut wanted = wanted_provider(options)?;
    if let Some((node, size)) = &mut wanted {
        *size = size.or_else(|| inner.remembered.size(*node, sha1));
    }
    let mut searching = sha1 != EMPTY_FILE;
    if let Some((node, Some(size))) = wanted {
        for candidate in inner.remembered.as_offers(node, size) {
            candidates.add(candidate, Origin { host: None, neighbour: candidate.peer, own: true });
        }
        searching = false;
    }
    let asked = inner.connected_peers();
    let search = searching
        .then(|| forward(inner, sha1, options.timeout, wanted.map(|(node, _)| node), sender, events));
    let download = Download::new(download::Setup {
        sha1,
        timeout: options.timeout,
        began,
        environment: inner.environment.clone(),
        offers,
        searching,
        candidates,
        events: events.clone(),
        turns: inner.downloads.turns.clone(),
    });
    let outcome = download.run().await;
    let asked = search.map_or(asked, |search| search.asked());
    let within = download::now().saturating_duration_since(began);
    outcome.unwrap_or_else(|| Err(nobody(inner, asked, within)))
}

/// From the store, if what is there has the hash: what is damaged is loaded again, which replaces it.
async fn local(
    inner: &Inner,
    sha1: Sha1,
    events: &watch::Sender<LoadEvent>,
) -> Result<Option<Loaded>, LoadError> {
    let looking = *events.borrow();
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

/// The peers that a search has asked, of those that are connected now.
#[derive(Default)]
struct Asked {
    keys: HashSet<PeerKey>,
    /// When a peer was asked last.
    last: Option<Instant>,
}

impl Asked {
    /// True if all peers had the time to answer. While nobody was ever connected, nobody was asked.
    fn are_all_silent(&mut self, connected: HashSet<PeerKey>, now: Instant) -> bool {
        if !connected.is_subset(&self.keys) {
            self.last = Some(now);
        }
        self.keys = connected;
        self.last.is_some_and(|last| now.saturating_duration_since(last) >= ANSWER_TIME)
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
    sender: mpsc::Sender<Heard>,
    events: &watch::Sender<LoadEvent>,
) -> Forward {
    let mut search = Search::begin(inner, sha1, timeout);
    let (peers, asked) = watch::channel(search.asked);
    let (inner, events) = (inner.clone(), events.clone());
    let task = tokio::spawn(async move {
        let mut tick = tokio::time::interval(PEERS_REFRESH);
        let mut known = Asked::default();
        loop {
            let heard = tokio::select! {
                heard = search.next() => heard,
                _ = tick.tick() => {
                    if known.are_all_silent(inner.connected_keys(), download::now()) {
                        return;
                    }
                    let connected = known.keys.len().max(*peers.borrow());
                    peers.send_replace(connected);
                    events.send_if_modified(|event| match event {
                        LoadEvent::Looking { peers } if *peers != connected => { *peers = connected; true }
                        _ => false,
                    });
                    continue;
                }
            };
            let Some(heard) = heard else { return };
            inner.remembered.add(sha1, heard.offer);
            if only.is_some_and(|only| PeerKey(only.key) != heard.offer.peer) {
                continue;
            }
            if sender.send(heard).await.is_err() {
                return;
            }
        }
    });
    Forward { task, asked }
}

fn nobody(inner: &Inner, asked: usize, within: Duration) -> LoadError {
    let names: Vec<String> = inner.channel_names();
    if names.is_empty() {
        LoadError::NoChannel
    } else if asked == 0 {
        LoadError::NoPeers { channels: names.join(", ") }
    } else {
        LoadError::NotFound { asked, within }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperswarm::crypto::PublicKey;

    #[test]
    fn a_search_is_over_ten_seconds_after_the_last_peer_was_asked_but_not_while_nobody_was_connected() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let peers = |numbers: &[u8]| numbers.iter().map(|n| PeerKey(PublicKey([*n; 32]))).collect();
        let mut asked = Asked::default();
        assert!(!asked.are_all_silent(peers(&[]), at(50)), "nobody was asked");
        assert!(!asked.are_all_silent(peers(&[1]), at(51)));
        assert!(!asked.are_all_silent(peers(&[1, 2]), at(59)));
        assert!(!asked.are_all_silent(peers(&[2]), at(68)), "leaving is no reason");
        assert!(asked.are_all_silent(peers(&[2]), at(69)));
    }
}
