//! Other programs that load the same file into the same store, each with its lock on the unfinished file: a load waits
//! for them, then takes the file from the store or goes on where they ended.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::disk::blocking;
use super::download::now;
use crate::node::error::LoadError;
use crate::node::types::LoadEvent;
use crate::store::{PartialFile, Sha1, Store};

/// The store is looked at this often: no system tells when another program gives a lock back.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What one load knows of the others.
pub(super) struct Others {
    /// The load ends after this long without progress of theirs.
    timeout: Duration,
    /// What they had on disk at the last look, and when that last changed.
    seen: Option<(Vec<PartialFile>, Instant)>,
}

impl Others {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, seen: None }
    }

    /// Waits until no other program loads the file. Fails with `why` if they make no progress.
    pub(super) async fn wait(
        &mut self,
        store: &Store,
        sha1: Sha1,
        events: &watch::Sender<LoadEvent>,
        why: String,
    ) -> Result<(), LoadError> {
        loop {
            let store = store.clone();
            let files = blocking(move || store.partials_in_use(sha1)).await?;
            let furthest = files.iter().map(|file| (file.on_disk.min(file.size), file.size)).max();
            if self.are_stuck(files, now()) {
                return Err(LoadError::InUse(why));
            }
            if let Some((bytes, size)) = furthest {
                events.send_replace(LoadEvent::Waiting { bytes, size });
            }
            // Also when there is none any more: what cannot be locked although nobody writes it must not be tried
            // without a pause.
            tokio::time::sleep(LOOK_EVERY).await;
            if furthest.is_none() {
                return Ok(());
            }
        }
    }

    /// True if nothing has changed on disk for the time-out.
    fn are_stuck(&mut self, files: Vec<PartialFile>, now: Instant) -> bool {
        match &self.seen {
            Some((seen, since)) if *seen == files => now.saturating_duration_since(*since) >= self.timeout,
            _ => {
                self.seen = Some((files, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);
    const SHA1: Sha1 = Sha1([3; 20]);
    const SIZE: u64 = 1 << 20;

    /// Two views of one store, as two programs have them.
    fn shared() -> (tempfile::TempDir, Store, Store) {
        let folder = tempfile::tempdir().expect("folder");
        let open = || Store::open(folder.path()).expect("store");
        let (own, other) = (open(), open());
        (folder, own, other)
    }

    async fn wait(store: &Store) -> (Result<(), LoadError>, Duration) {
        let (events, _) = watch::channel(LoadEvent::Looking { peers: 0 });
        let began = now();
        let outcome = Others::new(TIMEOUT).wait(store, SHA1, &events, "why".into()).await;
        (outcome, now() - began)
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_program_that_writes_nothing_ends_at_the_time_out() {
        let (_folder, own, other) = shared();
        let mut partial = other.partial(SHA1, SIZE).expect("partial");
        partial.write_at(0, b"begun").expect("write");
        let (outcome, took) = wait(&own).await;
        assert!(matches!(outcome, Err(LoadError::InUse(why)) if why == "why"));
        assert!(took >= TIMEOUT && took < TIMEOUT + LOOK_EVERY * 2, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_goes_on_writing_is_waited_for_as_long_as_it_takes() {
        let (_folder, own, other) = shared();
        let mut partial = other.partial(SHA1, SIZE).expect("partial");
        let writing = async {
            for block in 0..4 {
                partial.write_at(block << 16, &[7; 1 << 16]).expect("write");
                tokio::time::sleep(TIMEOUT * 3 / 4).await;
            }
            drop(partial);
        };
        let ((outcome, took), ()) = tokio::join!(wait(&own), writing);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(took >= TIMEOUT * 3 && took < TIMEOUT * 3 + LOOK_EVERY * 3, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_locked_although_nobody_writes_it_is_given_up_at_the_time_out() {
        let (_folder, own, _other) = shared();
        let (events, _) = watch::channel(LoadEvent::Looking { peers: 0 });
        let (mut others, began) = (Others::new(TIMEOUT), now());
        while others.wait(&own, SHA1, &events, String::new()).await.is_ok() {
            assert!(now() - began < TIMEOUT * 2, "it never ends");
        }
        assert!(now() - began >= TIMEOUT);
    }
}
