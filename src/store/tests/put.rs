//! Storing local files.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use super::{digest, plant, sample, states, store, tree};
use crate::store::{Algorithm, ContentHash, HowStored, PutOptions, Store, StoreError};

fn source(folder: &std::path::Path, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join("source");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn files_of_many_sizes_are_stored_under_their_sha1_with_their_states() {
    let (folder, store) = store();
    let mib = 1 << 20;
    for size in [0, 1, 4095, 99_999, 100_000, mib - 1, mib, mib + 1, 9 * mib, 11 * mib + 4097] {
        let bytes = sample(size as u64, size);
        let stored = store.put_file(&source(folder.path(), &bytes)).unwrap();
        assert_eq!((stored.sha1, stored.size), (digest(&bytes), size as u64));
        assert_eq!(stored.how, HowStored::Copy, "size {size}");
        assert!(std::fs::read(&stored.path).unwrap() == bytes, "size {size}");
        assert_eq!(states(&store, stored.sha1), (size >= 100_000).then(|| size.div_ceil(mib)), "size {size}");
        assert_eq!(store.put_file(&folder.path().join("source")).unwrap().how, HowStored::Already);
    }
    assert!(!tree(store.root()).iter().any(|name| name.contains("tmp/")));
}

#[test]
fn a_file_that_python_stored_damaged_is_repaired_by_storing_it_again() {
    let (folder, store) = store();
    let bytes = sample(1, 300_000);
    let mut damaged = bytes.clone();
    damaged[7] ^= 1;
    for there in [&damaged, &bytes[..1000].to_vec(), &bytes] {
        let path = plant(&store, digest(&bytes), there);
        let stored = store.put_file(&source(folder.path(), &bytes)).unwrap();
        assert_eq!(stored.how, HowStored::Copy);
        assert!(std::fs::read(&path).unwrap() == bytes);
    }
}

#[test]
fn what_was_hashed_before_is_not_read_again() {
    let (folder, store) = store();
    let path = source(folder.path(), &sample(1, 200_000));
    let read = std::cell::Cell::new(0);
    let progress = |bytes| read.set(bytes);
    let first = store.hash_of_file(&path, Algorithm::Sha1, &progress).unwrap();
    let options = PutOptions { progress: &progress, ..PutOptions::default() };
    assert_eq!(store.put_file_with(&path, &options).unwrap().hash, first);
    // Even if reading were impossible: the memory and the verified store suffice.
    let again = store.put_file_with(&path, &options).unwrap();
    assert_eq!((again.hash, again.how), (first, HowStored::Already));
    std::fs::write(&path, sample(2, 200_000)).unwrap();
    assert_ne!(store.put_file(&path).unwrap().how, HowStored::Already);
}

#[test]
fn md5_names_go_to_their_own_folders() {
    let (folder, store) = store();
    let path = source(folder.path(), b"hello\n");
    let options = PutOptions { algorithm: Algorithm::Md5, ..PutOptions::default() };
    let stored = store.put_file_with(&path, &options).unwrap();
    assert_eq!(stored.hash.to_string(), "b1946ac92492d2347c6235b4d2611184");
    assert_eq!(stored.path, store.root().join("md5/b1/94/6a/b1946ac92492d2347c6235b4d2611184"));
    assert_eq!(store.find_any(stored.hash).unwrap(), Some(stored.path));
    assert_eq!(store.put_file_with(&path, &options).unwrap().how, HowStored::Already);
}

#[test]
fn a_hard_link_shares_the_inode_and_is_verified_again_after_a_change() {
    let (folder, store) = store();
    let bytes = sample(3, 150_000);
    let path = source(folder.path(), &bytes);
    let options = PutOptions { hard_link: true, ..PutOptions::default() };
    let stored = store.put_file_with(&path, &options).unwrap();
    assert_eq!(stored.how, HowStored::HardLink);
    let inode = |p: &std::path::Path| std::fs::metadata(p).unwrap().ino();
    assert_eq!(inode(&stored.path), inode(&path));
    assert_eq!(store.put_file_with(&path, &options).unwrap().how, HowStored::Already);
    assert!(store.open_served(digest(&bytes)).unwrap().is_some());
    use std::os::unix::fs::FileExt;
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"x", 5).unwrap();
    assert!(store.open_served(digest(&bytes)).unwrap().is_none());
    // Linking again what is linked already leaves no second name behind.
    std::fs::write(&path, &bytes).unwrap();
    let fresh = Store::open(store.root()).unwrap();
    fresh.put_file_with(&path, &options).unwrap();
    assert!(!tree(store.root()).iter().any(|name| name.contains("tmp/")));
}

#[test]
fn standard_input_and_odd_sources() {
    let (folder, store) = store();
    let bytes = sample(4, 3_000_001);
    let stored = store.put_reader(&mut &bytes[..], &PutOptions::default()).unwrap();
    assert_eq!(stored.hash, ContentHash::Sha1(digest(&bytes)));
    assert!(std::fs::read(stored.path).unwrap() == bytes);
    assert!(matches!(store.put_file(folder.path()), Err(StoreError::NotAFile { .. })));
    let missing = store.put_file(&folder.path().join("missing")).unwrap_err();
    assert!(matches!(missing, StoreError::Source { source, .. } if source.kind() == ErrorKind::NotFound));
}

#[test]
fn a_source_that_changes_while_it_is_stored_is_refused() {
    let (folder, store) = store();
    let path = source(folder.path(), &sample(5, 5_000_000));
    let changed = std::cell::Cell::new(false);
    let progress = |_| {
        if !changed.replace(true) {
            use std::io::Write;
            std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        }
    };
    let options = PutOptions { progress: &progress, ..PutOptions::default() };
    assert!(matches!(store.put_file_with(&path, &options), Err(StoreError::Changed { .. })));
    assert_eq!(tree(store.root()), Vec::<String>::new());
}

#[test]
fn dead_temporaries_are_removed_and_those_in_use_or_not_ours_stay() {
    let (_folder, store) = store();
    let ours = store.root().join("kachery-p2p/tmp");
    std::fs::create_dir_all(&ours).unwrap();
    std::fs::write(ours.join("dead.temporary"), b"x").unwrap();
    std::fs::write(ours.join("other"), b"x").unwrap();
    let alive = std::fs::File::create(ours.join("alive.temporary")).unwrap();
    alive.lock().unwrap();
    let python = ["tmp/tmpabcd1234/f", "sha1/aa/bb/cc/x.copying.abc123", "sha1/aa/bb/cc/x.hints.json.lock"];
    for name in python {
        std::fs::create_dir_all(store.root().join(name).parent().unwrap()).unwrap();
        std::fs::write(store.root().join(name), b"").unwrap();
    }
    let store = Store::open(store.root()).unwrap();
    let mut expected = vec!["kachery-p2p/tmp/alive.temporary", "kachery-p2p/tmp/other"];
    expected.extend(python);
    expected.sort_unstable();
    assert_eq!(tree(store.root()), expected);
}

#[test]
fn many_threads_store_the_same_and_different_files_at_once() {
    let (folder, store) = store();
    let files: Vec<_> = (0..4)
        .map(|i| {
            let path = folder.path().join(format!("file {i}"));
            std::fs::write(&path, sample(i, 1_200_000)).unwrap();
            path
        })
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (files, root) = (&files, store.root());
            scope.spawn(move || {
                let store = Store::open(root).unwrap();
                for i in 0..4 {
                    store.put_file(&files[(thread + i) % 4]).unwrap();
                }
            });
        }
    });
    for i in 0..4 {
        let sha1 = digest(&sample(i, 1_200_000));
        assert!(store.open_served(sha1).unwrap().is_some());
    }
    assert!(!tree(store.root()).iter().any(|name| name.contains("tmp/")));
}
