//! Sets of byte ranges.

use rangemap::RangeSet;

/// Ranges `[start, end)`, ascending, disjoint, not touching. Unlike [`RangeSet`] it takes empty ranges, which mean
/// nothing: offsets come from peers and journals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    set: RangeSet<u64>,
    /// Bytes in the set.
    total: u64,
}

impl Ranges {
    /// The set of these ranges, in any order.
    #[cfg(test)]
    pub(crate) fn from_ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|(start, end)| set.insert(start, end));
        set
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.set.iter().map(|range| (range.start, range.end))
    }

    pub(crate) fn count(&self) -> usize {
        self.set.len()
    }

    /// Bytes in the set.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The end of the range that contains `offset`, or `offset` if none does.
    pub(crate) fn covered_to(&self, offset: u64) -> u64 {
        self.set.get(&offset).map_or(offset, |range| range.end)
    }

    /// True if a range of the set ends at `start` or begins at `end`.
    pub(crate) fn touches(&self, start: u64, end: u64) -> bool {
        start.checked_sub(1).is_some_and(|before| self.covered_to(before) == start)
            || self.set.get(&end).is_some_and(|range| range.start == end)
    }

    /// Adds a range, joining what it touches; an empty one is ignored.
    pub(crate) fn insert(&mut self, start: u64, end: u64) {
        if start < end {
            self.total += self.missing(start, end);
            self.set.insert(start..end);
        }
    }

    /// Takes a range out.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        if start < end {
            self.total -= (end - start) - self.missing(start, end);
            self.set.remove(start..end);
        }
    }

    /// The parts of `[start, end)` that are not in the set, ascending.
    pub(crate) fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        if start >= end {
            return Vec::new();
        }
        self.set.gaps(&(start..end)).map(|gap| (gap.start, gap.end)).collect()
    }

    /// Bytes of `[start, end)`, which is not empty, that are not in the set.
    fn missing(&self, start: u64, end: u64) -> u64 {
        self.set.gaps(&(start..end)).map(|gap| gap.end - gap.start).sum()
    }

    /// The first part of `[start, end)` that is not in the set.
    pub(crate) fn first_gap(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let at = self.covered_to(start);
        (at < end).then(|| self.set.gaps(&(at..end)).next().map(|gap| (gap.start, gap.end)))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn random_insertions_and_removals_agree_with_a_bitmap() {
        let seed = 20;
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let (mut ranges, mut bitmap) = (Ranges::default(), [false; 64]);
        for round in 0..20_000 {
            let (a, b) = (random.random_range(0..64_u64), random.random_range(0..=64_u64));
            let present = random.random_bool(0.5);
            if present {
                ranges.insert(a, b)
            } else {
                ranges.remove(a, b)
            }
            (a..b).for_each(|i| bitmap[i as usize] = present);
            let listed: Vec<_> = ranges.iter().collect();
            assert!(listed.windows(2).all(|w| w[0].1 < w[1].0), "seed {seed} round {round}");
            let (c, d) = (random.random_range(0..64_u64), random.random_range(0..=64_u64));
            let gaps = ranges.gaps(c, d);
            assert_eq!(ranges.first_gap(c, d), gaps.first().copied(), "seed {seed} round {round}");
            assert_eq!(ranges.total(), bitmap.iter().filter(|bit| **bit).count() as u64);
            assert_eq!(Ranges::from_ranges(listed.iter().rev().copied()), ranges);
            for i in 0..64 {
                let inside = listed.iter().any(|(s, e)| (*s..*e).contains(&i));
                assert_eq!(inside, bitmap[i as usize], "seed {seed} round {round}");
                let gap = gaps.iter().any(|(s, e)| (*s..*e).contains(&i));
                assert_eq!(gap, (c..d).contains(&i) && !inside, "seed {seed} round {round}");
            }
        }
    }
}
