//! The blocking thread of one download: writes, verifies, commits.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::store::{Partial, Sha1, Store, StoreError, Stored};

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
    /// Other bytes than asked for; everything is still on disk.
    WrongHash,
    /// The disk failed.
    Failed(StoreError),
}

/// Orders that may wait for the disk, each at most one data piece. When full the download waits, then the
/// connections that feed it, then the providers.
const QUEUE: usize = 32;

/// How long the end of an earlier download of the same file is waited for.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// A partial file on its own thread.
pub(crate) struct Disk {
    orders: mpsc::Sender<Order>,
    /// Ranges on disk at the beginning.
    pub(crate) present: Vec<(u64, u64)>,
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
        tokio::task::spawn_blocking(move || {
            if let Err(error) = work(partial, inbox) {
                // Nobody listens any more: the download has ended.
                let _ = failure.send(error);
            }
        });
        Ok(Self { orders, present, failed })
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

fn work(partial: Partial, mut inbox: mpsc::Receiver<Order>) -> Result<(), StoreError> {
    let mut partial = partial;
    while let Some(order) = inbox.blocking_recv() {
        match order {
            Order::Write(offset, bytes) => partial.write_at(offset, &bytes)?,
            Order::Forget(start, end) => partial.forget(start, end)?,
            Order::Close(reply) => {
                partial.sync()?;
                drop(partial);
                let _ = reply.send(());
                return Ok(());
            }
            Order::Commit(reply) => match partial.commit() {
                Ok(stored) => {
                    let _ = reply.send(Verdict::Stored(stored));
                    return Ok(());
                }
                Err((StoreError::WrongHash { .. }, Some(back))) => {
                    partial = back;
                    let _ = reply.send(Verdict::WrongHash);
                }
                Err((error, _)) => {
                    let _ = reply.send(Verdict::Failed(error));
                    return Ok(());
                }
            },
        }
    }
    // The download was cancelled or failed: what is there is kept for the next attempt.
    partial.sync()
}
