//! Things that are no files of ours at the paths of a download's files.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{digest, store, tree};
use crate::store::{PutOptions, Sha1, Store, StoreError, StoreErrorKind};

const CONTENT: &[u8] = b"content";

/// The paths of data and journal; their folder exists.
fn paths(store: &Store, sha1: Sha1) -> [PathBuf; 2] {
    let folder = store.root().join("kachery-p2p/partial");
    std::fs::create_dir_all(&folder).unwrap();
    ["data", "journal"].map(|ending| folder.join(format!("{sha1}-{}.{ending}", CONTENT.len())))
}

/// The download of the content goes on to its end and leaves nothing else behind.
fn assert_loads(store: &Store) {
    let mut partial = store.partial(digest(CONTENT), CONTENT.len() as u64).unwrap();
    partial.write_at(0, CONTENT).unwrap();
    partial.sync().unwrap();
    let stored = partial.commit().unwrap();
    assert!(std::fs::symlink_metadata(&stored.path).unwrap().is_file());
    assert_eq!(std::fs::read(&stored.path).unwrap(), CONTENT);
    assert_eq!(tree(&store.root().join("kachery-p2p/partial")), Vec::<String>::new());
}

/// With one thing, made by `put`, in place of the data, then of the journal; then of both.
fn with_each(put: impl Fn(&Path)) {
    for which in [&[0][..], &[1], &[0, 1]] {
        let (_folder, store) = store();
        let paths = paths(&store, digest(CONTENT));
        which.iter().for_each(|number| put(&paths[*number]));
        assert_loads(&store);
    }
}

#[test]
fn a_pipe_in_place_of_a_download_is_removed() {
    with_each(|path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap());
}

#[test]
fn a_socket_in_place_of_a_download_is_removed() {
    with_each(|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()));
}

#[test]
fn an_empty_folder_in_place_of_a_download_is_removed() {
    with_each(|path| std::fs::create_dir(path).unwrap());
}

#[test]
fn a_link_in_place_of_a_download_is_removed_and_what_it_leads_to_stays() {
    let other = tempfile::tempdir().unwrap();
    let (file, folder) = (other.path().join("file"), other.path().join("folder"));
    std::fs::write(&file, "precious").unwrap();
    std::fs::create_dir(&folder).unwrap();
    for target in [&file, &folder, &other.path().join("nothing")] {
        with_each(|path| symlink(target, path).unwrap());
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert!(folder.is_dir() && !other.path().join("nothing").exists());
}

#[test]
fn a_second_name_of_another_file_in_place_of_a_download_is_not_written_through() {
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    for which in [0, 1] {
        let root = other.path().join(format!("root{which}"));
        let store = Store::open(&root).unwrap();
        std::fs::hard_link(&file, &paths(&store, digest(CONTENT))[which]).unwrap();
        assert_loads(&store);
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert_eq!(std::fs::metadata(&file).unwrap().nlink(), 1);
}

#[test]
fn a_second_name_of_a_download_under_way_leaves_it_to_the_one_who_loads() {
    let (folder, store) = store();
    let mut partial = store.partial(digest(CONTENT), CONTENT.len() as u64).unwrap();
    partial.write_at(0, &CONTENT[..3]).unwrap();
    std::fs::hard_link(&paths(&store, digest(CONTENT))[0], folder.path().join("backup")).unwrap();
    let other = Store::open(store.root()).unwrap();
    let error = other.partial(digest(CONTENT), CONTENT.len() as u64).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::InUse, "{error}");
    partial.write_at(3, &CONTENT[3..]).unwrap();
    partial.commit().unwrap();
}

#[test]
fn a_folder_with_something_in_it_stays_and_is_named() {
    for which in [0, 1] {
        let (_folder, store) = store();
        let path = &paths(&store, digest(CONTENT))[which];
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join("precious"), "x").unwrap();
        let begin = || store.partial(digest(CONTENT), CONTENT.len() as u64)?.write_at(0, CONTENT);
        let error = begin().unwrap_err();
        assert!(matches!(&error, StoreError::InTheWay { path: told } if told == path), "{error}");
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains("move it away"), "{text}");
        assert!(path.join("precious").exists());
        std::fs::rename(path, store.root().join("moved")).unwrap();
        assert_loads(&store);
    }
}

#[test]
fn a_store_whose_folder_was_removed_says_so() {
    let (_folder, store) = store();
    std::fs::remove_dir_all(store.root()).unwrap();
    let error = store.partial(digest(CONTENT), CONTENT.len() as u64).unwrap_err();
    assert!(matches!(&error, StoreError::Gone { path } if path == store.root()), "{error}");
    assert_eq!(error.kind(), StoreErrorKind::NotWritable);
}

#[test]
fn one_folder_among_the_downloads_does_not_keep_the_others_from_being_removed() {
    let (_folder, store) = store();
    for size in [10, 11, 12] {
        let mut partial = store.partial(digest(CONTENT), size).unwrap();
        partial.write_at(0, b"begun").unwrap();
    }
    let folder = store.root().join("kachery-p2p/partial");
    let journal = folder.join(format!("{}-10.journal", digest(CONTENT)));
    std::fs::remove_file(&journal).unwrap();
    std::fs::create_dir(&journal).unwrap();
    File::create(journal.join("precious")).unwrap().write_all(b"x").unwrap();
    let error = store.remove_partials(std::time::Duration::ZERO).unwrap_err();
    assert!(matches!(&error, StoreError::InTheWay { path } if *path == journal), "{error}");
    assert_eq!(store.partials().unwrap().iter().map(|file| file.size).collect::<Vec<_>>(), [10]);
}

#[test]
fn a_finished_download_may_be_read_by_the_same_users_as_a_file_that_was_stored() {
    let (_folder, store) = store();
    let stored = store.put_reader(&mut &b"stored"[..], &PutOptions::default()).unwrap();
    let expected = std::fs::metadata(stored.path).unwrap().mode();
    let mut partial = store.partial(digest(CONTENT), CONTENT.len() as u64).unwrap();
    partial.write_at(0, CONTENT).unwrap();
    let received = partial.commit().unwrap();
    assert_eq!(std::fs::metadata(received.path).unwrap().mode(), expected);
}

#[test]
fn what_lies_at_another_size_of_a_finished_download_keeps_nothing_of_it() {
    let (_folder, store) = store();
    let [data, _] = paths(&store, digest(CONTENT));
    let odd = data.with_file_name(format!("{}-9.data", digest(CONTENT)));
    mknodat(CWD, &odd, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let mut partial = store.partial(digest(CONTENT), CONTENT.len() as u64).unwrap();
    partial.write_at(0, CONTENT).unwrap();
    partial.commit().unwrap();
    assert_eq!(std::fs::read_dir(odd.parent().unwrap()).unwrap().count(), 1, "the pipe alone");
}
