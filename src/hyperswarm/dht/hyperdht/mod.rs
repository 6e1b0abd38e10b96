//! The second layer of today's DHT (hyperdht 6), above the node of [`super::v4`]: peers that announce themselves and are
//! found, values that are stored, servers that listen, and handshakes on their way to them.
//!
//! * `storage.rs`, `server.rs`: what a persistent node stores for others.
//! * `router.rs`: handshakes and holepunch messages, for servers of our own and those passed on.
//! * `operations.rs`: lookups, announcements, puts and gets of our own.
//! * `listener.rs`: servers of our own, which stay announced at three relays.
//!
//! What connects to a server, Noise and holepunching, is above this.

mod announcement;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
mod listener;
mod operations;
mod router;
mod server;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::listener::ListenError;
use self::listener::{Listener, RelayTask};
use self::operations::Operation;
pub use self::router::{HandshakeMessage, HolepunchMessage};
use self::storage::Storage;
use super::id::NodeId;
use super::rpc::Via;
use super::v4::nat::Seen;
use super::v4::{self, Node, health};
pub use super::v4::{Answer, Closest, Incoming, Plain, QueryId, RequestId, Transmit};
use crate::codec::v4::ErrorCode;
use crate::crypto::PublicKey;
use crate::limits::MAX_DHT_EVENTS;

/// A point in the space of the DHT: a topic, or the hash of a public key or value.
pub type Target = [u8; 32];

/// A clock that is ahead by so much has gone on while we slept.
const SLEPT: Duration = Duration::from_secs(15);

/// How the node takes part.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node below.
    pub node: v4::Config,
    /// The time since 1970 at the start.
    pub unix_time: Duration,
}

/// An operation that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(u64);

/// A peer that a node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPeer {
    /// Its key. That it announced the topic is only the node's word; for [`Hyperdht::find_peer`] it has been checked
    /// that this is the key of the target.
    pub public_key: PublicKey,
    /// Nodes through which a handshake reaches it, besides `from` if its own key was looked for. Addresses to which
    /// nothing must be sent on a stranger's word are left out.
    pub relay_addresses: Vec<SocketAddrV4>,
    /// When its topic was last bumped, in milliseconds since 1970, as far as the node knows; 0 if never.
    pub bump: u64,
    /// The node that told of it.
    pub from: SocketAddrV4,
    /// Our own address as this node sees it.
    pub to: SocketAddrV4,
}

/// A value that was found and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundValue {
    /// Its bytes.
    pub value: Bytes,
    /// Of a mutable value; 0 of an immutable one.
    pub seq: u64,
    /// Of a mutable value.
    pub signature: Option<[u8; 64]>,
    /// A node that stores it.
    pub from: SocketAddrV4,
}

/// How an operation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Nodes that answered the walk without an error.
    pub answered: usize,
    /// Nodes that were asked to store something, or to remove it.
    pub asked: usize,
    /// Nodes that confirmed this. An operation that is to store something has failed if there is none.
    pub stored: usize,
    /// Nodes that refused, and the last error code. [`ErrorCode::SEQ_TOO_LOW`] and [`ErrorCode::SEQ_REUSED`] say that
    /// a mutable value is not the newest.
    pub refused: usize,
    /// See `refused`; no error if there is none.
    pub error: ErrorCode,
    /// The closest nodes that answered, nearest first.
    pub closest: Vec<SocketAddrV4>,
}

/// What the owner should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The node has entered the network, or has found nobody.
    Ready,
    /// Others may keep us in their tables now, under this id, and store things here.
    Persistent(NodeId),
    /// They may not any more: the machine slept, and may be somewhere else.
    Ephemeral,
    /// What others say about our own address has changed.
    Address(Seen),
    /// The network has begun or ceased to answer.
    Network(health::State),
    /// An operation has found a peer; one that several nodes know is told several times.
    Peer(OperationId, FoundPeer),
    /// An operation has found a value.
    Value(OperationId, FoundValue),
    /// An operation has ended.
    Done(OperationId, Outcome),
    /// A plain request was answered, with an error perhaps.
    Answered(RequestId, Answer),
    /// Nobody answered a plain request.
    Unanswered(RequestId),
    /// A server of ours has tried for the first time to announce itself; [`Hyperdht::relays`] says where.
    Listening(Target),
    /// A server of ours has ended and its announcements have been removed.
    Unlistened(Target),
    /// To be answered with [`Hyperdht::reply_handshake`], or not at all.
    Handshake(HandshakeMessage),
    /// To be answered with [`Hyperdht::reply_holepunch`], or not at all.
    Holepunch(HolepunchMessage),
}

/// What a query of the node below is for.
#[derive(Clone, Copy)]
enum Walk {
    Operation(OperationId),
    Listener(Target),
}

/// What a request of this layer to one node is for.
#[derive(Clone, Copy)]
enum Task {
    Operation(OperationId, operations::Commit),
    Listener(Target, RelayTask),
}

/// A node of hyperdht.
pub struct Hyperdht {
    node: Node,
    /// None while nothing is stored.
    storage: Option<Box<Storage>>,
    operations: BTreeMap<OperationId, Box<Operation>>,
    listeners: BTreeMap<Target, Listener>,
    walks: BTreeMap<QueryId, Walk>,
    tasks: BTreeMap<RequestId, Task>,
    next_operation: u64,
    start: Instant,
    unix_time: Duration,
    events: VecDeque<Event>,
}

impl Hyperdht {
    /// A node that begins at once to enter the network. `seed` decides everything random.
    pub fn new(now: Instant, config: Config, seed: [u8; 32]) -> Self {
        let mut hyperdht = Self {
            node: Node::new(now, config.node, seed),
            storage: None,
            operations: BTreeMap::new(),
            listeners: BTreeMap::new(),
            walks: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_operation: 0,
            start: now,
            unix_time: config.unix_time,
            events: VecDeque::new(),
        };
        hyperdht.run(now);
        hyperdht
    }

    /// A datagram arrived on one of the sockets. What is no message of dht-rpc is dropped.
    pub fn handle_datagram(&mut self, now: Instant, via: Via, from: SocketAddrV4, bytes: &[u8]) {
        self.node.handle_datagram(now, via, from, bytes);
        self.run(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.node.handle_timeout(now);
        self.run(now);
        self.expire(now);
        self.keep_listening(now);
        self.run(now);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.node.poll_transmit()
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > 0 {
            self.events = VecDeque::new();
        }
        event
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let listeners = self.listeners.values().filter_map(Listener::poll_timeout).min();
        let storage = self.storage.as_ref().and_then(|storage| storage.poll_timeout());
        [self.node.poll_timeout(), storage, listeners].into_iter().flatten().min()
    }

    /// The node below: our own id and address, and the nodes that are known.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Asks one node: [`Event::Answered`] or [`Event::Unanswered`].
    pub fn request(&mut self, now: Instant, plain: Plain) -> RequestId {
        let id = self.node.request(now, plain);
        self.run(now);
        id
    }

    /// The time since 1970 is this: to be told again every few seconds. Clocks like that of `now` stand still while the
    /// machine sleeps; if this one has gone on, relays may have forgotten our servers, and all is announced anew.
    pub fn set_unix_time(&mut self, now: Instant, unix_time: Duration) {
        let expected = self.unix_time + now.saturating_duration_since(self.start);
        (self.start, self.unix_time) = (now, unix_time);
        if unix_time > expected + SLEPT {
            self.node.wake_up();
            self.refresh(now);
        }
    }

    /// Milliseconds since 1970.
    fn wall(&self, now: Instant) -> u64 {
        let time = self.unix_time + now.saturating_duration_since(self.start);
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    }

    /// Handles what the node below tells, until it has nothing to tell.
    fn run(&mut self, now: Instant) {
        while let Some(event) = self.node.poll_event() {
            self.handle_event(now, event);
        }
    }

    fn handle_event(&mut self, now: Instant, event: v4::Event) {
        match event {
            v4::Event::Ready => self.emit(Event::Ready),
            v4::Event::Persistent(id) => self.emit(Event::Persistent(id)),
            v4::Event::Ephemeral => self.emit(Event::Ephemeral),
            v4::Event::Address(seen) => self.emit(Event::Address(seen)),
            v4::Event::Network(state) => {
                if state == health::State::Online {
                    self.refresh(now);
                }
                self.emit(Event::Network(state));
            }
            v4::Event::Request(incoming) => self.handle_request(now, &incoming),
            v4::Event::Answer(query, answer) => {
                if let Some(Walk::Operation(id)) = self.walks.get(&query) {
                    self.operation_answered(now, *id, &answer);
                }
            }
            v4::Event::Done(query, outcome) => match self.walks.remove(&query) {
                Some(Walk::Operation(id)) => self.walk_ended(now, id, outcome),
                Some(Walk::Listener(target)) => self.relays_found(now, target, outcome),
                None => {}
            },
            v4::Event::Answered(request, answer) => match self.tasks.remove(&request) {
                Some(task) => self.task_ended(now, task, Some(&answer)),
                None => self.emit(Event::Answered(request, answer)),
            },
            v4::Event::Unanswered(request) => match self.tasks.remove(&request) {
                Some(task) => self.task_ended(now, task, None),
                None => self.emit(Event::Unanswered(request)),
            },
        }
    }

    /// A request of this layer was answered, or was not.
    fn task_ended(&mut self, now: Instant, task: Task, answer: Option<&Answer>) {
        match task {
            Task::Operation(id, commit) => self.commit_ended(now, id, commit, answer),
            Task::Listener(target, task) => self.relay_task_ended(now, target, task, answer),
        }
    }

    /// What strangers cause is dropped when nobody takes it; what ends something is not: there is little of it.
    fn emit(&mut self, event: Event) {
        let many = matches!(event, Event::Peer(..) | Event::Handshake(_) | Event::Holepunch(_));
        if !many || self.events.len() < MAX_DHT_EVENTS {
            self.events.push_back(event);
        }
    }
}
