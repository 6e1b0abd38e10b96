//! The giving side: answers to seeking, and files in pieces.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

mod descriptors;
mod open_files;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use self::descriptors::Seldom;
use self::open_files::OpenFiles;

use super::legacy::swarm::SwarmHandle;
use crate::limits;
use crate::node::legacy::{BUSY, Dialect, FileRequest, NodeId, Reply, RequestKey, Room};
use crate::store::{ContentHash, ServedFile, Sha1, Store, StoreError, StoreErrorKind};

/// The error text of 0.2.1 for a file that it does not have.
const NOT_FOUND: &str = "Unable to find file.";
/// Read from disk at once for a peer that takes a message of that size.
const PIECE: u64 = limits::DATA_PIECE as u64;
/// Read from disk at once for a 0.1.2 peer, which gets it in messages of 378 bytes.
const SMALL_PIECE: u64 = 8 << 10;

pub(crate) use self::descriptors::refuses_connection;

/// What all swarms use to serve files.
pub(crate) struct Provider {
    store: Store,
    /// Looks into the store at the same time; further ones wait.
    looks: Arc<Semaphore>,
    /// Looks under way or waiting, by seeker. Beyond the limits seekings are dropped.
    lookers: Mutex<HashMap<NodeId, usize>>,
    /// For peers.
    peers: Turns,
    /// For the user of this machine, who never waits for what peers asked for.
    user: Turns,
    open: OpenFiles,
    /// So few descriptors are left that none may be spent on peers.
    scarce: fn() -> bool,
    complaints: Seldom,
    served: AtomicU64,
}

/// Turns at the disk; those who find none wait.
struct Turns {
    /// Reads at the same time.
    reads: Arc<Semaphore>,
    /// Large files hashed at the same time, which can take minutes: they take no turn from the reads.
    verifications: Arc<Semaphore>,
}

impl Turns {
    fn new() -> Self {
        Self {
            reads: Arc::new(Semaphore::new(limits::STORE_READS)),
            verifications: Arc::new(Semaphore::new(limits::STORE_VERIFICATIONS)),
        }
    }
}

impl Provider {
    pub(crate) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self {
            store,
            looks: Arc::new(Semaphore::new(limits::STORE_LOOKS)),
            lookers: Mutex::default(),
            peers: Turns::new(),
            user: Turns::new(),
            open: OpenFiles::default(),
            scarce: descriptors::are_scarce,
            complaints: Seldom::default(),
            served: AtomicU64::new(0),
        })
    }

    /// Bytes handed to connections since the start.
    pub(crate) fn bytes_served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Says that we have the file, if we do.
    pub(crate) fn answer(
        self: &Arc<Self>,
        swarm: &Arc<SwarmHandle>,
        from: NodeId,
        dialect: Dialect,
        sha1: Sha1,
    ) {
        let Some(turn) = self.look(from) else {
            tracing::debug!(%from, "too many seekings at once; one dropped");
            return;
        };
        let (provider, swarm) = (self.clone(), swarm.clone());
        tokio::spawn(async move {
            if let Some((size, unverified)) = provider.size_of(sha1).await {
                swarm.provide(dialect, sha1, size);
                // So that it is done, or under way, when the file is asked for. Seekings must not queue up work before
                // requests: not while another file is verified.
                if unverified && provider.peers.verifications.available_permits() > 0 {
                    // What is wrong with the file is logged, and told to whoever asks for it.
                    let _: Result<Arc<ServedFile>, String> = provider.open(sha1).await;
                }
            }
            drop(turn);
        });
    }

    /// Of a file that we can serve; and whether it must be verified before.
    async fn size_of(&self, sha1: Sha1) -> Option<(u64, bool)> {
        let store = self.store.clone();
        let look = move || match store.served_size(sha1)? {
            Some(size) => Ok(Some((size, store.needs_hashing(sha1)?))),
            None => Ok(None),
        };
        match in_turn(&self.looks, look).await {
            Ok(found) => found,
            Err(error) if error.kind() == StoreErrorKind::TooManyOpenFiles => {
                self.complain();
                None
            }
            Err(error) => {
                tracing::warn!(%sha1, %error, "cannot look into the store");
                None
            }
        }
    }

    /// Serves a request in pieces, each read when there is room for it.
    pub(crate) fn serve(
        self: &Arc<Self>,
        swarm: &Arc<SwarmHandle>,
        key: RequestKey,
        dialect: Dialect,
        request: FileRequest,
        room: Arc<Notify>,
    ) {
        let (provider, swarm) = (self.clone(), swarm.clone());
        tokio::spawn(async move {
            let end = tokio::select! {
                result = provider.send(dialect, request, &room, |data| swarm.respond(&key, data)) => match result {
                    Ok(true) => Reply::Finished,
                    Ok(false) => return,
                    Err(why) => Reply::Error(why),
                },
                () = swarm.ended.cancelled() => return,
            };
            let _: Room = swarm.respond(&key, end);
        });
    }

    /// Hands what was asked for to `respond`, again after waiting for `room` when that is full. False: the asker has left.
    /// Nothing is held open meanwhile: each piece is read from the file that is open, or opened for it.
    async fn send(
        &self,
        dialect: Dialect,
        request: FileRequest,
        room: &Notify,
        respond: impl Fn(Reply) -> Room,
    ) -> Result<bool, String> {
        let sha1 = request.sha1();
        let _in_use = self.open.begin();
        let size = self.open(sha1).await?.size();
        let (mut at, end) = match request {
            FileRequest::Whole { .. } => (0, size),
            FileRequest::Range { start, end, .. } => (start, end),
        };
        if end > size {
            return Err(format!("Range ends at {end}, beyond the end of the file: {size}"));
        }
        let piece = if dialect == Dialect::V012 { SMALL_PIECE } else { PIECE };
        while at < end {
            let length = piece.min(end - at);
            let file = self.open(sha1).await?;
            let bytes = self.read(file, at, length as usize).await?;
            loop {
                match respond(Reply::Data(bytes.clone())) {
                    Room::More => break,
                    Room::Full => match tokio::time::timeout(limits::SERVE_STALL, room.notified()).await {
                        Ok(()) => {}
                        Err(_) => return Err("The data was not taken in time.".to_owned()),
                    },
                    Room::Gone => return Ok(false),
                }
            }
            at += length;
            self.served.fetch_add(length, Ordering::Relaxed);
        }
        Ok(true)
    }

    /// The file, verified, from those that are open if it is one of them.
    async fn open(&self, sha1: Sha1) -> Result<Arc<ServedFile>, String> {
        if let Some(file) = self.open.get(sha1) {
            return Ok(file);
        }
        if (self.scarce)() {
            return Err(self.busy());
        }
        match self.verified(&self.peers, sha1, || {}, Store::open_served).await {
            Ok(Some(file)) => Ok(self.open.add(sha1, file)),
            Ok(None) => Err(NOT_FOUND.to_owned()),
            Err(error) if error.kind() == StoreErrorKind::TooManyOpenFiles => Err(self.busy()),
            Err(error) => {
                // The path in it is nobody else's business.
                tracing::warn!(%sha1, %error, "cannot serve a file");
                Err(NOT_FOUND.to_owned())
            }
        }
    }

    /// What a peer is told when there is no descriptor for it. Those of files that are served are given back.
    fn busy(&self) -> String {
        self.open.clear();
        self.complain();
        BUSY.to_owned()
    }

    fn complain(&self) {
        if let Some(count) = self.complaints.say(Instant::now()) {
            tracing::warn!(
                "too many files are open: {count} requests of peers were put off since the last such line; raise the limit (ulimit -n) before the daemon starts"
            );
        }
    }

    /// As [`Store::open_served`], for the user, without keeping others waiting while a large file is hashed.
    pub(crate) async fn open_verified(&self, sha1: Sha1) -> Result<Option<ServedFile>, StoreError> {
        self.verified(&self.user, sha1, || {}, Store::open_served).await
    }

    /// As [`Store::find_verified`], for the user, without keeping others waiting; `hashing` is called when that is going to take long.
    pub(crate) async fn find_verified(
        &self,
        sha1: Sha1,
        hashing: impl FnOnce(),
    ) -> Result<Option<PathBuf>, StoreError> {
        let find = |store: &Store, sha1| store.find_verified(ContentHash::Sha1(sha1), &|_| {});
        self.verified(&self.user, sha1, hashing, find).await
    }

    /// Runs what hashes a file unless that is known to be good, in the turns of the reads or of the verifications.
    async fn verified<T: Send + 'static>(
        &self,
        turns: &Turns,
        sha1: Sha1,
        hashing: impl FnOnce(),
        work: fn(&Store, Sha1) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        let at_once = move || match store.needs_hashing(sha1)? {
            true => Ok(None),
            false => work(&store, sha1).map(Some),
        };
        if let Some(done) = in_turn(&turns.reads, at_once).await? {
            return Ok(done);
        }
        hashing();
        let store = self.store.clone();
        in_turn(&turns.verifications, move || work(&store, sha1)).await
    }

    async fn read(&self, file: Arc<ServedFile>, at: u64, length: usize) -> Result<Bytes, String> {
        let work = move || {
            let mut buffer = vec![0; length];
            file.read_at(at, &mut buffer)?;
            Ok(Bytes::from(buffer))
        };
        in_turn(&self.peers.reads, work).await.map_err(|error| {
            tracing::warn!(%error, "cannot read a served file");
            "Unable to read file.".to_owned()
        })
    }

    /// A turn at the store for a seeker; none: it, or all together, have too many already.
    fn look(self: &Arc<Self>, from: NodeId) -> Option<Turn> {
        let mut lookers = self.lookers.lock();
        let all: usize = lookers.values().sum();
        let count = lookers.get(&from).copied().unwrap_or(0);
        if all >= limits::STORE_LOOKS_WAITING || count >= limits::STORE_LOOKS_PER_NODE {
            return None;
        }
        lookers.insert(from, count + 1);
        Some(Turn { provider: self.clone(), from })
    }
}

/// Runs `work` on a blocking thread, in a turn that lasts until it ends, even if nobody waits for it any more.
async fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let turn = turns.clone().acquire_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Err(StoreError::Io { what: "look into the store".to_owned(), source })
    })
}

struct Turn {
    provider: Arc<Provider>,
    from: NodeId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lookers = self.provider.lookers.lock();
        if let Some(count) = lookers.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                lookers.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests;
