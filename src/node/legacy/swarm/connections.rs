//! Handshake, which style to speak, sending, keep-alive.

use std::sync::Arc;
use std::time::Instant;

use super::links::{Evidence, HANDSHAKE_TIMEOUT, KEEP_ALIVE_AFTER, Node, SILENCE, SPEAK_AFTER};
use super::{CloseReason, ConnectionId, ConnectionInfo, Event, LegacySwarm, Output};
use crate::limits;
use crate::node::legacy::outgoing::Content;
use crate::node::legacy::reader::Direction;
use crate::node::legacy::{NodeId, OutgoingFrame, Style};

/// Handshake.
impl LegacySwarm {
    pub(super) fn connected(&mut self, now: Instant, connection: ConnectionId, info: ConnectionInfo) {
        if self.connections.links.len() >= limits::SWARM_CONNECTIONS_MAX {
            self.outputs.push_back(Output::Close { connection, reason: CloseReason::TooMany });
            return;
        }
        self.connections.insert(now, connection, info);
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
        self.connections.nodes.entry(node).or_insert_with(|| Node::new(now)).links.push(connection);
        if let Some(link) = self.connections.links.get_mut(&connection) {
            link.node = Some(node);
        }
        self.send(now, connection, &OutgoingFrame::new(Content::Ready(node.style)));
    }

    pub(super) fn ready(&mut self, now: Instant, connection: ConnectionId) {
        let Some(link) = self.connections.links.get_mut(&connection) else { return };
        let Some(id) = link.node else { return };
        if std::mem::replace(&mut link.ready, true) {
            return;
        }
        if let Some(surplus) = self.connections.surplus(id, connection) {
            self.close(now, surplus, CloseReason::TooMany);
        }
        let Some(node) = self.connections.nodes.get_mut(&id) else { return };
        if !std::mem::replace(&mut node.connected, true) {
            node.last_received = now;
            self.event(Event::PeerConnected(id));
        }
        // On each of its connections: the one before may be an impostor's, who told it nothing.
        self.welcome(now, connection, id);
        self.tell_writable_to(connection, id);
    }

    /// The connection brought a message of the node that it names, which nobody had brought before.
    pub(super) fn prove(&mut self, now: Instant, connection: ConnectionId, evidence: Evidence) {
        if let Some(surplus) = self.connections.prove(now, connection, evidence) {
            self.close(now, surplus, CloseReason::TooMany);
        }
    }

    /// A verified message came; from whom.
    pub(super) fn heard(&mut self, now: Instant, connection: ConnectionId) -> Option<NodeId> {
        let id = self.connections.links.get(&connection)?.node?;
        self.connections.nodes.get_mut(&id)?.last_received = now;
        Some(id)
    }
}

/// Sending.
impl LegacySwarm {
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

    /// Sends a message that any member may read to a connected node.
    pub(super) fn send_to(&mut self, now: Instant, node: NodeId, frame: &Arc<OutgoingFrame>) {
        let Some(entry) = self.connections.nodes.get(&node) else { return };
        for link in self.connections.message_links(entry) {
            self.send(now, link, frame);
        }
    }

    /// Sends a message that is meant for a connected node alone.
    pub(super) fn send_only_to(&mut self, now: Instant, node: NodeId, frame: &Arc<OutgoingFrame>) {
        let Some(entry) = self.connections.nodes.get(&node) else { return };
        for link in self.connections.own_links(entry) {
            self.send(now, link, frame);
        }
    }

    /// Passes a part of an answer on to a connected node, in order with the parts before.
    pub(super) fn relay_to(&mut self, now: Instant, node: NodeId, frame: &Arc<OutgoingFrame>) {
        if let Some(link) = self.connections.relay_link(node) {
            self.send(now, link, frame);
        }
    }

    pub(super) fn send(&mut self, now: Instant, connection: ConnectionId, frame: &Arc<OutgoingFrame>) {
        if frame.is_relay() {
            if !self.connections.push_relayed(connection, frame) {
                let neighbour = self.connections.node_of(connection);
                return self.event(Event::Dropped { neighbour, why: "a relayed message: its queue is full" });
            }
        } else {
            let Some(link) = self.connections.links.get_mut(&connection) else { return };
            if !link.push_own(frame.weight()) {
                return self.close(now, connection, CloseReason::Stalled);
            }
        }
        let node = self.connections.node_of(connection);
        if let Some(node) = node.and_then(|id| self.connections.nodes.get_mut(&id)) {
            node.last_sent = now;
        }
        self.outputs.push_back(Output::Send { connection, frame: Arc::clone(frame) });
    }
}

/// The end of connections, and what is due.
impl LegacySwarm {
    pub(super) fn close(&mut self, now: Instant, connection: ConnectionId, reason: CloseReason) {
        if self.connections.links.contains_key(&connection) {
            self.outputs.push_back(Output::Close { connection, reason });
            self.forget(now, connection);
        }
    }

    /// Removes a connection, and its node if it was the last. The node's other connection is left: when an original
    /// drops one of a pair it closes the other itself.
    pub(super) fn forget(&mut self, now: Instant, connection: ConnectionId) {
        self.resumed(now, connection);
        let Some(link) = self.connections.remove(connection) else { return };
        let Some(id) = link.node else { return };
        if self.connections.detach(id, connection) {
            self.event(Event::PeerGone(id));
        }
        self.link_lost(now, id, connection);
        self.tell_writable();
    }

    pub(super) fn paused(&mut self, now: Instant, connection: ConnectionId) {
        if let Some(link) = self.connections.links.get_mut(&connection) {
            link.paused.get_or_insert(now);
        }
    }

    /// Time in which we did not read is no silence of the other side: all that waits for it has so much longer.
    pub(super) fn resumed(&mut self, now: Instant, connection: ConnectionId) {
        let Some(link) = self.connections.links.get_mut(&connection) else { return };
        let Some(since) = link.paused.take() else { return };
        let Some(id) = link.node else { return };
        let time = now.saturating_duration_since(since);
        if let Some(node) = self.connections.nodes.get_mut(&id) {
            node.last_received = (node.last_received + time).min(now);
        }
        self.requests_held_up(now, id, time);
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
            if node.last_received + SILENCE <= now && !self.connections.is_paused(node) {
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
