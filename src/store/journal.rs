//! The journal of a download: which ranges of its data file are durable, the SHA-1 states of its beginning, and sums
//! of the chunks that the states do not reach. Only appended to, after the data it speaks of was made durable; a torn
//! or damaged tail is ignored and cut off.
//!
//! States and sums are hints that help to find damage: they are unkeyed, and anybody who can write here can forge them.
//!
//! Format: a header (magic `KPPARTL1`, the SHA-1, the size) and records of 40 bytes (kind, two numbers, a state),
//! each followed by a check of 8 bytes. Big-endian.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use sha1::Digest;

use super::chain::{self, ChainState};
use super::disk::{self, During, Folder};
use super::ranges::Ranges;
use super::temporary::Temporary;
use super::{Sha1, StoreError};
use crate::limits::MAX_PARTIAL_RANGES;

const MAGIC: &[u8; 8] = b"KPPARTL1";
const RECORD: usize = 40;
const CHECK: usize = 8;
const STEP: usize = RECORD + CHECK;

/// One line of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The range is on disk.
    Present(u64, u64),
    /// The range came from a liar.
    Forgotten(u64, u64),
    /// The SHA-1 state before this chunk.
    State(u64, ChainState),
    /// The SHA-1 of what of this chunk is on disk, one range after the other, by the records so far.
    Sum(u64, Sum),
}

/// See [`Record::Sum`].
pub(super) type Sum = [u8; 20];

/// What a journal says.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) present: Ranges,
    pub(super) states: Vec<ChainState>,
    /// By chunk.
    pub(super) sums: BTreeMap<u64, Sum>,
}

pub(super) struct Journal {
    file: File,
    path: PathBuf,
    length: u64,
}

fn sealed(bytes: [u8; RECORD]) -> [u8; STEP] {
    let sum = sha1::Sha1::digest(bytes);
    let mut out = [0; STEP];
    for (to, from) in out.iter_mut().zip(bytes.iter().chain(sum.iter().take(CHECK))) {
        *to = *from;
    }
    out
}

fn fields(kind: u8, first: u64, second: u64, state: ChainState) -> [u8; STEP] {
    let mut bytes = [0; RECORD];
    let parts = [&[kind, 0, 0, 0][..], &first.to_be_bytes(), &second.to_be_bytes(), &state];
    for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    sealed(bytes)
}

impl Record {
    fn encode(self) -> [u8; STEP] {
        match self {
            Record::Present(start, end) => fields(1, start, end, [0; 20]),
            Record::Forgotten(start, end) => fields(2, start, end, [0; 20]),
            Record::State(chunk, state) => fields(3, chunk, 0, state),
            Record::Sum(chunk, sum) => fields(4, chunk, 0, sum),
        }
    }

    fn decode(bytes: &[u8; STEP]) -> Option<Self> {
        let (record, _) = bytes.split_first_chunk::<RECORD>()?;
        if sealed(*record) != *bytes {
            return None;
        }
        let number = |at| Some(u64::from_be_bytes(*record.get(at..)?.first_chunk()?));
        let state = *record.get(20..)?.first_chunk()?;
        match record.first()? {
            1 => Some(Record::Present(number(4)?, number(12)?)),
            2 => Some(Record::Forgotten(number(4)?, number(12)?)),
            3 => Some(Record::State(number(4)?, state)),
            4 => Some(Record::Sum(number(4)?, state)),
            _ => None,
        }
    }
}

fn header(sha1: Sha1, size: u64) -> [u8; STEP] {
    let mut bytes = [0; RECORD];
    let parts = [&MAGIC[..], &size.to_be_bytes(), &sha1.0];
    for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
        *to = *from;
    }
    sealed(bytes)
}

impl Replayed {
    /// False: the record cannot follow what was read so far.
    fn apply(&mut self, record: Record, size: u64) -> bool {
        match record {
            Record::Present(start, end) => {
                let fits = start < end && end <= size && self.present.count() <= MAX_PARTIAL_RANGES;
                if fits {
                    self.present.insert(start, end);
                    forget_sums(&mut self.sums, start, end);
                }
                fits
            }
            Record::Forgotten(start, end) => {
                self.present.remove(start, end);
                forget_sums(&mut self.sums, start, end);
                let keep = start / chain::CHUNK + 1;
                self.states.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
                true
            }
            Record::State(chunk, state) => {
                // A state may be said again after its chunk was forgotten.
                let follows = chunk <= self.states.len() as u64;
                if follows {
                    self.states.truncate(usize::try_from(chunk).unwrap_or(usize::MAX));
                    self.states.push(state);
                }
                follows
            }
            Record::Sum(chunk, sum) => {
                let exists = chunk < chain::chunk_count(size);
                if exists {
                    self.sums.insert(chunk, sum);
                }
                exists
            }
        }
    }
}

/// Forgets the sums of the chunks that share bytes with a range: what of them is on disk changes.
pub(super) fn forget_sums(sums: &mut BTreeMap<u64, Sum>, start: u64, end: u64) {
    let first = start / chain::CHUNK;
    // A journal that somebody made up may say that a range ends before it starts.
    let last = end.div_ceil(chain::CHUNK).max(first);
    while let Some((&chunk, _)) = sums.range(first..last).next() {
        sums.remove(&chunk);
    }
}

impl Journal {
    /// Opens or creates the journal and reads what it says. None: it is new, for another file, or damaged at its
    /// beginning, and has to be [started over](Journal::restart).
    pub(super) fn open(
        folder: &Folder,
        name: &str,
        sha1: Sha1,
        size: u64,
    ) -> Result<(Self, Option<Replayed>), StoreError> {
        let path = folder.path_of(name);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let file = folder.open_unshared_file(name, true)?;
        let mut file = file.ok_or_else(missing).during("create", &path)?;
        let (length, replayed) = replay(&mut file, sha1, size);
        let journal = Journal { file, path, length };
        if length > 0 && journal.length_on_disk()? != length {
            disk::set_length(&journal.file, &journal.path, length)?;
        }
        Ok((journal, (length > 0).then_some(replayed)))
    }

    fn length_on_disk(&self) -> Result<u64, StoreError> {
        Ok(self.file.metadata().during("look at", &self.path)?.len())
    }

    /// Makes it say nothing. What it said before is gone for good; that it exists is durable with the first
    /// [`Journal::append`].
    pub(super) fn restart(&mut self, sha1: Sha1, size: u64) -> Result<(), StoreError> {
        if self.length_on_disk()? > 0 {
            disk::set_length(&self.file, &self.path, 0)?;
            disk::sync_file(&self.file, &self.path)?;
        }
        disk::write_at(&self.file, &self.path, 0, &header(sha1, size))?;
        self.length = STEP as u64;
        Ok(())
    }

    /// Has it grown well beyond what has to be said about a file of this size?
    pub(super) fn is_long(&self, size: u64) -> bool {
        // A state and a sum for each chunk.
        let needed = chain::chunk_count(size).saturating_mul(2).saturating_add(MAX_PARTIAL_RANGES as u64);
        self.length / STEP as u64 > needed.saturating_mul(2)
    }

    /// Adds records durably. If that fails, what was there stays valid.
    pub(super) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let bytes: Vec<u8> = records.iter().flat_map(|r| r.encode()).collect();
        disk::write_at(&self.file, &self.path, self.length, &bytes)?;
        disk::sync_data(&self.file, &self.path)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Replaces all it says by these records, atomically.
    pub(super) fn replace(
        &mut self,
        root: &Folder,
        folder: &Folder,
        name: &str,
        header_of: (Sha1, u64),
        records: &[Record],
    ) -> Result<(), StoreError> {
        let mut bytes = header(header_of.0, header_of.1).to_vec();
        bytes.extend(records.iter().flat_map(|r| r.encode()));
        let temporary = Temporary::create(root)?;
        disk::write_at(temporary.file(), &temporary.path(), 0, &bytes)?;
        self.file = temporary.move_to(folder, name)?;
        self.length = bytes.len() as u64;
        Ok(())
    }
}

/// Reads as far as it makes sense: the length of that (0: not a journal of this file), and what it says.
fn replay(file: &mut File, sha1: Sha1, size: u64) -> (u64, Replayed) {
    let mut reader = BufReader::new(file);
    let mut replayed = Replayed::default();
    let mut length = 0;
    let mut bytes = [0; STEP];
    while reader.read_exact(&mut bytes).is_ok() {
        let fits = match length {
            0 => bytes == header(sha1, size),
            _ => Record::decode(&bytes).is_some_and(|record| replayed.apply(record, size)),
        };
        if !fits {
            break;
        }
        length += STEP as u64;
    }
    (length, replayed)
}
