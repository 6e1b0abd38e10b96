//! One joined topic of the original network as a machine without clock, sockets, tasks or signing.
//!
//! In: [`LegacySwarm::handle_connected`], [`LegacySwarm::handle_incoming`] (what a
//! [`ConnectionReader`](super::ConnectionReader) made of the bytes), [`LegacySwarm::handle_written`],
//! [`LegacySwarm::handle_closed`], [`LegacySwarm::handle_timeout`], and the wishes of this node: `seek`, `provide`,
//! `request`, `respond`. After any of them call [`LegacySwarm::poll_output`] until it has none, and arm a timer for
//! [`LegacySwarm::poll_timeout`].
//!
//! * `connections.rs`: handshake, which style to speak, sending, keep-alive.
//! * `links.rs`: the connections of a node, and which of them to believe.
//! * `queue.rs`: what waits for a connection, and how much of it may be relayed.
//! * `budget.rs`: how many signatures are verified.
//! * `flood.rs`: broadcasts: seen before, handle, relay; seeking and providing.
//! * `requests.rs`: requests of ours and of others.
//! * `served.rs`: which request of others gives way when all places are taken.
//! * `seen.rs`: the bounded memory of IDs.
//!
//! The two identity styles of `kachery-p2p-3` are two separate floods that share a port: nothing is relayed between
//! them, because the other side could not check the originator's signature.

mod budget;
mod connections;
mod flood;
mod links;
mod queue;
mod requests;
mod seen;
mod served;
mod types;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

pub use types::{
    BUSY, CloseReason, ConnectionId, ConnectionInfo, Event, Output, Reply, RequestFailure, RequestKey, Room,
    SeekId, SwarmConfig,
};

use super::reader::{Claim, Worth};
use super::{FileRequest, Incoming, NodeId, Protocol, Purpose, Style, WireId};
use crate::limits;
use crate::store::Sha1;

use budget::Price;
pub use budget::SharedBudget;
use flood::Seek;
use hyperswarm::crypto::PublicKey;
use links::Connections;
use requests::Requests;
use seen::Seen;
use types::sooner;

/// A machine for one topic.
pub struct LegacySwarm {
    protocol: Protocol,
    purpose: Purpose,
    own: PublicKey,
    rng: StdRng,
    connections: Connections,
    seen: Seen,
    seeks: BTreeMap<SeekId, Seek>,
    next_seek: u64,
    requests: Requests,
    outputs: VecDeque<Output>,
}

impl LegacySwarm {
    /// A swarm without connections.
    pub fn new(config: SwarmConfig) -> Self {
        let SwarmConfig { protocol, purpose, own, rng, budget } = config;
        Self {
            protocol,
            purpose,
            own,
            rng,
            connections: Connections::new(budget),
            seen: Seen::new(limits::SEEN_MESSAGES_MAX, Duration::from_secs(limits::SEEN_SECONDS)),
            seeks: BTreeMap::new(),
            next_seek: 0,
            requests: Requests::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A connection of the topic's hyperswarm exists. It is answered with `Output::Close` if there are too many.
    pub fn handle_connected(&mut self, now: Instant, connection: ConnectionId, info: ConnectionInfo) {
        self.connected(now, connection, info);
    }

    /// Judges if a message is worth the verification of its signatures, for [`super::ConnectionReader::next_worthwhile`].
    /// Parts of files that we have asked for always are.
    pub(crate) fn worth(&mut self, now: Instant, connection: ConnectionId, claim: &Claim) -> Worth {
        if claim.name.is_some_and(|(from, id)| self.knows(from, id)) {
            return Worth::Known;
        }
        let is_asked = |(from, request)| self.requests.is_asked(request, from);
        let is_relayed = claim.is_relayed;
        let signatures = if is_relayed { 2 } else { 1 };
        let answer = claim.asks.map_or(0, |from| self.price_of_answer(from));
        let price = Price { signatures, is_relayed, answer };
        match claim.answers.is_some_and(is_asked) || self.connections.pay(now, connection, price) {
            true => Worth::Verifying,
            false => Worth::Dropping,
        }
    }

    /// An answer is signed once, and goes to all neighbours if its asker is none. One that we only pass on is no cheaper.
    fn price_of_answer(&self, asker: NodeId) -> usize {
        match self.is_connected(asker) {
            true => budget::answer_to(1),
            false => budget::answer_to(self.peers().filter(|node| node.style == asker.style).count()),
        }
    }

    /// True if a broadcast needs no handling: it is remembered, or our own that came back.
    fn knows(&self, from: NodeId, id: WireId) -> bool {
        from.key == self.own || self.seen.contains(from, id)
    }

    /// What the connection's reader found. After a [`super::ReadError`] close the socket and call `handle_closed`.
    pub fn handle_incoming(&mut self, now: Instant, connection: ConnectionId, incoming: Incoming) {
        match incoming {
            Incoming::Initial(node) => self.initial(now, connection, node),
            Incoming::Ready => self.ready(now, connection),
            Incoming::KeepAlive | Incoming::Known => {
                self.heard(now, connection);
            }
            Incoming::Broadcast(broadcast) => {
                if let Some(neighbour) = self.heard(now, connection) {
                    self.broadcast_received(now, connection, neighbour, &broadcast);
                }
            }
            Incoming::Ignored(why) => {
                let neighbour = self.heard(now, connection);
                self.event(Event::Dropped { neighbour, why });
            }
            Incoming::Unread(why) => {
                let neighbour = self.connections.node_of(connection);
                self.event(Event::Dropped { neighbour, why });
            }
            Incoming::PeerError(text) => self.close(now, connection, CloseReason::PeerError(text)),
        }
    }

    /// The oldest frame of the connection's queue, of this weight (`OutgoingFrame::weight`), left it: written, or found
    /// unsendable.
    pub fn handle_written(&mut self, _now: Instant, connection: ConnectionId, weight: usize) {
        if let Some(node) = self.connections.written(connection, weight) {
            self.tell_writable_to(connection, node);
        }
    }

    /// From now on nothing is read from this connection, because our own side is busy (the disk): until
    /// [`Self::handle_reading_resumed`] nothing that it could bring is waited for, and its silence is not the peer's.
    pub fn handle_reading_paused(&mut self, now: Instant, connection: ConnectionId) {
        self.paused(now, connection);
    }

    /// It is read again.
    pub fn handle_reading_resumed(&mut self, now: Instant, connection: ConnectionId) {
        self.resumed(now, connection);
    }

    /// The connection is gone (not to be called for one closed by `Output::Close`; harmless if it is).
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId) {
        self.forget(now, connection);
    }

    /// When to call `handle_timeout`; None: nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let seeks = self.seeks.values().map(Seek::next_timeout).min();
        let requests = self.requests.next_timeout(|node| self.connections.holds_up(node));
        sooner(sooner(self.connections.next_timeout(), requests), seeks)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.seen.prune(now);
        self.seeks_due(now);
        self.connections_due(now);
        self.requests_due(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Asks all peers, once more if nobody answers, and until `until` those that connect later. Answers come as [`Event::Providing`]. None: too
    /// many searches are running.
    pub fn seek(&mut self, now: Instant, sha1: Sha1, until: Instant) -> Option<SeekId> {
        self.start_seek(now, sha1, until)
    }

    /// Ends a search early.
    pub fn cancel_seek(&mut self, seek: SeekId) {
        self.seeks.remove(&seek);
    }

    /// Tells everybody of this style that we have the file (the answer to [`Event::Seeking`]).
    pub fn provide(&mut self, now: Instant, style: Style, sha1: Sha1, size: u64) {
        self.send_providing(now, style, sha1, size);
    }

    /// Requests a file or range of a node of this swarm; repeated every 500 ms until the node says that it received
    /// it. Ends with [`Event::Finished`] or [`Event::RequestFailed`], the latter also after 10 s without a sign of
    /// the node. Whether the node survives the request is the caller's concern
    /// ([`Dialect::may_request`](super::Dialect::may_request)).
    pub fn request(&mut self, now: Instant, to: NodeId, request: FileRequest) -> WireId {
        self.start_request(now, to, request)
    }

    /// Forgets a request: what still arrives for it is dropped.
    pub fn cancel_request(&mut self, request: WireId) {
        self.requests.cancel(request);
    }

    /// Answers a request. Data is taken as a whole or not at all, and cut into pieces that the peer survives.
    /// [`Room::Full`]: offer the same data again after [`Event::Writable`]. [`Room::Gone`]: nobody waits any more.
    pub fn respond(&mut self, now: Instant, request: &RequestKey, reply: Reply) -> Room {
        self.answer(now, request, reply)
    }

    /// Nodes with at least one ready connection.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.connections.ready_nodes()
    }

    /// True if this node has a ready connection.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.connections.is_ready(node)
    }

    /// The node that a connection leads to, as it says.
    pub(crate) fn neighbour(&self, connection: ConnectionId) -> Option<NodeId> {
        self.connections.node_of(connection)
    }

    /// The address at the other end of a node's connection, of several the one that has most evidence of being the
    /// node's. None: it has no ready connection.
    pub fn address_of(&self, node: NodeId) -> Option<IpAddr> {
        self.connections.address_of(node)
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn own_id(&self, style: Style) -> NodeId {
        NodeId::new(self.own, style)
    }
}
