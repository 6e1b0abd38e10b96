//! A node of the v2 DHT, client and server: dht-rpc 4.9.6 and @hyperswarm/dht 3.6.5, sans-io.
//!
//! [`Node`] is one machine in several files: `client` makes queries and takes answers, `server` answers requests,
//! `holepunch` does both for holepunches, `upkeep` keeps the table alive, `storage` holds what others announce and
//! store, `operation` knows what each kind of query asks and makes of the answers.
//!
//! Where it is stricter than the originals: answers count only from the address that was asked; a node that has
//! only sent requests cannot change a known address or vote on ours; nobody can make it send more than a little to
//! an address that has proved nothing (see [`super::guard`]); a refused mutable value stays refused; no host has more
//! than a fair share of records, answers and queries when others want it (see [`super::shares`]); nodes of a private
//! network are believed only of nodes inside and of bootstrap nodes; a query goes on without a host that stays silent.
//!
//! Stored values, pings and holepunches of our own are for users of the library; the daemon needs topics only.

mod client;
mod holepunch;
mod operation;
mod server;
mod storage;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::guard::{Guard, can_be_meant, is_near, is_sane};
use super::id::NodeId;
use super::rpc::{Action, Requests};
use super::table::Table;
use super::tokens::{self, Tokens};
use crate::codec::v2::{Kind, Message, VERSION};
use crate::crypto::v2::hypersign::SignableError;
use crate::crypto::{KeyPair, PublicKey};
use crate::limits::{MAX_DHT_DATAGRAM_BYTES, MAX_DHT_EVENTS, MAX_DHT_TRANSMITS};
use crate::topic::Topic;
use operation::{Operation, What};
use storage::Storage;
use upkeep::Upkeep;

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

/// True if the node puts its id in messages.
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
    /// The DHT node whose answer named it; it can relay a holepunch.
    pub referrer: SocketAddrV4,
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
pub struct Node {
    id: NodeId,
    bootstrap: Vec<Bootstrap>,
    /// Our id is in our messages, so that others store us.
    persistent: bool,
    rng: StdRng,
    table: Table,
    requests: Requests<Purpose>,
    operations: BTreeMap<QueryId, Operation>,
    next_query: u64,
    tokens: Tokens,
    guard: Guard,
    storage: Storage,
    upkeep: Upkeep,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

/// What a request of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Part of a query.
    Query { query: QueryId, node: Option<NodeId>, update: bool },
    /// Is this node of the table still there?
    Check { node: NodeId },
    /// May this node of a full bucket be replaced?
    MakeRoom { ping: u64, node: NodeId },
    /// A ping or holepunch of the owner.
    Reach { query: QueryId },
}

impl Node {
    /// Starts to bootstrap at once; `seed` decides ids, secrets and random choices.
    pub fn new(now: Instant, config: Config, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut id = [0; 32];
        rng.fill_bytes(&mut id);
        let mut node = Self {
            id: NodeId(id),
            bootstrap: config.bootstrap,
            persistent: config.ephemeral == Ephemeral::Never,
            table: Table::new(NodeId(id)),
            requests: Requests::new(now, &mut rng, client::rules(now)),
            operations: BTreeMap::new(),
            next_query: 0,
            tokens: Tokens::new(now, &mut rng, tokens::V2),
            guard: Guard::new(now, &mut rng),
            storage: Storage::new(now),
            upkeep: Upkeep::new(now, config.ephemeral == Ephemeral::Adaptive),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            rng,
        };
        node.start_bootstrap(now);
        node.run(now);
        node
    }

    /// A datagram arrived. What is no valid message of this network is dropped.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        if bytes.len() > MAX_DHT_DATAGRAM_BYTES || !is_sane(from, *from.ip()) {
            return;
        }
        let Ok(mut message) = Message::decode(bytes) else { return };
        if message.version < Some(VERSION) {
            message.id = None;
        }
        if message.kind == Kind::Response {
            self.handle_response(now, from, message);
        } else {
            self.handle_request(now, from, message, bytes.len());
        }
        self.run(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.requests.handle_timeout(now);
        while let Some((to, context)) = self.requests.poll_late() {
            self.request_late(now, to, context);
        }
        self.run(now);
        self.keep_up(now);
        self.storage.expire(now);
        self.run(now);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let worth_keeping = !self.table.is_empty() || !self.bootstrap.is_empty();
        [self.requests.poll_timeout(), self.upkeep.poll_timeout(worth_keeping), self.storage.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Later resolution of bootstrap names replaces the addresses. While no node is known, bootstraps again.
    pub fn set_bootstrap(&mut self, now: Instant, bootstrap: Vec<Bootstrap>) {
        if bootstrap != self.bootstrap {
            self.bootstrap = bootstrap;
            if self.table.is_empty() {
                self.start_bootstrap(now);
                self.run(now);
            }
        }
    }

    /// Finds peers that announced `topic`: [`Event::Peer`] for each, then [`Event::Done`].
    pub fn lookup(&mut self, now: Instant, topic: Topic) -> QueryId {
        self.start(now, topic.0, What::Lookup)
    }

    /// Looks up and announces. Port 0: "the UDP port this datagram comes from".
    pub fn announce(&mut self, now: Instant, topic: Topic, port: u16) -> QueryId {
        self.start(now, topic.0, What::Announce { port })
    }

    /// Takes an announcement back; the same port as announced.
    pub fn unannounce(&mut self, now: Instant, topic: Topic, port: u16) -> QueryId {
        self.start(now, topic.0, What::Unannounce { port })
    }

    /// Stores a value under its hash (`blake2b_256`) at the 20 closest nodes.
    pub fn immutable_put(&mut self, now: Instant, value: Bytes) -> Result<QueryId, SignableError> {
        let (target, what) = What::put_immutable(value)?;
        self.storage.keep_immutable(target, &what);
        Ok(self.start(now, target, what))
    }

    /// Asks for the value with this hash: [`Event::Value`] once per node that has it, then [`Event::Done`].
    pub fn immutable_get(&mut self, now: Instant, hash: [u8; 32]) -> QueryId {
        self.start(now, hash, What::GetImmutable)
    }

    /// Stores a signed value under the public key (and salt) at the 20 closest nodes. It fails if one of them shows a
    /// signed value that is at least as new.
    pub fn mutable_put(
        &mut self,
        now: Instant,
        key_pair: &KeyPair,
        value: Bytes,
        seq: u64,
        salt: Option<Bytes>,
    ) -> Result<QueryId, SignableError> {
        let what = What::put_mutable(key_pair, value, seq, salt)?;
        Ok(self.start(now, key_pair.public().0, what))
    }

    /// Asks for the value of this key (and salt) with at least this sequence number: [`Event::Value`] once per node
    /// that has one, not necessarily of the same age, then [`Event::Done`].
    pub fn mutable_get(&mut self, now: Instant, key: PublicKey, salt: Option<Bytes>, seq: u64) -> QueryId {
        self.start(now, key.0, What::GetMutable { salt, seq })
    }

    /// Opens the way to `peer` with the help of `referrer`; ends with `Event::Reached`.
    pub fn holepunch(&mut self, now: Instant, peer: SocketAddrV4, referrer: SocketAddrV4) -> QueryId {
        self.reach(now, peer, Some(referrer))
    }

    /// Asks `node` for a sign of life; ends with `Event::Reached`.
    pub fn ping(&mut self, now: Instant, node: SocketAddrV4) -> QueryId {
        self.reach(now, node, None)
    }

    /// Our own id. Others see it once we are not ephemeral.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether our id is in our messages, so that others keep us in their tables.
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// Nodes in the routing table.
    pub fn table_len(&self) -> usize {
        self.table.len()
    }

    /// Our own public address by the majority of the latest answers (port 0: only the host is agreed on).
    pub fn own_address(&self) -> Option<SocketAddrV4> {
        upkeep::own_address(&self.table)
    }

    /// Does what the requests ask for, until they ask for nothing.
    fn run(&mut self, now: Instant) {
        while let Some(action) = self.requests.poll_action() {
            match action {
                Action::Send { to, payload, .. } => self.transmit(to, payload),
                Action::Punch { rid, to, referrer } => self.ask_for_punch(rid, to, referrer),
                Action::Failed { to, sent, context } => self.request_failed(now, to, sent, context),
            }
        }
    }

    fn transmit(&mut self, to: SocketAddrV4, payload: Bytes) {
        if self.transmits.len() < MAX_DHT_TRANSMITS {
            self.transmits.push_back(Transmit { to, payload });
        }
    }

    /// Found peers and values are dropped when nobody takes them; what ends an operation is not, there are few.
    fn emit(&mut self, event: Event) {
        let droppable = matches!(event, Event::Peer(..) | Event::Value(..));
        if !droppable || self.events.len() < MAX_DHT_EVENTS {
            self.events.push_back(event);
        }
    }

    /// A message of ours, with our id if others may know it.
    fn message(&self, kind: Kind, rid: u16) -> Message {
        Message { id: self.persistent.then_some(self.id.0), ..Message::new(kind, rid) }
    }
}

/// True if we may send to `addr` because `informant` named it. A bootstrap node is one that our user chose: it may stand
/// outside the private network whose hosts it names, as the server of a university does.
fn may_name(bootstrap: &[Bootstrap], informant: SocketAddrV4, addr: SocketAddrV4) -> bool {
    let host = *addr.ip();
    let trusted = || is_near(host) && !host.is_link_local() && bootstrap.iter().any(|b| b.addr == informant);
    is_sane(addr, *informant.ip()) && (can_be_meant(host, *informant.ip()) || trusted())
}

#[cfg(test)]
mod tests;
