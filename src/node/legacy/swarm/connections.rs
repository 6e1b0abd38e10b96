//! Handshake, which style to speak, sockets per node, keep-alive, queues.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::types::sooner;
use super::{CloseReason, ConnectionId, ConnectionInfo, Event, LegacySwarm, Output};
use crate::limits;
use crate::node::legacy::outgoing::Content;
use crate::node::legacy::reader::Direction;
use crate::node::legacy::{NodeId, OutgoingFrame, Style};

/// How long we let the peer speak first where both styles are possible. Two of ours would wait for each other.
const SPEAK_AFTER: Duration = Duration::from_secs(1);
/// A connection that is not ready by then is closed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Nothing sent to a node for so long: send keepAlive (as the originals).
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(5);
/// Nothing received from a node for so long: it is gone (as the originals).
const SILENCE: Duration = Duration::from_secs(10);

/// All connections and the nodes behind them.
#[derive(Default)]
pub(super) struct Connections {
    links: BTreeMap<ConnectionId, Link>,
    nodes: BTreeMap<NodeId, Node>,
    /// Styles of addresses, for the next time we dial them; the oldest first.
    styles: VecDeque<(SocketAddr, Style)>,
}

/// One connection.
struct Link {
    info: ConnectionInfo,
    opened: Instant,
    /// The style in which our `initial` went out.
    spoke: Option<Style>,
    node: Option<NodeId>,
    /// The peer has our `initial`: it takes messages.
    ready: bool,
    /// Weight of what was sent and not yet written.
    queued: usize,
}

/// A node with at least one connection.
struct Node {
    /// In order of arrival.
    links: Vec<ConnectionId>,
    last_sent: Instant,
    last_received: Instant,
    /// Responses stay on one connection as long as it lives: their pieces have no offset, so order is all.
    stream: Option<ConnectionId>,
    /// Whether `PeerConnected` was told.
    connected: bool,
}

impl Link {
    fn has_room(&self) -> bool {
        self.queued < limits::CONNECTION_QUEUE_ROOM
    }
}

impl Connections {
    /// Takes the weight off the queue; to whom there is room for data now.
    pub(super) fn written(&mut self, connection: ConnectionId, weight: usize) -> Option<NodeId> {
        let link = self.links.get_mut(&connection)?;
        link.queued = link.queued.saturating_sub(weight);
        link.node.filter(|_| link.has_room())
    }

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

    fn other_ready_links(&self, node: NodeId, link: ConnectionId) -> usize {
        let others = self.links.iter().filter(|(id, other)| **id != link && other.node == Some(node));
        others.filter(|(_, other)| other.ready).count()
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let links = self.links.values().filter_map(|link| {
            let speak = link.spoke.is_none().then(|| link.opened + SPEAK_AFTER);
            sooner(speak, (!link.ready).then(|| link.opened + HANDSHAKE_TIMEOUT))
        });
        let connected = self.nodes.values().filter(|node| node.connected);
        let nodes =
            connected.map(|node| (node.last_received + SILENCE).min(node.last_sent + KEEP_ALIVE_AFTER));
        sooner(links.min(), nodes.min())
    }

    /// Where messages to a node go: its incoming connections if any is ready, else its outgoing ones, as the
    /// originals. Normally one. If there are several of the kind, the originals use the newest; we use all of them,
    /// so that a stranger who replays a recorded `ready` cannot cut the real node off (copies are dropped by ID).
    fn message_links(&self, node: &Node) -> Vec<ConnectionId> {
        let of = |direction| {
            let link = |id: &&ConnectionId| {
                self.links.get(id).is_some_and(|link| link.ready && link.info.direction == direction)
            };
            node.links.iter().filter(link).copied().collect::<Vec<_>>()
        };
        let incoming = of(Direction::Accepted);
        if incoming.is_empty() { of(Direction::Dialled) } else { incoming }
    }

    /// Where the data of responses to a node goes.
    fn stream_link(&mut self, id: NodeId) -> Option<ConnectionId> {
        let node = self.nodes.get(&id)?;
        let link = node.stream.or_else(|| self.message_links(node).last().copied());
        self.nodes.get_mut(&id)?.stream = link;
        link
    }

    /// Whether there is room for data to this node. None: it is not connected.
    pub(super) fn has_stream_room(&mut self, node: NodeId) -> Option<bool> {
        let link = self.stream_link(node)?;
        self.links.get(&link).map(Link::has_room)
    }

    /// The connected nodes of the style, and whether there is room for data to each.
    pub(super) fn flood_room(&self, style: Style) -> impl Iterator<Item = (NodeId, bool)> {
        let nodes = self.nodes.iter().filter(move |(id, node)| id.style == style && node.connected);
        nodes.map(|(id, node)| {
            let has_room = |link| self.links.get(link).is_some_and(Link::has_room);
            (*id, self.message_links(node).iter().any(has_room))
        })
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

impl LegacySwarm {
    pub(super) fn connected(&mut self, now: Instant, connection: ConnectionId, info: ConnectionInfo) {
        if self.connections.links.len() >= limits::SWARM_CONNECTIONS_MAX {
            self.outputs.push_back(Output::Close { connection, reason: CloseReason::TooMany });
            return;
        }
        let link = Link { info, opened: now, spoke: None, node: None, ready: false, queued: 0 };
        self.connections.links.insert(connection, link);
        let both_possible =
            [Style::Hypersign, Style::Spki].iter().all(|style| self.purpose.allows(self.protocol, *style));
        let must_speak = info.utp && info.direction == Direction::Dialled;
        if !both_possible || must_speak {
            self.speak_first(now, connection);
        }
    }

    /// Sends our `initial` before we know the peer's style.
    fn speak_first(&mut self, now: Instant, connection: ConnectionId) {
        let Some(link) = self.connections.links.get(&connection) else { return };
        let known = self.connections.remembered_style(link.info.remote);
        self.speak(now, connection, known.unwrap_or(self.purpose.default_style()));
    }

    /// Sends our `initial`.
    fn speak(&mut self, now: Instant, connection: ConnectionId, style: Style) {
        let (protocol, id) = (self.protocol, self.own_id(style));
        let Some(link) = self.connections.links.get_mut(&connection) else { return };
        link.spoke = Some(style);
        let direction = link.info.direction;
        self.send(now, connection, &OutgoingFrame::new(Content::Initial { protocol, id, direction }));
    }

    pub(super) fn initial(&mut self, now: Instant, connection: ConnectionId, node: NodeId) {
        let Some(link) = self.connections.links.get(&connection) else { return };
        let (info, spoke) = (link.info, link.spoke);
        if link.node.is_some() {
            return self.close(now, connection, CloseReason::Unexpected("second initial"));
        }
        if node.key == self.own {
            return self.close(now, connection, CloseReason::OwnNode);
        }
        if !self.purpose.allows(self.protocol, node.style) {
            return self.close(now, connection, CloseReason::StyleNotSpoken);
        }
        if info.direction == Direction::Dialled {
            self.connections.remember_style(info.remote, node.style);
        }
        if spoke.is_some_and(|style| style != node.style) {
            return self.close(now, connection, CloseReason::WrongStyle);
        }
        if spoke.is_none() {
            self.speak(now, connection, node.style);
        }
        let new =
            || Node { links: Vec::new(), last_sent: now, last_received: now, stream: None, connected: false };
        self.connections.nodes.entry(node).or_insert_with(new).links.push(connection);
        if let Some(link) = self.connections.links.get_mut(&connection) {
            link.node = Some(node);
        }
        self.send(now, connection, &OutgoingFrame::new(Content::Ready(node.style)));
    }

    pub(super) fn ready(&mut self, now: Instant, connection: ConnectionId) {
        let Some(id) = self.connections.node_of(connection) else { return };
        // Those that proved nothing do not count, or whoever claims to be this node could keep it away.
        if self.connections.other_ready_links(id, connection) >= limits::NODE_CONNECTIONS_MAX {
            return self.close(now, connection, CloseReason::TooMany);
        }
        if let Some(link) = self.connections.links.get_mut(&connection) {
            link.ready = true;
        }
        let Some(node) = self.connections.nodes.get_mut(&id) else { return };
        if !std::mem::replace(&mut node.connected, true) {
            node.last_received = now;
            self.event(Event::PeerConnected(id));
            self.welcome(now, id);
            self.tell_writable_to(id);
        }
    }

    /// A verified message came; from whom.
    pub(super) fn heard(&mut self, now: Instant, connection: ConnectionId) -> Option<NodeId> {
        let id = self.connections.links.get(&connection)?.node?;
        self.connections.nodes.get_mut(&id)?.last_received = now;
        Some(id)
    }

    /// Sends to every connected node of the style, but not to those in `except`.
    pub(super) fn send_to_all(
        &mut self,
        now: Instant,
        style: Style,
        frame: &Arc<OutgoingFrame>,
        except: impl Fn(NodeId) -> bool,
    ) {
        let nodes: Vec<_> =
            self.connections.ready_nodes().filter(|id| id.style == style && !except(*id)).collect();
        for node in nodes {
            self.send_to(now, node, frame);
        }
    }

    /// Sends a message to a connected node.
    pub(super) fn send_to(&mut self, now: Instant, node: NodeId, frame: &Arc<OutgoingFrame>) {
        let Some(entry) = self.connections.nodes.get(&node) else { return };
        for link in self.connections.message_links(entry) {
            self.send(now, link, frame);
        }
    }

    /// Sends a part of a response to a connected node, in order with the parts before.
    pub(super) fn send_stream(&mut self, now: Instant, node: NodeId, frame: &Arc<OutgoingFrame>) {
        if let Some(link) = self.connections.stream_link(node) {
            self.send(now, link, frame);
        }
    }

    fn send(&mut self, now: Instant, connection: ConnectionId, frame: &Arc<OutgoingFrame>) {
        let Some(link) = self.connections.links.get_mut(&connection) else { return };
        let queued = link.queued.saturating_add(frame.weight());
        if frame.is_relay() && queued > limits::CONNECTION_QUEUE_RELAY {
            let neighbour = link.node;
            return self.event(Event::Dropped { neighbour, why: "a relayed message: its queue is full" });
        }
        if queued > limits::CONNECTION_QUEUE_MAX {
            return self.close(now, connection, CloseReason::Stalled);
        }
        link.queued = queued;
        if let Some(node) = link.node.and_then(|id| self.connections.nodes.get_mut(&id)) {
            node.last_sent = now;
        }
        self.outputs.push_back(Output::Send { connection, frame: Arc::clone(frame) });
    }

    pub(super) fn close(&mut self, now: Instant, connection: ConnectionId, reason: CloseReason) {
        if self.connections.links.contains_key(&connection) {
            self.outputs.push_back(Output::Close { connection, reason });
            self.forget(now, connection);
        }
    }

    /// Removes a connection, and its node if it was the last. The node's other connection is left: when an original
    /// drops one of a pair it closes the other itself.
    pub(super) fn forget(&mut self, now: Instant, connection: ConnectionId) {
        let Some(link) = self.connections.links.remove(&connection) else { return };
        let Some(id) = link.node else { return };
        let Some(node) = self.connections.nodes.get_mut(&id) else { return };
        node.links.retain(|link| *link != connection);
        let broken_stream = node.stream == Some(connection);
        if broken_stream {
            node.stream = None;
        }
        let was_connected = node.connected;
        node.connected = node.links.iter().any(|id| self.connections.links.get(id).is_some_and(|l| l.ready));
        let lost = was_connected && !node.connected;
        if node.links.is_empty() {
            self.connections.nodes.remove(&id);
        }
        if lost {
            self.event(Event::PeerGone(id));
        }
        if lost || broken_stream {
            self.node_lost(now, id);
        }
        self.tell_writable();
    }

    pub(super) fn connections_due(&mut self, now: Instant) {
        let mut speak = Vec::new();
        let mut late = Vec::new();
        for (id, link) in &self.connections.links {
            if !link.ready && link.opened + HANDSHAKE_TIMEOUT <= now {
                late.push(*id);
            } else if link.spoke.is_none() && link.opened + SPEAK_AFTER <= now {
                speak.push(*id);
            }
        }
        for connection in late {
            self.close(now, connection, CloseReason::HandshakeTimeout);
        }
        for connection in speak {
            self.speak_first(now, connection);
        }
        let mut silent = Vec::new();
        let mut quiet = Vec::new();
        for (id, node) in self.connections.nodes.iter().filter(|(_, node)| node.connected) {
            if node.last_received + SILENCE <= now {
                silent.extend_from_slice(&node.links);
            } else if node.last_sent + KEEP_ALIVE_AFTER <= now {
                quiet.push(*id);
            }
        }
        for connection in silent {
            self.close(now, connection, CloseReason::Silent);
        }
        for node in quiet {
            self.send_to(now, node, &OutgoingFrame::new(Content::KeepAlive(node.style)));
        }
    }
}
