//! The partial file of one claimed size: a task that writes, reads back what an earlier process left, and commits, in
//! short turns on blocking threads, so that a download which waits for the network holds no thread.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::environment::Environment;
use crate::store::chain::CHUNK;
use crate::store::{Partial, Rechecked, Sha1, Store, StoreError, Stored};

/// What the task is told. In order.
enum Order {
    Write(u64, Bytes),
    Forget(u64, u64),
    Commit(oneshot::Sender<Verdict>),
    /// End, and keep what is there for the next attempt.
    Close(oneshot::Sender<()>),
    /// End, and keep nothing.
    Discard(oneshot::Sender<()>),
}

/// The outcome of a commit.
#[derive(Debug)]
pub(super) enum Verdict {
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

/// A partial file with its task.
pub(super) struct Disk {
    orders: mpsc::Sender<Order>,
    /// Ranges on disk at the beginning.
    pub(super) present: Vec<(u64, u64)>,
    /// Ranges `[start, end)` of them that proved damaged, and have to be fetched again.
    pub(super) damaged: mpsc::Receiver<Vec<(u64, u64)>>,
    /// The first write error ends the task and arrives here.
    pub(super) failed: oneshot::Receiver<StoreError>,
}

impl Disk {
    /// Opens or resumes the partial file.
    pub(super) async fn open(environment: &Environment, sha1: Sha1, size: u64) -> Result<Self, StoreError> {
        let store = environment.store.clone();
        let partial = blocking(move || open_when_free(&store, sha1, size)).await?;
        let present = partial.present();
        let (orders, inbox) = mpsc::channel(QUEUE);
        let (failure, failed) = oneshot::channel();
        let (found, damaged) = mpsc::channel(DAMAGED);
        environment.disks.spawn(async move {
            if let Err(error) = serve(Work { partial, damaged: found, written: 0 }, inbox).await {
                // Nobody listens any more: the download has ended.
                let _ = failure.send(error);
            }
        });
        Ok(Self { orders, present, damaged, failed })
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
    pub(super) async fn commit(&mut self) -> Verdict {
        let (reply, verdict) = oneshot::channel();
        let _ = self.orders.send(Order::Commit(reply)).await;
        match verdict.await {
            Ok(verdict) => verdict,
            // An order before this one failed, and the task ended with it: that error says what is wrong.
            Err(_) => {
                let error = (&mut self.failed).await;
                Verdict::Failed(error.unwrap_or_else(|_| fault("what writes it has ended")))
            }
        }
    }

    /// Ends the task after what is queued, so that the partial can be opened again.
    pub(super) async fn close(self) {
        self.end(Order::Close).await;
    }

    /// Ends the task; nothing of the partial is left.
    pub(super) async fn discard(self) {
        self.end(Order::Discard).await;
    }

    async fn end(self, order: fn(oneshot::Sender<()>) -> Order) {
        let (reply, ended) = oneshot::channel();
        let _ = self.orders.send(order(reply)).await;
        let _ = ended.await;
    }
}

/// Runs work on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
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

/// The partial, on its way between the task and blocking threads.
struct Work {
    partial: Partial,
    damaged: mpsc::Sender<Vec<(u64, u64)>>,
    /// Bytes written since something was read back.
    written: u64,
}

async fn serve(work: Work, mut inbox: mpsc::Receiver<Order>) -> Result<(), StoreError> {
    let mut open = Some(work);
    // There may be something to read back.
    let mut reading = true;
    while let Some(mut work) = open {
        let mut batch = Vec::with_capacity(QUEUE);
        let left = match reading {
            true => loop {
                // At most what fits into the queue comes while this looks.
                match inbox.try_recv() {
                    Ok(order) => batch.push(order),
                    Err(error) => break batch.is_empty() && error == TryRecvError::Disconnected,
                }
            },
            false => inbox.recv_many(&mut batch, QUEUE).await == 0,
        };
        if left {
            // The download was cancelled or failed: what is there is kept for the next attempt.
            return blocking(move || work.partial.sync()).await;
        }
        (open, reading) = blocking(move || work.perform(batch)).await?;
    }
    Ok(())
}

impl Work {
    /// Does what a batch says; when there is nothing to do, reads back one step. None: the partial is in the store, or
    /// closed. The flag tells whether there may be more to read back.
    fn perform(mut self, batch: Vec<Order>) -> Result<(Option<Self>, bool), StoreError> {
        if batch.is_empty() {
            let more = self.recheck()?;
            return Ok((Some(self), more));
        }
        for order in batch {
            match order {
                Order::Write(offset, bytes) => self.write(offset, &bytes)?,
                Order::Forget(start, end) => self.partial.forget(start, end)?,
                Order::Discard(reply) => {
                    self.partial.discard()?;
                    let _ = reply.send(());
                    return Ok((None, false));
                }
                Order::Close(reply) => {
                    self.partial.sync()?;
                    drop(self.partial);
                    let _ = reply.send(());
                    return Ok((None, false));
                }
                Order::Commit(reply) => {
                    let (verdict, back) = commit(self.partial);
                    let _ = reply.send(verdict);
                    let Some(partial) = back else { return Ok((None, false)) };
                    self.partial = partial;
                }
            }
        }
        Ok((Some(self), true))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.partial.write_at(offset, bytes)?;
        self.written += bytes.len() as u64;
        // Reading back keeps up with a download that leaves no pause.
        if self.written >= CHUNK {
            self.written = 0;
            self.recheck()?;
        }
        Ok(())
    }

    /// Reads back one step. False: there is nothing to read back now, or no room for what might be found; the commit
    /// reads back what is left.
    fn recheck(&mut self) -> Result<bool, StoreError> {
        let Ok(room) = self.damaged.try_reserve() else { return Ok(false) };
        match self.partial.recheck_step()? {
            Rechecked::Damaged(ranges) => room.send(ranges),
            Rechecked::More => {}
            Rechecked::Done => return Ok(false),
        }
        Ok(true)
    }
}

fn commit(partial: Partial) -> (Verdict, Option<Partial>) {
    match partial.commit() {
        Ok(stored) => (Verdict::Stored(stored), None),
        Err((StoreError::WrongHash { .. }, Some(back))) => (Verdict::WrongHash, Some(back)),
        Err((StoreError::Incomplete { .. }, Some(back))) => (Verdict::Missing(back.missing()), Some(back)),
        Err((error, _)) => (Verdict::Failed(error), None),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use sha1::Digest;

    use super::super::legacy::transfers::Transfers;
    use super::*;

    const SIZE: u64 = 5 * CHUNK + 77;

    /// A file of which an earlier process left all but the last bytes, with one byte changed in the third chunk.
    async fn damaged() -> (tempfile::TempDir, Environment, Sha1, Vec<u8>) {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path()).expect("store");
        let bytes: Vec<u8> = (0..SIZE).map(|n| (n / 9 + n) as u8).collect();
        let sha1 = Sha1(sha1::Sha1::digest(&bytes).into());
        let mut partial = store.partial(sha1, SIZE).expect("partial");
        partial.write_at(0, &bytes[..5 * CHUNK as usize]).expect("write");
        partial.sync().expect("sync");
        let data = folder.path().join(format!("kachery-p2p/partial/{sha1}-{SIZE}.data"));
        let data = std::fs::File::options().write(true).open(data).expect("data");
        data.write_all_at(&[!bytes[2 * CHUNK as usize + 9]], 2 * CHUNK + 9).expect("damage");
        let transfers = Transfers::without_peers(store.clone()).await;
        (folder, Environment::new(store, transfers), sha1, bytes)
    }

    fn part(bytes: &[u8], start: u64, end: u64) -> Bytes {
        Bytes::copy_from_slice(&bytes[start as usize..end as usize])
    }

    #[tokio::test]
    async fn damage_on_disk_is_told_while_nothing_else_is_to_do() {
        let (_folder, environment, sha1, bytes) = damaged().await;
        let mut disk = Disk::open(&environment, sha1, SIZE).await.expect("open");
        assert_eq!(disk.present, [(0, 5 * CHUNK)]);
        assert_eq!(disk.damaged.recv().await, Some(vec![(2 * CHUNK, 3 * CHUNK)]));
        disk.write(2 * CHUNK, part(&bytes, 2 * CHUNK, 3 * CHUNK)).await;
        disk.write(5 * CHUNK, part(&bytes, 5 * CHUNK, SIZE)).await;
        let Verdict::Stored(stored) = disk.commit().await else { panic!("not stored") };
        assert!(std::fs::read(stored.path).expect("read") == bytes);
    }

    #[tokio::test]
    async fn damage_that_the_commit_finds_is_missing_and_the_disk_goes_on() {
        let (_folder, environment, sha1, bytes) = damaged().await;
        let mut disk = Disk::open(&environment, sha1, SIZE).await.expect("open");
        disk.write(5 * CHUNK, part(&bytes, 5 * CHUNK, SIZE)).await;
        match disk.commit().await {
            Verdict::Missing(ranges) => assert_eq!(ranges, [(2 * CHUNK, 3 * CHUNK)]),
            other => panic!("{other:?}"),
        }
        disk.write(2 * CHUNK, part(&bytes, 2 * CHUNK, 3 * CHUNK)).await;
        assert!(matches!(disk.commit().await, Verdict::Stored(_)));
    }

    /// A new download whose first write fails.
    async fn unwritable() -> (tempfile::TempDir, Disk) {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path()).expect("store");
        let transfers = Transfers::without_peers(store.clone()).await;
        let disk = Disk::open(&Environment::new(store, transfers), Sha1([7; 20]), SIZE).await.expect("open");
        std::fs::create_dir_all(folder.path().join("kachery-p2p")).expect("folder");
        std::fs::write(folder.path().join("kachery-p2p/partial"), "in the way").expect("file");
        (folder, disk)
    }

    fn assert_system_error(verdict: Verdict) {
        let Verdict::Failed(StoreError::Io { source, .. }) = verdict else { panic!("{verdict:?}") };
        assert!(source.raw_os_error().is_some(), "{source}");
    }

    #[tokio::test]
    async fn a_commit_behind_a_write_that_fails_tells_why_the_write_failed() {
        let (_folder, mut disk) = unwritable().await;
        // This thread also runs the task, so both are in one batch.
        disk.write(0, Bytes::from_static(b"x")).await;
        assert_system_error(disk.commit().await);
    }

    #[tokio::test]
    async fn a_commit_after_a_failed_write_ended_the_task_tells_why_the_write_failed() {
        let (_folder, mut disk) = unwritable().await;
        disk.write(0, Bytes::from_static(b"x")).await;
        disk.orders.closed().await;
        assert_system_error(disk.commit().await);
    }
}
