//! The blocking thread of one download: writes, reads back what an earlier process left, commits.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::store::chain::CHUNK;
use crate::store::{Partial, Rechecked, Sha1, Store, StoreError, Stored};

/// What the thread is told. In order.
enum Order {
    Write(u64, Bytes),
    Forget(u64, u64),
    Commit(oneshot::Sender<Verdict>),
    /// Keep what is there for the next attempt.
    Close(oneshot::Sender<()>),
}

/// The outcome of a commit.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// In the store.
    Stored(Stored),
    /// Damage was found on disk: these ranges `[start, end)` have to be fetched again.
    Missing(Vec<(u64, u64)>),
    /// Other bytes than asked for; everything is still on disk.
    WrongHash,
    /// The disk failed.
    Failed(StoreError),
}

/// Orders that may wait for the disk, each at most one data piece. When full the download waits, then the
/// connections that feed it, then the providers.
const QUEUE: usize = 32;

/// Damaged chunks that the download has not taken yet. When full, reading back waits.
const DAMAGED: usize = 64;

/// How long the end of an earlier download of the same file is waited for.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// A partial file on its own thread.
pub(crate) struct Disk {
    orders: mpsc::Sender<Order>,
    /// Ranges on disk at the beginning.
    pub(crate) present: Vec<(u64, u64)>,
    /// Ranges `[start, end)` of them that proved damaged, and have to be fetched again.
    pub(crate) damaged: mpsc::Receiver<Vec<(u64, u64)>>,
    /// The first write error ends the thread and arrives here.
    pub(crate) failed: oneshot::Receiver<StoreError>,
}

impl Disk {
    /// Opens or resumes the partial file.
    pub(crate) async fn open(store: Store, sha1: Sha1, size: u64) -> Result<Self, StoreError> {
        let partial = tokio::task::spawn_blocking(move || open_when_free(&store, sha1, size)).await;
        let partial = partial.unwrap_or_else(|panic| Err(fault(panic)))?;
        let present = partial.present();
        let (orders, inbox) = mpsc::channel(QUEUE);
        let (failure, failed) = oneshot::channel();
        let (found, damaged) = mpsc::channel(DAMAGED);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = work(partial, inbox, &found) {
                // Nobody listens any more: the download has ended.
                let _ = failure.send(error);
            }
        });
        Ok(Self { orders, present, damaged, failed })
    }

    /// Waits for room; an error shows up in `failed`.
    pub(crate) async fn write(&self, offset: u64, bytes: Bytes) {
        let _ = self.orders.send(Order::Write(offset, bytes)).await;
    }

    /// These bytes are not trusted any more.
    pub(crate) async fn forget(&self, start: u64, end: u64) {
        let _ = self.orders.send(Order::Forget(start, end)).await;
    }

    /// Verifies and makes it visible.
    pub(crate) async fn commit(&self) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        let _ = self.orders.send(Order::Commit(reply)).await;
        verdict.await.unwrap_or_else(|_| Verdict::Failed(fault("the thread that writes has ended")))
    }

    /// Ends the thread after what is queued, so that the partial can be opened again.
    pub(crate) async fn close(self) {
        let (reply, closed) = oneshot::channel();
        let _ = self.orders.send(Order::Close(reply)).await;
        let _ = closed.await;
    }
}

/// What cannot happen, as an error.
fn fault(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Io { what: "write a download".to_owned(), source: io::Error::other(what) }
}

/// The thread of a download that was just cancelled may still be syncing: waits for it, on this blocking thread.
fn open_when_free(store: &Store, sha1: Sha1, size: u64) -> Result<Partial, StoreError> {
    let begun = Instant::now();
    loop {
        match store.partial(sha1, size) {
            Err(StoreError::Io { source, .. })
                if source.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PREDECESSOR =>
            {
                std::thread::sleep(PREDECESSOR / 100);
            }
            opened => return opened,
        }
    }
}

fn work(
    mut partial: Partial,
    mut inbox: mpsc::Receiver<Order>,
    damaged: &mpsc::Sender<Vec<(u64, u64)>>,
) -> Result<(), StoreError> {
    let mut written = 0;
    while let Some(order) = next(&mut inbox, &mut partial, damaged)? {
        match order {
            Order::Write(offset, bytes) => {
                partial.write_at(offset, &bytes)?;
                written += bytes.len() as u64;
                // Reading back keeps up with a download that leaves no pause.
                if written >= CHUNK {
                    written = 0;
                    recheck(&mut partial, damaged)?;
                }
            }
            Order::Forget(start, end) => partial.forget(start, end)?,
            Order::Close(reply) => {
                partial.sync()?;
                drop(partial);
                let _ = reply.send(());
                return Ok(());
            }
            Order::Commit(reply) => {
                let (verdict, back) = match partial.commit() {
                    Ok(stored) => (Verdict::Stored(stored), None),
                    Err((StoreError::WrongHash { .. }, Some(back))) => (Verdict::WrongHash, Some(back)),
                    Err((StoreError::Incomplete { .. }, Some(back))) => {
                        (Verdict::Missing(back.missing()), Some(back))
                    }
                    Err((error, _)) => (Verdict::Failed(error), None),
                };
                let _ = reply.send(verdict);
                match back {
                    Some(back) => partial = back,
                    None => return Ok(()),
                }
            }
        }
    }
    // The download was cancelled or failed: what is there is kept for the next attempt.
    partial.sync()
}

/// The next order; while there is none, what an earlier process left is read back.
fn next(
    inbox: &mut mpsc::Receiver<Order>,
    partial: &mut Partial,
    damaged: &mpsc::Sender<Vec<(u64, u64)>>,
) -> Result<Option<Order>, StoreError> {
    loop {
        match inbox.try_recv() {
            Ok(order) => return Ok(Some(order)),
            Err(TryRecvError::Disconnected) => return Ok(None),
            Err(TryRecvError::Empty) if recheck(partial, damaged)? => {}
            Err(TryRecvError::Empty) => return Ok(inbox.blocking_recv()),
        }
    }
}

/// Reads back one step. False: there is nothing to read back now, or no room for what might be found; the commit reads
/// back what is left.
fn recheck(partial: &mut Partial, damaged: &mpsc::Sender<Vec<(u64, u64)>>) -> Result<bool, StoreError> {
    let Ok(room) = damaged.try_reserve() else { return Ok(false) };
    match partial.recheck_step()? {
        Rechecked::Damaged(ranges) => room.send(ranges),
        Rechecked::More => {}
        Rechecked::Done => return Ok(false),
    }
    Ok(true)
}
