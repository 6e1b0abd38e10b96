//! Downloads: resume, order, lies, locks.

use std::io::ErrorKind;

use super::{digest, sample, states, store, tree};
use crate::limits::{MAX_PARTIAL_RANGES, PARTIAL_SYNC_BYTES};
use crate::store::{HowStored, StoreError};

const SIZE: usize = 3 * (1 << 20) + 12_345;

#[test]
fn a_download_in_any_order_becomes_a_stored_file_with_its_states() {
    use rand::{SeedableRng, seq::SliceRandom};
    for seed in 0..5 {
        let (_folder, store) = store();
        let bytes = sample(seed, SIZE);
        let sha1 = digest(&bytes);
        let mut pieces: Vec<usize> = (0..SIZE).step_by(70_000).collect();
        pieces.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
        let mut partial = store.partial(sha1, SIZE as u64).unwrap();
        for at in pieces {
            let end = (at + 70_000).min(SIZE);
            partial.write_at(at as u64, &bytes[at..end]).unwrap();
        }
        let stored = partial.commit().unwrap();
        assert_eq!((stored.sha1, stored.size, stored.how), (sha1, SIZE as u64, HowStored::Received));
        assert_eq!(std::fs::read(&stored.path).unwrap(), bytes, "seed {seed}");
        assert_eq!(store.find(sha1).unwrap().unwrap(), stored.path);
        assert_eq!(states(&store, sha1), Some(4));
        assert_eq!(
            tree(store.root()).len(),
            2,
            "only the file and its sidecar stay: {:?}",
            tree(store.root())
        );
    }
}

#[test]
fn what_was_synced_is_present_after_reopening() {
    let (_folder, store) = store();
    let bytes = sample(1, SIZE);
    let sha1 = digest(&bytes);
    let mut partial = store.partial(sha1, SIZE as u64).unwrap();
    partial.write_at(0, &bytes[..2_000_000]).unwrap();
    partial.write_at(2_500_000, &bytes[2_500_000..2_600_000]).unwrap();
    partial.sync().unwrap();
    partial.write_at(2_600_000, &bytes[2_600_000..2_700_000]).unwrap();
    assert_eq!(partial.present(), [(0, 2_000_000), (2_500_000, 2_700_000)]);
    drop(partial);
    let mut partial = store.partial(sha1, SIZE as u64).unwrap();
    assert_eq!(partial.present(), [(0, 2_000_000), (2_500_000, 2_600_000)]);
    partial.write_at(0, &bytes).unwrap();
    assert_eq!(partial.present(), [(0, SIZE as u64)]);
    partial.commit().unwrap();
}

#[test]
fn many_megabytes_are_synced_without_being_asked() {
    let (_folder, store) = store();
    let size = PARTIAL_SYNC_BYTES + 10;
    let bytes = vec![7; PARTIAL_SYNC_BYTES as usize];
    let mut partial = store.partial(super::Sha1([1; 20]), size).unwrap();
    partial.write_at(0, &bytes[1..]).unwrap();
    drop(partial);
    let mut partial = store.partial(super::Sha1([1; 20]), size).unwrap();
    assert_eq!(partial.present(), []);
    partial.write_at(0, &bytes).unwrap();
    drop(partial);
    let partial = store.partial(super::Sha1([1; 20]), size).unwrap();
    assert_eq!(partial.present(), [(0, PARTIAL_SYNC_BYTES)]);
}

#[test]
fn a_lie_is_noticed_forgotten_and_repaired_across_a_restart() {
    let (_folder, store) = store();
    let bytes = sample(2, SIZE);
    let sha1 = digest(&bytes);
    let mut lie = bytes.clone();
    lie[1_500_000] ^= 1;
    let mut partial = store.partial(sha1, SIZE as u64).unwrap();
    partial.write_at(0, &lie).unwrap();
    let (error, partial) = partial.commit().unwrap_err();
    assert!(matches!(error, StoreError::WrongHash { expected, .. } if expected == sha1));
    assert_eq!(store.find(sha1).unwrap(), None);
    let mut partial = partial.unwrap();
    partial.sync().unwrap();
    partial.forget(1_400_000, 1_600_000).unwrap();
    drop(partial);
    let mut partial = store.partial(sha1, SIZE as u64).unwrap();
    assert_eq!(partial.present(), [(0, 1_400_000), (1_600_000, SIZE as u64)]);
    partial.write_at(1_400_000, &bytes[1_400_000..1_600_000]).unwrap();
    partial.sync().unwrap();
    drop(partial);
    let partial = store.partial(sha1, SIZE as u64).unwrap();
    assert!(partial.is_complete());
    partial.commit().unwrap();
}

#[test]
fn only_one_can_download_a_file_at_a_time() {
    let (_folder, store) = store();
    let first = store.partial(digest(b"x"), 1).unwrap();
    match store.partial(digest(b"x"), 1) {
        Err(StoreError::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::WouldBlock),
        other => panic!("{other:?}"),
    }
    drop(first);
    store.partial(digest(b"x"), 1).unwrap();
}

#[test]
fn a_false_size_does_not_spoil_the_true_download() {
    let (_folder, store) = store();
    let mut right = store.partial(digest(b"right"), 5).unwrap();
    right.write_at(0, b"ri").unwrap();
    right.sync().unwrap();
    drop(right);
    let mut wrong = store.partial(digest(b"right"), 4).unwrap();
    assert_eq!(wrong.present(), []);
    wrong.write_at(0, b"left").unwrap();
    assert!(wrong.write_at(3, b"xx").is_err(), "bytes beyond the end");
    assert!(wrong.write_at(u64::MAX, b"xx").is_err(), "an offset that overflows");
    let (error, _) = wrong.commit().unwrap_err();
    assert!(matches!(error, StoreError::WrongHash { .. }));
    let mut right = store.partial(digest(b"right"), 5).unwrap();
    assert_eq!(right.present(), [(0, 2)]);
    right.write_at(2, b"ght").unwrap();
    right.commit().unwrap();
    assert_eq!(std::fs::read_dir(store.root().join("kachery-p2p/partial")).unwrap().count(), 0);
}

#[test]
fn an_incomplete_download_is_not_committed_and_an_empty_file_is_complete_at_once() {
    let (_folder, store) = store();
    let (error, partial) = store.partial(digest(b"ab"), 2).unwrap().commit().unwrap_err();
    assert!(matches!(error, StoreError::Incomplete { present: 0 }) && partial.is_some());
    let stored = store.partial(digest(b""), 0).unwrap().commit().unwrap();
    assert_eq!(std::fs::metadata(stored.path).unwrap().len(), 0);
    let left = tree(&store.root().join("kachery-p2p/partial"));
    assert!(!left.iter().any(|name| name.starts_with(&digest(b"").to_string())), "{left:?}");
}

#[test]
fn every_truncated_or_damaged_journal_claims_at_most_what_was_said() {
    let (_folder, store) = store();
    let bytes = sample(3, SIZE);
    let sha1 = digest(&bytes);
    let mut partial = store.partial(sha1, SIZE as u64).unwrap();
    for at in [0, 600_000, 1_900_000] {
        partial.write_at(at as u64, &bytes[at..at + 500_000]).unwrap();
        partial.sync().unwrap();
    }
    let said = partial.present();
    drop(partial);
    let path = store.root().join(format!("kachery-p2p/partial/{sha1}-{SIZE}.journal"));
    let good = std::fs::read(&path).unwrap();
    let check = |bad: &[u8]| {
        std::fs::write(&path, bad).unwrap();
        let partial = store.partial(sha1, SIZE as u64).unwrap();
        for (start, end) in partial.present() {
            assert!(said.iter().any(|(s, e)| *s <= start && end <= *e));
        }
    };
    for length in 0..=good.len() {
        check(&good[..length]);
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        check(&bad);
    }
    check(&good);
    let mut partial = store.partial(sha1, SIZE as u64).unwrap();
    assert_eq!(partial.present(), said);
    partial.write_at(0, &bytes).unwrap();
    partial.commit().unwrap();
}

#[test]
fn a_data_file_of_another_length_starts_over() {
    let (_folder, store) = store();
    let mut partial = store.partial(digest(b"abc"), 3).unwrap();
    partial.write_at(0, b"abc").unwrap();
    partial.sync().unwrap();
    drop(partial);
    let path = store.root().join(format!("kachery-p2p/partial/{}-3.data", digest(b"abc")));
    std::fs::write(path, b"a").unwrap();
    assert_eq!(store.partial(digest(b"abc"), 3).unwrap().present(), []);
}

#[test]
fn more_pieces_than_allowed_are_refused_and_the_last_allowed_one_is_taken() {
    let (_folder, store) = store();
    let size = 2 * MAX_PARTIAL_RANGES as u64 + 10;
    let mut partial = store.partial(super::Sha1([2; 20]), size).unwrap();
    for piece in 0..MAX_PARTIAL_RANGES as u64 {
        partial.write_at(2 * piece + 2, b"x").unwrap();
    }
    let error = partial.write_at(0, b"x").unwrap_err();
    assert!(error.to_string().contains("too many pieces"), "{error}");
    partial.write_at(3, b"x").unwrap();
    partial.sync().unwrap();
}

#[test]
fn a_long_journal_is_said_again_in_short() {
    let (_folder, store) = store();
    let sha1 = super::Sha1([3; 20]);
    let mut partial = store.partial(sha1, 4).unwrap();
    partial.write_at(0, b"ab").unwrap();
    partial.sync().unwrap();
    let path = store.root().join(format!("kachery-p2p/partial/{sha1}-4.journal"));
    drop(partial);
    // As after very many lies.
    let good = std::fs::read(&path).unwrap();
    let mut long = good[..48].to_vec();
    for _ in 0..2 * MAX_PARTIAL_RANGES + 10 {
        long.extend_from_slice(&good[48..96]);
    }
    std::fs::write(&path, &long).unwrap();
    let mut partial = store.partial(sha1, 4).unwrap();
    partial.write_at(2, b"c").unwrap();
    partial.sync().unwrap();
    drop(partial);
    assert!(std::fs::metadata(&path).unwrap().len() < 500);
    assert_eq!(store.partial(sha1, 4).unwrap().present(), [(0, 3)]);
}
