//! Announcing and finding among many nodes.

use super::*;

const TOPIC: Topic = Topic([7; 32]);

#[test]
fn a_lookup_finds_who_announced() {
    let mut network = network(10, 1, Link::GOOD);
    let query = network.with(addr(3), |node, now| node.announce(now, TOPIC, 0)).expect("there");
    let (_, outcome) = finish(&mut network, addr(3), query);
    assert!(!outcome.failed && outcome.updated == 9, "{outcome:?}");
    let query = network.with(addr(8), |node, now| node.lookup(now, TOPIC)).expect("there");
    let (peers, outcome) = finish(&mut network, addr(8), query);
    assert_eq!(found(&peers), [addr(3)].into(), "{outcome:?}");
}
