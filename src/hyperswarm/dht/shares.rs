//! Fair shares of what is scarce: of records kept, nodes named, places and dials. Strangers have few addresses and any
//! number of ports, ids and topics, so each address counts, and each network of addresses.
//!
//! Shares count only under pressure. A laboratory is one network, or one address behind its NAT, and may take all there
//! is while nobody else wants it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::guard::is_near;
use crate::limits::{MAX_NODES_PER_HOST, MAX_NODES_PER_NETWORK};

/// The network that a host counts to: its /24. Inside a private network every host is one of its own: there a /24 is
/// a laboratory, while outside it is what one stranger rents.
pub fn network_of(host: Ipv4Addr) -> Ipv4Addr {
    if is_near(host) { host } else { Ipv4Addr::from_bits(host.to_bits() & 0xffff_ff00) }
}

/// Counts by host and by network.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    hosts: BTreeMap<Ipv4Addr, usize>,
    networks: BTreeMap<Ipv4Addr, usize>,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, host: Ipv4Addr) {
        *self.hosts.entry(host).or_default() += 1;
        *self.networks.entry(network_of(host)).or_default() += 1;
    }

    /// Count of this host.
    pub fn of_host(&self, host: Ipv4Addr) -> usize {
        self.hosts.get(&host).copied().unwrap_or(0)
    }

    /// Count of the network of this host.
    pub fn of_network(&self, host: Ipv4Addr) -> usize {
        self.networks.get(&network_of(host)).copied().unwrap_or(0)
    }

    /// Highest count of any host.
    pub fn most_of_a_host(&self) -> usize {
        self.hosts.values().copied().max().unwrap_or(0)
    }

    /// Highest count of any network.
    pub fn most_of_a_network(&self) -> usize {
        self.networks.values().copied().max().unwrap_or(0)
    }

    /// True if `holder` has to give one up for `newcomer`, which makes the shares more equal: the host with the most
    /// must, if it has at least two more than the newcomer; if no host has, then the network with the most. A
    /// network never gives way to a host that has as much as the host which would lose. So nobody can win a share back
    /// from the one who took it, and exchanges end.
    pub fn must_yield(&self, holder: Ipv4Addr, newcomer: Ipv4Addr) -> bool {
        let (most, mine) = (self.most_of_a_host(), self.of_host(newcomer));
        if most >= mine + 2 {
            return self.of_host(holder) == most;
        }
        let most = self.most_of_a_network();
        most >= self.of_network(newcomer) + 2
            && self.of_network(holder) == most
            && self.of_host(holder) > mine
    }
}

impl FromIterator<Ipv4Addr> for Tally {
    fn from_iter<I: IntoIterator<Item = Ipv4Addr>>(hosts: I) -> Self {
        let mut tally = Self::default();
        hosts.into_iter().for_each(|host| tally.add(host));
        tally
    }
}

/// True if none of these hosts and their networks has more than its share of nodes.
pub fn is_diverse<const N: usize>(hosts: &[Ipv4Addr; N]) -> bool {
    // Mostly no three are of one /24, which is quickly seen and enough.
    let mut prefixes = hosts.map(|host| host.to_bits() >> 8);
    prefixes.sort_unstable();
    if prefixes.windows(MAX_NODES_PER_HOST + 1).all(|run| run.first() != run.last()) {
        return true;
    }
    let networks = hosts.map(network_of);
    let count = |all: &[Ipv4Addr; N], one| all.iter().filter(|other| **other == one).count();
    let host = hosts.iter().all(|host| count(hosts, *host) <= MAX_NODES_PER_HOST);
    host && networks.iter().all(|network| count(&networks, *network) <= MAX_NODES_PER_NETWORK)
}

/// Nodes chosen in an order of preference, with few of one host and network as long as others can be had.
pub struct Diverse<T> {
    count: usize,
    chosen: Vec<(Ipv4Addr, T)>,
    /// Beyond the share of their host or network, in order.
    spare: Vec<T>,
}

impl<T> Diverse<T> {
    /// Will choose `count`, which is small.
    pub fn new(count: usize) -> Self {
        Self { count, chosen: Vec::with_capacity(count), spare: Vec::new() }
    }

    /// Offers the next best.
    pub fn offer(&mut self, host: Ipv4Addr, item: T) {
        if !self.is_full() && self.has_share(host) {
            self.chosen.push((host, item));
        } else if self.spare.len() < self.count {
            self.spare.push(item);
        }
    }

    /// True if further offers change nothing.
    pub fn is_full(&self) -> bool {
        self.chosen.len() >= self.count
    }

    /// What was chosen; if there were too few hosts, also the best of those beyond their shares.
    pub fn finish(self) -> Vec<T> {
        let missing = self.count.saturating_sub(self.chosen.len());
        let chosen = self.chosen.into_iter().map(|(_, item)| item);
        chosen.chain(self.spare.into_iter().take(missing)).collect()
    }

    fn has_share(&self, host: Ipv4Addr) -> bool {
        let network = network_of(host);
        let of = |is: &dyn Fn(Ipv4Addr) -> bool| self.chosen.iter().filter(|(other, _)| is(*other)).count();
        of(&|other| other == host) < MAX_NODES_PER_HOST
            && of(&|other| network_of(other) == network) < MAX_NODES_PER_NETWORK
    }
}

/// How many of its records each host may keep so that all together keep `room`: as equal as can be for networks, and
/// for the hosts of one network; a host or network that has less than its share keeps everything. None if there is not
/// even room for one of each network: then nobody has too much.
pub fn quotas(counts: &BTreeMap<Ipv4Addr, usize>, room: usize) -> Option<BTreeMap<Ipv4Addr, usize>> {
    let mut networks: BTreeMap<Ipv4Addr, Vec<(Ipv4Addr, usize)>> = BTreeMap::new();
    for (host, count) in counts {
        networks.entry(network_of(*host)).or_default().push((*host, *count));
    }
    if networks.len() > room {
        return None;
    }
    let total = |hosts: &Vec<(Ipv4Addr, usize)>| hosts.iter().map(|(_, count)| count).sum();
    let totals = networks.iter().map(|(network, hosts)| (*network, total(hosts))).collect();
    let mut quotas = BTreeMap::new();
    for (network, quota) in divide(totals, room) {
        quotas.extend(divide(networks.remove(&network).unwrap_or_default(), quota));
    }
    Some(quotas)
}

/// Divides `room` among those who have these counts, as equally as possible.
fn divide(mut counts: Vec<(Ipv4Addr, usize)>, mut room: usize) -> Vec<(Ipv4Addr, usize)> {
    counts.sort_unstable_by_key(|(_, count)| *count);
    let mut left = counts.len();
    for (_, count) in &mut counts {
        // The smallest wishes come first, so what they leave is for the others. Not zero: this one is among them.
        *count = (*count).min(room / left);
        room -= *count;
        left -= 1;
    }
    counts
}

/// The first of each group, then the second of each, and so on; the groups in random order.
pub fn interleave<T>(mut groups: Vec<Vec<T>>, rng: &mut StdRng) -> Vec<T> {
    groups.shuffle(rng);
    let mut groups: Vec<_> = groups.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    while !groups.is_empty() {
        groups.retain_mut(|group| group.next().map(|item| all.push(item)).is_some());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn host(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_is_a_24_outside_and_a_host_inside_private_networks() {
        assert_eq!(network_of(host("203.0.113.9")), host("203.0.113.0"));
        for near in ["10.1.2.3", "172.16.0.9", "192.168.1.7", "100.64.3.4", "169.254.1.2", "127.0.0.1"] {
            assert_eq!(network_of(host(near)), host(near));
        }
    }

    #[test]
    fn the_host_with_the_most_yields_to_one_with_at_least_two_less() {
        let (many, few, new) = (host("203.0.113.9"), host("198.51.100.7"), host("192.0.2.1"));
        let tally: Tally = [many, many, many, few].into_iter().collect();
        assert!(tally.must_yield(many, new) && tally.must_yield(many, few));
        assert!(!tally.must_yield(few, new));
        let tally: Tally = [many, many, few].into_iter().collect();
        assert!(!tally.must_yield(many, few), "that would only turn the shares round");
    }

    #[test]
    fn a_network_of_many_hosts_yields_when_no_host_has_more() {
        let one_each = (1..=3).map(|n| Ipv4Addr::new(203, 0, 113, n));
        let tally: Tally = one_each.chain([host("198.51.100.7")]).collect();
        assert!(tally.must_yield(host("203.0.113.2"), host("192.0.2.1")));
        assert!(!tally.must_yield(host("198.51.100.7"), host("192.0.2.1")));
        assert!(!tally.must_yield(host("203.0.113.2"), host("203.0.113.9")), "the same network");
        assert!(!tally.must_yield(host("203.0.113.2"), host("198.51.100.7")), "a host with as many");
    }

    #[test]
    fn the_nearest_of_one_host_are_chosen_if_there_is_no_other() {
        let mut diverse = Diverse::new(5);
        (0..9).for_each(|n| diverse.offer(host("10.0.0.1"), n));
        assert_eq!(diverse.finish(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn few_of_one_host_are_chosen_if_there_are_others() {
        let mut diverse = Diverse::new(5);
        (0..9).for_each(|n| diverse.offer(host("10.0.0.1"), n));
        (2..5).for_each(|n| diverse.offer(Ipv4Addr::new(10, 0, 0, n), u32::from(n) * 100));
        assert_eq!(MAX_NODES_PER_HOST, 2);
        assert_eq!(diverse.finish(), [0, 1, 200, 300, 400]);
    }

    #[test]
    fn few_of_one_network_are_chosen_if_there_are_others() {
        let mut diverse = Diverse::new(MAX_NODES_PER_NETWORK + 1);
        (0..20).for_each(|n| diverse.offer(Ipv4Addr::new(203, 0, 113, n), false));
        diverse.offer(host("198.51.100.7"), true);
        let chosen = diverse.finish();
        assert_eq!((chosen.len(), chosen.last()), (MAX_NODES_PER_NETWORK + 1, Some(&true)));
    }

    #[test]
    fn hosts_are_diverse_if_none_and_no_network_has_more_than_its_share() {
        let near = |n| Ipv4Addr::new(10, 0, 0, n);
        let far = |n| Ipv4Addr::new(203, 0, 113, n);
        assert!(is_diverse(&[1, 1, 2, 2, 3, 4, 5, 6].map(near)), "no networks inside of private ones");
        assert!(!is_diverse(&[1, 1, 2, 1, 3, 4, 5, 6].map(near)));
        assert!(is_diverse(&[far(1), far(2), far(2), far(3), near(1)]));
        assert!(!is_diverse(&[far(1), far(2), far(2), far(3), near(1), far(4)]));
        assert!(is_diverse(&[far(1), far(1), near(1), near(1)]));
    }

    #[test]
    fn quotas_take_from_the_largest_and_use_all_the_room() {
        let counts = [("10.0.0.1", 100), ("10.0.0.2", 3), ("203.0.113.1", 40), ("203.0.113.2", 5)];
        let counts: BTreeMap<_, _> = counts.map(|(text, count)| (host(text), count)).into();
        let quotas = quotas(&counts, 63).expect("room for each network");
        // 30 for each of the two large networks; within the second one host needs only 5.
        let expected = [("10.0.0.1", 30), ("10.0.0.2", 3), ("203.0.113.1", 25), ("203.0.113.2", 5)];
        assert_eq!(quotas, expected.map(|(text, quota)| (host(text), quota)).into());
    }

    #[test]
    fn more_hosts_of_a_network_than_its_quota_share_it_and_more_networks_than_room_have_none() {
        let counts: BTreeMap<_, _> = (0..100).map(|n| (Ipv4Addr::new(203, 0, 113, n), 1)).collect();
        let kept: usize = quotas(&counts, 7).expect("one network").values().sum();
        assert_eq!(kept, 7);
        let counts: BTreeMap<_, _> = (0..8).map(|n| (Ipv4Addr::new(10, 0, 0, n), 1)).collect();
        assert_eq!(quotas(&counts, 7), None);
    }

    #[test]
    fn interleaving_gives_every_group_its_turn() {
        let groups = vec![vec![1; 100], vec![2; 1], vec![3; 2]];
        let all = interleave(groups, &mut StdRng::seed_from_u64(1));
        assert_eq!(all.len(), 103);
        let mut first: Vec<i32> = all[..3].to_vec();
        first.sort_unstable();
        assert_eq!((first, &all[5..7]), (vec![1, 2, 3], &[1, 1][..]));
    }
}
