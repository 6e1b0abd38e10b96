//! Where things are under the root. The first group is shared with the Python package, the second is ours.
//!
//! | path | content |
//! | --- | --- |
//! | `ALG/h1h2/h3h4/h5h6/HASH` | a stored file; ALG is `sha1` or `md5` |
//! | `ALG/../HASH.hints.json`, `RECORD.record.json`, `*.json.lock` | the hash memory of Python's kachery |
//! | `kachery-p2p/states/h1h2/h3h4/h5h6/HASH.states` | size, verified stamp and SHA-1 chain states |
//! | `kachery-p2p/partial/HASH-SIZE.data`, `.journal` | downloads under way |
//! | `kachery-p2p/tmp/` | temporaries, each locked by the process that writes it |

use std::path::PathBuf;

use super::disk::Folder;
use super::{ContentHash, StoreError};

/// Our own folder under the root.
pub(super) const OWN: &str = "kachery-p2p";

/// The shard folders of a hash: hexadecimal characters 0-1, 2-3 and 4-5.
pub(super) fn shards(hash: &str) -> [&str; 3] {
    [hash.get(0..2), hash.get(2..4), hash.get(4..6)].map(Option::unwrap_or_default)
}

/// `ALG/h1h2/h3h4/h5h6/NAME`, where NAME begins with `hash` or is it.
pub(super) fn relative(algorithm: &str, hash: &str, name: &str) -> PathBuf {
    let [a, b, c] = shards(hash);
    [algorithm, a, b, c, name].iter().collect()
}

/// The folder of a stored file. None: it does not exist.
pub(super) fn content_folder(root: &Folder, hash: ContentHash) -> Result<Option<Folder>, StoreError> {
    let text = hash.to_string();
    let [a, b, c] = shards(&text);
    descend(root, &[hash.algorithm().name(), a, b, c])
}

/// The folder of a stored file, created if missing.
pub(super) fn content_folder_or_create(root: &Folder, hash: ContentHash) -> Result<Folder, StoreError> {
    let text = hash.to_string();
    let [a, b, c] = shards(&text);
    descend_or_create(root, &[hash.algorithm().name(), a, b, c])
}

/// Goes down folder by folder. None: one does not exist.
pub(super) fn descend(root: &Folder, names: &[&str]) -> Result<Option<Folder>, StoreError> {
    let mut folder: Option<Folder> = None;
    for name in names {
        folder = match folder.as_ref().unwrap_or(root).child(name)? {
            Some(child) => Some(child),
            None => return Ok(None),
        };
    }
    Ok(folder)
}

/// Goes down folder by folder, creating what is missing. `names` is not empty.
pub(super) fn descend_or_create(root: &Folder, names: &[&str]) -> Result<Folder, StoreError> {
    let (first, rest) = names.split_first().unwrap_or((&OWN, &[]));
    let mut folder = root.child_or_create(first)?;
    for name in rest {
        folder = folder.child_or_create(name)?;
    }
    Ok(folder)
}
