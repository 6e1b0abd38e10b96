//! What kind of NAT a socket is behind, from how others see its address (hyperdht `lib/nat.js`).

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::codec::v4::Firewall;

/// Samples after which no further ones are waited for.
pub const ENOUGH_SAMPLES: usize = 4;
/// Samples before which nothing is said.
const FEWEST_SAMPLES: usize = 3;

/// A socket as its owner describes it to the other end of a hole punch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reachability {
    /// The kind of NAT.
    pub firewall: Firewall,
    /// Where probes to the socket go; port 0: to any port. None as long as the kind is unknown.
    pub addresses: Option<Vec<SocketAddrV4>>,
}

/// Collects how others see one socket, and says what that means.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    hosts: Vec<(Ipv4Addr, usize)>,
    /// Most frequent first, older ones before newer ones of the same number.
    addresses: Vec<(SocketAddrV4, usize)>,
    responders: Vec<SocketAddrV4>,
    found: Reachability,
}

impl Classifier {
    /// `responder` sees our socket at `address`. Each responder counts once.
    pub fn add(&mut self, address: SocketAddrV4, responder: SocketAddrV4) {
        if self.responders.contains(&responder) {
            return;
        }
        self.responders.push(responder);
        count(&mut self.hosts, *address.ip());
        count(&mut self.addresses, address);
        if self.responders.len() >= FEWEST_SAMPLES {
            self.classify();
        }
    }

    /// What the samples say so far.
    pub fn found(&self) -> &Reachability {
        &self.found
    }

    /// True if further samples are not worth waiting for.
    pub fn is_settled(&self) -> bool {
        self.found.firewall == Firewall::CONSISTENT || self.responders.len() >= ENOUGH_SAMPLES
    }

    fn classify(&mut self) {
        let hits = |at: usize| self.addresses.get(at).map_or(0, |(_, hits)| *hits);
        let samples = self.responders.len();
        self.found.firewall = match (hits(0), self.hosts.len()) {
            (3.., _) => Firewall::CONSISTENT,
            (1, _) => Firewall::RANDOM,
            // One host, and two samples that contradict the pair.
            (_, 1) if samples > 3 => Firewall::RANDOM,
            // Two addresses, each seen twice.
            (_, 2..) if hits(1) > 1 => Firewall::CONSISTENT,
            _ if samples > ENOUGH_SAMPLES => Firewall::RANDOM,
            _ => self.found.firewall,
        };
        self.found.addresses = match self.found.firewall {
            Firewall::RANDOM => {
                let host = self.hosts.first().map(|(host, _)| SocketAddrV4::new(*host, 0));
                Some(host.into_iter().collect())
            }
            Firewall::CONSISTENT => {
                let listed = self.addresses.iter().enumerate();
                let listed = listed.filter(|(at, (_, hits))| *hits >= 2 || *at < 2);
                Some(listed.map(|(_, (address, _))| *address).collect())
            }
            _ => None,
        };
    }
}

/// One more hit, which moves the value before all with fewer.
fn count<T: PartialEq + Copy>(list: &mut Vec<(T, usize)>, value: T) {
    let Some(at) = list.iter().position(|(each, _)| *each == value) else { return list.push((value, 1)) };
    let Some((_, hits)) = list.get_mut(at) else { return };
    *hits += 1;
    let hits = *hits;
    let place = list.iter().take(at).position(|(_, others)| *others < hits).unwrap_or(at);
    if let Some(moved) = list.get_mut(place..=at) {
        moved.rotate_right(1);
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
        let sequences = vectors["classifier"].as_array().expect("sequences");
        // A node that is not firewalled asks no classifier.
        let firewalled = sequences.iter().filter(|sequence| sequence["dht_firewalled"] == true);
        let mut seen = 0;
        for sequence in firewalled {
            let mut classifier = Classifier::default();
            for (at, step) in sequence["steps"].as_array().expect("steps").iter().enumerate() {
                let responder = step["from"].as_str().expect("a responder").parse().expect("an address");
                classifier.add(address(step), responder);
                let name = format!("{} step {at}", sequence["name"]);
                let Reachability { firewall, addresses } = classifier.found();
                assert_eq!(Some(firewall.0), step["firewall"].as_u64(), "{name}");
                let expected = step["addresses"].as_array();
                let expected = expected.map(|list| list.iter().map(address).collect::<Vec<_>>());
                assert_eq!(addresses, &expected, "{name}");
                seen += 1;
            }
        }
        assert!(seen > 10, "{seen}");
    }

    #[test]
    fn a_responder_counts_once() {
        let at = |port| SocketAddrV4::new([1, 1, 1, 1].into(), port);
        let mut classifier = Classifier::default();
        (1..100).for_each(|port| classifier.add(at(port), at(9)));
        assert_eq!(*classifier.found(), Reachability::default());
    }
}
