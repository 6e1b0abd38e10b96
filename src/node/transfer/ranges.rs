//! Sets of byte ranges `[start, end)`.

use std::collections::BTreeMap;

/// Disjoint, non-touching, non-empty ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    /// Start to end.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// The set of these ranges, in any order; empty ones are ignored.
    pub(crate) fn from_ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut set = Self::default();
        for (start, end) in ranges {
            set.insert(start, end);
        }
        set
    }

    /// Ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }

    /// Bytes in the set.
    pub(crate) fn total(&self) -> u64 {
        self.iter().map(|(start, end)| end - start).sum()
    }

    /// Adds a range, joining what it touches.
    pub(crate) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((&low, &high)) = self.ranges.range(..=end).next_back() {
            if high < start {
                break;
            }
            start = start.min(low);
            end = end.max(high);
            self.ranges.remove(&low);
        }
        self.ranges.insert(start, end);
    }

    /// Takes a range out.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        while let Some((&low, &high)) = self.ranges.range(..end).next_back() {
            if high <= start {
                break;
            }
            self.ranges.remove(&low);
            if low < start {
                self.ranges.insert(low, start);
            }
            if high > end {
                self.ranges.insert(end, high);
            }
        }
    }

    /// The parts of `[start, end)` that are not in the set, ascending.
    pub(crate) fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = start;
        let first = self.ranges.range(..=start).next_back().map_or(start, |(low, _)| *low);
        for (&low, &high) in self.ranges.range(first..) {
            if at >= end || low >= end {
                break;
            }
            if low > at {
                gaps.push((at, low));
            }
            at = at.max(high);
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }

    /// The first part of `[start, end)` that is not in the set.
    pub(crate) fn first_gap(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let at = match self.ranges.range(..=start).next_back() {
            Some((_, &high)) if high > start => high,
            _ => start,
        };
        let stop = self.ranges.range(at..).next().map_or(end, |(low, _)| (*low).min(end));
        (at < stop).then_some((at, stop))
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn a_set_behaves_like_a_row_of_flags() {
        for seed in 0..200u64 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut set = RangeSet::default();
            let mut flags = [false; 64];
            for _ in 0..40 {
                let start = random.random_range(0..64usize);
                let end = random.random_range(start..=64usize);
                let add = random.random_bool(0.6);
                if add {
                    set.insert(start as u64, end as u64);
                } else {
                    set.remove(start as u64, end as u64);
                }
                flags[start..end].fill(add);
            }
            let mut wanted = Vec::new();
            let (low, high) = (random.random_range(0..64usize), 64usize);
            for (index, _) in flags.iter().enumerate().filter(|(i, flag)| *i >= low && !**flag) {
                match wanted.last_mut() {
                    Some((_, end)) if *end == index as u64 => *end += 1,
                    _ => wanted.push((index as u64, index as u64 + 1)),
                }
            }
            assert_eq!(set.gaps(low as u64, high as u64), wanted, "seed {seed}");
            assert_eq!(set.first_gap(low as u64, high as u64), wanted.first().copied(), "seed {seed}");
            assert_eq!(set.total(), flags.iter().filter(|flag| **flag).count() as u64, "seed {seed}");
            assert_eq!(RangeSet::from_ranges(set.iter()), set, "seed {seed}");
        }
    }
}
