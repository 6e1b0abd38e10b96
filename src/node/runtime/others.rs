//! Other programs that load the same file into the same store, each with its lock on the unfinished file: a load waits
//! for them, then takes the file from the store or goes on where they ended.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::disk::blocking;
use super::download::now;
use crate::limits::{MAX_PARTIAL_FILES, MINIMUM_RATE};
use crate::node::error::LoadError;
use crate::node::transfer::plan::pace::ByteClock;
use crate::node::types::LoadEvent;
use crate::store::{PartialFile, Sha1, Store};

/// The store is looked at this often: no system tells when another program gives a lock back.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What one load knows of the others.
pub(super) struct Others {
    /// The load ends when the clock lags by this much.
    timeout: Duration,
    /// Lags while their bytes on disk grow at less than [`MINIMUM_RATE`]. None: nothing was looked at yet.
    progress: Option<ByteClock>,
    /// By claimed size, the most bytes that were seen on disk. Only what is beyond that is progress: a program that
    /// writes the same bytes again and again, or only touches its file, must not hold a load.
    most: HashMap<u64, u64>,
}

impl Others {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, progress: None, most: HashMap::new() }
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
            if self.are_stuck(&files, now()) {
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

    /// True if too little came to their files for the time-out.
    fn are_stuck(&mut self, files: &[PartialFile], now: Instant) -> bool {
        let grown = files.iter().map(|file| self.growth(file)).fold(0, u64::saturating_add);
        let progress = self.progress.get_or_insert_with(|| ByteClock::new(now));
        progress.add(grown, MINIMUM_RATE, now);
        progress.lag(now) >= self.timeout
    }

    /// Bytes of the file that were on disk at no earlier look. Sizes beyond as many as a store keeps unfinished
    /// downloads are made up to hold the load: nothing of them counts.
    fn growth(&mut self, file: &PartialFile) -> u64 {
        if self.most.len() >= MAX_PARTIAL_FILES && !self.most.contains_key(&file.size) {
            return 0;
        }
        let on_disk = file.on_disk.min(file.size);
        let most = self.most.entry(file.size).or_default();
        let grown = on_disk.saturating_sub(*most);
        *most += grown;
        grown
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

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
        // Its file is created and locked before anybody looks: a look locks it for a moment.
        partial.write_at(0, &[7; 1 << 16]).expect("write");
        let writing = async {
            for block in 1..=4 {
                tokio::time::sleep(TIMEOUT * 3 / 4).await;
                partial.write_at(block << 16, &[7; 1 << 16]).expect("write");
            }
            drop(partial);
        };
        let ((outcome, took), ()) = tokio::join!(wait(&own), writing);
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(took >= TIMEOUT * 3 && took < TIMEOUT * 3 + LOOK_EVERY * 3, "{took:?}");
    }

    /// The wait for a program that does `deed` to its file once a second, and never ends.
    async fn wait_while(deed: impl Fn(&std::fs::File, u64)) -> (Result<(), LoadError>, Duration) {
        let (folder, own, other) = shared();
        let mut partial = other.partial(SHA1, SIZE).expect("partial");
        partial.write_at(0, b"begun").expect("write");
        let data = folder.path().join(format!("kachery-p2p/partial/{SHA1}-{SIZE}.data"));
        let data = std::fs::File::options().write(true).open(data).expect("data");
        let meddling = async {
            for second in 0.. {
                deed(&data, second);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            outcome = wait(&own) => outcome,
            () = meddling => unreachable!(),
            () = tokio::time::sleep(TIMEOUT * 10) => panic!("it never ends"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_only_touches_its_file_is_not_waited_for_beyond_the_time_out() {
        let touch = |data: &std::fs::File, second| {
            data.write_all_at(b"x", 0).expect("write");
            let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            data.set_modified(time).expect("touch");
        };
        let (outcome, took) = wait_while(touch).await;
        assert!(matches!(outcome, Err(LoadError::InUse(_))), "{outcome:?}");
        assert!(took >= TIMEOUT && took < TIMEOUT + LOOK_EVERY * 8, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_writes_and_cuts_off_the_same_bytes_is_not_waited_for_beyond_the_time_out() {
        let again = |data: &std::fs::File, second| match second % 2 {
            0 => data.write_all_at(&[7; 1 << 16], 0).expect("write"),
            _ => data.set_len(1).expect("cut"),
        };
        let (outcome, took) = wait_while(again).await;
        assert!(matches!(outcome, Err(LoadError::InUse(_))), "{outcome:?}");
        // What was there once has earned its time at the minimum rate.
        assert!(took < TIMEOUT * 2, "{took:?}");
    }

    #[test]
    fn growth_below_the_minimum_rate_holds_a_load_no_longer_than_it_earned() {
        let begun = Instant::now();
        let mut others = Others::new(TIMEOUT);
        let look = |others: &mut Others, seconds: u64, on_disk| {
            others.are_stuck(&[file(SIZE, on_disk)], begun + Duration::from_secs(seconds))
        };
        let half = |seconds: u64| seconds * MINIMUM_RATE / 2;
        assert!((0..2 * TIMEOUT.as_secs()).all(|second| !look(&mut others, second, half(second))));
        assert!(look(&mut others, 2 * TIMEOUT.as_secs(), half(2 * TIMEOUT.as_secs())));
    }

    #[test]
    fn growth_at_the_minimum_rate_is_waited_for_and_made_up_sizes_are_not() {
        let begun = Instant::now();
        let (mut others, mut crowd) = (Others::new(TIMEOUT), Others::new(TIMEOUT));
        let stuck = |others: &mut Others, second: u64, file| {
            others.are_stuck(&[file], begun + Duration::from_secs(second))
        };
        // The last size that counts comes at second MAX_PARTIAL_FILES - 1.
        let last = MAX_PARTIAL_FILES as u64 - 1 + TIMEOUT.as_secs();
        for second in 0..last {
            assert!(!stuck(&mut others, second, file(u64::MAX, second * MINIMUM_RATE)), "{second}");
            assert!(!stuck(&mut crowd, second, file(SIZE + second, MINIMUM_RATE)), "{second}");
        }
        assert!(stuck(&mut crowd, last, file(SIZE + last, MINIMUM_RATE)));
        assert_eq!(crowd.most.len(), MAX_PARTIAL_FILES);
    }

    fn file(size: u64, on_disk: u64) -> PartialFile {
        PartialFile { sha1: SHA1, size, on_disk, changed: std::time::SystemTime::UNIX_EPOCH, in_use: true }
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
