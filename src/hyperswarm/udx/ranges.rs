//! A set of sequence numbers as half-open ranges: what was acknowledged selectively, or arrived out of order.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Ranges that neither overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// Start to end.
    map: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds `[start, end)` and calls `added` with each part that was not in the set. What was there already is
    /// stepped over as a whole, so repeating large blocks costs nothing.
    pub(super) fn insert(&mut self, start: u64, end: u64, mut added: impl FnMut(u64, u64)) {
        if start >= end {
            return;
        }
        let (mut from, mut to, mut covered) = (start, end, start);
        if let Some((&first, &last)) = self.map.range(..=start).next_back()
            && last >= start
        {
            if last >= end {
                return;
            }
            (from, covered) = (first, last);
        }
        while let Some((&first, &last)) = self.map.range((Bound::Excluded(from), Bound::Included(end))).next()
        {
            if first > covered {
                added(covered, first);
            }
            covered = covered.max(last);
            to = to.max(last);
            self.map.remove(&first);
        }
        if covered < end {
            added(covered, end);
        }
        self.map.insert(from, to);
    }

    /// Forgets everything below `limit`.
    pub(super) fn remove_below(&mut self, limit: u64) {
        while let Some(entry) = self.map.first_entry() {
            if *entry.key() >= limit {
                return;
            }
            let end = entry.remove();
            if end > limit {
                self.map.insert(limit, end);
                return;
            }
        }
    }

    /// The ranges, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.map.iter().map(|(&start, &end)| (start, end))
    }

    /// The range that holds `number`.
    pub(super) fn around(&self, number: u64) -> Option<(u64, u64)> {
        let (&start, &end) = self.map.range(..=number).next_back()?;
        (number < end).then_some((start, end))
    }

    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(ranges: &mut Ranges, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut added = Vec::new();
        ranges.insert(start, end, |a, b| added.push((a, b)));
        added
    }

    #[test]
    fn only_what_is_new_is_reported() {
        let mut ranges = Ranges::default();
        assert_eq!(insert(&mut ranges, 5, 7), [(5, 7)]);
        assert_eq!(insert(&mut ranges, 10, 12), [(10, 12)]);
        assert_eq!(insert(&mut ranges, 5, 7), []);
        assert_eq!(insert(&mut ranges, 6, 11), [(7, 10)]);
        assert_eq!(insert(&mut ranges, 3, 20), [(3, 5), (12, 20)]);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(3, 20)]);
        assert_eq!(insert(&mut ranges, 20, 21), [(20, 21)]);
        assert_eq!(insert(&mut ranges, 9, 9), []);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(3, 21)]);
    }

    #[test]
    fn the_range_around_a_number_is_found() {
        let mut ranges = Ranges::default();
        insert(&mut ranges, 1, 3);
        insert(&mut ranges, 5, 9);
        assert_eq!(ranges.len(), 2);
        let around: Vec<_> = (0..10).map(|number| ranges.around(number)).collect();
        let (first, second) = (Some((1, 3)), Some((5, 9)));
        assert_eq!(around, [None, first, first, None, None, second, second, second, second, None]);
    }

    #[test]
    fn what_is_below_a_limit_can_be_forgotten() {
        let mut ranges = Ranges::default();
        insert(&mut ranges, 1, 3);
        insert(&mut ranges, 5, 9);
        ranges.remove_below(6);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(6, 9)]);
        ranges.remove_below(9);
        assert!(ranges.is_empty());
    }
}
