//! NAT boxes between the machines.
//!
//! Addresses are translated when a datagram is sent, by the box of its sender and then by that of its receiver, which
//! lets in only what somebody inside has asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use rand::RngExt;
use rand::rngs::StdRng;

/// What a box does with the sockets behind it. Each lets in only what comes from an address to which the socket has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// A firewall: nothing is translated.
    Firewall,
    /// A socket has one port outside, whomever it sends to.
    Consistent,
    /// A socket has another port outside for each address that it sends to, at random.
    Random,
}

/// A box of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatId(usize);

/// All boxes of a network.
#[derive(Default)]
pub(super) struct Nats {
    boxes: Vec<Translator>,
    /// Hosts inside, and their boxes.
    inside: BTreeMap<Ipv4Addr, usize>,
}

struct Translator {
    public: Ipv4Addr,
    nat: Nat,
    /// Sockets inside and, for a random NAT, where they send to; and their addresses outside.
    out: BTreeMap<(SocketAddrV4, Option<SocketAddrV4>), SocketAddrV4>,
    back: BTreeMap<SocketAddrV4, SocketAddrV4>,
    /// Addresses outside, and who may send to them.
    asked: BTreeSet<(SocketAddrV4, SocketAddrV4)>,
}

impl Nats {
    pub(super) fn add(&mut self, public: Ipv4Addr, nat: Nat) -> NatId {
        let (out, back, asked) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        self.boxes.push(Translator { public, nat, out, back, asked });
        NatId(self.boxes.len() - 1)
    }

    pub(super) fn put_behind(&mut self, host: Ipv4Addr, nat: NatId) {
        self.inside.insert(host, nat.0);
    }

    /// Sender and receiver of a datagram as they are on the wire and behind the receiver's box; none: it is dropped.
    pub(super) fn pass(
        &mut self,
        rng: &mut StdRng,
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> Option<(SocketAddrV4, SocketAddrV4)> {
        let own = self.inside.get(from.ip()).copied();
        if own.is_some() && own == self.inside.get(to.ip()).copied() {
            return Some((from, to));
        }
        let from = match own.and_then(|index| self.boxes.get_mut(index)) {
            Some(translator) => translator.outwards(rng, from, to),
            None => from,
        };
        let firewall = self.inside.get(to.ip()).copied().filter(|index| Some(*index) != own);
        let by_address =
            || self.boxes.iter().position(|each| each.public == *to.ip() && each.nat != Nat::Firewall);
        match firewall.or_else(by_address).and_then(|index| self.boxes.get(index)) {
            Some(translator) => Some((from, translator.inwards(from, to)?)),
            None => Some((from, to)),
        }
    }
}

impl Translator {
    fn outwards(&mut self, rng: &mut StdRng, from: SocketAddrV4, to: SocketAddrV4) -> SocketAddrV4 {
        let key = (from, (self.nat == Nat::Random).then_some(to));
        let outside = match self.out.get(&key) {
            Some(outside) => *outside,
            None => {
                let outside = self.fresh(rng, from);
                self.out.insert(key, outside);
                self.back.insert(outside, from);
                outside
            }
        };
        self.asked.insert((outside, to));
        outside
    }

    /// An address outside for a socket. A consistent NAT keeps the port if it is free.
    fn fresh(&self, rng: &mut StdRng, from: SocketAddrV4) -> SocketAddrV4 {
        let at = |port| SocketAddrV4::new(self.public, port);
        match self.nat {
            Nat::Firewall => from,
            Nat::Consistent if !self.back.contains_key(&at(from.port())) => at(from.port()),
            Nat::Consistent | Nat::Random => loop {
                let outside = at(rng.random_range(1024..=u16::MAX));
                if !self.back.contains_key(&outside) {
                    return outside;
                }
            },
        }
    }

    fn inwards(&self, from: SocketAddrV4, to: SocketAddrV4) -> Option<SocketAddrV4> {
        self.asked.contains(&(to, from)).then(|| self.back.get(&to).copied()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().expect("an address")
    }

    /// A box at 203.0.113.1 with 10.0.0.1 and 10.0.0.2 inside; a firewall's hosts have public addresses.
    fn boxed(nat: Nat, hosts: [&str; 2]) -> (Nats, StdRng) {
        let mut nats = Nats::default();
        let id = nats.add(Ipv4Addr::new(203, 0, 113, 1), nat);
        hosts.iter().for_each(|host| nats.put_behind(host.parse().expect("a host"), id));
        (nats, StdRng::seed_from_u64(1))
    }

    #[test]
    fn a_consistent_nat_keeps_one_port_and_lets_in_who_was_asked() {
        let (mut nats, mut rng) = boxed(Nat::Consistent, ["10.0.0.1", "10.0.0.2"]);
        let (one, other) = (at("198.51.100.1:1"), at("198.51.100.2:2"));
        let (outside, _) = nats.pass(&mut rng, at("10.0.0.1:700"), one).expect("passes");
        assert_eq!(outside, at("203.0.113.1:700"));
        assert_eq!(nats.pass(&mut rng, one, outside), Some((one, at("10.0.0.1:700"))));
        assert_eq!(nats.pass(&mut rng, other, outside), None, "was not asked");
        assert_eq!(nats.pass(&mut rng, at("10.0.0.1:700"), other), Some((outside, other)));
        assert_eq!(nats.pass(&mut rng, other, outside), Some((other, at("10.0.0.1:700"))));
        let (second, _) = nats.pass(&mut rng, at("10.0.0.2:700"), one).expect("passes");
        assert!(second.port() != 700 && second.ip() == outside.ip(), "{second}");
        assert_eq!(
            nats.pass(&mut rng, at("10.0.0.2:5"), at("10.0.0.1:700")),
            Some((at("10.0.0.2:5"), at("10.0.0.1:700")))
        );
    }

    #[test]
    fn a_random_nat_has_a_port_for_each_destination() {
        let (mut nats, mut rng) = boxed(Nat::Random, ["10.0.0.1", "10.0.0.2"]);
        let (one, other) = (at("198.51.100.1:1"), at("198.51.100.2:2"));
        let (first, _) = nats.pass(&mut rng, at("10.0.0.1:700"), one).expect("passes");
        let (second, _) = nats.pass(&mut rng, at("10.0.0.1:700"), other).expect("passes");
        assert_ne!(first, second);
        assert_eq!(nats.pass(&mut rng, one, first), Some((one, at("10.0.0.1:700"))));
        assert_eq!(nats.pass(&mut rng, other, first), None);
    }

    #[test]
    fn a_firewall_translates_nothing_and_lets_in_who_was_asked() {
        let (mut nats, mut rng) = boxed(Nat::Firewall, ["192.0.2.1", "192.0.2.2"]);
        let (inside, outside) = (at("192.0.2.1:700"), at("198.51.100.1:1"));
        assert_eq!(nats.pass(&mut rng, outside, inside), None);
        assert_eq!(nats.pass(&mut rng, inside, outside), Some((inside, outside)));
        assert_eq!(nats.pass(&mut rng, outside, inside), Some((outside, inside)));
    }
}
