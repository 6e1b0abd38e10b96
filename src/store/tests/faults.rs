//! RELIABILITY 17: the disk fails once, at each call in turn. The caller gets an error or a good result, the store stays
//! consistent, and the next try succeeds.

use std::path::Path;

use super::{digest, sample, tree};
use crate::store::faults::for_tests::{Fault, plan, seen};
use crate::store::{
    Algorithm, Cancel, ContentHash, DirectoryOptions, PutOptions, Store, StoreError, StoreErrorKind,
};

const ERRORS: [(i32, &str); 3] = [(28, "ENOSPC"), (5, "EIO"), (30, "EROFS")];

/// Every file under a hash has that hash.
pub(super) fn assert_consistent(root: &Path, context: &str) {
    for name in tree(root) {
        let last = name.rsplit('/').next().unwrap();
        if name.starts_with("sha1/") && last.len() == 40 {
            let bytes = std::fs::read(root.join(&name)).unwrap();
            assert_eq!(digest(&bytes).to_string(), last, "{context}: a wrong file under a hash");
        }
    }
}

/// Runs `work` in fresh folders with a fault at each of its steps; `must_fail` says for which steps an error is due, given
/// the steps it passes undisturbed. Returns how many faults were injected.
fn at_every_step(
    label: &str,
    work: &dyn Fn(&Path) -> Result<(), StoreError>,
    must_fail: &dyn Fn(&[&'static str], usize) -> bool,
) -> usize {
    let undisturbed = tempfile::tempdir().unwrap();
    plan(None);
    work(undisturbed.path()).unwrap();
    let steps = seen();
    for (errno, error_name) in ERRORS {
        for (number, step) in steps.iter().enumerate() {
            let context = format!("{label}: {error_name} at step {number} ({step})");
            let folder = tempfile::tempdir().unwrap();
            plan(Some((number, Fault::Fails(errno))));
            let result = work(folder.path());
            plan(None);
            match &result {
                Ok(()) => assert!(!must_fail(&steps, number), "{context}: a failure to persist was hidden"),
                Err(error) => assert_eq!(error.is_disk_full_or_readonly(), errno != 5, "{context}: {error}"),
            }
            let root = folder.path().join("root");
            if root.exists() {
                assert_consistent(&root, &context);
                let store = Store::open(&root).unwrap();
                let left = tree(store.root()).into_iter().find(|name| name.contains("/tmp/"));
                assert_eq!(left, None, "{context}: a temporary is left");
            }
            work(folder.path()).unwrap_or_else(|e| panic!("{context}: the next try fails: {e}"));
            assert_consistent(&root, &context);
        }
    }
    steps.len() * ERRORS.len()
}

/// Up to the last `fsync folder` everything is about the file itself; later come sidecar and hash memory, which may be
/// lost.
fn until_durable(steps: &[&'static str], number: usize) -> bool {
    steps.iter().rposition(|s| *s == "fsync folder").is_some_and(|last| number <= last)
}

#[test]
fn every_disk_fault_leaves_the_store_consistent() {
    let bytes = sample(17, 1_100_000);
    let sha1 = digest(&bytes);
    let put = |folder: &Path| {
        std::fs::write(folder.join("source"), &bytes).unwrap();
        let stored = Store::open(&folder.join("root"))?.put_file(&folder.join("source"))?;
        assert!(std::fs::read(stored.path).unwrap() == bytes);
        Ok(())
    };
    let mut faults = at_every_step("store", &put, &until_durable);
    let download = |folder: &Path| {
        let store = Store::open(&folder.join("root"))?;
        if store.find(sha1)?.is_some() {
            return Ok(());
        }
        let mut partial = store.partial(sha1, bytes.len() as u64)?;
        for (number, piece) in bytes.chunks(400_000).enumerate().rev() {
            partial.write_at(number as u64 * 400_000, piece)?;
            partial.sync()?;
        }
        partial.commit().map(|_| ()).map_err(|(error, _)| error)
    };
    // After the last sync of a folder a download only removes what is left of it.
    faults += at_every_step("download", &download, &until_durable);
    let forget = |folder: &Path| {
        let store = Store::open(&folder.join("root"))?;
        let mut partial = store.partial(sha1, bytes.len() as u64)?;
        partial.write_at(0, &bytes[..1000])?;
        partial.forget(10, 20)
    };
    faults += at_every_step("forget", &forget, &|_, _| true);
    let copy_out = |folder: &Path| {
        let store = Store::open(&folder.join("root"))?;
        let stored = store.put_reader(&mut &bytes[..], &PutOptions::default())?;
        store.copy_out(
            &stored.path,
            ContentHash::Sha1(sha1),
            &folder.join("out"),
            &Cancel::default(),
            &|_| {},
        )?;
        assert!(std::fs::read(folder.join("out")).unwrap() == bytes);
        Ok(())
    };
    faults += at_every_step("copy out", &copy_out, &|steps, number| {
        steps.get(number) == Some(&"rename") && number + 1 >= steps.len() - 1
    });
    let directory = |folder: &Path| {
        std::fs::create_dir_all(folder.join("d/sub")).unwrap();
        std::fs::write(folder.join("d/sub/a"), b"a").unwrap();
        let options = DirectoryOptions { put: PutOptions::default(), git_annex: false, on_file: &|_, _| {} };
        Store::open(&folder.join("root"))?.put_directory(&folder.join("d"), &options)?;
        Ok(())
    };
    faults += at_every_step("folder", &directory, &until_durable);
    println!("check 17: measured 0 inconsistencies in {faults} faults, bar 0, seed none");
}

#[test]
fn what_served_files_remember_may_be_lost_without_harm() {
    let bytes = sample(18, 200_000);
    let sha1 = digest(&bytes);
    let serve = |folder: &Path| {
        let store = Store::open(&folder.join("root"))?;
        super::plant(&store, sha1, &bytes);
        assert!(store.open_served(sha1)?.is_some());
        std::fs::write(folder.join("source"), &bytes).unwrap();
        store.hash_of_file(&folder.join("source"), Algorithm::Sha1, &|_| {})?;
        Ok(())
    };
    at_every_step("serve", &serve, &|_, number| number == 0);
}

#[test]
fn content_is_durable_before_anything_speaks_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("root")).unwrap();
    let mut partial = store.partial(digest(b"abcd"), 4).unwrap();
    partial.write_at(0, b"ab").unwrap();
    partial.sync().unwrap();
    plan(None);
    partial.write_at(2, b"cd").unwrap();
    partial.sync().unwrap();
    assert_eq!(seen(), ["write", "fdatasync", "write", "fdatasync"], "data, then journal");
    plan(None);
    partial.commit().unwrap();
    let steps = seen();
    let order: Vec<_> = steps.iter().filter(|s| ["fsync", "rename", "fsync folder"].contains(*s)).collect();
    assert!(order.starts_with(&[&"fsync", &"rename", &"fsync folder"]), "{steps:?}");
    plan(None);
    store.put_reader(&mut &b"efgh"[..], &PutOptions::default()).unwrap();
    let steps = seen();
    let order: Vec<_> = steps.iter().filter(|s| ["fsync", "rename", "fsync folder"].contains(*s)).collect();
    assert!(order.starts_with(&[&"fsync", &"rename", &"fsync folder"]), "{steps:?}");
}

#[test]
fn a_new_download_makes_data_and_journal_durable_once_each_with_its_first_sync() {
    let (_folder, store) = super::store();
    let mut partial = store.partial(digest(b"abcd"), 4).unwrap();
    plan(None);
    partial.write_at(0, b"ab").unwrap();
    assert!(!seen().iter().any(|step| step.contains("sync")), "nothing needs to survive yet: {:?}", seen());
    partial.sync().unwrap();
    let syncs: Vec<_> = seen().into_iter().filter(|step| step.contains("sync")).collect();
    let folders = syncs.iter().filter(|step| **step == "fsync folder").count();
    assert_eq!(syncs.len() - folders, 2, "{syncs:?}");
    assert!(syncs.ends_with(&["fsync folder"]), "then their names: {syncs:?}");
}

#[test]
fn refusals_of_the_system_are_told_apart() {
    use rustix::io::Errno;
    let kinds = [
        (Errno::NOSPC, StoreErrorKind::DiskFull),
        (Errno::DQUOT, StoreErrorKind::DiskFull),
        (Errno::ROFS, StoreErrorKind::NotWritable),
        (Errno::ACCESS, StoreErrorKind::NotWritable),
        (Errno::PERM, StoreErrorKind::NotWritable),
        (Errno::MFILE, StoreErrorKind::TooManyOpenFiles),
        (Errno::NFILE, StoreErrorKind::TooManyOpenFiles),
        (Errno::FBIG, StoreErrorKind::FileTooLarge),
        (Errno::IO, StoreErrorKind::Other),
        (Errno::NOENT, StoreErrorKind::Other),
    ];
    let (_folder, store) = super::store();
    for (errno, kind) in kinds {
        plan(Some((0, Fault::Fails(errno.raw_os_error()))));
        let error = store.put_reader(&mut &b"x"[..], &PutOptions::default()).unwrap_err();
        plan(None);
        assert_eq!(error.kind(), kind, "{errno}: {error}");
        let unreadable = StoreError::Source { path: "x".into(), source: errno.into() };
        let expected = if kind == StoreErrorKind::TooManyOpenFiles { kind } else { StoreErrorKind::Other };
        assert_eq!(unreadable.kind(), expected, "a source that cannot be read says nothing about the store");
    }
    assert_eq!(StoreError::TooManyPieces.kind(), StoreErrorKind::Other);
}
