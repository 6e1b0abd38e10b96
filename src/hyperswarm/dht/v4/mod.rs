//! The node of today's DHT (dht-rpc 6): requests and replies, the routing table and its upkeep, queries, and whether
//! others can reach us. What hyperdht stores and forwards is above it: it gets the requests that are not of dht-rpc
//! itself, and answers them.
//!
//! A node has two sockets, [`CLIENT`] and [`SERVER`]. While it is firewalled, as far as it knows, it asks from the first,
//! so that a datagram that arrives on the second proves that strangers can reach us. The owner may have more sockets, from
//! which requests can be made and answered too.
//!
//! * `client.rs`: requests and queries of our own.
//! * `server.rs`: requests of others.
//! * `upkeep.rs`: the routing table and the clock.
//! * `reach.rs`: our own address, and the way from firewalled to open and from ephemeral to persistent.
//! * [`nat`]: our own address, as other nodes see it.
//! * [`health`]: does the network answer?

mod client;
pub mod health;
pub mod nat;
mod reach;
mod server;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub use self::client::Plain;
use self::client::{Operation, Purpose};
use self::nat::Seen;
use self::reach::Reach;
use self::upkeep::Upkeep;
use super::guard::{Guard, Senders, is_sane};
use super::id::NodeId;
use super::rpc::{Action, Requests, Via};
use super::table::Table;
use super::tokens::{self, Tokens};
use crate::codec::compact::Writer;
use crate::codec::v4::{Command, ErrorCode, Packet};
use crate::crypto::v4::node_id;
use crate::limits::{MAX_DHT_DATAGRAM_BYTES, MAX_DHT_EVENTS, MAX_DHT_TRANSMITS};

/// The socket that asks while we are firewalled.
pub const CLIENT: Via = Via(0);
/// The socket at which others find us.
pub const SERVER: Via = Via(1);

/// How the node takes part.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to enter the network.
    pub bootstrap: Vec<SocketAddrV4>,
    /// Nodes known from before, the best first. With these, entering does not depend on the bootstrap nodes.
    pub nodes: Vec<SocketAddrV4>,
    /// Says if others may keep us in their tables.
    pub persistence: Persistence,
    /// Nothing keeps strangers from reaching us: that is not checked.
    pub open: bool,
    /// The port to which the server's socket is bound.
    pub server_port: u16,
    /// Our own address as others see it, if it is known. A node without anybody to ask cannot learn it (dht-rpc
    /// `bootstrapper`).
    pub public: Option<SocketAddrV4>,
}

/// When others may keep us in their tables (dht-rpc `ephemeral`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// Never.
    Ephemeral,
    /// As soon as our own address is known and can be reached.
    Persistent,
    /// The same, once we have been there for twenty minutes.
    #[default]
    Adaptive,
}

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(u64);

/// A request to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Destination.
    pub to: SocketAddrV4,
    /// The socket that sends it.
    pub via: Via,
    /// All of it.
    pub payload: Bytes,
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which node.
    pub from: SocketAddrV4,
    /// Its id, unless it is ephemeral.
    pub id: Option<NodeId>,
    /// Our own address as it sees it.
    pub to: SocketAddrV4,
    /// Allows a request that changes something there.
    pub token: Option<[u8; 32]>,
    /// Why it refuses.
    pub error: ErrorCode,
    /// Depends on the command.
    pub value: Option<Bytes>,
    /// From the first datagram of the request.
    pub elapsed: Duration,
}

/// A request of hyperdht, or of what is above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The socket on which it came.
    pub via: Via,
    /// The asker, or a node that passes it on.
    pub from: SocketAddrV4,
    /// The asker's id, unless it is ephemeral.
    pub id: Option<NodeId>,
    /// Our own address as it sees it.
    pub to: SocketAddrV4,
    /// Repeated by the reply.
    pub tid: u16,
    /// A token of ours that it showed and that is still good.
    pub token: Option<[u8; 32]>,
    /// What it asks for.
    pub command: Command,
    /// What it asks about.
    pub target: Option<[u8; 32]>,
    /// Depends on the command.
    pub value: Option<Bytes>,
}

/// How a request is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Why it is refused.
    pub error: ErrorCode,
    /// Depends on the command.
    pub value: Option<Bytes>,
    /// Give the asker a token.
    pub token: bool,
    /// Name the nodes closest to the target, if there is one.
    pub closer_nodes: bool,
}

/// How a query ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Nodes that answered without an error.
    pub answered: usize,
    /// The closest nodes that did, nearest first: whom to store something at.
    pub closest: Vec<Closest>,
}

/// One of the nodes closest to the target of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closest {
    /// Its id.
    pub id: NodeId,
    /// Where it answers.
    pub addr: SocketAddrV4,
    /// Its token for us.
    pub token: Option<[u8; 32]>,
}

/// What the owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The node has entered the network, or has found nobody.
    Ready,
    /// Others may keep us in their tables now, under this id.
    Persistent(NodeId),
    /// They may not any more: the machine slept, and may be somewhere else.
    Ephemeral,
    /// What others say about our own address has changed.
    Address(Seen),
    /// The network has begun or ceased to answer.
    Network(health::State),
    /// To be answered with [`Node::respond`], or not at all.
    Request(Incoming),
    /// A node answered a query.
    Answer(QueryId, Answer),
    /// A query has ended.
    Done(QueryId, Outcome),
    /// A request was answered, with an error perhaps.
    Answered(RequestId, Answer),
    /// Nobody answered a request.
    Unanswered(RequestId),
}

/// A node of the DHT.
pub struct Node {
    table: Table<NonZeroU32>,
    requests: Requests<Purpose>,
    /// Boxed, as a map keeps room for several when it is empty.
    operations: BTreeMap<QueryId, Box<Operation>>,
    bootstrap: Vec<SocketAddrV4>,
    tokens: Tokens,
    guard: Guard,
    senders: Senders,
    reach: Reach,
    upkeep: Upkeep,
    next_id: u64,
    writer: Writer,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    rng: StdRng,
}

impl Node {
    /// A node that begins at once to enter the network. `seed` decides everything random.
    pub fn new(now: Instant, config: Config, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut own = [0; 32];
        rand::Rng::fill_bytes(&mut rng, &mut own);
        let mut node = Self {
            table: Table::new(NodeId(own)),
            requests: Requests::new(now, &mut rng, client::rules(now)),
            operations: BTreeMap::new(),
            bootstrap: config.bootstrap,
            tokens: Tokens::new(now, &mut rng, tokens::V4),
            guard: Guard::new(now, &mut rng),
            senders: Senders::new(now),
            reach: Reach::new(config.persistence, config.open, config.server_port),
            upkeep: Upkeep::new(now, config.persistence, &mut rng),
            next_id: 0,
            writer: Writer::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            rng,
        };
        if let Some(public) = config.public {
            node.know_address(public);
        }
        // The best is added last, so that it counts as the latest heard.
        config.nodes.into_iter().rev().for_each(|known| node.add_known(known));
        node.enter(now);
        node.run(now);
        node
    }

    /// A datagram arrived on one of the sockets. What is no message of dht-rpc is dropped.
    pub fn handle_datagram(&mut self, now: Instant, via: Via, from: SocketAddrV4, bytes: &[u8]) {
        if bytes.len() > MAX_DHT_DATAGRAM_BYTES || !is_sane(from, *from.ip()) {
            return;
        }
        let Ok(packet) = Packet::decode(bytes) else { return };
        self.reach.heard_on(via, *from.ip());
        match packet {
            Packet::Request(request) => self.handle_request(now, via, from, request, bytes.len()),
            Packet::Reply(reply) => self.handle_reply(now, via, from, reply),
        }
        self.run(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.requests.handle_timeout(now);
        while let Some((to, purpose)) = self.requests.poll_late() {
            self.request_late(now, to, purpose);
        }
        self.run(now);
        self.keep_up(now);
        self.run(now);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > 0 {
            // 10,000 idle nodes in one process shall not keep room for what seldom happens.
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.requests.poll_timeout(), Some(self.upkeep.poll_timeout())].into_iter().flatten().min()
    }

    /// Our id, while others may keep us in their tables.
    pub fn id(&self) -> Option<NodeId> {
        self.reach.is_persistent().then(|| self.table.own())
    }

    /// What others say about our own address.
    pub fn seen(&self) -> Seen {
        self.reach.seen()
    }

    /// Our own address, if strangers can reach our server's socket there (dht-rpc `remoteAddress`).
    pub fn remote_address(&self) -> Option<SocketAddrV4> {
        self.reach.remote_address()
    }

    /// True as long as nothing has shown that strangers can reach us.
    pub fn is_firewalled(&self) -> bool {
        self.reach.is_firewalled()
    }

    /// The socket from which we ask, and to which others answer.
    pub fn asking(&self) -> Via {
        self.reach.asking()
    }

    /// Nodes that answered to the socket from which we ask since then, the latest first, and our address as each sees it.
    pub fn samples(
        &self,
        now: Instant,
        since: Duration,
    ) -> impl Iterator<Item = (SocketAddrV4, SocketAddrV4)> + '_ {
        self.reach.samples(now, since)
    }

    /// Nodes in the routing table, the latest heard first: what to save, for [`Config::nodes`] of the next start.
    pub fn known(&self) -> impl Iterator<Item = SocketAddrV4> + '_ {
        self.table.latest_first().map(|contact| contact.addr)
    }

    /// The source of everything random, for the layer above.
    pub(super) fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    /// Does what the requests ask for, until they ask for nothing.
    fn run(&mut self, now: Instant) {
        while let Some(action) = self.requests.poll_action() {
            match action {
                Action::Send { to, via, payload } => self.transmit(to, via, payload),
                Action::Failed { to, sent, context } => self.request_failed(now, to, sent, context),
                // Holepunching is a matter of hyperdht; no request here has a referrer.
                Action::Punch { .. } => {}
            }
        }
    }

    fn transmit(&mut self, to: SocketAddrV4, via: Via, payload: Bytes) {
        if self.transmits.len() < MAX_DHT_TRANSMITS {
            self.transmits.push_back(Transmit { to, via, payload });
        }
    }

    /// Answers and requests are dropped when nobody takes them; what ends something is not: there is little of it.
    fn emit(&mut self, event: Event) {
        let many = matches!(event, Event::Answer(..) | Event::Request(_));
        if !many || self.events.len() < MAX_DHT_EVENTS {
            self.events.push_back(event);
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Our id in packets that leave from this socket.
    fn shown_id(&self, via: Via) -> Option<[u8; 32]> {
        self.id().filter(|_| via == SERVER).map(|id| id.0)
    }
}

/// The id that a node at this address claims, if it is its own.
fn proven_id(claimed: Option<[u8; 32]>, at: SocketAddrV4) -> Option<NodeId> {
    claimed.filter(|id| *id == node_id(at)).map(NodeId)
}
