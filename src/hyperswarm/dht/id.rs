//! Node ids and targets, and the distance between them.

use std::cmp::Ordering;
use std::fmt;

/// The 32-byte id of a DHT node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// XOR distance to `target`; distances order as big-endian numbers.
    pub fn distance(&self, target: &[u8; 32]) -> [u8; 32] {
        let mut out = self.0;
        for (byte, other) in out.iter_mut().zip(target) {
            *byte ^= other;
        }
        out
    }

    /// How many leading bits it shares with `other`; 256 if they are equal.
    pub fn shared_bits(&self, other: &NodeId) -> usize {
        let mut bits = 0;
        for byte in self.distance(&other.0) {
            if byte != 0 {
                return bits + byte.leading_zeros() as usize;
            }
            bits += 8;
        }
        bits
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// Orders ids by their distance to `target`, nearest first.
pub fn by_distance(target: &[u8; 32], a: &NodeId, b: &NodeId) -> Ordering {
    a.distance(target).cmp(&b.distance(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_distance_as_in_the_original() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v2/peers.json");
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("parse");
        let id = |v: &serde_json::Value| -> NodeId {
            let bytes = data_encoding::HEXLOWER.decode(v.as_str().expect("a string").as_bytes());
            NodeId(bytes.expect("hex").try_into().expect("32 bytes"))
        };
        let list = |v: &serde_json::Value| v.as_array().expect("a list").iter().map(id).collect::<Vec<_>>();
        let vector = &json["xor_sort"];
        let target = id(&vector["target"]).0;
        let mut ids = list(&vector["ids"]);
        ids.sort_by(|a, b| by_distance(&target, a, b));
        assert_eq!(ids, list(&vector["closest_first"]));
    }

    #[test]
    fn shared_bits_count_to_the_first_difference() {
        let zero = NodeId([0; 32]);
        assert_eq!(zero.shared_bits(&zero), 256);
        let mut other = [0; 32];
        other[1] = 0x10;
        assert_eq!(zero.shared_bits(&NodeId(other)), 11);
        other[0] = 0x80;
        assert_eq!(zero.shared_bits(&NodeId(other)), 0);
    }
}
