//! Connections, the nodes that they say they lead to, and which of them to believe and use.
//!
//! The texts of `ready` and `keepAlive` are constant in the protocol of 2020, so anybody who heard them can open
//! connections in a node's name. What such an impostor lacks is evidence: messages of the node itself that nobody
//! brought before ([`Evidence`]). Connections with evidence are used first and closed last.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::budget::{Bucket, Price, Purses, SEEKINGS, SharedBudget};
use super::queue::{Answers, Cuts, Queue};
use super::types::sooner;
use super::{ConnectionId, ConnectionInfo};
use crate::limits;
use crate::node::legacy::reader::Direction;
use crate::node::legacy::{NodeId, OutgoingFrame, Style};

/// How long we let the peer speak first where both styles are possible. Two of ours would wait for each other.
pub(super) const SPEAK_AFTER: Duration = Duration::from_secs(1);
/// A connection that is not ready by then is closed.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Nothing sent to a node for so long: send keepAlive (as the originals).
pub(super) const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(5);
/// Nothing received from a node for so long: it is gone (as the originals).
pub(super) const SILENCE: Duration = Duration::from_secs(10);

/// All connections and the nodes behind them.
#[derive(Default)]
pub(super) struct Connections {
    pub(super) links: BTreeMap<ConnectionId, Link>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// Relayed answers in the queues of all connections.
    answers: Answers,
    /// Styles of addresses, for the next time we dial them; the oldest first.
    styles: VecDeque<(SocketAddr, Style)>,
    budget: SharedBudget,
}

/// One connection.
pub(super) struct Link {
    pub(super) info: ConnectionInfo,
    pub(super) opened: Instant,
    /// The style in which our `initial` went out.
    pub(super) spoke: Option<Style>,
    pub(super) node: Option<NodeId>,
    /// The peer has our `initial`: it takes messages.
    pub(super) ready: bool,
    /// What speaks for its being the node that it names; None: only what anybody could have recorded.
    evidence: Option<(Evidence, Instant)>,
    /// Since when its reader waits for our own side.
    pub(super) paused: Option<Instant>,
    queue: Queue,
    purses: Purses,
}

/// What a connection brought first. The stronger counts more, and of two alike the later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// A new message of the node itself. Its neighbours get the same bytes, and one of them could pass them on here.
    Spoke,
    /// A new request of the node to us, or its answer to a request of ours: sent on its own connection only.
    Turned,
}

/// A node with at least one connection.
pub(super) struct Node {
    /// In order of arrival.
    pub(super) links: Vec<ConnectionId>,
    pub(super) last_sent: Instant,
    pub(super) last_received: Instant,
    /// Relayed answers stay on one connection: their pieces have no offset, so order is all.
    stream: Option<ConnectionId>,
    /// True if `PeerConnected` was told.
    pub(super) connected: bool,
    cuts: Cuts,
    pub(super) seekings: Bucket,
}

impl Link {
    fn new(now: Instant, info: ConnectionInfo, purses: Purses) -> Self {
        let (spoke, node, evidence, paused) = (None, None, None, None);
        let queue = Queue::default();
        Self { info, opened: now, spoke, node, ready: false, evidence, paused, queue, purses }
    }

    fn is_turned(&self) -> bool {
        self.evidence.is_some_and(|(evidence, _)| evidence == Evidence::Turned)
    }

    /// Takes a frame of ours into the queue; false: the peer does not read.
    pub(super) fn push_own(&mut self, weight: usize) -> bool {
        self.queue.push_own(weight)
    }
}

impl Node {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            links: Vec::new(),
            last_sent: now,
            last_received: now,
            stream: None,
            connected: false,
            cuts: Cuts::default(),
            seekings: Bucket::full(SEEKINGS),
        }
    }
}

/// Coming and going, and what it may cost us.
impl Connections {
    pub(super) fn new(budget: SharedBudget) -> Self {
        Self { budget, ..Self::default() }
    }

    pub(super) fn insert(&mut self, now: Instant, connection: ConnectionId, info: ConnectionInfo) {
        let purses = self.budget.lock().connected(info.remote.ip());
        self.links.insert(connection, Link::new(now, info, purses));
    }

    /// Pays for a message; false: it is to be dropped.
    pub(super) fn pay(&mut self, now: Instant, connection: ConnectionId, price: Price) -> bool {
        let Some(link) = self.links.get_mut(&connection) else { return false };
        self.budget.lock().pay(now, link.info.remote.ip(), &mut link.purses, price)
    }
}

/// Queues.
impl Connections {
    /// The connection that came last of those that there are.
    pub(super) fn newest(&self) -> Option<ConnectionId> {
        self.links.keys().next_back().copied()
    }

    /// Takes the oldest frame off the queue; to whom there is room for data now.
    pub(super) fn written(&mut self, connection: ConnectionId, weight: usize) -> Option<NodeId> {
        let link = self.links.get_mut(&connection)?;
        let written = link.queue.pop(&mut self.answers);
        debug_assert!(written.is_none_or(|written| written == weight), "not the oldest frame");
        link.node.filter(|_| link.queue.has_room())
    }

    /// Takes a relayed frame into the queue if there is room for it.
    pub(super) fn push_relayed(&mut self, connection: ConnectionId, frame: &OutgoingFrame) -> bool {
        let Some(link) = self.links.get_mut(&connection) else { return false };
        let Some(node) = link.node.and_then(|id| self.nodes.get_mut(&id)) else { return false };
        link.queue.push_relayed(frame, &mut self.answers, &mut node.cuts)
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) -> Option<Link> {
        let mut link = self.links.remove(&connection)?;
        link.queue.clear(&mut self.answers);
        self.budget.lock().closed(link.info.remote.ip());
        Some(link)
    }

    /// True if there is room for data on this connection. None: it is gone.
    pub(super) fn has_room(&self, connection: ConnectionId) -> Option<bool> {
        self.links.get(&connection).map(|link| link.queue.has_room())
    }

    /// The connected nodes of the style, and whether there is room for data to each.
    pub(super) fn flood_room(&self, style: Style) -> impl Iterator<Item = (NodeId, bool)> {
        let nodes = self.nodes.iter().filter(move |(id, node)| id.style == style && node.connected);
        nodes.map(|(id, node)| {
            let has_room = |link: &ConnectionId| self.has_room(*link).unwrap_or(false);
            (*id, self.message_links(node).iter().any(has_room))
        })
    }

    #[cfg(test)]
    pub(super) fn cuts(&self, node: NodeId) -> usize {
        self.nodes.get(&node).map_or(0, |node| node.cuts.len())
    }
}

/// Who is there, and on which connection.
impl Connections {
    /// Who the connection's `initial` says it is.
    pub(super) fn node_of(&self, connection: ConnectionId) -> Option<NodeId> {
        self.links.get(&connection)?.node
    }

    pub(super) fn ready_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|(_, node)| node.connected).map(|(id, _)| *id)
    }

    pub(super) fn is_ready(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.connected)
    }

    fn ready_links<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = (ConnectionId, &'a Link)> {
        let links = node.links.iter().filter_map(|id| Some((*id, self.links.get(id)?)));
        links.filter(|(_, link)| link.ready)
    }

    /// True if some of its connections may be impostors': there are more than two daemons need, or from several hosts.
    fn is_doubtful(&self, node: &Node) -> bool {
        let of = |direction| self.ready_links(node).filter(move |(_, link)| link.info.direction == direction);
        let mut hosts = self.ready_links(node).map(|(_, link)| link.info.remote.ip());
        let first = hosts.next();
        of(Direction::Accepted).count() > 1
            || of(Direction::Dialled).count() > 1
            || hosts.any(|host| Some(host) != first)
    }

    /// Where messages to a node go: its incoming connection if that is ready, else its outgoing one, as the originals. To
    /// all if some are doubtful, so that no impostor can cut the real node off (it drops copies by ID).
    pub(super) fn message_links(&self, node: &Node) -> Vec<ConnectionId> {
        let doubtful = self.is_doubtful(node);
        let accepted = self.ready_links(node).any(|(_, link)| link.info.direction == Direction::Accepted);
        let wanted = if accepted { Direction::Accepted } else { Direction::Dialled };
        let links = self.ready_links(node).filter(|(_, link)| doubtful || link.info.direction == wanted);
        links.map(|(id, _)| id).collect()
    }

    /// Where what is meant for this node alone goes: of doubtful connections the one with the best evidence; if none has
    /// any, as all messages.
    pub(super) fn own_links(&self, node: &Node) -> Vec<ConnectionId> {
        let with_evidence = self.ready_links(node).filter_map(|(id, link)| Some((link.evidence?, id)));
        match with_evidence.max().filter(|_| self.is_doubtful(node)) {
            Some((_, id)) => vec![id],
            None => self.message_links(node),
        }
    }

    /// True if any connection of this node has strong evidence.
    pub(super) fn is_proven(&self, id: NodeId) -> bool {
        let node = self.nodes.get(&id);
        node.is_some_and(|node| self.ready_links(node).any(|(_, link)| link.is_turned()))
    }

    /// The same for parts of an answer, of which no part may go another way.
    pub(super) fn answer_link(&self, id: NodeId) -> Option<ConnectionId> {
        self.own_links(self.nodes.get(&id)?).last().copied()
    }

    /// The other end of the connection that takes answers.
    pub(super) fn address_of(&self, id: NodeId) -> Option<IpAddr> {
        let link = self.answer_link(id)?;
        self.links.get(&link).map(|link| link.info.remote.ip())
    }

    /// Where relayed answers to a node go: where they went before, unless another connection alone has strong evidence.
    pub(super) fn relay_link(&mut self, id: NodeId) -> Option<ConnectionId> {
        let is_turned = |link: &ConnectionId| self.links.get(link).is_some_and(Link::is_turned);
        let best = self.answer_link(id);
        let before = self.nodes.get(&id)?.stream;
        let link =
            before.filter(|before| is_turned(before) || !best.as_ref().is_some_and(is_turned)).or(best);
        self.nodes.get_mut(&id)?.stream = link;
        link
    }

    /// Notes what speaks for a connection. Then one may be too many: the one whose strong evidence is oldest.
    pub(super) fn prove(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        evidence: Evidence,
    ) -> Option<ConnectionId> {
        let link = self.links.get_mut(&connection)?;
        link.evidence = link.evidence.max(Some((evidence, now)));
        let node = self.nodes.get(&link.node?)?;
        let turned = self.ready_links(node).filter(|(_, link)| link.is_turned());
        let turned: Vec<_> = turned.map(|(id, link)| (link.evidence, id)).collect();
        if turned.len() <= limits::NODE_CONNECTIONS_MAX {
            return None;
        }
        turned.into_iter().min().map(|(_, id)| id)
    }

    /// A connection becomes ready: which other one of the node must make place for it. New ones are always let in, or
    /// impostors that came first would keep the node away; those without strong evidence make place for each other: first
    /// those without any, first those that we did not dial, first on the host that has most, so that impostors push out
    /// each other.
    pub(super) fn surplus(&self, id: NodeId, connection: ConnectionId) -> Option<ConnectionId> {
        let node = self.nodes.get(&id)?;
        let weak = self.ready_links(node).filter(|(other, link)| *other != connection && !link.is_turned());
        let weak: Vec<_> = weak.collect();
        if weak.len() < limits::NODE_CONNECTIONS_MAX {
            return None;
        }
        let on_host = |link: &Link| {
            weak.iter().filter(|(_, other)| other.info.remote.ip() == link.info.remote.ip()).count()
        };
        let least = weak.iter().min_by_key(|(id, link)| {
            let dialled = link.info.direction == Direction::Dialled;
            (link.evidence.is_some(), dialled, Reverse(on_host(link)), link.evidence, link.opened, *id)
        });
        least.map(|(id, _)| *id)
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let links = self.links.values().filter_map(|link| {
            let speak = link.spoke.is_none().then(|| link.opened + SPEAK_AFTER);
            sooner(speak, (!link.ready).then(|| link.opened + HANDSHAKE_TIMEOUT))
        });
        let connected = self.nodes.values().filter(|node| node.connected);
        let nodes = connected.map(|node| {
            let keep_alive = node.last_sent + KEEP_ALIVE_AFTER;
            if self.is_paused(node) { keep_alive } else { keep_alive.min(node.last_received + SILENCE) }
        });
        sooner(links.min(), nodes.min())
    }

    /// True if we are the ones who do not read: its silence means nothing.
    pub(super) fn is_paused(&self, node: &Node) -> bool {
        self.ready_links(node).any(|(_, link)| link.paused.is_some())
    }

    /// True if answers of this node may wait on a connection that we do not read: on its own, or if it has none, on any.
    pub(super) fn holds_up(&self, id: NodeId) -> bool {
        match self.nodes.get(&id).filter(|node| node.connected) {
            Some(node) => self.is_paused(node),
            None => self.links.values().any(|link| link.paused.is_some()),
        }
    }

    pub(super) fn remember_style(&mut self, address: SocketAddr, style: Style) {
        self.styles.retain(|(known, _)| *known != address);
        if self.styles.len() >= limits::REMEMBERED_STYLES_MAX {
            self.styles.pop_front();
        }
        self.styles.push_back((address, style));
    }

    pub(super) fn remembered_style(&self, address: SocketAddr) -> Option<Style> {
        self.styles.iter().find(|(known, _)| *known == address).map(|(_, style)| *style)
    }
}

impl Connections {
    /// A connection of this node is gone; true: it was the last that was ready.
    pub(super) fn detach(&mut self, id: NodeId, connection: ConnectionId) -> bool {
        let Some(node) = self.nodes.get_mut(&id) else { return false };
        node.links.retain(|link| *link != connection);
        if node.stream == Some(connection) {
            node.stream = None;
        }
        let was_connected = node.connected;
        node.connected = node.links.iter().any(|id| self.links.get(id).is_some_and(|link| link.ready));
        let lost = was_connected && !node.connected;
        if node.links.is_empty() {
            self.nodes.remove(&id);
        }
        lost
    }
}
