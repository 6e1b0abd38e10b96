//! Storing a local file: hash, copy and chain states in one pass, then rename into place.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::copy::{self, Passed, Sink};
use super::disk::{self, During, Stamp};
use super::memory::{self, Stat};
use super::place::Hashed;
use super::temporary::Temporary;
use super::{Algorithm, ContentHash, HowStored, Store, StoreError, Stored, layout, serve};

/// How to store.
#[derive(Clone, Copy)]
pub struct PutOptions<'a> {
    /// Which hash names it.
    pub algorithm: Algorithm,
    /// Make the store's file the same inode as the source. Later changes of the source then damage the store (peers
    /// are protected: it is verified before it is served); fails across file systems.
    pub hard_link: bool,
    /// Told the bytes done so far, about every MiB.
    pub progress: &'a dyn Fn(u64),
}

impl Default for PutOptions<'_> {
    fn default() -> Self {
        PutOptions { algorithm: Algorithm::Sha1, hard_link: false, progress: &|_| {} }
    }
}

/// The result of storing one file under a name of either algorithm.
#[derive(Clone, Debug)]
pub struct StoredAs {
    /// Its name.
    pub hash: ContentHash,
    /// Bytes.
    pub size: u64,
    /// Where it is now.
    pub path: PathBuf,
    /// How it got there.
    pub how: HowStored,
}

impl Store {
    /// Stores a file under its SHA-1.
    pub fn put_file(&self, source: &Path) -> Result<Stored, StoreError> {
        let StoredAs { hash, size, path, how } = self.put_file_with(source, &PutOptions::default())?;
        let sha1 = match hash {
            ContentHash::Sha1(sha1) => sha1,
            ContentHash::Md5(_) => return Err(StoreError::NotAFile { path }),
        };
        Ok(Stored { sha1, size, path, how })
    }

    /// Stores a file. What is there already, verified, is not written again; what was hashed before in the state it is
    /// in is not even read again.
    pub fn put_file_with(&self, source: &Path, options: &PutOptions<'_>) -> Result<StoredAs, StoreError> {
        let unreadable = |e| StoreError::Source { path: source.to_owned(), source: e };
        if !std::fs::metadata(source).map_err(unreadable)?.is_file() {
            return Err(StoreError::NotAFile { path: source.to_owned() });
        }
        let stat = Stat::of(source);
        if let Some(hash) = stat.as_ref().and_then(|s| memory::recall(&self.inner.root, s, options.algorithm))
            && let Some(stored) = self.already(hash)?
        {
            return Ok(stored);
        }
        let mut file = File::open(source).map_err(unreadable)?;
        let before = Stamp::of(&file.metadata().map_err(unreadable)?);
        let (temporary, passed, how) = if options.hard_link {
            self.link_and_hash(&mut file, source, options)?
        } else {
            self.copy_and_hash(&mut file, source, before.size, options)?
        };
        // A hard link changes the ctime of its source itself.
        let after = Stamp::of(&file.metadata().map_err(unreadable)?);
        let same_ctime = how == HowStored::HardLink || before.changed == after.changed;
        if (before.size, before.modified) != (after.size, after.modified) || !same_ctime {
            return Err(StoreError::Changed { path: source.to_owned() });
        }
        let stored = self.place(temporary, passed, how)?;
        // The name may mean another file by now: remembered is only the one that was read.
        let linked = how == HowStored::HardLink;
        let same = |now: &Stat| stat.as_ref().is_some_and(|s| s == now || (linked && s.same_content(now)));
        if let Some(now) = Stat::of(source).filter(same) {
            memory::remember(&self.inner.root, &now, stored.hash);
        }
        Ok(stored)
    }

    /// Stores what a reader gives, for instance the standard input.
    pub fn put_reader(
        &self,
        reader: &mut dyn Read,
        options: &PutOptions<'_>,
    ) -> Result<StoredAs, StoreError> {
        let temporary = Temporary::create(&self.inner.root)?;
        let path = temporary.path();
        let sink = Sink::new(temporary.file(), &path, 0)?;
        let passed =
            copy::pass(reader, Path::new("the input"), Some(sink), options.algorithm, options.progress)?;
        self.place(temporary, passed, HowStored::Copy)
    }

    /// The hash of a file, from the hash memory or by reading it. Remembers it.
    pub fn hash_of_file(
        &self,
        source: &Path,
        algorithm: Algorithm,
        progress: &dyn Fn(u64),
    ) -> Result<ContentHash, StoreError> {
        let stat = Stat::of(source).ok_or_else(|| StoreError::NotAFile { path: source.to_owned() })?;
        // A stored file is not hashed for its name if the name is known to be right.
        if let Some(sha1) = source.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok())
            && algorithm == Algorithm::Sha1
            && let Some(stored) = self.already(ContentHash::Sha1(sha1))?
            && Stat::of(&stored.path).as_ref() == Some(&stat)
        {
            return Ok(stored.hash);
        }
        if let Some(hash) = memory::recall(&self.inner.root, &stat, algorithm) {
            return Ok(hash);
        }
        let unreadable = |e| StoreError::Source { path: source.to_owned(), source: e };
        let mut file = File::open(source).map_err(unreadable)?;
        let passed = copy::pass(&mut file, source, None, algorithm, progress)?;
        if Stat::of(source).as_ref() == Some(&stat) {
            memory::remember(&self.inner.root, &stat, passed.hash);
        }
        Ok(passed.hash)
    }

    fn link_and_hash(
        &self,
        file: &mut File,
        source: &Path,
        options: &PutOptions<'_>,
    ) -> Result<(Temporary, Passed, HowStored), StoreError> {
        let kept = file.try_clone().during("keep open", source)?;
        let temporary = Temporary::hard_link(&self.inner.root, source, kept)?;
        if !temporary.is_itself()? {
            return Err(StoreError::Changed { path: source.to_owned() });
        }
        let passed = copy::pass(file, source, None, options.algorithm, options.progress)?;
        Ok((temporary, passed, HowStored::HardLink))
    }

    fn copy_and_hash(
        &self,
        file: &mut File,
        source: &Path,
        size: u64,
        options: &PutOptions<'_>,
    ) -> Result<(Temporary, Passed, HowStored), StoreError> {
        let temporary = Temporary::create(&self.inner.root)?;
        let path = temporary.path();
        if size >= memory::SMALL && reflink_copy::reflink_file(file, temporary.file()).is_ok() {
            // The clone is hashed, which nobody else can change.
            let mut clone = temporary.file();
            let passed = copy::pass(&mut clone, &path, None, options.algorithm, options.progress)?;
            return Ok((temporary, passed, HowStored::Reflink));
        }
        let sink = Sink::new(temporary.file(), &path, size)?;
        let passed = copy::pass(file, source, Some(sink), options.algorithm, options.progress)?;
        Ok((temporary, passed, HowStored::Copy))
    }

    /// Moves what was hashed to its name, unless the same is there already.
    fn place(&self, temporary: Temporary, passed: Passed, how: HowStored) -> Result<StoredAs, StoreError> {
        let Passed { hash, states, size } = passed;
        if let Some(stored) = self.already(hash)? {
            return Ok(stored);
        }
        let (file, folder, name) = (temporary.file(), temporary.folder(), temporary.name());
        disk::sync_file(file, &temporary.path())?;
        let stamp = Stamp::of(&file.metadata().during("look at", &temporary.path())?);
        let path = self.move_in(&Hashed { file, folder, name, stamp, hash, size, states: &states })?;
        Ok(StoredAs { hash, size, path, how })
    }

    /// What is in the store under this name, if it is known to be right. MD5 names are trusted if they exist.
    fn already(&self, hash: ContentHash) -> Result<Option<StoredAs>, StoreError> {
        let size = match hash {
            ContentHash::Sha1(sha1) => self.known_good(sha1)?,
            ContentHash::Md5(_) => match serve::open_content(&self.inner.root, hash)? {
                Some(file) => Some(file.metadata().during("look at", self.root())?.len()),
                None => None,
            },
        };
        let text = hash.to_string();
        let path = self.root().join(layout::relative(hash.algorithm().name(), &text, &text));
        Ok(size.map(|size| StoredAs { hash, size, path, how: HowStored::Already }))
    }
}
