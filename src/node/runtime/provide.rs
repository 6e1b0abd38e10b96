//! The giving side: answers to seeking, and files in pieces.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use super::legacy::swarm::SwarmHandle;
use crate::limits;
use crate::node::legacy::{Dialect, FileRequest, NodeId, Reply, RequestKey, Room};
use crate::store::{ContentHash, ServedFile, Sha1, Store, StoreError};

/// The error text of 0.2.1 for a file that it does not have.
const NOT_FOUND: &str = "Unable to find file.";
/// Read from disk at once for a peer that takes a message of that size.
const PIECE: u64 = limits::DATA_PIECE as u64;
/// Read from disk at once for a 0.1.2 peer, which gets it in messages of 378 bytes.
const SMALL_PIECE: u64 = 8 << 10;

/// What all swarms use to serve files.
pub(crate) struct Provider {
    store: Store,
    /// Looks into the store at the same time; further ones wait.
    looks: Arc<Semaphore>,
    /// Looks under way or waiting, by seeker. Beyond the limits seekings are dropped.
    lookers: Mutex<HashMap<NodeId, usize>>,
    /// Disk reads at the same time; further ones wait.
    reads: Arc<Semaphore>,
    /// Large files hashed at the same time, which can take minutes: they take no turn from the reads.
    verifications: Arc<Semaphore>,
    served: AtomicU64,
}

impl Provider {
    pub(crate) fn new(store: Store) -> Arc<Self> {
        Arc::new(Self {
            store,
            looks: Arc::new(Semaphore::new(limits::STORE_LOOKS)),
            lookers: Mutex::default(),
            reads: Arc::new(Semaphore::new(limits::STORE_READS)),
            verifications: Arc::new(Semaphore::new(limits::STORE_VERIFICATIONS)),
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
                if unverified && provider.verifications.available_permits() > 0 {
                    // What is wrong with the file is logged, and told to whoever asks for it.
                    let _: Result<Option<ServedFile>, StoreError> = provider.open_verified(sha1).await;
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
        in_turn(&self.looks, look).await.unwrap_or_else(|error| {
            tracing::warn!(%sha1, %error, "cannot look into the store");
            None
        })
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
    async fn send(
        &self,
        dialect: Dialect,
        request: FileRequest,
        room: &Notify,
        respond: impl Fn(Reply) -> Room,
    ) -> Result<bool, String> {
        let file = Arc::new(self.open(request.sha1()).await?);
        let (mut at, end) = match request {
            FileRequest::Whole { .. } => (0, file.size()),
            FileRequest::Range { start, end, .. } => (start, end),
        };
        if end > file.size() {
            return Err(format!("Range ends at {end}, beyond the end of the file: {}", file.size()));
        }
        let piece = if dialect == Dialect::V012 { SMALL_PIECE } else { PIECE };
        while at < end {
            let length = piece.min(end - at);
            let bytes = self.read(file.clone(), at, length as usize).await?;
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

    async fn open(&self, sha1: Sha1) -> Result<ServedFile, String> {
        match self.open_verified(sha1).await {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(NOT_FOUND.to_owned()),
            Err(error) => {
                // The path in it is nobody else's business.
                tracing::warn!(%sha1, %error, "cannot serve a file");
                Err(NOT_FOUND.to_owned())
            }
        }
    }

    /// As [`Store::open_served`], without keeping others waiting while a large file is hashed.
    pub(crate) async fn open_verified(&self, sha1: Sha1) -> Result<Option<ServedFile>, StoreError> {
        self.verified(sha1, || {}, Store::open_served).await
    }

    /// As [`Store::find_verified`], without keeping others waiting; `hashing` is called when that is going to take long.
    pub(crate) async fn find_verified(
        &self,
        sha1: Sha1,
        hashing: impl FnOnce(),
    ) -> Result<Option<PathBuf>, StoreError> {
        let find = |store: &Store, sha1| store.find_verified(ContentHash::Sha1(sha1), &|_| {});
        self.verified(sha1, hashing, find).await
    }

    /// Runs what hashes a file unless that is known to be good, in the turns of the reads or of the verifications.
    async fn verified<T: Send + 'static>(
        &self,
        sha1: Sha1,
        hashing: impl FnOnce(),
        work: fn(&Store, Sha1) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let store = self.store.clone();
        let at_once = move || match store.needs_hashing(sha1)? {
            true => Ok(None),
            false => work(&store, sha1).map(Some),
        };
        if let Some(done) = in_turn(&self.reads, at_once).await? {
            return Ok(done);
        }
        hashing();
        let store = self.store.clone();
        in_turn(&self.verifications, move || work(&store, sha1)).await
    }

    async fn read(&self, file: Arc<ServedFile>, at: u64, length: usize) -> Result<Bytes, String> {
        let work = move || {
            let mut buffer = vec![0; length];
            file.read_at(at, &mut buffer)?;
            Ok(Bytes::from(buffer))
        };
        in_turn(&self.reads, work).await.map_err(|error| {
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
