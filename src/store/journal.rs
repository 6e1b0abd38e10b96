//! The journal of a download: which ranges of its data file are durable, and the SHA-1 states of its beginning.
//! Only appended to, after the data it speaks of was made durable; a torn or damaged tail is ignored and cut off.
//!
//! Format: a header (magic `KPPARTL1`, the SHA-1, the size) and records of 40 bytes (kind, two numbers, a state),
//! each followed by a check of 8 bytes. Big-endian.

use std::fs::File;
use std::io::{BufReader, Read};
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
}

/// What a journal says.
#[derive(Default)]
pub(super) struct Replayed {
    pub(super) present: Ranges,
    pub(super) states: Vec<ChainState>,
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
                }
                fits
            }
            Record::Forgotten(start, end) => {
                self.present.remove(start, end);
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
        }
    }
}

impl Journal {
    /// Opens or creates the journal and reads what it says; nothing if it is for another file or damaged.
    pub(super) fn open(
        folder: &Folder,
        name: &str,
        sha1: Sha1,
        size: u64,
    ) -> Result<(Self, Replayed), StoreError> {
        let path = folder.path_of(name);
        let mut file = folder.open_or_create_file(name)?;
        let (length, replayed) = replay(&mut file, sha1, size);
        let mut journal = Journal { file, path, length };
        if length == 0 {
            journal.restart(sha1, size)?;
        } else if journal.file.metadata().during("look at", &journal.path)?.len() != length {
            disk::set_length(&journal.file, &journal.path, length)?;
        }
        Ok((journal, replayed))
    }

    /// Makes it say nothing, durably.
    pub(super) fn restart(&mut self, sha1: Sha1, size: u64) -> Result<(), StoreError> {
        disk::set_length(&self.file, &self.path, 0)?;
        disk::write_at(&self.file, &self.path, 0, &header(sha1, size))?;
        self.length = STEP as u64;
        disk::sync_file(&self.file, &self.path)
    }

    /// Has it grown well beyond what has to be said about a file of this size?
    pub(super) fn is_long(&self, size: u64) -> bool {
        let needed = chain::chunk_count(size).saturating_add(MAX_PARTIAL_RANGES as u64);
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
