//! Broadcasts: dropped if seen before, handled, relayed; seeking and providing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::SEEKINGS;
use super::links::Evidence;
use super::{ConnectionId, Event, LegacySwarm, RequestKey, SeekId};
use crate::limits;
use crate::node::legacy::message::{Message, NodeMessage};
use crate::node::legacy::outgoing::Content;
use crate::node::legacy::reader::Broadcast;
use crate::node::legacy::{Dialect, NodeId, OutgoingFrame, Protocol, Purpose, Style, WireId};
use crate::store::Sha1;

/// A seeking, or its answer, may be lost at a relay whose queue is full: a search without an answer after this time asks
/// everybody once more.
const SEEK_AGAIN: Duration = Duration::from_secs(3);

/// A running search: the frame of each style. All who connect later get the same one, so that nobody handles it twice.
pub(super) struct Seek {
    sha1: Sha1,
    frames: Vec<(Style, Arc<OutgoingFrame>)>,
    pub(super) until: Instant,
    /// When everybody is asked once more. None: that was done, or somebody has answered.
    again: Option<Instant>,
}

impl Seek {
    pub(super) fn next_timeout(&self) -> Instant {
        self.again.map_or(self.until, |again| again.min(self.until))
    }
}

impl LegacySwarm {
    pub(super) fn start_seek(&mut self, now: Instant, sha1: Sha1, until: Instant) -> Option<SeekId> {
        if self.seeks.len() >= limits::SWARM_SEEKS_MAX {
            return None;
        }
        let frames = self.send_seeking(now, sha1);
        let id = SeekId(self.next_seek);
        self.next_seek += 1;
        self.seeks.insert(id, Seek { sha1, frames, until, again: Some(now + SEEK_AGAIN) });
        Some(id)
    }

    /// Under a new message ID: of the one before, nobody who heard it would pass on another copy.
    fn send_seeking(&mut self, now: Instant, sha1: Sha1) -> Vec<(Style, Arc<OutgoingFrame>)> {
        let mut frames = Vec::new();
        for style in [Style::Hypersign, Style::Spki] {
            if self.purpose.allows(self.protocol, style) {
                let frame = self.own_frame(style, Message::Seeking { sha1 }, None);
                self.send_to_all(now, style, &frame, |_| false);
                frames.push((style, frame));
            }
        }
        frames
    }

    /// Ends the searches whose time is over, and asks once more in those that nobody has answered.
    pub(super) fn seeks_due(&mut self, now: Instant) {
        self.seeks.retain(|_, seek| seek.until > now);
        let due = self.seeks.iter().filter(|(_, seek)| seek.again.is_some_and(|again| again <= now));
        let due: Vec<_> = due.map(|(id, seek)| (*id, seek.sha1)).collect();
        for (id, sha1) in due {
            let frames = self.send_seeking(now, sha1);
            if let Some(seek) = self.seeks.get_mut(&id) {
                (seek.frames, seek.again) = (frames, None);
            }
        }
    }

    /// True if it answers a running search of ours.
    pub(crate) fn is_sought(&self, broadcast: &Broadcast) -> bool {
        let Message::Providing { sha1, .. } = &broadcast.message else { return false };
        self.seeks.values().any(|seek| seek.sha1 == *sha1)
    }

    pub(super) fn send_providing(&mut self, now: Instant, style: Style, sha1: Sha1, size: u64) {
        let frame = self.own_frame(style, Message::Providing { sha1, size }, None);
        self.send_to_all(now, style, &frame, |_| false);
    }

    /// A connection became ready: its node hears what it missed.
    pub(super) fn welcome(&mut self, now: Instant, connection: ConnectionId, node: NodeId) {
        let of_its_style = |(style, frame): &(Style, _)| (*style == node.style).then(|| Arc::clone(frame));
        let frames: Vec<_> = self
            .seeks
            .values()
            .filter(|s| s.until > now)
            .flat_map(|s| s.frames.iter().filter_map(of_its_style))
            .collect();
        for frame in frames {
            self.send(now, connection, &frame);
        }
        self.repeat_requests(now, connection, node);
    }

    /// A frame of a new message of ours. In 0.2.1 a message to one connected node also names the other neighbours as
    /// excluded, so that the node does not pass our data on to them.
    pub(super) fn own_frame(
        &mut self,
        style: Style,
        message: Message,
        only_to: Option<NodeId>,
    ) -> Arc<OutgoingFrame> {
        let from = self.own_id(style);
        let id = WireId::random(&mut self.rng);
        let exclude = (self.protocol == Protocol::Daemon02).then(|| {
            let others = self.peers().filter(|node| only_to.is_some_and(|only| only != *node));
            std::iter::once(from).chain(others).take(limits::EXCLUDED_NODES_MAX).collect()
        });
        OutgoingFrame::new(Content::Own { from, id, message, exclude })
    }

    pub(super) fn broadcast_received(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        neighbour: NodeId,
        broadcast: &Arc<Broadcast>,
    ) {
        // Our own, come back (0.1.x relays to everybody) or replayed: nothing in it is news. The reader has asked before,
        // but another connection may have brought the same meanwhile.
        if self.knows(broadcast.from, broadcast.id) {
            return;
        }
        // Not remembered when dropped, so that it is heard from another neighbour.
        if matches!(broadcast.message, Message::Seeking { .. }) && !self.may_seek(now, neighbour) {
            return self.event(Event::Dropped { neighbour: Some(neighbour), why: "too many seekings" });
        }
        self.seen.insert(now, broadcast.from, broadcast.id);
        if broadcast.from == neighbour {
            self.prove(now, connection, self.evidence_of(broadcast));
        }
        let Some(dialect) = self.protocol.dialect(broadcast.from.style) else { return };
        self.handle_message(now, (connection, neighbour), dialect, broadcast);
        self.relay(now, neighbour, broadcast);
    }

    fn may_seek(&mut self, now: Instant, neighbour: NodeId) -> bool {
        self.connections.nodes.get_mut(&neighbour).is_some_and(|node| node.seekings.take(now, 1, SEEKINGS))
    }

    /// What a new message that a node brought itself says about the connection it came on.
    fn evidence_of(&self, broadcast: &Broadcast) -> Evidence {
        let own = self.own_id(broadcast.from.style);
        let is_answer = |message: &NodeMessage| match message {
            NodeMessage::Received { request }
            | NodeMessage::Response { request, .. }
            | NodeMessage::Error { request, .. }
            | NodeMessage::Finished { request } => self.requests.is_asked(*request, broadcast.from),
            NodeMessage::Passing { .. } | NodeMessage::Opaque => false,
        };
        match &broadcast.message {
            Message::Request { to, .. } if *to == own => Evidence::Turned,
            Message::ToNode { to, message } if *to == own && is_answer(message) => Evidence::Turned,
            _ => Evidence::Spoke,
        }
    }

    fn handle_message(
        &mut self,
        now: Instant,
        (connection, by): (ConnectionId, NodeId),
        dialect: Dialect,
        broadcast: &Broadcast,
    ) {
        let from = broadcast.from;
        let in_channel = matches!(self.purpose, Purpose::Channel(_));
        match &broadcast.message {
            Message::Seeking { sha1 } if in_channel => {
                self.event(Event::Seeking { from, dialect, sha1: *sha1 })
            }
            Message::Providing { sha1, size } if in_channel => {
                self.seeks.values_mut().filter(|seek| seek.sha1 == *sha1).for_each(|seek| seek.again = None);
                self.event(Event::Providing { from, by, dialect, sha1: *sha1, size: *size });
            }
            // Only in our own transfer swarm, and only under the name that its style gives us.
            Message::Request { to, request, body }
                if *to == self.own_id(from.style) && self.purpose == Purpose::Transfer(*to) =>
            {
                self.requested(now, RequestKey { from, id: *request }, dialect, body);
            }
            Message::ToNode { to, message } if *to == self.own_id(from.style) => {
                self.answered(now, connection, from, message)
            }
            _ => {}
        }
    }

    /// Passes a message on. The originals of 0.1.x send it to everybody, the node it came from and the originator
    /// included; those two know it already, so ours leaves them out. What is directed at us ends here, and what is
    /// directed at a neighbour goes to that neighbour only.
    fn relay(&mut self, now: Instant, neighbour: NodeId, broadcast: &Arc<Broadcast>) {
        let style = broadcast.from.style;
        let recipient = broadcast.message.recipient();
        if recipient.is_some_and(|to| to.key == self.own) {
            return;
        }
        let own = self.own_id(style);
        let exclude = (self.protocol == Protocol::Daemon02).then(|| {
            let received = broadcast.exclude.iter().copied().filter(|node| *node != own);
            let received = received.take(limits::EXCLUDED_NODES_MAX - 1);
            received.chain(std::iter::once(own)).collect::<Vec<_>>()
        });
        let knows =
            |node: NodeId| node == neighbour || node == broadcast.from || broadcast.exclude.contains(&node);
        let content = Content::Relay { broadcast: Arc::clone(broadcast), exclude };
        let frame = OutgoingFrame::new(content);
        match recipient.filter(|to| self.is_connected(*to)) {
            // One stream of data must not be split over two connections.
            Some(to) if !knows(to) => self.relay_to(now, to, &frame),
            Some(_) => {}
            None => self.send_to_all(now, style, &frame, knows),
        }
    }
}
