//! Our own address, as many nodes see it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::limits::NAT_SAMPLES;

/// How many of the latest samples a new one is compared with.
const LOOK_BACK: usize = 4;

/// Collects what nodes say our address is and tells what most of them agree on (npm nat-sampler): host and port, or the
/// host alone if every node sees another port.
#[derive(Clone, Debug, Default)]
pub struct NatSampler {
    /// The latest, newest last.
    samples: VecDeque<Sample>,
    /// What was seen most, with and without the port.
    address: Option<Group<SocketAddrV4>>,
    host: Option<Group<Ipv4Addr>>,
    next_group: u32,
}

/// Equal samples close to each other are of one group. A group has as many hits as there are samples of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group<T> {
    number: u32,
    value: T,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    address: Group<SocketAddrV4>,
    host: Group<Ipv4Addr>,
}

/// Our own address, as far as the samples agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// They do not agree, or there are none.
    Unknown,
    /// On the host alone: the port differs from node to node.
    Randomized(Ipv4Addr),
    /// On both.
    At(SocketAddrV4),
}

impl Seen {
    /// The host, if it is known.
    pub fn host(self) -> Option<Ipv4Addr> {
        match self {
            Self::Unknown => None,
            Self::Randomized(host) => Some(host),
            Self::At(address) => Some(*address.ip()),
        }
    }

    /// The address, if both host and port are known.
    pub fn address(self) -> Option<SocketAddrV4> {
        match self {
            Self::At(address) => Some(address),
            Self::Unknown | Self::Randomized(_) => None,
        }
    }
}

impl NatSampler {
    /// One more node sees us at `address` (`NatSampler.add`).
    pub fn add(&mut self, address: SocketAddrV4) {
        let number = self.next_group;
        self.next_group = self.next_group.wrapping_add(1);
        let latest = || self.samples.iter().rev().take(LOOK_BACK);
        let equal = latest().map(|sample| sample.address).find(|group| group.value == address);
        let address = equal.unwrap_or(Group { number, value: address });
        let equal = latest().map(|sample| sample.host).find(|group| group.value == *address.value.ip());
        let host = equal.unwrap_or(Group { number, value: *address.value.ip() });
        if self.samples.len() == NAT_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { address, host });
        if self.address.is_none_or(|best| self.address_hits(best) < self.address_hits(address)) {
            self.address = Some(address);
        }
        if self.host.is_none_or(|best| self.host_hits(best) < self.host_hits(host)) {
            self.host = Some(host);
        }
    }

    /// What the samples agree on.
    pub fn seen(&self) -> Seen {
        let count = self.samples.len();
        let outvoted = match count {
            0..4 => 0,
            4..8 => 1,
            8..12 => 2,
            _ => 3,
        };
        let enough = count - outvoted;
        match (self.address, self.host) {
            (Some(best), _) if self.address_hits(best) >= enough => Seen::At(best.value),
            (_, Some(best)) if self.host_hits(best) >= enough => Seen::Randomized(best.value),
            _ => Seen::Unknown,
        }
    }

    fn address_hits(&self, group: Group<SocketAddrV4>) -> usize {
        self.samples.iter().filter(|sample| sample.address == group).count()
    }

    fn host_hits(&self, group: Group<Ipv4Addr>) -> usize {
        self.samples.iter().filter(|sample| sample.host == group).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v4/nat.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("parse")
    }

    fn address(of: &Value) -> SocketAddrV4 {
        let host = of["host"].as_str().expect("a host").parse().expect("an address");
        SocketAddrV4::new(host, of["port"].as_u64().expect("a port") as u16)
    }

    #[test]
    fn every_sequence_of_the_original_gives_its_results() {
        let vectors = vectors();
        let sequences = vectors["nat_sampler"].as_array().expect("sequences");
        assert!(!sequences.is_empty());
        for sequence in sequences {
            let mut sampler = NatSampler::default();
            for (at, step) in sequence["steps"].as_array().expect("steps").iter().enumerate() {
                sampler.add(address(step));
                let expected = match (step["result_host"].as_str(), step["result_port"].as_u64()) {
                    (None, _) => Seen::Unknown,
                    (Some(host), Some(0)) => Seen::Randomized(host.parse().expect("an address")),
                    (Some(host), port) => Seen::At(SocketAddrV4::new(
                        host.parse().expect("an address"),
                        port.expect("a port") as u16,
                    )),
                };
                assert_eq!(sampler.seen(), expected, "{} step {at}", sequence["name"]);
                assert_eq!(sampler.samples.len() as u64, step["size"].as_u64().expect("a size"));
                let latest = sampler.samples.back().expect("just added").address;
                assert_eq!(sampler.address_hits(latest) as u64, step["hits"].as_u64().expect("hits"));
            }
        }
    }

    #[test]
    fn a_new_address_is_known_when_the_samples_of_the_old_one_are_gone() {
        let (old, new) =
            (SocketAddrV4::new([1, 1, 1, 1].into(), 1), SocketAddrV4::new([2, 2, 2, 2].into(), 2));
        let mut sampler = NatSampler::default();
        (0..100).for_each(|_| sampler.add(old));
        let needed = (1..=100).find(|_| {
            sampler.add(new);
            sampler.seen() == Seen::At(new)
        });
        assert_eq!(needed, Some(13), "13 of 16");
    }

    #[test]
    fn samples_beyond_the_limit_replace_the_oldest() {
        let mut sampler = NatSampler::default();
        for port in 1..200 {
            sampler.add(SocketAddrV4::new([1, 1, 1, 1].into(), port));
            assert_eq!(sampler.samples.len(), NAT_SAMPLES.min(port.into()));
        }
        assert_eq!(sampler.seen(), Seen::Randomized([1, 1, 1, 1].into()));
    }
}
