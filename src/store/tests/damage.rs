//! RELIABILITY 24: what an earlier process left of a download is not believed before it was read back.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{digest, sample, store};
use crate::store::chain::CHUNK;
use crate::store::ranges::Ranges;
use crate::store::{Partial, Rechecked, Sha1, Store, StoreError};

const SIZE: u64 = 6 * CHUNK + 12_345;

fn path(store: &Store, sha1: Sha1, size: u64, extension: &str) -> PathBuf {
    store.root().join(format!("kachery-p2p/partial/{sha1}-{size}.{extension}"))
}

/// Writes these ranges of `bytes`, makes them durable, and ends as with `kill -9`.
fn leave(store: &Store, sha1: Sha1, bytes: &[u8], ranges: &[(u64, u64)]) {
    let mut partial = store.partial(sha1, bytes.len() as u64).unwrap();
    for &(start, end) in ranges {
        partial.write_at(start, &bytes[start as usize..end as usize]).unwrap();
    }
    partial.sync().unwrap();
}

/// Reads back everything; what was damaged.
fn recheck(partial: &mut Partial) -> Ranges {
    let mut damaged = Ranges::default();
    loop {
        match partial.recheck_step().unwrap() {
            Rechecked::Damaged(ranges) => ranges.iter().for_each(|(s, e)| damaged.insert(*s, *e)),
            Rechecked::More => {}
            Rechecked::Done => return damaged,
        }
    }
}

/// Fetches what is missing until the commit succeeds. The path, and what was fetched.
fn finish(mut partial: Partial, bytes: &[u8]) -> (PathBuf, Ranges) {
    let mut fetched = Ranges::default();
    loop {
        for (start, end) in partial.missing() {
            partial.write_at(start, &bytes[start as usize..end as usize]).unwrap();
            fetched.insert(start, end);
        }
        match partial.commit() {
            Ok(stored) => return (stored.path, fetched),
            Err((StoreError::Incomplete { .. }, Some(back))) => partial = back,
            Err((error, _)) => panic!("{error}"),
        }
    }
}

/// A beginning and an island or two, as a download from several providers leaves them.
fn some_ranges(random: &mut StdRng) -> Vec<(u64, u64)> {
    let beginning = random.random_range(0..3 * CHUNK);
    let island = random.random_range(beginning..SIZE);
    let end = random.random_range(island..=SIZE);
    vec![(0, beginning), (island, end)]
}

#[test]
fn of_a_partial_that_was_damaged_only_the_damaged_chunks_are_fetched_again() {
    let base = 2400;
    let (mut wrong, mut too_much, mut hurt) = (0, 0, 0);
    for seed in base..base + 20 {
        let mut random = StdRng::seed_from_u64(seed);
        let (_folder, store) = store();
        let bytes = sample(seed, SIZE as usize);
        let sha1 = digest(&bytes);
        let left = some_ranges(&mut random);
        leave(&store, sha1, &bytes, &left);
        let file = OpenOptions::new().write(true).open(path(&store, sha1, SIZE, "data")).unwrap();
        // Of what is there, [start, end) changes.
        let (low, high) = left.into_iter().max_by_key(|(start, end)| end - start).unwrap();
        let start = random.random_range(low..high);
        let end = match seed % 3 {
            0 => {
                file.write_all_at(&[bytes[start as usize] ^ 1 << random.random_range(0..8)], start).unwrap();
                start + 1
            }
            1 => {
                file.set_len(start).unwrap();
                SIZE
            }
            _ => {
                let end = random.random_range(start + 1..=high);
                file.write_all_at(&vec![0; (end - start) as usize], start).unwrap();
                end
            }
        };
        let mut partial = store.partial(sha1, SIZE).unwrap();
        let mut allowed = Ranges::from_ranges(partial.missing());
        allowed.insert(start / CHUNK * CHUNK, (end.div_ceil(CHUNK) * CHUNK).min(SIZE));
        recheck(&mut partial);
        let (path, fetched) = finish(partial, &bytes);
        hurt += usize::from(fetched.gaps(start, high.min(end)).is_empty());
        wrong += usize::from(std::fs::read(path).unwrap() != bytes);
        too_much += usize::from(fetched.iter().any(|(s, e)| !allowed.gaps(s, e).is_empty()));
    }
    println!(
        "check 24: measured {wrong} wrong files, {too_much} of 20 with an undamaged chunk fetched again, {hurt} of 20 \
         damages found before the commit, bar 0, 0, 20, seed {base}"
    );
    assert_eq!((wrong, too_much, hurt), (0, 0, 20));
}

#[test]
fn random_histories_of_a_download_raise_no_false_alarm_and_store_the_right_file() {
    for seed in 2500..2530 {
        let mut random = StdRng::seed_from_u64(seed);
        let (_folder, store) = store();
        let bytes = sample(seed, SIZE as usize);
        let sha1 = digest(&bytes);
        let mut partial = store.partial(sha1, SIZE).unwrap();
        for _ in 0..25 {
            let start = random.random_range(0..SIZE);
            let end = random.random_range(start..=SIZE.min(start + CHUNK));
            match random.random_range(0..10) {
                0..4 => partial.write_at(start, &bytes[start as usize..end as usize]).unwrap(),
                4 => partial.forget(start, end).unwrap(),
                5 => partial.sync().unwrap(),
                6 => {
                    let step = partial.recheck_step().unwrap();
                    assert!(!matches!(step, Rechecked::Damaged(_)), "seed {seed}: {step:?}");
                }
                7 => assert_eq!(recheck(&mut partial).total(), 0, "seed {seed}"),
                _ => {
                    drop(partial);
                    partial = store.partial(sha1, SIZE).unwrap();
                }
            }
        }
        let missing = Ranges::from_ranges(partial.missing());
        let (path, fetched) = finish(partial, &bytes);
        assert_eq!(fetched, missing, "seed {seed}");
        assert!(std::fs::read(path).unwrap() == bytes, "seed {seed}");
    }
}

#[test]
fn damage_among_new_bytes_of_the_same_chunk_costs_only_the_old_ones() {
    let (_folder, store) = store();
    let bytes = sample(3, SIZE as usize);
    let sha1 = digest(&bytes);
    leave(&store, sha1, &bytes, &[(0, CHUNK), (CHUNK + 1000, CHUNK + 3000)]);
    let file = OpenOptions::new().write(true).open(path(&store, sha1, SIZE, "data")).unwrap();
    file.write_all_at(b"changed", CHUNK + 2000).unwrap();
    let mut partial = store.partial(sha1, SIZE).unwrap();
    partial.write_at(CHUNK, &bytes[CHUNK as usize..CHUNK as usize + 1000]).unwrap();
    partial.write_at(CHUNK + 3000, &bytes[CHUNK as usize + 3000..2 * CHUNK as usize]).unwrap();
    partial.sync().unwrap();
    assert_eq!(recheck(&mut partial), Ranges::from_ranges([(CHUNK + 1000, CHUNK + 3000)]));
    let (path, _) = finish(partial, &bytes);
    assert!(std::fs::read(path).unwrap() == bytes);
}

#[test]
fn states_and_sums_that_somebody_forged_for_other_bytes_commit_nothing() {
    let (_folder, store) = store();
    let (bytes, forged) = (sample(4, SIZE as usize), sample(5, SIZE as usize));
    let sha1 = digest(&bytes);
    leave(&store, sha1, &forged, &[(0, 4 * CHUNK)]);
    let mut partial = store.partial(sha1, SIZE).unwrap();
    assert_eq!(recheck(&mut partial).total(), 0, "its journal vouches for it");
    partial.write_at(0, &bytes).unwrap();
    let (error, back) = partial.commit().unwrap_err();
    assert!(matches!(error, StoreError::WrongHash { .. }), "{error}");
    assert_eq!(store.find(sha1).unwrap(), None);
    let mut back = back.unwrap();
    back.forget(0, 4 * CHUNK).unwrap();
    let (path, fetched) = finish(back, &bytes);
    assert!(std::fs::read(path).unwrap() == bytes);
    assert_eq!(fetched.total(), 4 * CHUNK);
}

#[test]
fn right_bytes_that_a_forged_state_calls_damaged_are_fetched_once_and_stored() {
    let (_folder, store) = store();
    let (bytes, other) = (sample(6, SIZE as usize), sample(7, SIZE as usize));
    let sha1 = digest(&bytes);
    leave(&store, sha1, &other, &[(0, 4 * CHUNK)]);
    // The journal is about other bytes than the data.
    let file = OpenOptions::new().write(true).open(path(&store, sha1, SIZE, "data")).unwrap();
    file.write_all_at(&bytes[..4 * CHUNK as usize], 0).unwrap();
    let mut partial = store.partial(sha1, SIZE).unwrap();
    assert_eq!(recheck(&mut partial).total(), 4 * CHUNK);
    partial.write_at(0, &bytes[..5 * CHUNK as usize]).unwrap();
    partial.sync().unwrap();
    drop(partial);
    let mut partial = store.partial(sha1, SIZE).unwrap();
    assert_eq!(recheck(&mut partial).total(), 0, "the journal says the right states now");
    let (path, _) = finish(partial, &bytes);
    assert!(std::fs::read(path).unwrap() == bytes);
}

#[test]
fn what_no_sum_vouches_for_is_fetched_again_when_the_whole_is_wrong() {
    let (_folder, store) = store();
    let bytes = sample(8, SIZE as usize);
    let sha1 = digest(&bytes);
    let island = (3 * CHUNK + 5, 5 * CHUNK);
    leave(&store, sha1, &bytes, &[(0, 2 * CHUNK), island]);
    // As a version before sums wrote it.
    let journal = path(&store, sha1, SIZE, "journal");
    let steps = std::fs::read(&journal).unwrap();
    let old: Vec<u8> = steps.chunks(48).filter(|step| step[0] != 4).flatten().copied().collect();
    assert!(old.len() < steps.len());
    std::fs::write(&journal, old).unwrap();
    for damaged in [false, true] {
        if damaged {
            let file = OpenOptions::new().write(true).open(path(&store, sha1, SIZE, "data")).unwrap();
            file.write_all_at(b"changed", 4 * CHUNK).unwrap();
        }
        let mut partial = store.partial(sha1, SIZE).unwrap();
        assert_eq!(recheck(&mut partial).total(), 0);
        if damaged {
            let (path, fetched) = finish(partial, &bytes);
            assert!(std::fs::read(path).unwrap() == bytes);
            assert!(fetched.gaps(island.0, island.1).is_empty());
            assert!(!fetched.gaps(0, 2 * CHUNK - 1).is_empty(), "the checked beginning stays");
        }
    }
}

#[test]
fn a_resumed_download_of_gigabytes_takes_its_first_byte_at_once() {
    let (_folder, store) = store();
    let size = 3 << 30;
    let sha1 = Sha1([9; 20]);
    let mut partial = store.partial(sha1, size).unwrap();
    partial.write_at(0, b"x").unwrap();
    partial.sync().unwrap();
    drop(partial);
    // All but the last byte, as far as the journal knows.
    let folder = crate::store::layout::descend(&store.inner.root, &["kachery-p2p", "partial"]);
    let name = format!("{sha1}-{size}.journal");
    let (mut journal, _) =
        crate::store::journal::Journal::open(&folder.unwrap().unwrap(), &name, sha1, size).unwrap();
    journal.append(&[crate::store::journal::Record::Present(0, size - 1)]).unwrap();
    let begun = std::time::Instant::now();
    let mut partial = store.partial(sha1, size).unwrap();
    partial.write_at(size - 1, b"x").unwrap();
    let time = begun.elapsed();
    assert!(partial.is_complete());
    println!(
        "check 16 (first new byte of a resumed download of 3 GiB): measured {:.3} s, bar 1, seed none",
        time.as_secs_f64()
    );
    assert!(time < std::time::Duration::from_secs(1), "{time:?}");
}

/// Changes a byte of the data file as another program does, some time after our last write.
fn change(store: &Store, sha1: Sha1, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path(store, sha1, SIZE, "data")).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(at + 1)).unwrap();
}

#[test]
fn what_another_program_changes_during_a_download_is_not_committed() {
    let bytes = sample(7, SIZE as usize);
    let sha1 = digest(&bytes);
    // Before the last write of the download, or after it; in what the journal vouches for, or in what it does not.
    for before_the_last_write in [true, false] {
        for synced in [true, false] {
            let (_folder, store) = store();
            let mut partial = store.partial(sha1, SIZE).unwrap();
            partial.write_at(0, &bytes[..5 * CHUNK as usize]).unwrap();
            if synced {
                partial.sync().unwrap();
            }
            if before_the_last_write {
                change(&store, sha1, CHUNK + 5);
            }
            partial.write_at(5 * CHUNK, &bytes[5 * CHUNK as usize..]).unwrap();
            if !before_the_last_write {
                change(&store, sha1, CHUNK + 5);
            }
            let (stored, fetched) = finish(partial, &bytes);
            assert!(std::fs::read(stored).unwrap() == bytes, "{before_the_last_write} {synced}");
            assert!(fetched.covered_to(CHUNK) >= 2 * CHUNK, "{before_the_last_write} {synced}");
            assert!(!synced || fetched.total() == CHUNK, "only the damaged chunk: {fetched:?}");
        }
    }
}

#[test]
fn a_program_that_only_touches_an_unfinished_download_costs_nothing() {
    let bytes = sample(8, SIZE as usize);
    let sha1 = digest(&bytes);
    let (_folder, store) = store();
    let mut partial = store.partial(sha1, SIZE).unwrap();
    partial.write_at(0, &bytes).unwrap();
    let file = OpenOptions::new().write(true).open(path(&store, sha1, SIZE, "data")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let (stored, fetched) = finish(partial, &bytes);
    assert!(std::fs::read(stored).unwrap() == bytes);
    assert_eq!(fetched.total(), 0);
}
