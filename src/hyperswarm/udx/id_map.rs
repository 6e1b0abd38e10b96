//! Maps by small numbers that we choose ourselves, looked up for every packet.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by [`StreamId`](super::StreamId) or [`SocketId`](super::SocketId). A peer can look up any id but cannot
/// choose those that are in the map, so it cannot make them collide: no secret is needed, and one multiplication does.
pub(super) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// 2^64 divided by the golden ratio: spreads neighbouring numbers.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits, which the high ones have to reach.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::super::StreamId;
    use super::*;

    #[test]
    fn neighbouring_and_distant_ids_spread_over_the_places_of_a_table() {
        let hasher = BuildHasherDefault::<IdHasher>::default();
        for step in [1, 2, 256, 65_536, 1 << 20] {
            let places: HashSet<u64> =
                (0..4096_u32).map(|n| hasher.hash_one(StreamId(n.wrapping_mul(step))) & 4095).collect();
            // 4096 random numbers fill 2590 of as many places.
            assert!(places.len() > 2000, "step {step}: {} places", places.len());
        }
    }
}
