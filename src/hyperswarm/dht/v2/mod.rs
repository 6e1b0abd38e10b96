//! A node of the v2 DHT, client and server: dht-rpc 4.9.6 and @hyperswarm/dht 3.6.5, sans-io.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::hyperswarm::Topic;

/// How the node takes part.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to enter the network; resolved by the driver.
    pub bootstrap: Vec<Bootstrap>,
    /// Whether others may store us in their tables.
    pub ephemeral: Ephemeral,
}

/// One bootstrap address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Where datagrams go.
    pub addr: SocketAddrV4,
    /// It was given as a host name: its `to` field stays absent, as the original does.
    pub named: bool,
}

/// Whether the node puts its id in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ephemeral {
    /// Never (short-lived clients).
    Always,
    /// After 20 to 30 minutes if reachable from outside, as the original does.
    Adaptive,
    /// From the start (bootstrap and dht nodes).
    Never,
}

/// Names one running query of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Destination.
    pub to: SocketAddrV4,
    /// One whole DHT message.
    pub payload: Bytes,
}

/// A peer found under a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it listens (TCP and UDP).
    pub addr: SocketAddrV4,
    /// From the list of peers in our own local network.
    pub local: bool,
    /// The DHT node whose answer named it; it can relay a holepunch. None for local peers.
    pub referrer: Option<SocketAddrV4>,
    /// Our own address as that node sees it.
    pub to: Option<SocketAddrV4>,
}

/// What the owner should know.
#[derive(Clone, Debug)]
pub enum Event {
    /// The first bootstrap has ended (even if nobody answered).
    Ready,
    /// A lookup or announce met a peer (not deduplicated; own address removed).
    Peer(QueryId, Peer),
    /// A query has ended.
    Done(QueryId, Outcome),
    /// A value answered a mutable or immutable get (verified).
    Value(QueryId, Value),
    /// A ping or holepunch was answered or failed.
    Reached(QueryId, Result<Duration, Unreachable>),
}

/// How a query ended: how many nodes answered it and how many took the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Nodes that answered.
    pub answered: usize,
    /// Nodes that accepted the update (0 for plain lookups).
    pub updated: usize,
    /// It failed as upstream defines it: nobody answered, or no update was answered.
    pub failed: bool,
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The value itself, at most 1000 bytes.
    pub value: Bytes,
    /// Sequence number of a mutable value, 0 for an immutable one.
    pub seq: u64,
}

/// Nobody answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer within the request time-out")]
pub struct Unreachable;

/// The machine.
pub struct Node {}

#[allow(unused_variables, missing_docs)]
impl Node {
    /// `seed` decides ids, secrets and random choices.
    pub fn new(now: Instant, config: Config, seed: [u8; 32]) -> Self {
        todo!()
    }
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        todo!()
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }
    /// Later resolution of bootstrap names replaces the addresses.
    pub fn set_bootstrap(&mut self, now: Instant, bootstrap: Vec<Bootstrap>) {
        todo!()
    }
    pub fn lookup(&mut self, now: Instant, topic: Topic) -> QueryId {
        todo!()
    }
    /// Port 0: "the UDP port this datagram comes from".
    pub fn announce(&mut self, now: Instant, topic: Topic, port: u16) -> QueryId {
        todo!()
    }
    pub fn unannounce(&mut self, now: Instant, topic: Topic, port: u16) -> QueryId {
        todo!()
    }
    /// Opens the way to `peer` with the help of `referrer`; ends with `Event::Reached`.
    pub fn holepunch(&mut self, now: Instant, peer: SocketAddrV4, referrer: SocketAddrV4) -> QueryId {
        todo!()
    }
    pub fn ping(&mut self, now: Instant, node: SocketAddrV4) -> QueryId {
        todo!()
    }
    /// Nodes in the routing table.
    pub fn table_len(&self) -> usize {
        todo!()
    }
    /// Our own public address by the majority of the latest answers (port 0: only the host is agreed on).
    pub fn own_address(&self) -> Option<SocketAddrV4> {
        todo!()
    }
}
