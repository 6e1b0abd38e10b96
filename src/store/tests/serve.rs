//! What peers get, and what they do not.

use super::{digest, plant, sample, store};
use crate::limits::MAX_REMEMBERED_VERDICTS;
use crate::store::{ContentHash, Sha1, Store, StoreError};

#[test]
fn a_file_that_python_stored_is_verified_once_and_served() {
    let (folder, store) = store();
    let bytes = sample(1, 2_500_000);
    let sha1 = digest(&bytes);
    plant(&store, sha1, &bytes);
    assert_eq!(store.served_size(sha1).unwrap(), Some(2_500_000));
    let served = store.open_served(sha1).unwrap().unwrap();
    let mut piece = [0; 1000];
    served.read_at(2_000_000, &mut piece).unwrap();
    assert_eq!(piece, bytes[2_000_000..2_001_000]);
    assert!(served.read_at(2_499_999, &mut piece).is_err());
    use std::io::Read;
    let mut streamed = Vec::new();
    served.file().unwrap().read_to_end(&mut streamed).unwrap();
    assert_eq!((streamed, served.size()), (bytes, 2_500_000));
    let again = Store::open(&folder.path().join("root")).unwrap();
    assert_eq!(again.known_good(sha1).unwrap(), Some(2_500_000), "a restart remembers the verification");
}

#[test]
fn a_damaged_file_is_not_served_and_a_repaired_one_is() {
    let (_folder, store) = store();
    let bytes = sample(2, 500_000);
    let sha1 = digest(&bytes);
    let path = plant(&store, sha1, &bytes);
    assert!(store.open_served(sha1).unwrap().is_some());
    std::fs::write(&path, &bytes[..499_999]).unwrap();
    assert_eq!(store.served_size(sha1).unwrap(), None, "its size contradicts the verified one");
    assert!(store.open_served(sha1).unwrap().is_none());
    let mut other = bytes.clone();
    other[0] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &other).unwrap();
    assert!(store.open_served(sha1).unwrap().is_none());
    assert_eq!(store.served_size(sha1).unwrap(), None);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    assert!(store.open_served(sha1).unwrap().is_some());
}

#[test]
fn only_a_large_file_of_unknown_content_needs_hashing() {
    let (_folder, store) = store();
    let large = sample(3, 100_000);
    assert!(!store.needs_hashing(digest(&large)).unwrap(), "nothing is there");
    plant(&store, digest(&large), &large);
    assert!(store.needs_hashing(digest(&large)).unwrap());
    assert!(store.open_served(digest(&large)).unwrap().is_some());
    assert!(!store.needs_hashing(digest(&large)).unwrap(), "it was verified");
    let small = sample(4, 99_999);
    plant(&store, digest(&small), &small);
    assert!(!store.needs_hashing(digest(&small)).unwrap(), "that takes no time");
    let other = sample(5, 100_000);
    plant(&store, digest(&small), &other);
    assert!(store.open_served(digest(&small)).unwrap().is_none());
    assert!(!store.needs_hashing(digest(&small)).unwrap(), "it is known to be damaged");
}

#[test]
fn a_damaged_file_and_a_good_one_in_the_alternate_root_are_hashed_once() {
    let (folder, alternate) = store();
    let bytes = sample(6, 200_000);
    let sha1 = digest(&bytes);
    let good = plant(&alternate, sha1, &bytes);
    let own = folder.path().join("own");
    let store = Store::open_with_alternate(&own, Some(folder.path().join("root"))).unwrap();
    plant(&store, sha1, &sample(7, 200_000));
    assert!(store.needs_hashing(sha1).unwrap());
    for _ in 0..2 {
        assert!(store.open_served(sha1).unwrap().is_some());
        assert!(!store.needs_hashing(sha1).unwrap());
    }
    let again = |_| panic!("hashed again");
    assert_eq!(store.find_verified(ContentHash::Sha1(sha1), &again).unwrap(), Some(good));
}

#[test]
fn local_users_are_given_only_what_has_the_hash() {
    let (folder, store) = store();
    let bytes = sample(8, 2_500_000);
    let hash = ContentHash::Sha1(digest(&bytes));
    assert_eq!(store.find_verified(hash, &|_| {}).unwrap(), None);
    let path = plant(&store, digest(&bytes), &bytes);
    let hashed = std::cell::Cell::new(0);
    let progress = |bytes| hashed.set(bytes);
    assert_eq!(store.find_verified(hash, &progress).unwrap(), Some(path.clone()));
    assert_eq!(hashed.replace(0), 2_500_000);
    let fresh = Store::open(&folder.path().join("root")).unwrap();
    assert_eq!(fresh.find_verified(hash, &progress).unwrap(), Some(path.clone()));
    assert_eq!(hashed.get(), 0, "what is known good costs nothing");
    std::fs::write(&path, sample(9, 2_500_000)).unwrap();
    for _ in 0..2 {
        let error = store.find_verified(hash, &progress).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
}

#[test]
fn local_users_are_given_files_that_were_stored_through_a_link() {
    let (folder, store) = store();
    let bytes = sample(10, 150_000);
    let path = plant(&store, digest(&bytes), b"");
    std::fs::write(folder.path().join("elsewhere"), &bytes).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).unwrap();
    let hash = ContentHash::Sha1(digest(&bytes));
    assert_eq!(store.find_verified(hash, &|_| {}).unwrap(), Some(path));
    assert!(store.open_served(digest(&bytes)).unwrap().is_none(), "but peers are not");
}

#[test]
fn the_alternate_root_is_read_but_not_written() {
    let (folder, alternate) = store();
    let sha1 = digest(b"there");
    plant(&alternate, sha1, b"there");
    let store =
        Store::open_with_alternate(&folder.path().join("own"), Some(folder.path().join("root"))).unwrap();
    assert!(store.open_served(sha1).unwrap().is_some());
    assert!(store.find(sha1).unwrap().unwrap().starts_with(folder.path().join("root")));
    assert!(!folder.path().join("root/kachery-p2p").exists());
}

#[test]
fn links_pipes_and_folders_in_the_store_are_not_served() {
    let (folder, store) = store();
    let sha1 = digest(b"secret");
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join(sha1.to_string()), b"secret").unwrap();
    let text = sha1.to_string();
    // The file itself is a link.
    let path = plant(&store, sha1, b"");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(outside.join(&text), &path).unwrap();
    assert!(store.open_served(sha1).unwrap().is_none());
    assert_eq!(store.served_size(sha1).unwrap(), None);
    // It is a pipe: opening it must not hang.
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(store.open_served(sha1).unwrap().is_none());
    // A folder.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(store.open_served(sha1).unwrap().is_none());
    // A shard folder is a link out of the root.
    std::fs::remove_dir_all(store.root().join("sha1")).unwrap();
    std::fs::create_dir_all(store.root().join("sha1").join(&text[0..2]).join(&text[2..4])).unwrap();
    let shard = store.root().join("sha1").join(&text[0..2]).join(&text[2..4]).join(&text[4..6]);
    std::os::unix::fs::symlink(&outside, &shard).unwrap();
    assert!(store.open_served(sha1).unwrap().is_none());
    // And neither a download nor a local file is written through it.
    let mut partial = store.partial(sha1, 6).unwrap();
    partial.write_at(0, b"secret").unwrap();
    let before = super::tree(&outside);
    assert!(partial.commit().is_err());
    std::fs::write(folder.path().join("source"), b"secret").unwrap();
    assert!(store.put_file(&folder.path().join("source")).is_err());
    assert_eq!(super::tree(&outside), before);
    println!(
        "check 18: measured 0 files served or written outside the root by links, pipe and folder, bar 0, seed none"
    );
}

#[test]
fn our_own_folder_is_not_used_through_a_link() {
    let (folder, store) = store();
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, store.root().join("kachery-p2p")).unwrap();
    let sha1 = digest(b"x");
    assert!(store.partial(sha1, 1).is_err());
    assert!(store.put_reader(&mut &b"x"[..], &crate::store::PutOptions::default()).is_err());
    // A planted temporary outside is not taken for a dead one of ours.
    std::fs::create_dir(outside.join("tmp")).unwrap();
    std::fs::write(outside.join("tmp/a.temporary"), b"x").unwrap();
    Store::open(store.root()).unwrap();
    assert_eq!(super::tree(&outside), ["tmp/a.temporary"]);
}

#[test]
fn a_sidecar_that_another_user_wrote_does_not_vouch_for_a_file() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, store) = store();
    let (bytes, wrong) = (sample(11, 300_000), sample(12, 300_000));
    let sha1 = digest(&bytes);
    let path = plant(&store, sha1, &wrong);
    let stamp = crate::store::disk::Stamp::of(&std::fs::metadata(&path).unwrap());
    crate::store::sidecar::write(&store.inner.root, sha1, &stamp, &[[0; 20]]).unwrap();
    let name =
        crate::store::layout::relative("kachery-p2p/states", &sha1.to_string(), &format!("{sha1}.states"));
    let sidecar = store.root().join(name);
    let mode = std::fs::metadata(&sidecar).unwrap().permissions().mode();
    assert_eq!(mode & 0o022, 0, "others can write ours: {mode:o}");
    let believed = || {
        let fresh = Store::open(store.root()).unwrap();
        fresh.find_verified(ContentHash::Sha1(sha1), &|_| {}).is_ok()
    };
    assert!(believed(), "a sidecar of ours is believed, and here it is wrong");
    std::fs::set_permissions(&sidecar, PermissionsExt::from_mode(0o666)).unwrap();
    assert!(!believed(), "anybody may have written it");
    std::fs::set_permissions(&sidecar, PermissionsExt::from_mode(0o644)).unwrap();
    if std::os::unix::fs::chown(&sidecar, Some(1901), None).is_err() {
        println!("SKIPPED: a sidecar of another user: only the superuser can make one");
        return;
    }
    assert!(!believed(), "another user wrote it");
    assert!(store.open_served(sha1).unwrap().is_none());
}

#[test]
fn remembered_verdicts_are_bounded() {
    let (_folder, store) = store();
    let path = plant(&store, digest(b"x"), b"x");
    let stamp = crate::store::disk::Stamp::of(&std::fs::metadata(path).unwrap());
    for number in 0..MAX_REMEMBERED_VERDICTS as u64 {
        let mut name = [0; 20];
        name[..8].copy_from_slice(&number.to_be_bytes());
        store.inner.verdicts.remember(Sha1(name), stamp, true);
    }
    assert_eq!(store.inner.verdicts.count(), MAX_REMEMBERED_VERDICTS);
    store.inner.verdicts.remember(Sha1([255; 20]), stamp, true);
    assert_eq!(store.inner.verdicts.count(), 1);
}
