//! RELIABILITY 16: the process is killed at random points of a store and of a download. Never a wrong file under a hash;
//! a download goes on from what was synced.
//!
//! The process that dies is this test binary, started again for [`dies`] alone with the point in its environment.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use rand::{RngExt, SeedableRng};

use super::faults::assert_consistent;
use super::{digest, sample, tree};
use crate::store::faults::for_tests::{Fault, plan, seen};
use crate::store::{Rechecked, Store};

const WHAT: &str = "KACHERY_P2P_TEST_DIES_DURING";
const WHERE: &str = "KACHERY_P2P_TEST_DIES_IN";
const POINT: &str = "KACHERY_P2P_TEST_DIES_AT";
const SIZE: usize = 2_300_000;
const PIECE: usize = 130_000;

fn content() -> Vec<u8> {
    sample(16, SIZE)
}

fn store_a_file(folder: &Path) {
    let store = Store::open(&folder.join("root")).unwrap();
    store.put_file(&folder.join("source")).unwrap();
}

/// Writes pieces from both ends; after every second one a sync, and then the synced pieces into a log.
fn download(folder: &Path) {
    let bytes = content();
    let store = Store::open(&folder.join("root")).unwrap();
    let mut partial = store.partial(digest(&bytes), SIZE as u64).unwrap();
    let pieces = SIZE.div_ceil(PIECE);
    for step in 0..pieces {
        let piece = if step % 2 == 0 { step / 2 } else { pieces - 1 - step / 2 };
        let start = piece * PIECE;
        partial.write_at(start as u64, &bytes[start..(start + PIECE).min(SIZE)]).unwrap();
        if step % 2 == 1 {
            partial.sync().unwrap();
            std::fs::write(folder.join("synced"), format!("{}", step + 1)).unwrap();
        }
    }
    partial.commit().unwrap();
}

fn work(what: &str, folder: &Path) {
    match what {
        "store" => store_a_file(folder),
        _ => download(folder),
    }
}

#[test]
fn dies() {
    // Alone this test does nothing: the other ones start it in a process of its own.
    let Ok(what) = std::env::var(WHAT) else { return };
    let point = std::env::var(POINT).unwrap().parse().unwrap();
    plan(Some((point, Fault::Killed)));
    work(&what, Path::new(&std::env::var(WHERE).unwrap()));
}

/// Kills a process doing `what` at 10 random steps; `check` looks at the folder afterwards.
fn kill_at_random_points(what: &str, seed: u64, check: &dyn Fn(&Path, &str)) {
    let prepare = || {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("source"), content()).unwrap();
        folder
    };
    let undisturbed = prepare();
    plan(None);
    work(what, undisturbed.path());
    let steps = seen();
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for _ in 0..10 {
        let point = random.random_range(0..steps.len());
        let context = format!("{what} killed at step {point} ({}), seed {seed}", steps[point]);
        let folder = prepare();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "store::tests::crash::dies"]);
        let child = child.env(WHAT, what).env(WHERE, folder.path()).env(POINT, point.to_string());
        let output = child.output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{context}: {}", String::from_utf8_lossy(&output.stderr));
        let root = folder.path().join("root");
        if root.exists() {
            assert_consistent(&root, &context);
        }
        check(folder.path(), &context);
        let left = tree(&root).into_iter().find(|name| name.contains("/tmp/") || name.contains("/partial/"));
        assert_eq!(left, None, "{context}: left behind");
        assert_consistent(&root, &context);
    }
    println!("check 16 ({what}): measured 0 wrong files in 10 kills, bar 0, seed {seed}");
}

#[test]
fn a_store_that_is_killed_leaves_nothing_or_the_whole_file() {
    kill_at_random_points("store", 161, &|folder, _| {
        store_a_file(folder);
        let bytes = content();
        let store = Store::open(&folder.join("root")).unwrap();
        let path = store.find(digest(&bytes)).unwrap().unwrap();
        assert!(std::fs::read(path).unwrap() == bytes);
    });
}

#[test]
fn a_download_that_is_killed_goes_on_from_what_was_synced() {
    kill_at_random_points("download", 162, &|folder, context| {
        let bytes = content();
        let store = Store::open(&folder.join("root")).unwrap();
        if store.open_served(digest(&bytes)).unwrap().is_some() {
            // Killed after the rename: whole. Opening the store tidied up what was left.
            return;
        }
        let mut partial = store.partial(digest(&bytes), SIZE as u64).unwrap();
        let present = partial.present();
        let data = folder.join(format!("root/kachery-p2p/partial/{}-{SIZE}.data", digest(&bytes)));
        // It appears with the first byte.
        let data = std::fs::read(data).unwrap_or_default();
        for &(start, end) in &present {
            let range = start as usize..end as usize;
            assert!(data[range.clone()] == bytes[range], "{context}: claims what is not there");
        }
        let synced: usize =
            std::fs::read_to_string(folder.join("synced")).map_or(0, |text| text.parse().unwrap());
        let here: u64 = present.iter().map(|(start, end)| end - start).sum();
        assert!(here + PIECE as u64 >= (synced * PIECE) as u64, "{context}: {here} of {synced} pieces");
        while partial.recheck_step().unwrap() != Rechecked::Done {}
        assert_eq!(partial.present(), present, "{context}: undamaged bytes are given back");
        partial.write_at(0, &bytes).unwrap();
        partial.commit().unwrap();
    });
}
