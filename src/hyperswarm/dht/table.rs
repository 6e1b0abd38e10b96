//! The routing table: k-buckets that split only around our own id (npm k-bucket), and the same nodes in order of
//! last contact (npm time-ordered-set).
//!
//! Only the bucket that contains our own id ever splits, so the tree is a list: bucket `i` holds the ids that share
//! exactly `i` leading bits with ours, the last bucket all that share at least its index.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::id::NodeId;
use super::shares::{Diverse, Tally};
use crate::limits::{MAX_BUCKET_NODES, MAX_BUCKETS};

/// How many of the longest-unheard nodes of a full bucket may have to make room (k-bucket's `numberOfNodesToPing`).
const CANDIDATES: usize = 3;

/// A node we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its id.
    pub id: NodeId,
    /// Where it answers.
    pub addr: SocketAddrV4,
    /// Our own address as it sees it, by its last answer.
    pub to: Option<SocketAddrV4>,
    /// The upkeep tick in which it was last heard.
    pub tick: u64,
    /// Position in the order of last contact.
    order: u64,
}

/// What became of a node that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is in the table now, at the end of its bucket.
    Kept,
    /// Our own id, or an id known at another address: nothing changed.
    Ignored,
    /// Its bucket is full; these are its longest-unheard nodes, at most three.
    Full(Vec<Contact>),
    /// Its bucket is full of nodes of one host or network, and one of them gives way once this one has answered.
    Unproven,
}

/// The nodes we know.
pub struct Table {
    own: NodeId,
    buckets: Vec<Vec<Contact>>,
    by_order: BTreeMap<u64, NodeId>,
    next_order: u64,
}

impl Table {
    /// An empty table around our own id.
    pub fn new(own: NodeId) -> Self {
        Self { own, buckets: vec![Vec::new()], by_order: BTreeMap::new(), next_order: 0 }
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.by_order.len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.by_order.is_empty()
    }

    /// The node with this id.
    pub fn find(&self, id: &NodeId) -> Option<&Contact> {
        self.buckets.get(self.bucket_of(id))?.iter().find(|c| c.id == *id)
    }

    /// A node was heard (dht-rpc `_addNode`). `proven` says it answered a request of ours; only then may it change
    /// the address of a known id and vote on our own address (`to`): anybody can send a query in another's name.
    pub fn heard(
        &mut self,
        id: NodeId,
        addr: SocketAddrV4,
        to: Option<SocketAddrV4>,
        tick: u64,
        proven: bool,
    ) -> Heard {
        if id == self.own {
            return Heard::Ignored;
        }
        let known = self.find(&id).copied();
        if known.is_some_and(|c| c.addr != addr && !proven) {
            return Heard::Ignored;
        }
        let to = if proven { to } else { None }.or(known.and_then(|c| c.to));
        if known.is_some() {
            self.remove(&id);
        } else if let Some(candidates) = self.make_room(&id) {
            match self.crowded(&id, *addr.ip()) {
                Some(yielding) if proven => self.remove(&yielding),
                Some(_) => return Heard::Unproven,
                None => return Heard::Full(candidates),
            }
        }
        let order = self.next_order;
        self.next_order += 1;
        let at = self.bucket_of(&id);
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.push(Contact { id, addr, to, tick, order });
            self.by_order.insert(order, id);
        }
        Heard::Kept
    }

    /// Moves a node to the end of its bucket without having heard it (k-bucket `add` of a known contact).
    pub fn refresh(&mut self, id: &NodeId) {
        let at = self.bucket_of(id);
        if let Some(bucket) = self.buckets.get_mut(at)
            && let Some(index) = bucket.iter().position(|c| c.id == *id)
        {
            let contact = bucket.remove(index);
            bucket.push(contact);
        }
    }

    /// Forgets the node with this id.
    pub fn remove(&mut self, id: &NodeId) {
        let at = self.bucket_of(id);
        if let Some(bucket) = self.buckets.get_mut(at)
            && let Some(index) = bucket.iter().position(|c| c.id == *id)
        {
            let contact = bucket.remove(index);
            self.by_order.remove(&contact.order);
        }
    }

    /// Forgets the node only if it is known at this address: what others say about an id must not remove it.
    pub fn remove_at(&mut self, id: &NodeId, addr: SocketAddrV4) {
        if self.find(id).is_some_and(|c| c.addr == addr) {
            self.remove(id);
        }
    }

    /// The `count` nodes nearest to `target`, nearest first, in exact XOR order; with few of one host and network, as
    /// long as others are known: see [`Diverse`].
    pub fn closest(&self, target: &[u8; 32], count: usize) -> Vec<Contact> {
        let mut chosen = Diverse::new(count);
        let offer = |mut group: Vec<Contact>| {
            group.sort_by_cached_key(|contact| contact.id.distance(target));
            group.into_iter().for_each(|contact| chosen.offer(*contact.addr.ip(), contact));
            chosen.is_full()
        };
        // Nodes of the bucket that shares most bits with the target are nearest, then those of the buckets after
        // it (all equally far up to their own bits), then the buckets before it, the last first.
        let home = self.bucket_of(&NodeId(*target));
        let after = home + 1..self.buckets.len();
        let near = [home..home + 1, after]
            .into_iter()
            .map(|range| range.filter_map(|i| self.buckets.get(i)).flatten().copied().collect());
        let far = self.buckets.iter().take(home).rev().cloned();
        // Stops at the first group after which there are enough.
        let _ = near.chain(far).any(offer);
        let mut chosen = chosen.finish();
        chosen.sort_by_cached_key(|contact| contact.id.distance(target));
        chosen
    }

    /// All nodes, longest unheard first.
    pub fn oldest_first(&self) -> impl Iterator<Item = &Contact> {
        self.by_order.values().filter_map(|id| self.find(id))
    }

    /// All nodes, latest heard first.
    pub fn latest_first(&self) -> impl Iterator<Item = &Contact> {
        self.by_order.values().rev().filter_map(|id| self.find(id))
    }

    fn bucket_of(&self, id: &NodeId) -> usize {
        self.own.shared_bits(id).min(self.buckets.len() - 1)
    }

    /// The longest-unheard node in the full bucket of `id` that has to give way to a node of `host`: one host cannot fill
    /// a bucket when others come.
    fn crowded(&self, id: &NodeId, host: Ipv4Addr) -> Option<NodeId> {
        let bucket = self.buckets.get(self.bucket_of(id))?;
        let tally: Tally = bucket.iter().map(|contact| *contact.addr.ip()).collect();
        bucket.iter().find(|contact| tally.must_yield(*contact.addr.ip(), host)).map(|contact| contact.id)
    }

    /// Splits the own bucket until there is room for `id`; otherwise names the nodes that could make room.
    fn make_room(&mut self, id: &NodeId) -> Option<Vec<Contact>> {
        loop {
            let at = self.bucket_of(id);
            let last = self.buckets.len() - 1;
            let may_split = at == last && self.buckets.len() < MAX_BUCKETS;
            let bucket = self.buckets.get_mut(at)?;
            if bucket.len() < MAX_BUCKET_NODES {
                return None;
            }
            if !may_split {
                return Some(bucket.iter().take(CANDIDATES).copied().collect());
            }
            let own = self.own;
            let (near, far) = bucket.iter().partition(|c| own.shared_bits(&c.id) > last);
            *bucket = far;
            self.buckets.push(near);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::id::by_distance;
    use crate::limits::MAX_NODES_PER_HOST;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    fn addr(n: u32) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1000)
    }

    fn id(rng: &mut StdRng) -> NodeId {
        let mut id = [0; 32];
        rng.fill_bytes(&mut id);
        NodeId(id)
    }

    fn filled(seed: u64, nodes: u32) -> (Table, StdRng) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut table = Table::new(id(&mut rng));
        for n in 0..nodes {
            table.heard(id(&mut rng), addr(n), None, 0, true);
        }
        (table, rng)
    }

    #[test]
    fn closest_is_exact_for_every_target() {
        for seed in 0..20 {
            let (table, mut rng) = filled(seed, 500);
            for round in 0..50 {
                let mut target = id(&mut rng);
                if round % 2 == 0 {
                    // Targets near our own id look into the deep buckets.
                    target.0[..2].copy_from_slice(&table.own.0[..2]);
                }
                let mut all: Vec<Contact> = table.oldest_first().copied().collect();
                all.sort_by(|a, b| by_distance(&target.0, &a.id, &b.id));
                all.truncate(20);
                assert_eq!(table.closest(&target.0, 20), all, "seed {seed} round {round}");
            }
        }
    }

    /// `id` with the first bits of another.
    fn beside(rng: &mut StdRng, near: &[u8; 32]) -> NodeId {
        let mut id = id(rng);
        id.0[..8].copy_from_slice(&near[..8]);
        id
    }

    #[test]
    fn nodes_of_one_host_beside_a_target_do_not_hide_the_others() {
        for seed in 0..20 {
            let (mut table, mut rng) = filled(seed, 50);
            let target = id(&mut rng).0;
            let honest = table.closest(&target, 18);
            for port in 0..50 {
                let host = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), port);
                table.heard(beside(&mut rng, &target), host, None, 0, true);
            }
            let mut closest = table.closest(&target, 20);
            assert_eq!(closest.len(), 20);
            closest.retain(|c| c.addr.ip().octets()[0] != 203);
            assert!(closest.len() >= 20 - MAX_NODES_PER_HOST, "seed {seed}: {}", closest.len());
            assert_eq!(closest[..18], honest, "seed {seed}");
        }
    }

    #[test]
    fn the_closest_are_exact_where_all_nodes_are_behind_one_address() {
        let (mut table, mut rng) = filled(3, 0);
        for port in 0..60 {
            table.heard(id(&mut rng), SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), port), None, 0, true);
        }
        let target = id(&mut rng).0;
        let mut all: Vec<Contact> = table.oldest_first().copied().collect();
        all.sort_by(|a, b| by_distance(&target, &a.id, &b.id));
        all.truncate(20);
        assert_eq!(table.closest(&target, 20), all);
    }

    #[test]
    fn a_bucket_full_of_one_host_makes_room_for_another_that_answers() {
        let mut table = Table::new(NodeId([0; 32]));
        let far = |n: u8| NodeId([0x80 | n; 32]);
        let host = |port| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), port);
        table.heard(NodeId([1; 32]), addr(99), None, 0, true);
        for n in 0..20 {
            table.heard(far(n), host(n.into()), None, 0, true);
        }
        assert_eq!(table.heard(far(20), addr(1), None, 0, false), Heard::Unproven, "it may be spoofed");
        assert_eq!(table.heard(far(20), addr(1), None, 0, true), Heard::Kept);
        assert!(table.find(&far(0)).is_none() && table.find(&far(1)).is_some() && table.len() == 21);
        assert!(matches!(table.heard(far(21), host(21), None, 0, true), Heard::Full(_)), "and not back");
    }

    #[test]
    fn only_the_own_bucket_splits() {
        let (table, _) = filled(1, 2000);
        for (at, bucket) in table.buckets.iter().enumerate() {
            assert!(bucket.len() <= MAX_BUCKET_NODES);
            let last = at + 1 == table.buckets.len();
            for contact in bucket {
                let shared = table.own.shared_bits(&contact.id);
                assert!(shared == at || last && shared >= at, "bucket {at} holds an id sharing {shared}");
            }
        }
        assert_eq!(table.buckets.iter().map(Vec::len).sum::<usize>(), table.len());
    }

    #[test]
    fn a_full_far_bucket_names_its_three_longest_unheard() {
        let mut table = Table::new(NodeId([0; 32]));
        let far = |n: u8| {
            let mut id = [n; 32];
            id[0] = 0x80;
            NodeId(id)
        };
        let mut near = [0; 32];
        near[31] = 1;
        table.heard(NodeId(near), addr(99), None, 0, true);
        for n in 0..20 {
            assert_eq!(table.heard(far(n), addr(n.into()), None, 0, true), Heard::Kept, "node {n}");
        }
        table.heard(far(0), addr(0), None, 1, true);
        let Heard::Full(candidates) = table.heard(far(20), addr(20), None, 1, true) else {
            panic!("the far bucket must be full");
        };
        assert_eq!(candidates.iter().map(|c| c.id).collect::<Vec<_>>(), [far(1), far(2), far(3)]);
        assert_eq!(table.len(), 21);
        table.remove(&far(1));
        assert_eq!(table.heard(far(20), addr(20), None, 1, true), Heard::Kept);
    }

    #[test]
    fn the_table_stays_bounded_under_ids_chosen_near_ours() {
        let mut rng = StdRng::seed_from_u64(3);
        let own = id(&mut rng);
        let mut table = Table::new(own);
        for n in 0..20_000u32 {
            let mut other = id(&mut rng);
            let shared = (n % 256) as usize;
            for bit in 0..shared {
                let mask = 0x80 >> (bit % 8);
                other.0[bit / 8] = other.0[bit / 8] & !mask | own.0[bit / 8] & mask;
            }
            table.heard(other, addr(n), None, 0, true);
        }
        assert!(table.buckets.len() <= MAX_BUCKETS);
        assert!(table.len() <= MAX_BUCKETS * MAX_BUCKET_NODES);
        assert!(table.len() > 4000, "the attack of this test must reach deep buckets: {}", table.len());
    }

    #[test]
    fn a_query_in_anothers_name_changes_neither_address_nor_vote() {
        let (mut table, mut rng) = filled(5, 0);
        let id = id(&mut rng);
        table.heard(id, addr(1), Some(addr(50)), 0, true);
        assert_eq!(table.heard(id, addr(2), Some(addr(66)), 1, false), Heard::Ignored);
        assert_eq!(table.heard(id, addr(1), Some(addr(66)), 1, false), Heard::Kept);
        let contact = table.find(&id).expect("known");
        assert_eq!((contact.addr, contact.to, contact.tick), (addr(1), Some(addr(50)), 1));
        assert_eq!(table.heard(id, addr(2), None, 2, true), Heard::Kept);
        assert_eq!(table.find(&id).expect("known").addr, addr(2));
    }

    #[test]
    fn our_own_id_is_never_kept() {
        let (mut table, _) = filled(6, 0);
        assert_eq!(table.heard(table.own, addr(1), None, 0, true), Heard::Ignored);
        assert!(table.is_empty());
    }

    #[test]
    fn the_order_of_last_contact_is_kept() {
        let (mut table, mut rng) = filled(7, 0);
        let ids: Vec<NodeId> = (0..3).map(|_| id(&mut rng)).collect();
        for (n, id) in ids.iter().enumerate() {
            table.heard(*id, addr(n as u32), None, 0, true);
        }
        table.heard(ids[0], addr(0), None, 1, false);
        let order: Vec<NodeId> = table.oldest_first().map(|c| c.id).collect();
        assert_eq!(order, [ids[1], ids[2], ids[0]]);
        assert_eq!(table.latest_first().next().map(|c| c.id), Some(ids[0]));
        table.remove_at(&ids[0], addr(9));
        assert_eq!(table.len(), 3, "known at another address");
        table.remove_at(&ids[0], addr(0));
        assert_eq!(table.len(), 2);
    }
}
