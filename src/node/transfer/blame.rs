//! Who sent which bytes, so that a wrong hash can be traced to its sender.
//!
//! A file named only by its SHA-1 can be checked only as a whole. Each stretch of bytes is remembered with its
//! provider and a fingerprint; when the whole is wrong, everything is fetched again from one provider (in the same
//! stretches), and once that is right, those whose fingerprints differ lied.
//!
//! This is the only set of received bytes in a download. The partial file has one of its own, which means something else:
//! what was written, and survives a crash. It lags behind this one, because the disk is written by a thread of its own,
//! and outlives it.

use std::collections::BTreeMap;

use super::keys::ProviderKey;
use crate::store::ranges::Ranges;

/// Where bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// They were on disk when the download began.
    Disk,
    /// A provider sent them.
    Provider(ProviderKey),
}

#[derive(Clone, Debug)]
struct Stretch {
    end: u64,
    source: Source,
    fingerprint: Fingerprint,
}

/// The sources of all present bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blame {
    /// By start; disjoint.
    stretches: BTreeMap<u64, Stretch>,
    /// The stretches without their sources: answers of many senders are few ranges.
    present: Ranges,
    /// The stretches of an assembly that proved wrong.
    suspects: BTreeMap<u64, Stretch>,
}

/// A stretch ends where its answer does, so that an answer can be forgotten, and at multiples of this, so that
/// fingerprints of whole-file and range requests can be compared. So the table stays small: 56 bytes for each.
const STRETCH: u64 = 2 << 20;

impl Blame {
    /// What is there.
    pub(crate) fn present(&self) -> &Ranges {
        &self.present
    }

    /// Bytes that were on disk, if they are not noted yet.
    pub(crate) fn on_disk(&mut self, start: u64, end: u64) {
        for (start, end) in self.present.gaps(start, end) {
            let stretch = Stretch { end, source: Source::Disk, fingerprint: Fingerprint::default() };
            self.stretches.insert(start, stretch);
            self.present.insert(start, end);
        }
    }

    /// Notes bytes at `start` (not noted before), which belong to an answer that begins at `answer`.
    pub(crate) fn add(&mut self, provider: ProviderKey, answer: u64, start: u64, bytes: &[u8]) {
        let mut start = start;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let cut = self.stretch_end(start, start + (STRETCH - start % STRETCH));
            let room = (cut - start).min(bytes.len() as u64);
            let (head, tail) = bytes.split_at(room as usize);
            self.add_piece(Source::Provider(provider), start == answer, start, head);
            start += room;
            bytes = tail;
        }
    }

    fn add_piece(&mut self, source: Source, begins: bool, start: u64, bytes: &[u8]) {
        let end = start + bytes.len() as u64;
        self.present.insert(start, end);
        let cut_here = begins || start.is_multiple_of(STRETCH) || self.suspects.contains_key(&start);
        match self.stretches.range_mut(..start).next_back() {
            Some((_, last)) if !cut_here && last.end == start && last.source == source => {
                last.fingerprint.add(bytes);
                last.end = end;
            }
            _ => {
                let mut fingerprint = Fingerprint::default();
                fingerprint.add(bytes);
                self.stretches.insert(start, Stretch { end, source, fingerprint });
            }
        }
    }

    /// These bytes are not there any more. What is left of their stretches stays, but cannot be compared any more, so it
    /// counts as found on disk.
    pub(crate) fn lose(&mut self, start: u64, end: u64) {
        let overlaps = |(low, stretch): (&u64, &Stretch)| (stretch.end > start).then_some(*low);
        while let Some(low) = self.stretches.range(..end).next_back().and_then(overlaps) {
            let Some(stretch) = self.stretches.remove(&low) else { break };
            self.present.remove(low, stretch.end);
            [(low, start), (end, stretch.end)]
                .into_iter()
                .filter(|(left, right)| left < right)
                .for_each(|(left, right)| self.on_disk(left, right));
        }
    }

    /// Bytes by source.
    pub(crate) fn totals(&self) -> BTreeMap<Source, u64> {
        let mut totals = BTreeMap::new();
        for (start, stretch) in &self.stretches {
            *totals.entry(stretch.source).or_default() += stretch.end - start;
        }
        totals
    }

    /// The assembly was wrong: keeps only what these sent and remembers the rest as suspect. Returns what is to be
    /// forgotten.
    pub(crate) fn suspect_all_but(&mut self, keep: &[ProviderKey]) -> Vec<(u64, u64)> {
        let is_kept = |source| matches!(source, Source::Provider(key) if keep.contains(&key));
        let all = std::mem::take(&mut self.stretches);
        let mut forgotten = Vec::new();
        for (start, stretch) in all {
            if is_kept(stretch.source) {
                self.stretches.insert(start, stretch);
            } else {
                forgotten.push((start, stretch.end));
                self.present.remove(start, stretch.end);
                self.suspects.entry(start).or_insert(stretch);
            }
        }
        forgotten
    }

    /// Part of an answer may be in the wrong place. Returns what is to be forgotten: what the provider sent there.
    pub(crate) fn forget(&mut self, provider: ProviderKey, start: u64, end: u64) -> Vec<(u64, u64)> {
        let source = Source::Provider(provider);
        let answer = self.stretches.range(start..end.max(start)).filter(|(_, s)| s.source == source);
        let forgotten: Vec<_> = answer.map(|(start, stretch)| (*start, stretch.end)).collect();
        for (start, end) in &forgotten {
            self.stretches.remove(start);
            self.present.remove(*start, *end);
        }
        forgotten
    }

    /// Where a request in the search for a liar has to end so that its fingerprint can be compared.
    pub(crate) fn stretch_end(&self, start: u64, end: u64) -> u64 {
        match self.suspects.range(..=start).next_back() {
            Some((_, stretch)) if stretch.end > start => stretch.end.min(end),
            _ => end,
        }
    }

    /// The assembly is right now: who sent something else before?
    pub(crate) fn liars(&self) -> Vec<ProviderKey> {
        let mut liars: Vec<ProviderKey> = self
            .suspects
            .iter()
            .filter_map(|(start, suspect)| {
                let Source::Provider(provider) = suspect.source else { return None };
                let right = self.stretches.get(start)?;
                let comparable = right.end == suspect.end && right.source != suspect.source;
                (comparable && right.fingerprint != suspect.fingerprint).then_some(provider)
            })
            .collect();
        liars.sort_unstable();
        liars.dedup();
        liars
    }
}

/// Tells different bytes apart for blame only; what is right is decided by SHA-1. Independent of how the bytes were
/// cut into messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fingerprint {
    state: u64,
    /// The last bytes, fewer than 8, not yet in the state.
    carry: u64,
    carried: u32,
}

impl Fingerprint {
    fn add(&mut self, bytes: &[u8]) {
        let lead = if self.carried == 0 { 0 } else { bytes.len().min(8 - self.carried as usize) };
        let (head, rest) = bytes.split_at(lead);
        head.iter().for_each(|byte| self.add_byte(*byte));
        let mut words = rest.chunks_exact(8);
        for word in &mut words {
            self.add_word(word.try_into().map_or(0, u64::from_le_bytes));
        }
        words.remainder().iter().for_each(|byte| self.add_byte(*byte));
    }

    fn add_byte(&mut self, byte: u8) {
        self.carry |= u64::from(byte) << (8 * self.carried);
        self.carried += 1;
        if self.carried == 8 {
            let word = std::mem::take(&mut self.carry);
            self.carried = 0;
            self.add_word(word);
        }
    }

    fn add_word(&mut self, word: u64) {
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProviderKey = ProviderKey(0);
    const B: ProviderKey = ProviderKey(1);

    #[test]
    fn a_fingerprint_does_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        let mut whole = Fingerprint::default();
        whole.add(&bytes);
        for size in 1..20 {
            let mut cut = Fingerprint::default();
            bytes.chunks(size).for_each(|piece| cut.add(piece));
            assert_eq!(cut, whole, "pieces of {size}");
        }
    }

    #[test]
    fn the_one_whose_bytes_differ_from_the_right_ones_is_named() {
        let mut blame = Blame::default();
        blame.add(A, 0, 0, &[1; 100]);
        blame.add(B, 100, 100, &[2; 100]);
        blame.add(A, 200, 200, &[3; 100]);
        let forgotten = blame.suspect_all_but(&[A]);
        assert_eq!(forgotten, [(100, 200)]);
        // Cut differently by the sender.
        blame.add(A, 100, 100, &[2; 37]);
        blame.add(A, 100, 137, &[9; 63]);
        assert_eq!(blame.liars(), [B]);
    }

    #[test]
    fn equal_bytes_are_no_reason_for_blame() {
        let mut blame = Blame::default();
        blame.on_disk(0, 50);
        blame.add(B, 50, 50, &[2; 50]);
        assert_eq!(blame.suspect_all_but(&[]), [(0, 50), (50, 100)]);
        blame.add(A, 0, 0, &[[7; 50].as_slice(), &[2; 10]].concat());
        blame.add(A, 0, 60, &[2; 40]);
        assert_eq!(blame.liars(), [ProviderKey(7); 0]);
    }

    #[test]
    fn an_answer_is_forgotten_without_its_neighbours() {
        let mut blame = Blame::default();
        for answer in [0, 100, 200] {
            blame.add(A, answer, answer, &[1; 60]);
            blame.add(A, answer, answer + 60, &[1; 40]);
        }
        blame.add(B, 300, 300, &[1; 100]);
        assert_eq!(blame.forget(A, 100, 200), [(100, 200)]);
        assert_eq!(blame.totals()[&Source::Provider(A)], 200);
        assert_eq!(blame.forget(A, 300, 400), []);
    }

    #[test]
    fn what_is_present_is_what_the_stretches_hold_whatever_is_forgotten() {
        use rand::{RngExt, SeedableRng};
        let seed = 31;
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let mut blame = Blame::default();
        for round in 0..3000 {
            let start = random.random_range(0..2 * STRETCH);
            let end = start + random.random_range(1..STRETCH / 4);
            let from = ProviderKey(random.random_range(0..3));
            match random.random_range(0..40) {
                0 => drop(blame.suspect_all_but(&[from])),
                1..10 => drop(blame.forget(from, start, end)),
                10..15 => blame.lose(start, end),
                15..20 => blame.on_disk(start, end),
                _ => {
                    for (low, high) in blame.present().gaps(start, end) {
                        blame.add(from, start, low, &vec![1; (high - low) as usize]);
                    }
                }
            }
            let stretches = blame.stretches.iter().map(|(start, stretch)| (*start, stretch.end));
            assert_eq!(Ranges::from_ranges(stretches), blame.present, "seed {seed} round {round}");
            let total: u64 = blame.totals().values().sum();
            assert_eq!(total, blame.present.total(), "seed {seed} round {round}: stretches overlap");
        }
    }

    #[test]
    fn what_is_left_of_a_lost_stretch_is_nobodys() {
        let mut blame = Blame::default();
        blame.add(A, 0, 0, &[1; 100]);
        blame.lose(20, 30);
        assert_eq!(blame.totals(), BTreeMap::from([(Source::Disk, 90)]));
        assert_eq!(blame.suspect_all_but(&[A]), [(0, 20), (30, 100)]);
    }

    #[test]
    fn stretches_end_at_fixed_places() {
        let mut blame = Blame::default();
        blame.add(A, STRETCH - 10, STRETCH - 10, &[1; 20]);
        assert_eq!(blame.stretches.keys().copied().collect::<Vec<_>>(), [STRETCH - 10, STRETCH]);
        assert_eq!(blame.totals()[&Source::Provider(A)], 20);
    }
}
