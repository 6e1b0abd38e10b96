//! Tests of the store that are longer than a unit.

mod crash;
mod damage;
mod faults;
mod meddling;
mod odd;
mod partial;
mod put;
mod serve;
mod sweep;

use std::path::Path;

use sha1::Digest;

use super::{Sha1, Store};

pub(super) fn digest(bytes: &[u8]) -> Sha1 {
    Sha1(sha1::Sha1::digest(bytes).into())
}

/// `length` bytes that depend on the seed.
pub(super) fn sample(seed: u64, length: usize) -> Vec<u8> {
    use rand::{Rng, SeedableRng};
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

pub(super) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("root")).unwrap();
    (folder, store)
}

/// Puts bytes under a name as Python would, right or wrong.
pub(super) fn plant(store: &Store, sha1: Sha1, bytes: &[u8]) -> std::path::PathBuf {
    let text = sha1.to_string();
    let path = store.root().join(super::layout::relative("sha1", &text, &text));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// How many chain states the sidecar of a stored file has. None: no sidecar.
pub(super) fn states(store: &Store, sha1: Sha1) -> Option<usize> {
    super::sidecar::read(&store.inner.root, sha1).unwrap().map(|(_, states)| states.len())
}

/// Every file under a folder, relative, sorted.
pub(super) fn tree(root: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}
