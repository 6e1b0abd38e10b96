//! Requests of others that are being served, and which of them gives way when no place is left for another.
//!
//! Identities cost a stranger nothing, addresses do, but a whole laboratory may share one address. So nothing is counted
//! by address while there are places. When there are none, the address with most requests gives way to one with fewer,
//! and within an address the node with most requests to one with fewer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{ConnectionId, RequestKey};
use crate::limits;
use crate::node::legacy::NodeId;

/// A request that sent nothing for so long gives way to a node at the same address that has none. Longer than it takes
/// to verify most files.
pub(super) const STUCK: Duration = Duration::from_secs(5);

/// All requests of others.
pub(super) type ServedRequests = HashMap<RequestKey, Served>;

/// A request that we serve.
pub(super) struct Served {
    /// Where its asker is. All askers that are no neighbours count as one address.
    pub(super) host: Option<IpAddr>,
    /// Told `Full`: `Writable` is owed.
    pub(super) blocked: bool,
    /// When it last sent something: counted, and as a time.
    pub(super) turn: u64,
    pub(super) moved: Instant,
    /// Of an asker that is a neighbour: the connection that takes all parts of the answer, so that they stay in order.
    pub(super) link: Option<ConnectionId>,
    /// Of an asker that is no neighbour: the neighbours that got all that was sent so far. Pieces have no offset and
    /// the first copy to arrive counts, so one that missed a part must not carry a later one.
    pub(super) through: Option<Vec<NodeId>>,
}

impl Served {
    pub(super) fn new(now: Instant, turn: u64, host: Option<IpAddr>) -> Self {
        Self { host, blocked: false, turn, moved: now, link: None, through: None }
    }
}

/// The answer to a node that has a new request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is a place.
    Free,
    /// There is one if this request is given up.
    InsteadOf(RequestKey),
    /// The node, or everybody together, has as many as allowed.
    Full,
}

/// Looks for a place for a request of this node at this address.
pub(super) fn admit(served: &ServedRequests, now: Instant, from: NodeId, host: Option<IpAddr>) -> Admission {
    let own = served.keys().filter(|key| key.from == from).count();
    if own >= limits::NODE_REQUESTS_MAX {
        return Admission::Full;
    }
    if served.len() < limits::SWARM_REQUESTS_MAX {
        return Admission::Free;
    }
    let (mut on_host, mut of_node) = (HashMap::new(), HashMap::new());
    for (key, served) in served {
        *on_host.entry(served.host).or_insert(0_usize) += 1;
        *of_node.entry(key.from).or_insert(0_usize) += 1;
    }
    let count = |host: &Option<IpAddr>| on_host.get(host).copied().unwrap_or(0);
    let most = on_host.values().copied().max().unwrap_or(0);
    // Only to one that has fewer even with the new request: else two would take the place from each other in turns.
    let other_host = most > count(&host) + 1;
    let gives_way = |key: &RequestKey, served: &Served| match other_host {
        true => count(&served.host) == most,
        false if served.host != host => false,
        false => {
            let stuck = now.saturating_duration_since(served.moved) >= STUCK;
            of_node.get(&key.from).is_some_and(|count| *count > own + 1) || (own == 0 && stuck)
        }
    };
    let least = served.iter().filter(|(key, served)| gives_way(key, served));
    match least.min_by_key(|(_, served)| served.turn) {
        Some((key, _)) => Admission::InsteadOf(*key),
        None => Admission::Full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::legacy::{Style, WireId};
    use hyperswarm::crypto::PublicKey;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn node(number: usize) -> NodeId {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        NodeId::new(PublicKey(key), Style::Spki)
    }

    /// As many nodes at one address as there are places, each with one request, the lower numbers served longer ago.
    fn full(now: Instant) -> ServedRequests {
        let mut rng = StdRng::seed_from_u64(1);
        let requests = (0..limits::SWARM_REQUESTS_MAX).map(|number| {
            let key = RequestKey { from: node(number), id: WireId::random(&mut rng) };
            (key, Served::new(now, number as u64, None))
        });
        requests.collect()
    }

    #[test]
    fn among_many_nodes_at_one_address_a_request_that_is_stuck_gives_way_to_a_node_that_has_none() {
        let began = Instant::now();
        let mut served = full(began);
        let late = began + STUCK;
        for (_, moving) in served.iter_mut().filter(|(key, _)| key.from != node(5)) {
            moving.moved = late;
        }
        let new = node(1000);
        assert_eq!(admit(&served, late - Duration::from_millis(1), new, None), Admission::Full);
        let admission = admit(&served, late, new, None);
        assert!(matches!(admission, Admission::InsteadOf(key) if key.from == node(5)), "{admission:?}");
        assert_eq!(admit(&served, late, node(7), None), Admission::Full, "it has one");
    }

    #[test]
    fn what_sent_something_longest_ago_gives_way_first() {
        let now = Instant::now();
        let mut served = full(now);
        for (key, sent) in served.iter_mut().filter(|(key, _)| key.from == node(0) || key.from == node(1)) {
            sent.turn += if key.from == node(0) { 1000 } else { 2000 };
        }
        let elsewhere = Some(IpAddr::from([192, 0, 2, 1]));
        let admission = admit(&served, now, node(1000), elsewhere);
        assert!(matches!(admission, Admission::InsteadOf(key) if key.from == node(2)), "{admission:?}");
    }
}
