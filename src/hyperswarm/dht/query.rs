//! One iterative query: walk towards a target, then perhaps update the nodes found closest (dht-rpc 4.9
//! `lib/query-stream.js` and `lib/query-table.js`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use super::id::{NodeId, by_distance};
use super::shares::Tally;
use crate::limits::{
    MAX_BUCKET_NODES, MAX_NODES_PER_HOST, MAX_NODES_PER_NETWORK, MAX_QUERY_REQUESTS,
    MAX_QUERY_SILENT_PER_HOST,
};

/// A node to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: NodeId,
    /// Where it is said to answer.
    pub addr: SocketAddrV4,
    /// Who named it.
    pub referrer: Option<SocketAddrV4>,
    /// From its own answer.
    pub token: Option<[u8; 32]>,
    /// It was asked in this phase.
    queried: bool,
    /// A request to it was made before, so help of the referrer was asked for as well.
    pub asked_before: bool,
    /// It is a bootstrap node, known by its address: what its id is does not matter, and it may have none.
    pub trusted: bool,
}

/// What a node said.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// Who answered.
    pub from: SocketAddrV4,
    /// Its id, unless ephemeral.
    pub id: Option<NodeId>,
    /// Its token for us.
    pub token: Option<[u8; 32]>,
    /// The answer reports an error.
    pub refused: bool,
}

/// A request the query wants to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub candidate: Candidate,
    /// Update with the candidate's token, instead of query.
    pub update: bool,
}

/// What differs between the generations.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Only nodes that gave us a token count among the closest.
    pub needs_token: bool,
    /// So do nodes whose answer reports an error.
    pub counts_refusals: bool,
    /// The walk ends although requests are in flight, if those had to be sent again and enough nodes have answered.
    pub leaves_late: bool,
}

/// Where a query stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    MovingCloser,
    Updating,
    Finished,
}

/// The state of one query.
#[derive(Debug)]
pub struct Query {
    target: [u8; 32],
    own: NodeId,
    rules: Rules,
    wants_update: bool,
    phase: Phase,
    /// Nearest candidates, asked or not.
    unverified: Vec<Candidate>,
    /// Nearest nodes that answered with id and token.
    closest: Vec<Candidate>,
    /// Bootstrap nodes that answered with a token. The user chose them, so they are updated however far they are: else
    /// the nodes beside a topic, which a stranger can choose, could keep it from everybody by storing nothing.
    trusted: Vec<Candidate>,
    /// Bootstrap addresses that were asked.
    forced: BTreeSet<SocketAddrV4>,
    asked: BTreeSet<SocketAddrV4>,
    in_flight: usize,
    /// Requests in flight that had to be sent again.
    late: BTreeSet<SocketAddrV4>,
    /// By host: such requests, and those that failed.
    silent: BTreeMap<Ipv4Addr, usize>,
    /// By host: all requests of this phase.
    asked_of: BTreeMap<Ipv4Addr, usize>,
    requests: usize,
    counts: Counts,
}

/// Totals of a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers to the query phase and the update phase.
    pub answered: usize,
    /// Answers to the query phase that report an error.
    pub refused: usize,
    /// Answers to updates.
    pub update_answers: usize,
    /// Answers to updates that report no error.
    pub updated: usize,
}

impl Query {
    /// A query for `target` by the node `own`, with an update at its end or without.
    pub fn new(own: NodeId, target: [u8; 32], wants_update: bool, rules: Rules) -> Self {
        Self {
            target,
            own,
            rules,
            wants_update,
            phase: Phase::MovingCloser,
            unverified: Vec::new(),
            closest: Vec::new(),
            trusted: Vec::new(),
            forced: BTreeSet::new(),
            asked: BTreeSet::new(),
            in_flight: 0,
            late: BTreeSet::new(),
            silent: BTreeMap::new(),
            asked_of: BTreeMap::new(),
            requests: 0,
            counts: Counts::default(),
        }
    }

    /// What the query walks towards.
    pub fn target(&self) -> &[u8; 32] {
        &self.target
    }

    /// Totals so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The nearest nodes that answered, nearest first.
    pub fn closest(&self) -> &[Candidate] {
        &self.closest
    }

    /// Requests in flight, and how many of those had to be sent again.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.in_flight, self.late.len())
    }

    /// True if it has ended.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// As the original defines it: nobody answered, or no update was answered.
    pub fn has_failed(&self) -> bool {
        self.counts.answered == 0 || self.wants_update && self.counts.update_answers == 0
    }

    /// A node to ask if it is near enough; each id once.
    pub fn add_candidate(&mut self, id: NodeId, addr: SocketAddrV4, referrer: Option<SocketAddrV4>) {
        if id != self.own {
            let candidate = Candidate {
                id,
                addr,
                referrer,
                token: None,
                queried: false,
                asked_before: false,
                trusted: false,
            };
            insert_sorted(&self.target, candidate, &mut self.unverified);
        }
    }

    /// A request is made to a bootstrap address. The walk does not ask there again if that `suffices`.
    pub fn forced(&mut self, addr: SocketAddrV4, suffices: bool) {
        self.in_flight += 1;
        self.requests += 1;
        self.forced.insert(addr);
        if suffices {
            self.asked.insert(addr);
        }
    }

    /// The requests to make now: nearest first, but hosts that were not asked much before those that were, as many as `free` allows, and at least one while nothing of this
    /// query is in flight. Moves on to the update and to the end when nothing is left.
    pub fn next(&mut self, free: usize) -> Vec<Ask> {
        loop {
            // The update always keeps enough for the nodes found.
            let updates = MAX_BUCKET_NODES + self.forced.len();
            let reserve = if self.phase == Phase::MovingCloser { updates } else { 0 };
            let budget = (MAX_QUERY_REQUESTS - reserve).saturating_sub(self.requests);
            let free = if free == 0 && self.awaited() == 0 { 1 } else { free }.min(budget);
            let asks = match self.phase {
                Phase::MovingCloser => self.take(free, false),
                Phase::Updating => self.take(free, true),
                Phase::Finished => return Vec::new(),
            };
            self.in_flight += asks.len();
            self.requests += asks.len();
            if !asks.is_empty() || self.awaited() > 0 {
                return asks;
            }
            self.advance();
        }
    }

    /// A node answered a request of this query. Returns whether it belongs to the walk, so that the nodes it names
    /// are candidates.
    pub fn answered(&mut self, reply: Reply, update: bool) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.late.remove(&reply.from)
            && let Some(silent) = self.silent.get_mut(reply.from.ip())
        {
            *silent = silent.saturating_sub(1);
        }
        self.counts.answered += 1;
        if update {
            self.counts.update_answers += 1;
            self.counts.updated += usize::from(!reply.refused);
        }
        if !update {
            self.counts.refused += usize::from(reply.refused);
            self.found(reply);
        }
        self.phase == Phase::MovingCloser
    }

    /// Keeps a node that answered, if it can be updated.
    fn found(&mut self, reply: Reply) {
        let counts = (reply.token.is_some() || !self.rules.needs_token)
            && (!reply.refused || self.rules.counts_refusals);
        if !counts || reply.id == Some(self.own) {
            return;
        }
        let trusted = self.wants_update && self.forced.contains(&reply.from);
        let known = self.unverified.iter().find(|c| Some(c.id) == reply.id && c.addr == reply.from);
        let candidate = Candidate {
            id: reply.id.unwrap_or(self.own),
            addr: reply.from,
            referrer: known.and_then(|c| c.referrer),
            token: reply.token,
            queried: !trusted,
            asked_before: true,
            trusted,
        };
        if trusted {
            if !self.trusted.iter().any(|c| c.addr == reply.from) {
                self.trusted.push(candidate);
            }
        } else if reply.id.is_some() {
            insert_sorted(&self.target, candidate, &mut self.closest);
        }
    }

    /// A request of this query had no answer yet and was sent again. A host with too many of those is not waited for.
    pub fn late(&mut self, addr: SocketAddrV4) {
        if self.late.insert(addr) {
            *self.silent.entry(*addr.ip()).or_default() += 1;
        }
    }

    /// Nobody answered a request of this query.
    pub fn failed(&mut self, addr: SocketAddrV4) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.late.remove(&addr);
    }

    /// Requests in flight that are worth waiting for. A bootstrap node that is gone must not delay what others answer.
    fn awaited(&self) -> usize {
        if self.rules.leaves_late
            && self.phase == Phase::MovingCloser
            && self.closest.len() >= MAX_BUCKET_NODES
        {
            return self.in_flight.saturating_sub(self.late.len());
        }
        let others = self.counts.answered > 0;
        let gone = |addr: &SocketAddrV4| others && self.forced.contains(addr);
        let hopeless = self.late.iter().filter(|addr| gone(addr) || is_silent(&self.silent, *addr.ip()));
        self.in_flight.saturating_sub(hopeless.count())
    }

    fn take(&mut self, free: usize, update: bool) -> Vec<Ask> {
        let (list, trusted): (&mut Vec<_>, &mut [_]) = match update {
            true => (&mut self.closest, &mut self.trusted),
            false => (&mut self.unverified, &mut []),
        };
        let mut asks = Vec::new();
        // A host that always knows nearer nodes of its own must not keep the others from being asked.
        for most in [MAX_NODES_PER_HOST, usize::MAX] {
            for candidate in list.iter_mut().chain(trusted.iter_mut()) {
                let host = *candidate.addr.ip();
                let asked_of = self.asked_of.entry(host).or_default();
                let shunned = *asked_of >= most || is_silent(&self.silent, host);
                // Nobody takes an update without a token.
                let may_be_asked = !candidate.queried && (!update || candidate.token.is_some());
                if !may_be_asked || shunned && !candidate.trusted {
                    continue;
                }
                if asks.len() >= free {
                    return asks;
                }
                candidate.queried = true;
                // A liar could name one victim under many ids: each address is asked once per phase.
                if self.asked.insert(candidate.addr) {
                    *asked_of += 1;
                    asks.push(Ask { candidate: *candidate, update });
                    candidate.asked_before = true;
                }
            }
        }
        asks
    }

    fn advance(&mut self) {
        if self.phase == Phase::MovingCloser && self.wants_update {
            self.phase = Phase::Updating;
            self.asked.clear();
            self.asked_of.clear();
            for candidate in &mut self.closest {
                candidate.queried = false;
            }
        } else {
            self.phase = Phase::Finished;
        }
    }
}

fn is_silent(silent: &BTreeMap<Ipv4Addr, usize>, host: Ipv4Addr) -> bool {
    silent.get(&host).is_some_and(|count| *count >= MAX_QUERY_SILENT_PER_HOST)
}

/// Keeps the list sorted by distance, at most 20 long, each id once. The farthest makes room; while one host or network
/// has more than its share, the farthest of its own: else a host with many ids beside a topic would be all that is
/// asked about it, and all that is told.
fn insert_sorted(target: &[u8; 32], candidate: Candidate, list: &mut Vec<Candidate>) {
    let Err(at) = list.binary_search_by(|c| by_distance(target, &c.id, &candidate.id)) else { return };
    list.insert(at, candidate);
    if list.len() > MAX_BUCKET_NODES {
        let tally: Tally = list.iter().map(|c| *c.addr.ip()).collect();
        let (host, network) = (tally.most_of_a_host(), tally.most_of_a_network());
        let crowded = |c: &Candidate| {
            let of_host = host > MAX_NODES_PER_HOST && tally.of_host(*c.addr.ip()) == host;
            let of_network = network > MAX_NODES_PER_NETWORK && tally.of_network(*c.addr.ip()) == network;
            of_host || (host <= MAX_NODES_PER_HOST && of_network)
        };
        let gone = list.iter().rposition(crowded).unwrap_or(MAX_BUCKET_NODES);
        list.remove(gone);
    }
}

#[cfg(test)]
mod tests;
