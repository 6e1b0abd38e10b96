//! Unfinished downloads that nobody takes up again.

use std::fs::{File, FileTimes};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{digest, store, tree};
use crate::limits::{MAX_PARTIAL_AGE, MAX_PARTIAL_FILES};
use crate::store::{Sha1, Store, StoreErrorKind};

fn data(store: &Store, sha1: Sha1, size: u64) -> PathBuf {
    store.root().join(format!("kachery-p2p/partial/{sha1}-{size}.data"))
}

/// An unfinished download that was last written to `age` ago.
fn leave(store: &Store, sha1: Sha1, age: Duration) {
    let mut partial = store.partial(sha1, 10).unwrap();
    partial.write_at(0, b"begun").unwrap();
    drop(partial);
    let file = File::options().write(true).open(data(store, sha1, 10)).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::now() - age)).unwrap();
}

#[test]
fn a_claimed_size_alone_leaves_nothing() {
    let (_folder, store) = store();
    for size in 1..50 {
        let mut partial = store.partial(digest(b"x"), size * 1000).unwrap();
        partial.sync().unwrap();
        assert!(partial.commit().is_err());
    }
    assert_eq!(tree(store.root()), Vec::<String>::new());
    assert!(!store.root().join("kachery-p2p").exists());
}

#[test]
fn a_size_that_the_file_system_cannot_hold_is_refused_at_once() {
    let (_folder, store) = store();
    for size in [(1 << 53) - 1, u64::MAX] {
        let error = store.partial(digest(b"x"), size).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::FileTooLarge, "{error}");
    }
}

#[test]
fn a_download_that_nobody_took_up_for_long_is_removed() {
    let (_folder, store) = store();
    leave(&store, digest(b"old"), MAX_PARTIAL_AGE + Duration::from_secs(60));
    let old = data(&store, digest(b"old"), 10);
    let open = File::open(&old).unwrap();
    open.lock().unwrap();
    leave(&store, digest(b"young"), MAX_PARTIAL_AGE - Duration::from_secs(60));
    Store::open(store.root()).unwrap();
    assert!(old.exists(), "another process is downloading it");
    drop(open);
    Store::open(store.root()).unwrap();
    let left = tree(&store.root().join("kachery-p2p/partial"));
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|name| name.starts_with(&digest(b"young").to_string())), "{left:?}");
}

#[test]
fn of_too_many_downloads_the_oldest_are_removed() {
    let (_folder, store) = store();
    let name = |number: u64| digest(&number.to_be_bytes());
    for number in 0..MAX_PARTIAL_FILES as u64 {
        leave(&store, name(number), Duration::from_secs(100_000 - number));
    }
    Store::open(store.root()).unwrap();
    assert_eq!(store.partials().unwrap().len(), MAX_PARTIAL_FILES);
    let mut one_more = store.partial(name(u64::MAX), 10).unwrap();
    one_more.write_at(0, b"begun").unwrap();
    let left = store.partials().unwrap();
    assert_eq!(left.len(), MAX_PARTIAL_FILES);
    assert_eq!(left[0].sha1, name(1), "the oldest one made room");
    assert_eq!(
        left.iter().filter(|file| file.in_use).map(|file| file.sha1).collect::<Vec<_>>(),
        [name(u64::MAX)]
    );
}

#[test]
fn unfinished_downloads_are_listed_and_removed_but_for_those_in_use() {
    let (_folder, store) = store();
    let hour = Duration::from_secs(3600);
    leave(&store, digest(b"older"), 3 * hour);
    leave(&store, digest(b"old"), 2 * hour);
    leave(&store, digest(b"new"), Duration::ZERO);
    let mut in_use = store.partial(digest(b"older"), 10).unwrap();
    assert_eq!(in_use.present(), [], "it was not made to survive");
    let listed = store.partials().unwrap();
    let names = ["older", "old", "new"].map(|name| digest(name.as_bytes()));
    assert_eq!(listed.iter().map(|file| file.sha1).collect::<Vec<_>>(), names);
    assert_eq!(listed.iter().map(|file| file.in_use).collect::<Vec<_>>(), [true, false, false]);
    assert!(listed.iter().all(|file| file.size == 10));
    let removed = store.remove_partials(hour).unwrap();
    assert_eq!(removed.iter().map(|file| file.sha1).collect::<Vec<_>>(), [digest(b"old")]);
    assert_eq!(store.partials().unwrap().len(), 2);
    in_use.write_at(0, b"more").unwrap();
    in_use.sync().unwrap();
    drop(in_use);
    assert!(store.partials().unwrap().iter().any(|file| file.on_disk > 0));
    assert_eq!(store.remove_partials(Duration::ZERO).unwrap().len(), 2);
    assert_eq!(tree(store.root()), Vec::<String>::new());
}

#[test]
fn other_files_in_the_folder_of_downloads_stay() {
    let (_folder, store) = store();
    leave(&store, digest(b"x"), Duration::ZERO);
    let folder = store.root().join("kachery-p2p/partial");
    let sha1 = digest(b"x");
    for name in
        ["notes.data", &format!("{sha1}-010.data"), &format!("{sha1}-x.data"), &format!("{sha1}.data")]
    {
        std::fs::write(folder.join(name), b"").unwrap();
    }
    assert_eq!(store.remove_partials(Duration::ZERO).unwrap().len(), 1);
    assert_eq!(tree(&folder).len(), 4);
}

#[test]
fn a_download_that_another_user_left_unwritable_is_begun_anew() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        println!("SKIPPED: a download that another user left: the superuser may write it");
        return;
    }
    let (_folder, store) = store();
    leave(&store, digest(b"x"), Duration::ZERO);
    let path = data(&store, digest(b"x"), 10);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    let mut partial = store.partial(digest(b"x"), 10).unwrap();
    assert_eq!(partial.present(), []);
    partial.write_at(0, b"begun").unwrap();
}

#[test]
fn a_download_that_another_user_is_writing_is_in_use() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        println!("SKIPPED: a download that another user is writing: the superuser may write it");
        return;
    }
    let (_folder, store) = store();
    let mut theirs = Store::open(store.root()).unwrap().partial(digest(b"x"), 10).unwrap();
    theirs.write_at(0, b"begun").unwrap();
    let path = data(&store, digest(b"x"), 10);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    let error = store.partial(digest(b"x"), 10).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::InUse, "{error}");
    assert!(path.exists());
}
