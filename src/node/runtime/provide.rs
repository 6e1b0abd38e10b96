//! The giving side, for every protocol: what the store has, and pieces of its files, in turns at the disk.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod descriptors;
mod line;
mod open_files;
mod turns;
mod verifications;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

use self::descriptors::Seldom;
use self::open_files::{InUse, OpenFiles};
use self::turns::{FairTurns, Turn as FairTurn};
use self::verifications::{Opened, Verifications};
use crate::limits;
use crate::node::peer::PeerKey;
use crate::store::{ContentHash, ServedFile, Sha1, Store, StoreError, StoreErrorKind};

/// Why a peer is not given what it asked for. Paths and errors of the system are nobody else's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotServed {
    /// The store does not have it, or what is there is damaged.
    #[error("the file is not here")]
    NotFound,
    /// No descriptor is to spare, or the file waits to be verified: it may be served later.
    #[error("too much is asked for at once")]
    Busy,
    /// The disk failed.
    #[error("the file cannot be read")]
    Unreadable,
}

pub(crate) use self::descriptors::refuses_connection;
pub(crate) use self::line::Asker;

/// Frames that are signed at the same time beyond one for each core, so that no core waits for the next one.
const SPARE_SIGNERS: usize = 2;

/// What all swarms use to serve files.
pub(crate) struct Provider {
    store: Store,
    /// Looks into the store at the same time; further ones wait.
    looks: Arc<Semaphore>,
    /// Looks under way or waiting, by seeker. Beyond the limits seekings are dropped.
    lookers: Mutex<HashMap<PeerKey, usize>>,
    /// Disk reads for peers.
    reads: Arc<FairTurns>,
    /// Frames with data of files, and other large ones, that are signed for peers: what serving takes most work.
    signing: Arc<FairTurns>,
    verifications: Arc<Verifications>,
    /// For the user of this machine, who never waits for what peers asked for.
    user: Turns,
    open: OpenFiles,
    /// So few descriptors are left that none may be spent on peers.
    scarce: fn() -> bool,
    complaints: Seldom,
    served: AtomicU64,
}

/// Turns at the disk for the user; those who find none wait.
struct Turns {
    /// Reads at the same time.
    reads: Arc<Semaphore>,
    /// Large files hashed at the same time, which can take minutes: they take no turn from the reads.
    verifications: Arc<Semaphore>,
}

/// What is known of a file without hashing it.
enum Known {
    Opened(Option<Arc<ServedFile>>),
    /// It is of this size.
    Unverified(u64),
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
        let verifications = Arc::new(Semaphore::new(limits::STORE_VERIFICATIONS));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            verifications: Verifications::new(store.clone(), verifications),
            store,
            looks: Arc::new(Semaphore::new(limits::STORE_LOOKS)),
            lookers: Mutex::default(),
            reads: FairTurns::new(limits::STORE_READS),
            signing: FairTurns::new(cores + SPARE_SIGNERS),
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

    /// Counts bytes that were handed to a connection.
    pub(crate) fn add_served(&self, bytes: u64) {
        self.served.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Verifies a file so that it is done, or under way, when it is asked for. Seekings must not queue up work before
    /// requests: not while another file is verified.
    pub(crate) async fn verify_ahead(&self, sha1: Sha1) {
        if !(self.scarce)() {
            self.verifications.ahead(sha1).await;
        }
    }

    /// Of a file that we can serve; and whether it must be verified before.
    pub(crate) async fn size_of(&self, sha1: Sha1) -> Option<(u64, bool)> {
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

    /// A request begins to be served; with the last one all files are closed.
    pub(crate) fn begin(&self) -> InUse<'_> {
        self.open.begin()
    }

    /// The file, verified, from those that are open if it is one of them. A file that is not verified within `patience`
    /// is refused as busy; its verification may go on, so that it is there when it is asked for again.
    pub(crate) async fn open(
        &self,
        sha1: Sha1,
        asker: Asker,
        patience: Duration,
    ) -> Result<Arc<ServedFile>, NotServed> {
        if let Some(file) = self.open.get(sha1) {
            return Ok(file);
        }
        if (self.scarce)() {
            return Err(self.busy());
        }
        let store = self.store.clone();
        let at_once = move || match store.needs_hashing(sha1)? {
            true => Ok(Known::Unverified(store.served_size(sha1)?.unwrap_or(0))),
            false => Ok(Known::Opened(store.open_served(sha1)?.map(Arc::new))),
        };
        let turn = self.reads.take(asker, 0).await;
        match blocking(turn, at_once).await {
            Ok(Known::Unverified(size)) => match self.verifications.wait(sha1, size, asker, patience).await {
                Some(opened) => self.opened(sha1, &opened),
                None => Err(NotServed::Busy),
            },
            Ok(Known::Opened(file)) => self.opened(sha1, &Ok(file)),
            Err(error) => self.opened(sha1, &Err(error)),
        }
    }

    /// Keeps an opened file open while it is served.
    fn opened(&self, sha1: Sha1, opened: &Opened) -> Result<Arc<ServedFile>, NotServed> {
        match opened {
            Ok(Some(file)) => Ok(self.open.add(sha1, file.clone())),
            Ok(None) => Err(NotServed::NotFound),
            Err(error) if error.kind() == StoreErrorKind::TooManyOpenFiles => Err(self.busy()),
            Err(error) => {
                // The path in it is nobody else's business.
                tracing::warn!(%sha1, %error, "cannot serve a file");
                Err(NotServed::NotFound)
            }
        }
    }

    /// What a peer is told when there is no descriptor for it. Those of files that are served are given back.
    fn busy(&self) -> NotServed {
        self.open.clear();
        self.complain();
        NotServed::Busy
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
        self.verified(sha1, || {}, Store::open_served).await
    }

    /// As [`Store::find_verified`], for the user, without keeping others waiting; `hashing` is called when that is going to take long.
    pub(crate) async fn find_verified(
        &self,
        sha1: Sha1,
        hashing: impl FnOnce(),
    ) -> Result<Option<PathBuf>, StoreError> {
        let find = |store: &Store, sha1| store.find_verified(ContentHash::Sha1(sha1), &|_| {});
        self.verified(sha1, hashing, find).await
    }

    /// Runs what hashes a file for the user unless that is known to be good, in the turns of the reads or of the
    /// verifications.
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
        if let Some(done) = in_turn(&self.user.reads, at_once).await? {
            return Ok(done);
        }
        hashing();
        let store = self.store.clone();
        in_turn(&self.user.verifications, move || work(&store, sha1)).await
    }

    /// A piece of a file for a peer.
    pub(crate) async fn read(
        &self,
        file: Arc<ServedFile>,
        asker: Asker,
        at: u64,
        length: usize,
    ) -> Result<Bytes, NotServed> {
        let turn = self.reads.take(asker, length as u64).await;
        // Taken here, not on a blocking thread: each of those would keep what it once took.
        let mut buffer = vec![0; length];
        let work = move || {
            file.read_at(at, &mut buffer)?;
            Ok(Bytes::from(buffer))
        };
        blocking(turn, work).await.map_err(|error| {
            tracing::warn!(%error, "cannot read a served file");
            NotServed::Unreadable
        })
    }

    /// A turn to sign a frame of so many bytes for a connection of this peer.
    pub(crate) async fn turn_to_sign(&self, peer: Asker, bytes: u64) -> FairTurn {
        self.signing.take(peer, bytes).await
    }

    /// A turn at the store for a seeker; none: it, or all together, have too many already.
    pub(crate) fn look(self: &Arc<Self>, from: PeerKey) -> Option<Turn> {
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
    blocking(turn, work).await
}

/// Runs `work` on a blocking thread and gives the turn back when it ends.
async fn blocking<T: Send + 'static>(
    turn: impl Send + 'static,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    unless_panicked(done.await)
}

fn unless_panicked<T>(done: Result<Result<T, StoreError>, JoinError>) -> Result<T, StoreError> {
    done.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Err(StoreError::Io { what: "look into the store".to_owned(), source })
    })
}

/// A turn at the store, until dropped.
pub(crate) struct Turn {
    provider: Arc<Provider>,
    from: PeerKey,
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
pub(super) mod tests;
