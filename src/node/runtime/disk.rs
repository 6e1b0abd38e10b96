//! The partial file of one claimed size: a task that writes, verifies and commits in short turns on blocking threads, so
//! that a download which waits for the network holds no thread.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::store::{Partial, Sha1, Store, StoreError, Stored};

/// What the task is told. In order.
enum Order {
    Write(u64, Bytes),
    Forget(u64, u64),
    Commit(oneshot::Sender<Verdict>),
    /// Keep what is there for the next attempt.
    Close(oneshot::Sender<()>),
}

/// The outcome of a commit.
#[derive(Debug)]
pub(super) enum Verdict {
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

/// A partial file with its task.
pub(super) struct Disk {
    orders: mpsc::Sender<Order>,
    /// Ranges on disk at the beginning.
    pub(super) present: Vec<(u64, u64)>,
    /// The first write error ends the task and arrives here.
    pub(super) failed: oneshot::Receiver<StoreError>,
}

impl Disk {
    /// Opens or resumes the partial file. The tracker knows when the last byte is safe.
    pub(super) async fn open(
        store: Store,
        tracker: &TaskTracker,
        sha1: Sha1,
        size: u64,
    ) -> Result<Self, StoreError> {
        let partial = blocking(move || open_when_free(&store, sha1, size)).await?;
        let present = partial.present();
        let (orders, inbox) = mpsc::channel(QUEUE);
        let (failure, failed) = oneshot::channel();
        tracker.spawn(async move {
            if let Err(error) = serve(partial, inbox).await {
                // Nobody listens any more: the download has ended.
                let _ = failure.send(error);
            }
        });
        Ok(Self { orders, present, failed })
    }

    /// Waits for room; an error shows up in `failed`.
    pub(super) async fn write(&self, offset: u64, bytes: Bytes) {
        let _ = self.orders.send(Order::Write(offset, bytes)).await;
    }

    /// These bytes are not trusted any more.
    pub(super) async fn forget(&self, start: u64, end: u64) {
        let _ = self.orders.send(Order::Forget(start, end)).await;
    }

    /// Verifies and makes it visible.
    pub(super) async fn commit(&self) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        let _ = self.orders.send(Order::Commit(reply)).await;
        verdict.await.unwrap_or_else(|_| Verdict::Failed(fault("what writes it has ended")))
    }

    /// Ends the task after what is queued, so that the partial can be opened again.
    pub(super) async fn close(self) {
        let (reply, closed) = oneshot::channel();
        let _ = self.orders.send(Order::Close(reply)).await;
        let _ = closed.await;
    }
}

/// Runs work on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| Err(fault(panic)))
}

/// What cannot happen, as an error.
fn fault(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Io { what: "write a download".to_owned(), source: io::Error::other(what) }
}

/// The task of a download that was just cancelled may still be syncing: waits for it, on this blocking thread.
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

async fn serve(partial: Partial, mut inbox: mpsc::Receiver<Order>) -> Result<(), StoreError> {
    let mut open = Some(partial);
    while let Some(mut partial) = open {
        let mut batch = Vec::with_capacity(QUEUE);
        if inbox.recv_many(&mut batch, QUEUE).await == 0 {
            // The download was cancelled or failed: what is there is kept for the next attempt.
            return blocking(move || partial.sync()).await;
        }
        open = blocking(move || perform(partial, batch)).await?;
    }
    Ok(())
}

/// None: the partial is in the store, or closed.
fn perform(mut partial: Partial, batch: Vec<Order>) -> Result<Option<Partial>, StoreError> {
    for order in batch {
        match order {
            Order::Write(offset, bytes) => partial.write_at(offset, &bytes)?,
            Order::Forget(start, end) => partial.forget(start, end)?,
            Order::Close(reply) => {
                partial.sync()?;
                drop(partial);
                let _ = reply.send(());
                return Ok(None);
            }
            Order::Commit(reply) => match partial.commit() {
                Ok(stored) => {
                    let _ = reply.send(Verdict::Stored(stored));
                    return Ok(None);
                }
                Err((StoreError::WrongHash { .. }, Some(back))) => {
                    partial = back;
                    let _ = reply.send(Verdict::WrongHash);
                }
                Err((error, _)) => {
                    let _ = reply.send(Verdict::Failed(error));
                    return Ok(None);
                }
            },
        }
    }
    Ok(Some(partial))
}
