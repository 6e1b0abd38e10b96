//! Another program writes to a file of ours, or puts something else in its place, before it is in the store.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{digest, plant, sample, store, tree};
use crate::store::chain::CHUNK;
use crate::store::faults::for_tests;
use crate::store::memory::SMALL;
use crate::store::{Partial, PutOptions, Sha1, Store, StoreError};

/// With a sidecar and without one.
const SIZES: [u64; 2] = [CHUNK + 12_345, SMALL - 1];
/// Longer by some bytes of the last chunk, and by whole chunks.
const LONGER: [u64; 2] = [4, 3 * CHUNK];

fn data(store: &Store, sha1: Sha1, size: u64) -> PathBuf {
    store.root().join(format!("kachery-p2p/partial/{sha1}-{size}.data"))
}

fn append(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"EVIL").unwrap();
}

fn lengthen(path: &Path, by: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() + by).unwrap();
}

/// A download of which only the last byte is missing.
fn nearly_done(store: &Store, bytes: &[u8]) -> Partial {
    let mut partial = store.partial(digest(bytes), bytes.len() as u64).unwrap();
    partial.write_at(0, &bytes[..bytes.len() - 1]).unwrap();
    partial
}

fn end(mut partial: Partial, bytes: &[u8]) -> Result<PathBuf, StoreError> {
    let last = bytes.len() - 1;
    partial.write_at(last as u64, &bytes[last..]).unwrap();
    partial.commit().map(|stored| stored.path).map_err(|(error, _)| error)
}

/// The right file is in the store, and peers get it.
fn assert_right(store: &Store, bytes: &[u8], context: &str) {
    let path = store.find(digest(bytes)).unwrap().expect(context);
    assert!(std::fs::symlink_metadata(&path).unwrap().is_file(), "{context}");
    assert!(std::fs::read(path).unwrap() == bytes, "{context}");
    let served = store.open_served(digest(bytes)).unwrap().expect(context);
    assert_eq!(served.size(), bytes.len() as u64, "{context}");
}

fn assert_interfered(result: Result<PathBuf, StoreError>, store: &Store, context: &str) {
    let error = result.expect_err(context);
    assert!(matches!(error, StoreError::Interfered { .. }), "{context}: {error}");
    assert!(error.to_string().contains("stop that program"), "{context}: {error}");
    let left =
        tree(store.root()).into_iter().find(|name| name.starts_with("sha1/") || name.contains("states/"));
    assert_eq!(left, None, "{context}: it came into the store");
}

/// Every way to make a download longer, at several moments of it.
fn lengthened(grow: &dyn Fn(&Path)) {
    for size in SIZES {
        let bytes = sample(size, size as usize);
        for moment in ["before the last write", "after the last write"] {
            let (_folder, store) = store();
            let mut partial = nearly_done(&store, &bytes);
            let path = data(&store, digest(&bytes), size);
            if moment.starts_with("after") {
                partial.write_at(size - 1, &bytes[bytes.len() - 1..]).unwrap();
            }
            grow(&path);
            end(partial, &bytes).unwrap();
            assert_right(&store, &bytes, &format!("{size} {moment}"));
        }
    }
}

#[test]
fn bytes_that_another_program_appends_to_a_download_do_not_come_into_the_store() {
    lengthened(&append);
}

#[test]
fn a_download_that_another_program_lengthens_comes_into_the_store_with_its_own_length() {
    for by in LONGER {
        lengthened(&|path| lengthen(path, by));
    }
}

#[test]
fn what_is_appended_in_the_very_moment_of_a_write_is_cut_off() {
    for size in SIZES {
        let bytes = sample(size, size as usize);
        let (_folder, store) = store();
        let partial = nearly_done(&store, &bytes);
        let path = data(&store, digest(&bytes), size);
        for_tests::before("write", move || append(&path));
        end(partial, &bytes).unwrap();
        assert_right(&store, &bytes, "during the last write");
    }
}

type Deed = Box<dyn Fn(&Path)>;

/// What may be put in the place of a file of ours.
fn strangers(other: &Path) -> Vec<(&'static str, Deed)> {
    let other = other.to_owned();
    vec![
        ("another file", Box::new(|path| std::fs::write(path, b"stranger").unwrap())),
        ("nothing", Box::new(|_| ())),
        ("a folder", Box::new(|path| std::fs::create_dir(path).unwrap())),
        ("a link", Box::new(move |path| symlink(&other, path).unwrap())),
        (
            "a pipe",
            Box::new(|path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap()),
        ),
    ]
}

#[test]
fn what_another_program_puts_in_the_place_of_a_download_does_not_come_into_the_store() {
    for size in SIZES {
        let bytes = sample(size, size as usize);
        for number in 0..5 {
            let (folder, store) = store();
            let precious = folder.path().join("precious");
            std::fs::write(&precious, b"precious").unwrap();
            let (name, put) = &strangers(&precious)[number];
            let partial = nearly_done(&store, &bytes);
            let path = data(&store, digest(&bytes), size);
            std::fs::remove_file(&path).unwrap();
            put(&path);
            assert_interfered(end(partial, &bytes), &store, name);
            assert_eq!(std::fs::read(&precious).unwrap(), b"precious", "{name}");
            end(nearly_done(&store, &bytes), &bytes).unwrap();
            assert_right(&store, &bytes, name);
        }
    }
}

#[test]
fn what_takes_the_place_of_a_download_just_before_the_rename_goes_back_to_where_it_was() {
    for size in SIZES {
        let bytes = sample(size, size as usize);
        // There is nothing to rename in the place of "nothing".
        for number in [0, 2, 3, 4] {
            let (folder, store) = store();
            let precious = folder.path().join("precious");
            std::fs::write(&precious, b"precious").unwrap();
            let (name, put) = strangers(&precious).swap_remove(number);
            let partial = nearly_done(&store, &bytes);
            let path = data(&store, digest(&bytes), size);
            let place = path.clone();
            for_tests::before("rename", move || {
                std::fs::remove_file(&place).unwrap();
                put(&place);
            });
            assert_interfered(end(partial, &bytes), &store, name);
            assert!(path.symlink_metadata().is_ok(), "{name}: it was removed");
            assert_eq!(std::fs::read(&precious).unwrap(), b"precious", "{name}");
            end(nearly_done(&store, &bytes), &bytes).unwrap();
            assert_right(&store, &bytes, name);
        }
    }
}

#[test]
fn a_download_that_is_written_to_just_before_the_rename_does_not_stay_in_the_store() {
    for size in SIZES {
        let bytes = sample(size, size as usize);
        let (_folder, store) = store();
        let partial = nearly_done(&store, &bytes);
        let path = data(&store, digest(&bytes), size);
        for_tests::before("rename", move || append(&path));
        assert_interfered(end(partial, &bytes), &store, "appended");
        end(nearly_done(&store, &bytes), &bytes).unwrap();
        assert_right(&store, &bytes, "once more");
    }
}

#[test]
fn the_same_file_that_another_program_stores_at_the_moment_of_the_rename_stays() {
    for size in SIZES {
        let bytes = sample(size, size as usize);
        let (_folder, store) = store();
        let partial = nearly_done(&store, &bytes);
        let path = data(&store, digest(&bytes), size);
        let same = bytes.clone();
        for_tests::before("rename", move || {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, same).unwrap();
        });
        end(partial, &bytes).unwrap();
        assert_right(&store, &bytes, "the other file");
    }
}

/// The one temporary of the store.
fn temporary(root: &Path) -> PathBuf {
    let entry = std::fs::read_dir(root.join("kachery-p2p/tmp")).unwrap().next().unwrap();
    entry.unwrap().path()
}

#[test]
fn a_file_that_another_program_lengthens_or_replaces_while_it_is_stored_does_not_come_into_the_store() {
    let replace = |path: &Path| {
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, b"stranger").unwrap();
    };
    for size in SIZES {
        let bytes = sample(size, size as usize);
        for (name, deed) in [("appended", append as fn(&Path)), ("replaced", replace)] {
            // Before it is looked at for the last time, and after.
            for step in ["fsync", "rename"] {
                let (_folder, store) = store();
                let root = store.root().to_owned();
                for_tests::before(step, move || deed(&temporary(&root)));
                let stored = store.put_reader(&mut &bytes[..], &PutOptions::default());
                assert_interfered(stored.map(|stored| stored.path), &store, &format!("{name} before {step}"));
                store.put_reader(&mut &bytes[..], &PutOptions::default()).unwrap();
                assert_right(&store, &bytes, name);
            }
        }
    }
}

#[test]
fn a_stored_file_that_became_longer_is_not_believed_and_storing_the_good_one_repairs_it() {
    for size in SIZES {
        let bytes = sample(size, size as usize);
        for by in LONGER {
            let (folder, store) = store();
            let source = folder.path().join("source");
            std::fs::write(&source, &bytes).unwrap();
            let path = store.put_file(&source).unwrap().path;
            assert_right(&store, &bytes, "stored");
            lengthen(&path, by);
            assert!(store.open_served(digest(&bytes)).unwrap().is_none(), "longer by {by}");
            let hash = crate::store::ContentHash::Sha1(digest(&bytes));
            let found = store.find_verified(hash, &|_| {});
            assert!(!matches!(&found, Ok(Some(found)) if *found == path), "longer by {by}: {found:?}");
            // As after a restart.
            let store = Store::open(store.root()).unwrap();
            store.put_file(&source).unwrap();
            assert_right(&store, &bytes, "repaired");
        }
    }
}

#[test]
fn a_longer_file_under_the_name_of_a_shorter_one_is_never_remembered_as_verified() {
    let bytes = sample(1, SIZES[0] as usize);
    let (_folder, store) = store();
    let path = plant(&store, digest(&bytes), &bytes);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"EVIL", SIZES[0]).unwrap();
    assert!(store.open_served(digest(&bytes)).unwrap().is_none());
    assert_eq!(super::states(&store, digest(&bytes)), None);
    assert!(store.known_good(digest(&bytes)).unwrap().is_none());
}
