//! The file that is shared: given, or random.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use indicatif::BinaryBytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

use super::scratch::unpredictable;
use crate::cli::failure::{Exit, Failure};

/// Bytes at a time.
const BLOCK: usize = 1 << 20;

/// Refuses what the demo could not share: no file, or more than `scratch` has room for.
pub(super) fn check(given: Option<&Path>, scratch: &Path, size: u64) -> Result<(), Failure> {
    let size = match given {
        Some(path) => size_of_given(path)?,
        None => size,
    };
    let space = rustix::fs::statvfs(scratch)
        .map_err(|e| Failure::io(format!("use the folder {}", scratch.display()), &e.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    // Two copies at any time: the original and the first store's, later those of both stores.
    let needed = size.saturating_mul(2);
    if needed <= free {
        return Ok(());
    }
    let what = format!(
        "the demo needs {} in {}, twice the size of the file, and {} are free there",
        BinaryBytes(needed),
        scratch.display(),
        BinaryBytes(free)
    );
    let next = "kachery-p2p demo --size 64MiB   (or set TMPDIR to a folder with more room)";
    Err(Failure::new(Exit::Disk, what).next(next))
}

fn size_of_given(path: &Path) -> Result<u64, Failure> {
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Err(Failure::usage(format!("--file: cannot read {shown}: {error}"))),
    };
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a folder" } else { "no regular file" };
        let failure = Failure::usage(format!("--file: {shown} is {kind}"));
        return Err(failure.next("kachery-p2p demo --file FILE"));
    }
    // Tells now if it may not be read.
    File::open(path).map_err(|error| Failure::usage(format!("--file: cannot read {shown}: {error}")))?;
    Ok(metadata.len())
}

/// What the loaded file is compared with. Its hash is another one than the name's, computed by other code.
pub(super) struct Original {
    path: PathBuf,
    size: u64,
    sha256: String,
    /// The seed of a random file.
    seed: Option<u64>,
}

impl Original {
    /// The file given, or `size` random bytes in `target`.
    pub(super) fn prepare(given: Option<PathBuf>, target: &Path, size: u64) -> Result<Self, Failure> {
        match given {
            Some(path) => {
                let size = std::fs::metadata(&path).map_err(|e| Failure::io(path.display(), &e))?.len();
                let sha256 = sha256(&path)?;
                Ok(Self { path, size, sha256, seed: None })
            }
            None => Self::random(target, size, unpredictable()?),
        }
    }

    fn random(target: &Path, size: u64, seed: u64) -> Result<Self, Failure> {
        let fail = |e| Failure::io(format!("write {}", target.display()), &e);
        let mut random = StdRng::seed_from_u64(seed);
        let mut hasher = Sha256::new();
        let mut file = File::create_new(target).map_err(fail)?;
        let mut block = vec![0; BLOCK];
        let mut left = size;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            let (part, _) = block.split_at_mut(length);
            random.fill_bytes(part);
            hasher.update(&*part);
            file.write_all(part).map_err(fail)?;
            left -= length as u64;
        }
        let sha256 = HEXLOWER.encode(&hasher.finalize());
        Ok(Self { path: target.to_owned(), size, sha256, seed: Some(seed) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn sha256(&self) -> String {
        self.sha256.clone()
    }

    /// For the URI.
    pub(super) fn label(&self) -> String {
        match self.seed {
            Some(_) => "random.bin".into(),
            None => self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self.seed {
            Some(seed) => format!("made a file of {} random bytes (seed {seed})", self.size),
            None => format!("took {} ({} bytes)", self.path.display(), self.size),
        }
    }

    /// Frees the disk of a random file; a given one belongs to the user.
    pub(super) fn discard(&self) {
        if self.seed.is_some() {
            // It lies in the scratch folder, which is removed at the end in any case.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The SHA-256 of a file, in hex.
pub(super) fn sha256(path: &Path) -> Result<String, Failure> {
    let fail = |e| Failure::io(format!("read {}", path.display()), &e);
    let mut file = File::open(path).map_err(fail)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        let count = file.read(&mut block).map_err(fail)?;
        if count == 0 {
            return Ok(HEXLOWER.encode(&hasher.finalize()));
        }
        hasher.update(block.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_file_has_its_size_and_hash_and_is_the_same_for_the_same_seed() {
        let folder = tempfile::tempdir().unwrap();
        let size = BLOCK as u64 + 17;
        let one = Original::random(&folder.path().join("one"), size, 5).unwrap();
        let two = Original::random(&folder.path().join("two"), size, 5).unwrap();
        let other = Original::random(&folder.path().join("other"), size, 6).unwrap();
        assert_eq!(std::fs::metadata(one.path()).unwrap().len(), size);
        assert_eq!(sha256(one.path()).unwrap(), one.sha256());
        assert_eq!(one.sha256(), two.sha256());
        assert_ne!(one.sha256(), other.sha256());
    }

    #[test]
    fn a_given_file_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.dat");
        std::fs::write(&path, b"abc").unwrap();
        let original = Original::prepare(Some(path.clone()), &folder.path().join("unused"), 9).unwrap();
        original.discard();
        assert!(path.exists());
        assert_eq!(original.label(), "mine.dat");
        assert_eq!(original.sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
