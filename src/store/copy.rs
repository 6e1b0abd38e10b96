//! One pass over a stream: read, hash, write. The calling thread reads and writes, a second one hashes the same
//! buffers, so that what is stored is what was hashed, whatever happens to the source meanwhile.
//!
//! Large files are written around the page cache where the system can: copying through it costs several times the
//! time of hashing. Buffers: [`PIECES`] of [`PIECE`] bytes. Channels: to the hasher (when full, the caller waits for the
//! hasher), and back (never full: it has room for all buffers).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use md5::Digest;

use super::chain::{ChainHasher, ChainState};
use super::disk::{self, During};
use super::{Algorithm, ContentHash, StoreError};

/// Bytes read, hashed and written at a time.
const PIECE: usize = 1 << 20;
/// Buffers under way.
const PIECES: usize = 8;
/// What direct writes must be aligned to (a larger demand is noticed and answered with ordinary writes).
const ALIGNMENT: usize = 4096;

/// The hash under way, of either algorithm.
pub(super) enum Hashing {
    Sha1(ChainHasher),
    Md5(md5::Md5),
}

impl Hashing {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha1 => Hashing::Sha1(ChainHasher::default()),
            Algorithm::Md5 => Hashing::Md5(md5::Md5::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hashing::Sha1(hasher) => hasher.update(bytes),
            Hashing::Md5(hasher) => hasher.update(bytes),
        }
    }

    /// The hash, and for SHA-1 the chain states.
    pub(super) fn finish(self) -> (ContentHash, Vec<ChainState>) {
        match self {
            Hashing::Sha1(hasher) => (ContentHash::Sha1(hasher.digest()), hasher.into_states()),
            Hashing::Md5(hasher) => (ContentHash::Md5(hasher.finalize().into()), Vec::new()),
        }
    }
}

/// What one pass found out.
pub(super) struct Passed {
    pub(super) hash: ContentHash,
    pub(super) states: Vec<ChainState>,
    pub(super) size: u64,
}

/// Bytes whose address is aligned for direct writes.
struct Piece {
    storage: Vec<u8>,
    start: usize,
    length: usize,
}

impl Piece {
    fn new() -> Self {
        let storage = vec![0; PIECE + ALIGNMENT];
        let start = storage.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Piece { storage, start, length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        self.storage.get(self.start..self.start + self.length).unwrap_or_default()
    }

    /// Reads until full or the end.
    fn fill(&mut self, source: &mut dyn Read) -> io::Result<()> {
        self.length = 0;
        while self.length < PIECE {
            let room = self.storage.get_mut(self.start + self.length..self.start + PIECE).unwrap_or_default();
            match source.read(room) {
                Ok(0) => break,
                Ok(count) => self.length += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Where the bytes go.
pub(super) struct Sink<'a> {
    file: &'a File,
    path: &'a Path,
    offset: u64,
    direct: bool,
}

impl<'a> Sink<'a> {
    /// A sink for about `expected` bytes (0: not known): room is reserved, so that a full disk is noticed early.
    pub(super) fn new(file: &'a File, path: &'a Path, expected: u64) -> Result<Self, StoreError> {
        if expected > PIECE as u64 {
            disk::reserve(file, path, expected)?;
        }
        let direct = expected > PIECE as u64 && disk::set_direct(file, true);
        Ok(Sink { file, path, offset: 0, direct })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.direct && !bytes.len().is_multiple_of(ALIGNMENT) {
            self.stop_direct();
        }
        let mut written = disk::write_at(self.file, self.path, self.offset, bytes);
        if self.direct
            && let Err(StoreError::Io { source, .. }) = &written
            && source.kind() == io::ErrorKind::InvalidInput
        {
            self.stop_direct();
            written = disk::write_at(self.file, self.path, self.offset, bytes);
        }
        self.offset += bytes.len() as u64;
        written
    }

    fn stop_direct(&mut self) {
        disk::set_direct(self.file, false);
        self.direct = false;
    }

    /// Cuts off what was reserved and not needed.
    fn finish(self) -> Result<(), StoreError> {
        match self.file.metadata().during("look at", self.path)?.len() == self.offset {
            true => Ok(()),
            false => disk::set_length(self.file, self.path, self.offset),
        }
    }
}

/// Reads `source` to its end, hashes it and writes it to the sink if there is one. `progress` is told the bytes so far.
pub(super) fn pass(
    source: &mut dyn Read,
    source_path: &Path,
    mut sink: Option<Sink<'_>>,
    algorithm: Algorithm,
    progress: &dyn Fn(u64),
) -> Result<Passed, StoreError> {
    let unreadable = |source| StoreError::Source { path: source_path.to_owned(), source };
    let mut first = Piece::new();
    first.fill(source).map_err(unreadable)?;
    let mut hashing = Hashing::new(algorithm);
    let mut size = first.length as u64;
    if first.length < PIECE {
        hashing.update(first.bytes());
        if let Some(sink) = &mut sink {
            sink.write(first.bytes())?;
        }
    } else {
        let next = |piece: &mut Piece| piece.fill(source).map_err(unreadable);
        (hashing, size) = overlapped(first, next, sink.as_mut(), hashing, progress)?;
    }
    if let Some(sink) = sink {
        sink.finish()?;
    }
    let (hash, states) = hashing.finish();
    Ok(Passed { hash, states, size })
}

fn overlapped(
    first: Piece,
    mut next: impl FnMut(&mut Piece) -> Result<(), StoreError>,
    mut sink: Option<&mut Sink<'_>>,
    mut hashing: Hashing,
    progress: &dyn Fn(u64),
) -> Result<(Hashing, u64), StoreError> {
    std::thread::scope(|scope| {
        let (to_hash, pieces) = sync_channel::<Arc<Piece>>(PIECES);
        let (done, hashed) = sync_channel::<()>(PIECES + 1);
        let hash_all = move || {
            for piece in pieces {
                hashing.update(piece.bytes());
                drop(piece);
                // Nobody listens any more: reading or writing failed.
                if done.send(()).is_err() {
                    break;
                }
            }
            hashing
        };
        let hasher = std::thread::Builder::new().spawn_scoped(scope, hash_all);
        let hasher = hasher.during("start a thread to hash", Path::new(""))?;
        let stopped = || StoreError::Io {
            what: "hash".to_owned(),
            source: io::Error::other("the hashing thread stopped"),
        };
        let mut under_way = VecDeque::new();
        let mut piece = first;
        let mut size = 0;
        while piece.length > 0 {
            size += piece.length as u64;
            let shared = Arc::new(piece);
            to_hash.send(Arc::clone(&shared)).map_err(|_| stopped())?;
            if let Some(sink) = &mut sink {
                sink.write(shared.bytes())?;
            }
            under_way.push_back(shared);
            progress(size);
            piece = if under_way.len() < PIECES {
                Piece::new()
            } else {
                hashed.recv().map_err(|_| stopped())?;
                under_way.pop_front().and_then(Arc::into_inner).unwrap_or_else(Piece::new)
            };
            next(&mut piece)?;
        }
        drop(to_hash);
        Ok((hasher.join().map_err(|_| stopped())?, size))
    })
}
