//! What we remember beside a stored file, in `kachery-p2p/states`: its size, the stamp at which its content was
//! verified, and its SHA-1 chain states. Only ours is believed: anybody who can write here could forge it.
//!
//! Format, version 2, big-endian: magic `KPSTATES`, version u32, log2 of the chunk size u32, size u64, inode u64,
//! mtime seconds i64 and nanoseconds i64, ctime likewise, then a check of the header, the states (20 bytes each) and
//! a check of the states. A check is the SHA-1 of the file's hash followed by what is checked.

use std::fs::File;
use std::io::Read;

use sha1::Digest;

use super::chain::{self, ChainState};
use super::disk::{self, During, Folder, Stamp};
use super::layout::{self, OWN};
use super::memory::SMALL;
use super::place::Hashed;
use super::temporary::Temporary;
use super::{ContentHash, Sha1, StoreError};

const MAGIC: &[u8; 8] = b"KPSTATES";
/// 2: those of version 1 may call a file verified that another program lengthened while it was downloaded.
const VERSION: u32 = 2;
const HEADER: usize = 8 + 4 + 4 + 8 + 8 + 4 * 8;
const CHECK: usize = 20;

fn check(sha1: Sha1, bytes: &[u8]) -> [u8; CHECK] {
    sha1::Sha1::new().chain_update(sha1.0).chain_update(bytes).finalize().into()
}

fn header(stamp: &Stamp) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&chain::CHUNK.ilog2().to_be_bytes());
    bytes.extend_from_slice(&stamp.size.to_be_bytes());
    bytes.extend_from_slice(&stamp.inode.to_be_bytes());
    for number in [stamp.modified.0, stamp.modified.1, stamp.changed.0, stamp.changed.1] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn parse_header(bytes: &[u8; HEADER]) -> Option<Stamp> {
    let (fixed, numbers) = bytes.split_at(16);
    let numbers: Vec<u64> = numbers.as_chunks::<8>().0.iter().map(|b| u64::from_be_bytes(*b)).collect();
    let [size, inode, m0, m1, c0, c1] = numbers.try_into().ok()?;
    let stamp = Stamp {
        inode,
        size,
        modified: (m0.cast_signed(), m1.cast_signed()),
        changed: (c0.cast_signed(), c1.cast_signed()),
    };
    header(&stamp).starts_with(fixed).then_some(stamp)
}

/// The folders of the sidecar of a hash below the root, and its name.
fn place(sha1: Sha1) -> (String, String) {
    let text = sha1.to_string();
    let name = format!("{text}.states");
    (text, name)
}

fn open(root: &Folder, sha1: Sha1) -> Result<Option<File>, StoreError> {
    let (text, name) = place(sha1);
    let [a, b, c] = layout::shards(&text);
    match layout::descend(root, &[OWN, "states", a, b, c])? {
        Some(folder) => folder.open_own_file(&name),
        None => Ok(None),
    }
}

/// The stamp at which the content was last verified. None: no sidecar, or a damaged one.
pub(super) fn read_stamp(root: &Folder, sha1: Sha1) -> Result<Option<Stamp>, StoreError> {
    let Some(mut file) = open(root, sha1)? else { return Ok(None) };
    Ok(read_checked_header(&mut file, sha1))
}

fn read_checked_header(file: &mut File, sha1: Sha1) -> Option<Stamp> {
    let mut bytes = [0; HEADER];
    let mut sum = [0; CHECK];
    file.read_exact(&mut bytes).ok()?;
    file.read_exact(&mut sum).ok()?;
    (check(sha1, &bytes) == sum).then(|| parse_header(&bytes)).flatten()
}

/// Remembers that the content at `stamp` has this hash, and its states.
pub(super) fn write(
    root: &Folder,
    sha1: Sha1,
    stamp: &Stamp,
    states: &[ChainState],
) -> Result<(), StoreError> {
    let (text, name) = place(sha1);
    let [a, b, c] = layout::shards(&text);
    let folder = layout::descend_or_create(root, &[OWN, "states", a, b, c])?;
    let mut bytes = header(stamp);
    let header_check = check(sha1, &bytes);
    bytes.extend_from_slice(&header_check);
    bytes.extend_from_slice(states.as_flattened());
    bytes.extend_from_slice(&check(sha1, states.as_flattened()));
    let temporary = Temporary::create(root)?;
    disk::keep_others_from_writing(temporary.file(), &temporary.path())?;
    disk::write_at(temporary.file(), &temporary.path(), 0, &bytes)?;
    // Not made durable: it checks itself, and without it the file is hashed once more.
    temporary.move_unsynced(&folder, &name)?;
    Ok(())
}

/// After a file came to its place under `sha1`: remembers it as verified, unless its content was touched meanwhile.
/// Small files have no sidecar: hashing them again costs less.
pub(super) fn write_for_placed(root: &Folder, hashed: &Hashed<'_>) -> Result<(), StoreError> {
    let ContentHash::Sha1(sha1) = hashed.hash else { return Ok(()) };
    if hashed.size < SMALL {
        return Ok(());
    }
    let path = layout::relative("sha1", &sha1.to_string(), &sha1.to_string());
    let now = Stamp::of(&hashed.file.metadata().during("look at", &path)?);
    if now.size != hashed.size || !now.has_same_content(&hashed.stamp) {
        return Ok(());
    }
    write(root, sha1, &now, hashed.states)
}

/// Stamp and states, as whoever verifies ranges would read them. None: no sidecar, or a damaged one.
#[cfg(test)]
pub(super) fn read(root: &Folder, sha1: Sha1) -> Result<Option<(Stamp, Vec<ChainState>)>, StoreError> {
    let Some(mut file) = open(root, sha1)? else { return Ok(None) };
    let Some(stamp) = read_checked_header(&mut file, sha1) else { return Ok(None) };
    let count = chain::chunk_count(stamp.size);
    let expected = (HEADER + 2 * CHECK) as u64 + count * 20;
    let (_, name) = place(sha1);
    // The length is compared before anything is reserved for it.
    if file.metadata().during("look at", name.as_ref())?.len() != expected {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).during("read", name.as_ref())?;
    let Some((states, sum)) = bytes.split_last_chunk::<CHECK>() else { return Ok(None) };
    if check(sha1, states) != *sum {
        return Ok(None);
    }
    Ok(Some((stamp, states.as_chunks::<20>().0.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        Stamp { inode: 7, size, modified: (1, 2), changed: (-3, 4) }
    }

    #[test]
    fn a_sidecar_of_a_version_that_believed_lengthened_files_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let root = Folder::open_root(folder.path()).unwrap();
        let sha1 = Sha1([8; 20]);
        write(&root, sha1, &stamp(100), &[[1; 20]]).unwrap();
        let path = folder.path().join(format!("kachery-p2p/states/08/08/08/{sha1}.states"));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[8..12].copy_from_slice(&1_u32.to_be_bytes());
        let sum = check(sha1, &bytes[..HEADER]);
        bytes[HEADER..HEADER + CHECK].copy_from_slice(&sum);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read_stamp(&root, sha1).unwrap(), None);
    }

    #[test]
    fn a_sidecar_reads_back_and_every_flipped_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let root = Folder::open_root(folder.path()).unwrap();
        let sha1 = Sha1([9; 20]);
        let states = vec![[1; 20], [2; 20], [3; 20]];
        let stamp = stamp(2 * chain::CHUNK + 1);
        write(&root, sha1, &stamp, &states).unwrap();
        assert_eq!(read(&root, sha1).unwrap(), Some((stamp, states)));
        let path = folder.path().join(format!("kachery-p2p/states/09/09/09/{sha1}.states"));
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert_eq!(read(&root, sha1).unwrap(), None, "byte {at}");
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert_eq!(read(&root, sha1).unwrap(), None, "length {length}");
        }
        assert_eq!(std::fs::read_dir(folder.path().join("kachery-p2p/tmp")).unwrap().count(), 0);
    }
}
