//! Our own address; whether strangers can reach us; and whether others may keep us in their tables.
//!
//! While we are firewalled, as far as we know, we ask from the client's socket. Then a datagram of a node that was only
//! ever asked from there, but comes to the server's socket, shows that strangers reach it (PING_NAT).

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::client::{Purpose, What};
use super::nat::{NatSampler, Seen};
use super::upkeep::MORE_STABLE_TICKS;
use super::{CLIENT, Event, Node, Persistence, QueryId, SERVER};
use crate::codec::v4::{Command, encode_nat_port};
use crate::crypto::v4::node_id;
use crate::dht::id::NodeId;
use crate::dht::rpc::Via;
use crate::limits::v4::{NAT_CHECK_HOSTS, NAT_CHECK_NODES, NAT_RECENT_SAMPLES};

/// From each try of a node that wants to be persistent to the next, in ticks of five seconds.
const TICKS_TO_TRY_AGAIN: u32 = 3;
/// Nodes that have to reach us, if as many as usual were asked; otherwise one.
const NEEDED: usize = 3;

pub(super) struct Reach {
    persistence: Persistence,
    server_port: u16,
    firewalled: bool,
    persistent: bool,
    nat: NatSampler,
    /// The latest answers to the socket from which we ask, the newest last.
    answers: VecDeque<Sample>,
    /// Ephemeral nodes whose word on our address was taken: few, as they may be anybody.
    ephemeral: Vec<SocketAddrV4>,
    entering: Entering,
    check: Option<Check>,
    /// The host with which we last tried to become persistent.
    tried: Option<Ipv4Addr>,
}

/// A node has told how it sees us.
struct Sample {
    at: Instant,
    node: SocketAddrV4,
    address: SocketAddrV4,
}

/// How far entering the network has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entering {
    /// The first walk; a node may have been asked to reach our server's socket.
    First {
        asked: bool,
        reached: bool,
    },
    /// After the check.
    Again,
    Done,
}

/// A check under way: nodes were asked to reach our server's socket.
struct Check {
    asked: usize,
    missing: usize,
    /// Hosts from which something came to that socket.
    heard: BTreeSet<Ipv4Addr>,
    /// Hosts that answered, and how they see that socket.
    answers: Vec<(Ipv4Addr, SocketAddrV4)>,
    before: Seen,
    only_firewall: bool,
}

impl Reach {
    pub(super) fn new(persistence: Persistence, open: bool, server_port: u16) -> Self {
        Self {
            persistence,
            server_port,
            firewalled: !open,
            persistent: false,
            nat: NatSampler::default(),
            answers: VecDeque::new(),
            ephemeral: Vec::new(),
            entering: Entering::First { asked: false, reached: false },
            check: None,
            tried: None,
        }
    }

    pub(super) fn is_persistent(&self) -> bool {
        self.persistent
    }

    pub(super) fn is_firewalled(&self) -> bool {
        self.firewalled
    }

    pub(super) fn seen(&self) -> Seen {
        self.nat.seen()
    }

    pub(super) fn remote_address(&self) -> Option<SocketAddrV4> {
        let address = self.nat.seen().address().filter(|_| !self.firewalled)?;
        (address.port() == self.server_port).then_some(address)
    }

    /// A node answered to the socket from which we ask. Each has one sample, its latest.
    pub(super) fn answered(&mut self, at: Instant, node: SocketAddrV4, address: SocketAddrV4) {
        self.answers.retain(|sample| sample.node != node);
        if self.answers.len() >= NAT_RECENT_SAMPLES {
            self.answers.pop_front();
        }
        self.answers.push_back(Sample { at, node, address });
    }

    /// Strangers can reach us: we ask from the server's socket from now on.
    fn open(&mut self) {
        self.firewalled = false;
        self.answers.clear();
    }

    pub(super) fn samples(
        &self,
        now: Instant,
        since: Duration,
    ) -> impl Iterator<Item = (SocketAddrV4, SocketAddrV4)> + '_ {
        let latest = self.answers.iter().rev();
        latest.take_while(move |sample| now < sample.at + since).map(|sample| (sample.node, sample.address))
    }

    /// The socket from which we ask.
    pub(super) fn asking(&self) -> Via {
        if self.firewalled { CLIENT } else { SERVER }
    }

    /// Something arrived on a socket.
    pub(super) fn heard_on(&mut self, via: Via, host: Ipv4Addr) {
        if let Some(check) = self.check.as_mut().filter(|_| via == SERVER)
            && check.heard.len() < NAT_CHECK_HOSTS
        {
            check.heard.insert(host);
        }
    }

    /// True if the word of this ephemeral node is to be taken.
    pub(super) fn may_sample_ephemeral(&mut self, node: SocketAddrV4, bootstrap: usize) -> bool {
        let may = self.ephemeral.len() < bootstrap.max(1) && !self.ephemeral.contains(&node);
        if may {
            self.ephemeral.push(node);
        }
        may
    }

    /// True for the first node that answers while we enter, if it is to try our server's socket.
    pub(super) fn wants_quick_check(&self) -> bool {
        let first = self.entering == Entering::First { asked: false, reached: false };
        first && self.firewalled && self.persistence != Persistence::Persistent
    }

    /// A node that was asked to reached our server's socket.
    pub(super) fn quick_check_passed(&mut self) {
        if let Entering::First { reached, .. } = &mut self.entering {
            *reached = true;
        }
    }

    /// After sleep. True if we were persistent and are not any more.
    pub(super) fn woke_up(&mut self) -> bool {
        self.tried = None;
        let was = self.persistent && self.persistence == Persistence::Adaptive;
        self.persistent &= !was;
        was
    }
}

impl Node {
    /// Walks to our own id, to learn who is near us.
    pub(super) fn enter(&mut self, now: Instant) {
        if !self.is_entering() {
            let id = QueryId(self.fresh_id());
            self.start(now, id, self.table.own().0, What::Enter);
        }
    }

    /// Our own address is known without asking anybody: others may keep us in their tables at once.
    pub(super) fn know_address(&mut self, public: SocketAddrV4) {
        self.reach.nat.add(public);
        self.reach.open();
        self.reach.entering = Entering::Again;
        self.table.recentre(NodeId(node_id(public)));
        self.reach.persistent = self.reach.persistence != Persistence::Ephemeral;
        if self.reach.persistent {
            self.emit(Event::Persistent(self.table.own()));
        }
    }

    /// A node says how it sees us.
    pub(super) fn sample(&mut self, to: SocketAddrV4) {
        let before = self.reach.seen();
        self.reach.nat.add(to);
        if self.reach.seen() != before {
            self.emit(Event::Address(self.reach.seen()));
        }
    }

    /// Asks the first node that answered to reach our server's socket.
    pub(super) fn quick_check(&mut self, now: Instant, node: SocketAddrV4) {
        self.reach.entering = Entering::First { asked: true, reached: false };
        self.ask_to_reach(now, node, Purpose::QuickNat);
    }

    fn ask_to_reach(&mut self, now: Instant, node: SocketAddrV4, purpose: Purpose) {
        let value = encode_nat_port(self.reach.server_port);
        self.send_value(now, node, Command::PING_NAT, &value, purpose);
    }

    /// A walk to enter the network has ended (dht-rpc `_bootstrap`).
    pub(super) fn entered(&mut self, now: Instant) {
        let forced = self.reach.persistence == Persistence::Persistent;
        match self.reach.entering {
            Entering::First { reached, .. } if reached || forced => {
                self.reach.entering = Entering::Again;
                self.check_reach(now, !forced);
            }
            _ => self.ready(),
        }
    }

    fn ready(&mut self) {
        self.reach.entering = Entering::Done;
        if !std::mem::replace(&mut self.upkeep.ready, true) {
            self.emit(Event::Ready);
        }
    }

    /// Tries to become persistent when it is time (dht-rpc `_ontick`).
    pub(super) fn adapt(&mut self, now: Instant) {
        if self.reach.persistent || self.reach.entering != Entering::Done {
            return;
        }
        match self.reach.persistence {
            Persistence::Ephemeral => return,
            Persistence::Persistent => {
                // Nobody has answered when it entered, or too few could reach it.
                if self.upkeep.tick.is_multiple_of(TICKS_TO_TRY_AGAIN) {
                    self.check_reach(now, false);
                }
                return;
            }
            Persistence::Adaptive => {}
        }
        self.upkeep.stable_ticks = self.upkeep.stable_ticks.saturating_sub(1);
        if self.upkeep.stable_ticks > 0 {
            return;
        }
        self.upkeep.stable_ticks = MORE_STABLE_TICKS;
        let host = self.reach.seen().host();
        if host != self.reach.tried {
            self.check_reach(now, false);
        }
    }

    /// Finds out whether strangers reach us; then others may keep us in their tables, unless only that was asked (dht-rpc
    /// `_updateNetworkState`).
    pub(super) fn check_reach(&mut self, now: Instant, only_firewall: bool) {
        let before = self.reach.seen();
        if !only_firewall {
            self.upkeep.stable_ticks = MORE_STABLE_TICKS;
            self.reach.tried = before.host();
        }
        let done = self.reach.persistent || only_firewall && !self.reach.firewalled;
        if done || before.address().is_none() || self.reach.check.is_some() {
            return self.check_ended(now, false);
        }
        if !self.reach.firewalled {
            return self.reachable(now, before, self.reach.nat.clone(), only_firewall);
        }
        let mut nodes: Vec<_> = self.table.latest_first().take(NAT_CHECK_NODES).map(|c| c.addr).collect();
        if nodes.len() < NAT_CHECK_NODES {
            nodes.extend(
                self.bootstrap.iter().copied().filter(|addr| !nodes.contains(addr)).collect::<Vec<_>>(),
            );
        }
        let (heard, answers) = (BTreeSet::new(), Vec::new());
        let (asked, missing) = (nodes.len(), nodes.len());
        self.reach.check = Some(Check { asked, missing, heard, answers, before, only_firewall });
        if nodes.is_empty() {
            return self.judge(now);
        }
        nodes.into_iter().for_each(|node| self.ask_to_reach(now, node, Purpose::Nat));
    }

    pub(super) fn nat_answered(&mut self, now: Instant, from: SocketAddrV4, to: SocketAddrV4) {
        if let Some(check) = &mut self.reach.check {
            check.answers.push((*from.ip(), to));
        }
        self.nat_failed(now);
    }

    pub(super) fn nat_failed(&mut self, now: Instant) {
        let Some(check) = &mut self.reach.check else { return };
        check.missing = check.missing.saturating_sub(1);
        if check.missing == 0 {
            self.judge(now);
        }
    }

    /// All that were asked to reach us have answered, or never will (dht-rpc `_checkIfFirewalled`).
    fn judge(&mut self, now: Instant) {
        let Some(check) = self.reach.check.take() else { return };
        let mut sampler = NatSampler::default();
        let good = check.answers.iter().filter(|(host, _)| check.heard.contains(host));
        let reached = good.map(|(_, to)| sampler.add(*to)).count();
        let needed = if check.asked >= NAT_CHECK_NODES { NEEDED } else { 1 };
        let seen = sampler.seen();
        let same_host = seen.host().is_some() && seen.host() == self.reach.seen().host();
        let same_port = seen.address().is_some_and(|address| address.port() == self.reach.server_port);
        match reached >= needed && same_host && same_port {
            true => self.reachable(now, check.before, sampler, check.only_firewall),
            false => self.check_ended(now, false),
        }
    }

    /// Strangers reach us. `sampler` has seen how they see our server's socket.
    fn reachable(&mut self, now: Instant, before: Seen, sampler: NatSampler, only_firewall: bool) {
        self.reach.open();
        let seen = sampler.seen();
        let unchanged = before == self.reach.seen() && before.host() == seen.host();
        let Some(address) = seen.address().filter(|_| unchanged && !self.reach.persistent) else {
            return self.check_ended(now, false);
        };
        self.reach.ephemeral.clear();
        let was = self.reach.seen();
        self.reach.nat = sampler;
        if was != seen {
            self.emit(Event::Address(seen));
        }
        self.reach.persistent = !only_firewall;
        let id = NodeId(node_id(address));
        if id != self.table.own() {
            self.table.recentre(id);
            if self.upkeep.ready {
                self.refresh(now);
            }
        }
        if self.reach.persistent {
            self.emit(Event::Persistent(id));
        }
        self.check_ended(now, true);
    }

    /// While we enter the network, a check that was passed is followed by a second walk, around the new id.
    fn check_ended(&mut self, now: Instant, passed: bool) {
        if self.upkeep.ready {
            return;
        }
        match passed {
            true => self.enter(now),
            false => self.ready(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_beyond_the_limit_are_not_remembered_during_a_check() {
        let mut reach = Reach::new(Persistence::Adaptive, false, 1);
        let (heard, answers, before) = (BTreeSet::new(), Vec::new(), Seen::Unknown);
        reach.check = Some(Check { asked: 5, missing: 5, heard, answers, before, only_firewall: true });
        (0..NAT_CHECK_HOSTS as u32 + 1).for_each(|n| reach.heard_on(SERVER, Ipv4Addr::from(n)));
        reach.heard_on(CLIENT, Ipv4Addr::from(u32::MAX));
        assert_eq!(reach.check.expect("still there").heard.len(), NAT_CHECK_HOSTS);
    }
}
