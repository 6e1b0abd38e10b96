//! What an earlier process left of a download is read back beside the running download, chunk by chunk, and nothing
//! of it is in the hash of the whole before that: a disk may lose or change bytes that lay there for days, and others
//! may write in a shared store.

use sha1::Digest;

use super::{CHUNK, Partial};
use crate::store::StoreError;
use crate::store::chain::{self, ChainState};
use crate::store::disk::{self, During};
use crate::store::journal::{Sum, forget_sums};
use crate::store::ranges::Ranges;

/// What one step of reading back found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rechecked {
    /// There may be more to read back.
    More,
    /// These ranges `[start, end)` are not what was written there. They are missing again: fetch them once more.
    Damaged(Vec<(u64, u64)>),
    /// Everything on disk was read back, as far as the file is there without a gap from its beginning.
    Done,
}

/// What is known of the bytes that an earlier process wrote.
#[derive(Default)]
pub(super) struct Old {
    /// Not read back yet.
    unread: Ranges,
    /// Read back, but the journal says nothing to compare with: suspects if the hash of the whole is wrong.
    unchecked: Ranges,
}

impl Old {
    pub(super) fn new(present: &Ranges) -> Self {
        Old { unread: present.clone(), unchecked: Ranges::default() }
    }

    /// Up to where the bytes from `start` on may be hashed.
    pub(super) fn readable_to(&self) -> u64 {
        self.unread.iter().next().map_or(u64::MAX, |(start, _)| start)
    }

    /// Where the first byte is that the journal cannot vouch for.
    pub(super) fn vouched_to(&self) -> u64 {
        self.unchecked.iter().next().map_or(u64::MAX, |(start, _)| start)
    }

    /// Must the journal not be told that this chunk is right?
    pub(super) fn doubts(&self, chunk: u64) -> bool {
        let (start, end) = (chunk * CHUNK, chunk.saturating_add(1).saturating_mul(CHUNK));
        [&self.unread, &self.unchecked].into_iter().any(|set| !within(set, start, end).is_empty())
    }

    pub(super) fn remove(&mut self, start: u64, end: u64) {
        self.unread.remove(start, end);
        self.unchecked.remove(start, end);
    }
}

/// The parts of `[start, end)` that are in the set.
pub(super) fn within(set: &Ranges, start: u64, end: u64) -> Vec<(u64, u64)> {
    let (mut parts, mut at) = (Vec::new(), start);
    while at < end {
        let covered = set.covered_to(at).min(end);
        if covered > at {
            parts.push((at, covered));
            at = covered;
        } else {
            at = set.first_gap(at, end).map_or(end, |(_, next)| next);
        }
    }
    parts
}

pub(super) fn sum(bytes: &[u8]) -> Sum {
    sha1::Sha1::digest(bytes).into()
}

impl Partial {
    /// Reads back up to a MiB of what an earlier process wrote, and continues the hash of the whole. To be called again
    /// and again, between writes, until it says [`Rechecked::Done`], and then whenever there is time:
    /// [`Partial::commit`] does what is left.
    pub fn recheck_step(&mut self) -> Result<Rechecked, StoreError> {
        let start = self.old.readable_to();
        if start >= self.key.size {
            return Ok(if self.continue_hash(CHUNK)? { Rechecked::More } else { Rechecked::Done });
        }
        let chunk = start / CHUNK;
        let (from, to) = (chunk * CHUNK, self.key.size.min((chunk + 1) * CHUNK));
        let ranges = within(&self.old.unread, from, to);
        // Bytes that cannot be read are fetched again like bytes that changed.
        let bytes = self.read(&ranges).unwrap_or_else(|error| {
            tracing::warn!(%error, "a part of an unfinished download cannot be read");
            Vec::new()
        });
        self.old.unread.remove(from, to);
        let whole = ranges == [(from, to)];
        let number = usize::try_from(chunk).unwrap_or(usize::MAX - 1);
        let good = match (self.said.get(number).copied(), self.said.get(number + 1).copied()) {
            (Some(before), Some(after)) if whole => Some(self.follow(from, &bytes, &before, &after)),
            _ => self.sums.get(&chunk).map(|said| sum(&bytes) == *said),
        };
        // The sum is not about what was written since.
        if good == Some(false) || within(&self.present, from, to) != ranges {
            forget_sums(&mut self.sums, from, to);
        }
        if good == Some(false) || bytes.is_empty() {
            ranges.iter().for_each(|(start, end)| self.present.remove(*start, *end));
            tracing::warn!(sha1 = %self.key.sha1, from, to, "an unfinished download is damaged here; this part is fetched again");
            return Ok(Rechecked::Damaged(ranges));
        }
        if good.is_none() {
            ranges.iter().for_each(|(start, end)| self.old.unchecked.insert(*start, *end));
        }
        if whole && self.hasher.length() == from {
            self.hasher.update(&bytes);
        }
        self.scratch = bytes;
        Ok(Rechecked::More)
    }

    /// Does this whole chunk lead from one state to the other? Then the hash of the whole, if it is there, need not
    /// hash it again.
    fn follow(&mut self, from: u64, bytes: &[u8], before: &ChainState, after: &ChainState) -> bool {
        let good = bytes.len() as u64 == CHUNK && chain::advance(before, bytes) == *after;
        if good && self.hasher.is_at(from, before) {
            self.hasher.adopt(after);
        }
        good
    }

    /// The bytes of these ranges, one after the other, in `scratch`, to which it should be returned.
    pub(super) fn read(&mut self, ranges: &[(u64, u64)]) -> Result<Vec<u8>, StoreError> {
        let Some(files) = &self.files else { return Ok(Vec::new()) };
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        for (start, end) in ranges {
            let before = bytes.len();
            bytes.resize(before + usize::try_from(end - start).unwrap_or_default(), 0);
            let room = bytes.get_mut(before..).unwrap_or_default();
            if disk::read_up_to(&files.data, *start, room).during("read", &files.path)? < room.len() {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
                    .during("read", &files.path);
            }
        }
        Ok(bytes)
    }

    /// Hashes what follows the hashed beginning, is present and was read back: at most `budget` bytes. Was there
    /// anything?
    pub(super) fn continue_hash(&mut self, budget: u64) -> Result<bool, StoreError> {
        let start = self.hasher.length();
        let end = self.present.covered_to(start).min(self.old.readable_to());
        let end = end.min(start.saturating_add(budget));
        let mut at = start;
        while at < end {
            let next = end.min(at + CHUNK);
            let bytes = self.read(&[(at, next)])?;
            self.hasher.update(&bytes);
            self.scratch = bytes;
            at = next;
        }
        Ok(at > start)
    }

    /// The hash of the whole is wrong: what an earlier process wrote and nothing vouches for is missing again. False:
    /// there is no such part.
    pub(super) fn forget_unchecked(&mut self) -> bool {
        let unchecked = std::mem::take(&mut self.old.unchecked);
        for (start, end) in unchecked.iter() {
            self.present.remove(start, end);
            self.hasher.rewind(start);
        }
        self.agreed = self.agreed.min(self.hasher.states().len());
        unchecked.count() > 0
    }
}
