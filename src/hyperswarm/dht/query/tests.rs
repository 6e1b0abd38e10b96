use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::net::Ipv4Addr;

const TARGET: [u8; 32] = [0; 32];
const OWN: NodeId = NodeId([0xff; 32]);
const V2: Rules = Rules { needs_token: true, counts_refusals: true, leaves_late: false };
const V4: Rules = Rules { needs_token: false, counts_refusals: false, leaves_late: true };

/// Distance to the target grows with `n`.
fn id(n: u32) -> NodeId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&n.to_be_bytes());
    NodeId(id)
}

fn addr(n: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1000)
}

fn reply(n: u32) -> Reply {
    Reply { from: addr(n), id: Some(id(n)), token: Some([n as u8; 32]), refused: false }
}

fn asked(asks: &[Ask]) -> Vec<NodeId> {
    asks.iter().map(|ask| ask.candidate.id).collect()
}

/// Runs a query among nodes 1 to `count`, which all name each other's neighbours; returns all requests.
fn run(query: &mut Query, count: u32) -> Vec<Ask> {
    let mut all = Vec::new();
    let mut flying = Vec::new();
    loop {
        let asks = query.next(16 - flying.len());
        all.extend_from_slice(&asks);
        flying.extend(asks);
        if flying.is_empty() {
            assert!(query.is_finished());
            return all;
        }
        let ask = flying.remove(0);
        let n = u32::from(*ask.candidate.addr.ip()) - 0x0a00_0000;
        if query.answered(reply(n), ask.update) {
            for near in n.saturating_sub(12).max(1)..=(n + 8).min(count) {
                query.add_candidate(id(near), addr(near), Some(addr(n)));
            }
        }
    }
}

#[test]
fn the_walk_reaches_the_closest_nodes_and_updates_exactly_20_with_their_tokens() {
    let mut query = Query::new(OWN, TARGET, true, V2);
    query.add_candidate(id(300), addr(300), None);
    let all = run(&mut query, 300);
    let updates: Vec<&Ask> = all.iter().filter(|ask| ask.update).collect();
    assert_eq!(
        updates.iter().map(|a| a.candidate.id).collect::<Vec<_>>(),
        (1..=20).map(id).collect::<Vec<_>>()
    );
    for (n, ask) in updates.iter().enumerate() {
        assert_eq!(ask.candidate.token, Some([n as u8 + 1; 32]));
        assert!(ask.candidate.referrer.is_some());
    }
    assert_eq!(query.counts().updated, 20);
    assert!(!query.has_failed());
}

#[test]
fn nobody_is_asked_twice_in_one_phase() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    query.add_candidate(id(300), addr(300), None);
    let all = run(&mut query, 300);
    let unique: BTreeSet<SocketAddrV4> = all.iter().map(|a| a.candidate.addr).collect();
    assert_eq!(unique.len(), all.len());
}

#[test]
fn the_nearest_are_asked_first_and_as_many_as_are_free() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    for n in [5, 3, 9, 1, 7] {
        query.add_candidate(id(n), addr(n), None);
    }
    assert_eq!(asked(&query.next(3)), [id(1), id(3), id(5)]);
    assert!(query.next(0).is_empty(), "three are in flight");
    query.failed(addr(1));
    assert_eq!(asked(&query.next(1)), [id(7)]);
}

#[test]
fn one_is_asked_even_if_nothing_is_free() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    query.add_candidate(id(1), addr(1), None);
    query.add_candidate(id(2), addr(2), None);
    assert_eq!(asked(&query.next(0)), [id(1)]);
}

#[test]
fn only_the_20_nearest_candidates_are_kept() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    for n in (1..=100).rev() {
        query.add_candidate(id(n), addr(n), None);
    }
    assert_eq!(query.unverified.len(), MAX_BUCKET_NODES);
    assert_eq!(asked(&query.next(100)), (1..=20).map(id).collect::<Vec<_>>());
}

#[test]
fn an_ephemeral_node_counts_as_an_answer_and_is_not_updated() {
    let mut query = Query::new(OWN, TARGET, true, V2);
    query.add_candidate(id(1), addr(1), None);
    assert_eq!(query.next(16).len(), 1);
    query.answered(Reply { id: None, ..reply(1) }, false);
    assert!(query.next(16).is_empty());
    assert!(query.is_finished());
    assert_eq!(query.counts().answered, 1);
    assert!(query.has_failed(), "no update was answered");
}

#[test]
fn a_query_nobody_answers_fails() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    query.add_candidate(id(1), addr(1), None);
    query.next(16);
    query.failed(addr(1));
    assert!(query.next(16).is_empty() && query.is_finished() && query.has_failed());
}

#[test]
fn a_refused_update_is_answered_and_not_counted_as_updated() {
    let mut query = Query::new(OWN, TARGET, true, V2);
    query.add_candidate(id(1), addr(1), None);
    query.next(16);
    query.answered(reply(1), false);
    assert!(query.next(16)[0].update);
    query.answered(Reply { refused: true, ..reply(1) }, true);
    query.next(16);
    assert!(query.is_finished() && !query.has_failed());
    assert_eq!(query.counts(), Counts { answered: 2, refused: 0, update_answers: 1, updated: 0 });
}

#[test]
fn our_own_id_is_neither_asked_nor_updated() {
    let mut query = Query::new(id(1), TARGET, true, V2);
    query.add_candidate(id(1), addr(1), None);
    query.forced(addr(1), true);
    query.answered(reply(1), false);
    assert!(query.next(16).is_empty() && query.is_finished());
}

#[test]
fn many_ids_at_one_address_are_asked_once() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    for n in 1..=20 {
        query.add_candidate(id(n), addr(77), None);
    }
    assert_eq!(query.next(16).len(), 1);
}

#[test]
fn a_liar_who_always_knows_nearer_nodes_is_not_followed_for_ever() {
    let mut query = Query::new(OWN, TARGET, true, V2);
    let mut next = u32::MAX;
    query.add_candidate(id(next), addr(1), None);
    let mut requests = 0;
    loop {
        let asks = query.next(1);
        let Some(ask) = asks.first() else { break };
        requests += 1;
        assert!(requests as usize <= MAX_QUERY_REQUESTS);
        let reply = Reply {
            from: ask.candidate.addr,
            id: Some(ask.candidate.id),
            token: Some([0; 32]),
            refused: false,
        };
        if query.answered(reply, ask.update) {
            next -= 1;
            query.add_candidate(id(next), addr(requests + 1), None);
        }
    }
    assert!(query.is_finished());
    assert_eq!(requests as usize, MAX_QUERY_REQUESTS);
    assert_eq!(query.counts().updated, MAX_BUCKET_NODES, "the update keeps its share");
}

/// One random list of operations; panics where an invariant breaks.
fn random_operations(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let wants_update = rng.random_bool(0.5);
    let rules = if rng.random() { V2 } else { V4 };
    let mut query = Query::new(OWN, TARGET, wants_update, rules);
    let mut flying: Vec<Ask> = Vec::new();
    let mut updated = BTreeSet::new();
    for _ in 0..rng.random_range(1..300) {
        match rng.random_range(0..4) {
            0 => {
                let n = rng.random_range(1..2000);
                query.add_candidate(id(n), addr(rng.random_range(1..2000)), Some(addr(n)));
            }
            1 => {
                let free = rng.random_range(0..20);
                let before = flying.len();
                let asks = query.next(free);
                assert!(asks.len() <= free.max(usize::from(before == 0)));
                for ask in &asks {
                    assert!(!ask.update || wants_update && ask.candidate.token.is_some());
                    assert!(!ask.update || updated.insert(ask.candidate.id), "updated twice");
                }
                flying.extend(asks);
            }
            _ if flying.is_empty() => {}
            2 => {
                let ask = flying.swap_remove(rng.random_range(0..flying.len()));
                query.failed(ask.candidate.addr);
            }
            _ => {
                let ask = flying.swap_remove(rng.random_range(0..flying.len()));
                let id = rng.random_bool(0.9).then_some(ask.candidate.id);
                let token = rng.random_bool(0.9).then_some([1; 32]);
                let refused = rng.random_bool(0.1);
                query.answered(Reply { from: ask.candidate.addr, id, token, refused }, ask.update);
            }
        }
        assert_eq!(query.in_flight, flying.len());
        assert!(query.requests <= MAX_QUERY_REQUESTS);
        for list in [&query.unverified, &query.closest] {
            assert!(list.len() <= MAX_BUCKET_NODES && list.is_sorted_by_key(|c| c.id.distance(&TARGET)));
        }
        assert!(!query.is_finished() || flying.is_empty());
    }
    // Whatever happened, it comes to an end when everything fails from now on.
    for _ in 0..2 * MAX_QUERY_REQUESTS {
        flying.extend(query.next(16));
        if let Some(ask) = flying.pop() {
            query.failed(ask.candidate.addr);
        }
    }
    assert!(query.is_finished());
}

#[test]
fn random_operations_keep_the_invariants() {
    let lists: u64 = std::env::var("FUZZ_LISTS").ok().and_then(|n| n.parse().ok()).unwrap_or(2000);
    for seed in 0..lists {
        let outcome = std::panic::catch_unwind(|| random_operations(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
    println!(
        "check 4: measured {lists} random lists for DHT queries without a broken invariant, bar 100000 (2000 in PR), seed 0..{lists}"
    );
}

#[test]
fn nodes_of_one_host_beside_the_target_neither_hide_the_others_nor_take_the_update() {
    let mut query = Query::new(OWN, TARGET, true, V2);
    let attacker = |n: u32| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), n as u16);
    // The honest node is farthest, and named between the others.
    for n in 1..=50 {
        query.add_candidate(id(n), attacker(n), None);
        if n == 25 {
            query.add_candidate(id(300), addr(300), None);
        }
    }
    let mut updated = Vec::new();
    while let Some(ask) = query.next(1).first().copied() {
        let from = ask.candidate.addr;
        let n = if from == addr(300) { 300 } else { u32::from(from.port()) };
        let reply = Reply { from, ..reply(n) };
        if query.answered(reply, ask.update) {
            (1..=50).for_each(|n| query.add_candidate(id(n), attacker(n), None));
        }
        updated.extend(ask.update.then_some(from));
    }
    assert!(updated.len() == 20 && updated.contains(&addr(300)), "{updated:?}");
}

#[test]
fn all_20_of_a_query_may_be_of_one_host_if_there_is_no_other() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    let neighbour = |n: u32| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), n as u16);
    (1..=60).rev().for_each(|n| query.add_candidate(id(n), neighbour(n), None));
    assert_eq!(asked(&query.next(100)), (1..=20).map(id).collect::<Vec<_>>());
}

#[test]
fn many_hosts_of_one_network_leave_room_for_others() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    query.add_candidate(id(300), addr(300), None);
    for n in 1..=60 {
        let neighbour = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, n as u8), 1000);
        query.add_candidate(id(n), neighbour, None);
    }
    let asked = asked(&query.next(100));
    assert_eq!(asked, (1..=19).chain([300]).map(id).collect::<Vec<_>>());
}

#[test]
fn a_host_that_leaves_many_requests_unanswered_is_not_waited_for() {
    let silent = |n: u32| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), n as u16);
    let full = MAX_QUERY_SILENT_PER_HOST as u32;
    let mut query = Query::new(OWN, TARGET, true, V2);
    query.add_candidate(id(300), addr(300), None);
    (1..=full + 4).for_each(|n| query.add_candidate(id(n), silent(n), None));
    assert_eq!(query.next(full as usize + 1).len(), full as usize + 1);
    query.answered(reply(300), false);
    (1..full).for_each(|n| query.late(silent(n)));
    assert_eq!(asked(&query.next(1)).len(), 1, "one more may be late");
    query.late(silent(full));
    assert!(query.next(1).is_empty(), "the last one is waited for, no other is asked");
    query.late(silent(full + 1));
    // The update begins though nine requests are in flight.
    let update = query.next(0);
    assert!(asked(&update) == [id(300)] && update[0].update);
    query.answered(reply(300), true);
    assert!(query.next(0).is_empty() && query.is_finished());
}

#[test]
fn a_late_answer_is_no_silence() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    for n in 1..=3 * MAX_QUERY_SILENT_PER_HOST as u32 {
        let slow = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), n as u16);
        // Ever nearer.
        query.add_candidate(id(1000 - n), slow, None);
        assert_eq!(query.next(16).len(), 1, "{n}");
        query.late(slow);
        query.answered(Reply { from: slow, ..reply(1000 - n) }, false);
    }
}

#[test]
fn a_host_that_knows_ever_nearer_nodes_does_not_keep_the_others_from_being_asked() {
    let mut query = Query::new(OWN, TARGET, false, V2);
    let liar = |n: u32| SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), n as u16);
    (1..=19).for_each(|n| query.add_candidate(id(n), liar(n), None));
    query.add_candidate(id(300), addr(300), None);
    assert_eq!(asked(&query.next(4)), [1, 2, 300, 3].map(id));
}

#[test]
fn the_rules_say_whether_nodes_without_a_token_or_with_an_error_are_among_the_closest() {
    for (rules, expected) in [(V2, vec![1, 3]), (V4, vec![1, 2])] {
        let mut query = Query::new(OWN, TARGET, false, rules);
        (1..=3).for_each(|n| query.add_candidate(id(n), addr(n), None));
        assert_eq!(query.next(16).len(), 3);
        query.answered(reply(1), false);
        query.answered(Reply { token: None, ..reply(2) }, false);
        assert!(
            query.answered(Reply { refused: true, ..reply(3) }, false),
            "what it names is followed all the same"
        );
        assert_eq!(
            query.closest().iter().map(|c| c.id).collect::<Vec<_>>(),
            expected.into_iter().map(id).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_bootstrap_node_is_asked_once_and_updated_however_far_it_is_and_without_an_id() {
    for own_id in [Some(id(3000)), None] {
        let mut query = Query::new(OWN, TARGET, true, V2);
        query.forced(addr(3000), true);
        query.add_candidate(id(300), addr(300), None);
        query.add_candidate(id(3000), addr(3000), Some(addr(300)));
        query.answered(Reply { id: own_id, ..reply(3000) }, false);
        let all = run(&mut query, 300);
        let times = |update| {
            all.iter().filter(|ask| ask.update == update && ask.candidate.addr == addr(3000)).count()
        };
        assert_eq!((times(false), times(true)), (0, 1), "{own_id:?}");
        assert_eq!(query.counts().updated, MAX_BUCKET_NODES + 1);
    }
}

#[test]
fn the_rules_say_whether_late_answers_are_waited_for_when_enough_have_come() {
    for (rules, waits) in [(V2, true), (V4, false)] {
        let mut query = Query::new(OWN, TARGET, false, rules);
        // The late one is the nearest.
        (1..=20).for_each(|n| query.add_candidate(id(n), addr(n), None));
        assert_eq!(query.next(32).len(), 20);
        query.late(addr(1));
        assert_eq!(query.in_flight(), (20, 1));
        (2..=20).for_each(|n| assert!(query.answered(reply(n), false)));
        assert!(query.next(16).is_empty() && !query.is_finished(), "19 are not enough");
        query.forced(addr(30), true);
        query.answered(reply(30), false);
        assert!(query.next(16).is_empty());
        assert_eq!(query.is_finished(), !waits);
    }
}

#[test]
fn a_bootstrap_node_that_is_gone_delays_nothing_once_another_node_answered() {
    let mut query = Query::new(OWN, TARGET, true, V2);
    query.forced(addr(3000), true);
    query.late(addr(3000));
    assert!(query.next(16).is_empty() && !query.is_finished(), "nobody else answered");
    query.add_candidate(id(1), addr(1), None);
    assert_eq!(query.next(16).len(), 1);
    query.answered(reply(1), false);
    assert!(query.next(16)[0].update);
}
