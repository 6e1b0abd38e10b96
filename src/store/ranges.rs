//! Sets of byte ranges.

use std::collections::BTreeMap;

/// Ranges `[start, end)`, ascending, disjoint, not touching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    by_start: BTreeMap<u64, u64>,
}

impl Ranges {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.by_start.iter().map(|(start, end)| (*start, *end))
    }

    pub(super) fn count(&self) -> usize {
        self.by_start.len()
    }

    /// The end of the range that contains `offset`, or `offset` if none does.
    pub(super) fn covered_to(&self, offset: u64) -> u64 {
        let before = self.by_start.range(..=offset).next_back();
        before.map_or(offset, |(_, end)| offset.max(*end))
    }

    /// Does a range of the set end at `start` or begin at `end`?
    pub(super) fn touches(&self, start: u64, end: u64) -> bool {
        start.checked_sub(1).is_some_and(|before| self.covered_to(before) == start)
            || self.by_start.contains_key(&end)
    }

    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((s, e)) = self.by_start.range(..=end).next_back().map(|(s, e)| (*s, *e)) {
            if e < start {
                break;
            }
            self.by_start.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        self.by_start.insert(start, end);
    }

    pub(super) fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        while let Some((s, e)) = self.by_start.range(..end).next_back().map(|(s, e)| (*s, *e)) {
            if e <= start {
                break;
            }
            self.by_start.remove(&s);
            if s < start {
                self.by_start.insert(s, start);
            }
            if e > end {
                self.by_start.insert(end, e);
            }
        }
    }

    /// What of `[start, end)` is not in the set.
    pub(super) fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = self.covered_to(start);
        while at < end {
            let next = self.by_start.range(at..end).next().map_or(end, |(s, _)| *s);
            gaps.push((at, next));
            at = self.covered_to(next);
        }
        gaps
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
            for i in 0..64 {
                let inside = listed.iter().any(|(s, e)| (*s..*e).contains(&i));
                assert_eq!(inside, bitmap[i as usize], "seed {seed} round {round}");
                let gap = gaps.iter().any(|(s, e)| (*s..*e).contains(&i));
                assert_eq!(gap, (c..d).contains(&i) && !inside, "seed {seed} round {round}");
            }
        }
    }
}
