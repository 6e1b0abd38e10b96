use std::collections::BTreeSet;
use std::num::NonZeroU32;

use super::*;
use crate::limits::MAX_NODES_PER_HOST;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

fn addr(n: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1000)
}

fn id(rng: &mut StdRng) -> NodeId {
    let mut id = [0; 32];
    rng.fill_bytes(&mut id);
    NodeId(id)
}

fn owned(contacts: Vec<&Contact>) -> Vec<Contact> {
    contacts.into_iter().copied().collect()
}

fn filled(seed: u64, nodes: u32) -> (Table, StdRng) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut table: Table = Table::new(id(&mut rng));
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
            assert_eq!(owned(table.closest(&target.0, 20)), all, "seed {seed} round {round}");
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
        let honest = owned(table.closest(&target, 18));
        for port in 0..50 {
            let host = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), port);
            table.heard(beside(&mut rng, &target), host, None, 0, true);
        }
        let mut closest = owned(table.closest(&target, 20));
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
    assert_eq!(owned(table.closest(&target, 20)), all);
}

#[test]
fn a_bucket_full_of_one_host_makes_room_for_another_that_answers() {
    let mut table: Table = Table::new(NodeId([0; 32]));
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
    for at in 0..table.buckets.len() {
        assert!(table.buckets[at].len() <= MAX_BUCKET_NODES);
        let last = at + 1 == table.buckets.len();
        for contact in table.bucket(at) {
            let shared = table.own.shared_bits(&contact.id);
            assert!(shared == at || last && shared >= at, "bucket {at} holds an id sharing {shared}");
        }
    }
    assert_eq!(table.buckets.iter().map(Vec::len).sum::<usize>(), table.len());
}

#[test]
fn a_full_far_bucket_names_its_three_longest_unheard() {
    let mut table: Table = Table::new(NodeId([0; 32]));
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
    let mut table: Table = Table::new(own);
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
    assert_eq!((contact.addr, contact.note, contact.pinged), (addr(1), Some(addr(50)), 1));
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

#[test]
fn slab_buckets_and_order_agree_after_random_operations() {
    for seed in 0..50 {
        let (mut table, mut rng) = filled(seed, 0);
        let mut known: Vec<NodeId> = Vec::new();
        for step in 0..600u32 {
            match rng.random_range(0..10) {
                0..6 => {
                    let id = id(&mut rng);
                    if table.heard(id, addr(step), None, step, true) == Heard::Kept {
                        known.push(id);
                    }
                }
                6..8 if !known.is_empty() => {
                    let id = known.remove(rng.random_range(0..known.len()));
                    table.heard(id, addr(step), None, step, true);
                    known.push(id);
                }
                8 if !known.is_empty() => table.remove(&known.remove(rng.random_range(0..known.len()))),
                _ if step % 97 == 0 => {
                    table.recentre(id(&mut rng));
                    known.retain(|id| table.find(id).is_some());
                }
                _ => {}
            }
            let order: Vec<NodeId> = table.oldest_first().map(|c| c.id).collect();
            assert_eq!(order, known, "seed {seed} step {step}");
            assert!(table.latest_first().map(|c| c.id).eq(known.iter().rev().copied()));
            let in_buckets: BTreeSet<_> =
                (0..table.buckets.len()).flat_map(|at| table.bucket(at)).map(|c| c.id).collect();
            assert_eq!(in_buckets, known.iter().copied().collect());
            assert_eq!((table.len(), table.is_empty()), (known.len(), known.is_empty()));
        }
        assert!(table.slab.len() < 600, "places are used again");
    }
}

#[test]
fn a_full_table_of_a_network_of_10000_nodes_is_small() {
    let (table, _) = filled(11, 10_000);
    let slab = table.slab.capacity() * size_of::<Slot<NonZeroU32>>();
    let buckets: usize = table.buckets.iter().map(|bucket| bucket.capacity() * 2 + 24).sum();
    println!("{} contacts take {} bytes", table.len(), slab + buckets);
    assert!(table.len() > 180 && slab + buckets <= 13 * 1024, "{}", slab + buckets);
}

#[test]
fn every_node_is_chosen_at_random_some_time() {
    let (table, mut rng) = filled(12, 300);
    let chosen: BTreeSet<_> = (0..5000).map(|_| table.random(&mut rng).expect("some").id).collect();
    assert_eq!(chosen.len(), table.len());
    assert!(filled(13, 0).0.random(&mut rng).is_none());
}

#[test]
fn a_table_around_another_id_keeps_the_order_and_what_is_known() {
    let (mut table, mut rng) = filled(14, 60);
    let before: Vec<Contact> = table.oldest_first().copied().collect();
    let own = before[7].id;
    table.recentre(own);
    let after: Vec<Contact> = table.oldest_first().copied().collect();
    assert_eq!(table.own(), own);
    assert!(table.find(&own).is_none() && after.len() > 30);
    let kept: Vec<Contact> = before.into_iter().filter(|c| table.find(&c.id).is_some()).collect();
    assert_eq!(after, kept);
    let target = id(&mut rng).0;
    assert_eq!(table.closest(&target, 20).len(), 20);
}

#[test]
fn the_addresses_of_the_closest_are_those_of_the_closest() {
    let mut from_one_bucket = 0;
    // In small tables there is more to look at than one bucket; in the third, hosts of one network are too many.
    for (seed, nodes, crowded) in [(20, 50, false), (21, 2000, false), (22, 2000, true)] {
        let (mut table, mut rng) = filled(seed, if crowded { 0 } else { nodes });
        for n in 0..if crowded { nodes } else { 0 } {
            let host = Ipv4Addr::from(if n % 3 == 0 { 0x0f00_0000 } else { 0x1000_0000 + (n << 8) });
            table.heard(id(&mut rng), SocketAddrV4::new(host, n as u16 + 1), None, 0, true);
        }
        for _ in 0..500 {
            let target = id(&mut rng).0;
            let mut found = [SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0); MAX_BUCKET_NODES];
            from_one_bucket += u32::from(table.sort_bucket(&target, &mut found).is_some());
            let count = table.closest_addresses(&target, &mut found);
            let expected: Vec<_> = table.closest(&target, MAX_BUCKET_NODES).iter().map(|c| c.addr).collect();
            assert_eq!(found[..count], expected, "seed {seed}");
        }
    }
    println!("{from_one_bucket} of 1500 from one bucket");
    assert!(from_one_bucket > 300);
}
