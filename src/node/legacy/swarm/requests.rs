//! Requests of ours, and those of others that we serve.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::seen::Seen;
use super::served::{Admission, Served, ServedRequests, admit};
use super::{BUSY, ConnectionId, Event, LegacySwarm, Reply, RequestFailure, RequestKey, Room};
use crate::limits;
use crate::node::legacy::message::{Message, NodeMessage, RequestBody};
use crate::node::legacy::{Dialect, FileRequest, NodeId, OutgoingFrame, Protocol, Style, WireId};

/// Until a node says Received, its request is repeated this often (as the originals).
const REPEAT: Duration = Duration::from_millis(500);
/// Without a word of the node for so long, a request has failed (as the originals: for Received, and for Responses).
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer that came through others and ended short may still be completed by a slower one of them, as long as it
/// brings something this often.
const STRAGGLERS: Duration = Duration::from_secs(1);
/// Bytes of the outer text of a data message in hypersign style without the base64 and the request's ID: 64-hex IDs
/// and a message ID of 10 characters.
const HYPERSIGN_OVERHEAD: usize = 483;

/// All requests of a swarm.
pub(super) struct Requests {
    /// Ours. A tree, so that the order of events is the same in every run.
    asked: BTreeMap<WireId, Asked>,
    served: ServedRequests,
    /// Counts what is sent, so that those served longest ago come first.
    turns: u64,
    seen: Seen,
}

/// A request of ours.
struct Asked {
    to: NodeId,
    request: FileRequest,
    received: bool,
    repeat_at: Instant,
    deadline: Instant,
    /// Bytes that may still come; None: no size is known.
    remaining: Option<u64>,
    /// It went through others, so the answer may too, and parts of it may be lost.
    relayed: bool,
    /// Its end came before its last byte.
    cut: bool,
    /// The newest connection when it was made.
    newest: Option<ConnectionId>,
    /// The connection that brought the first word of the answer.
    by: Option<ConnectionId>,
}

impl Asked {
    /// True if this connection brings the answer of another life of the node than an earlier one did: the node was
    /// started anew, heard the repeated request, and answers it from the beginning, which would be taken for more of
    /// what it sent before. Between connections that were there before the request a node may choose.
    ///
    /// Lives behind a relay cannot be told apart. There an answer of ours is one piece, which ends the request; the pieces
    /// of an original may be mixed up with those of its next life, and after the wrong hash it is asked for single ones.
    fn is_from_another_life(&mut self, connection: ConnectionId) -> bool {
        let first = *self.by.get_or_insert(connection);
        let is_newer = |connection| self.newest.is_none_or(|newest| connection > newest);
        !self.relayed && first != connection && (is_newer(first) || is_newer(connection))
    }
}

impl Requests {
    pub(super) fn new() -> Self {
        let seen = Seen::new(limits::SEEN_REQUESTS_MAX, Duration::from_secs(limits::SEEN_SECONDS));
        Self { asked: BTreeMap::new(), served: ServedRequests::new(), turns: 0, seen }
    }

    pub(super) fn cancel(&mut self, request: WireId) {
        self.asked.remove(&request);
    }

    /// Requests that wait for our own side (`held_up`) are not due.
    pub(super) fn next_timeout(&self, held_up: impl Fn(NodeId) -> bool) -> Option<Instant> {
        let due =
            |asked: &Asked| if asked.received { asked.deadline } else { asked.deadline.min(asked.repeat_at) };
        self.asked.values().filter(|asked| !held_up(asked.to)).map(due).min()
    }

    /// True if this request of ours was made of this node, and not answered yet.
    pub(super) fn is_asked(&self, request: WireId, of: NodeId) -> bool {
        self.asked.get(&request).is_some_and(|asked| asked.to == of)
    }

    fn serve(&mut self, now: Instant, key: RequestKey, host: Option<IpAddr>) {
        self.turns += 1;
        self.served.insert(key, Served::new(now, self.turns, host));
    }

    /// The neighbours through which the answer goes, if it has begun to go through any.
    fn through(&self, key: RequestKey) -> Option<&[NodeId]> {
        self.served.get(&key)?.through.as_deref()
    }
}

/// Requests of ours.
impl LegacySwarm {
    pub(super) fn start_request(&mut self, now: Instant, to: NodeId, request: FileRequest) -> WireId {
        let id = WireId::random(&mut self.rng);
        let remaining = match request {
            FileRequest::Whole { .. } => None,
            FileRequest::Range { start, end, .. } => Some(end.saturating_sub(start)),
        };
        let asked = Asked {
            to,
            request,
            received: false,
            repeat_at: now + REPEAT,
            deadline: now + PATIENCE,
            remaining,
            relayed: !self.is_connected(to),
            cut: false,
            newest: self.connections.newest(),
            by: None,
        };
        self.requests.asked.insert(id, asked);
        self.send_directed(now, to, Message::Request { to, request: id, body: RequestBody::File(request) });
        id
    }

    /// Sends a request again, on all connections that may be the node's: it did not hear it on the best one. If nothing
    /// proves that any of them is, to all nodes: it may be behind one of them.
    fn repeat(&mut self, now: Instant, id: WireId) {
        let Some((to, request)) = self.requests.asked.get(&id).map(|asked| (asked.to, asked.request)) else {
            return;
        };
        let message = Message::Request { to, request: id, body: RequestBody::File(request) };
        if self.connections.is_proven(to) {
            let frame = self.own_frame(to.style, message, Some(to));
            return self.send_to(now, to, &frame);
        }
        if let Some(asked) = self.requests.asked.get_mut(&id) {
            asked.relayed = true;
        }
        let frame = self.own_frame(to.style, message, None);
        self.send_to_all(now, to.style, &frame, |_| false);
    }

    /// To the node itself if it is a neighbour, else to everybody.
    fn send_directed(&mut self, now: Instant, to: NodeId, message: Message) {
        match self.is_connected(to) {
            true => {
                let frame = self.own_frame(to.style, message, Some(to));
                self.send_only_to(now, to, &frame);
            }
            false => {
                let frame = self.own_frame(to.style, message, None);
                self.send_to_all(now, to.style, &frame, |_| false);
            }
        }
    }

    /// A connection became ready: what its node, or a node behind it, has not received goes out at once.
    pub(super) fn repeat_requests(&mut self, now: Instant, connection: ConnectionId, node: NodeId) {
        let waiting = self.requests.asked.iter().filter(|(_, asked)| {
            !asked.received
                && asked.to.style == node.style
                && (asked.to == node || !self.is_connected(asked.to))
        });
        let waiting: Vec<_> = waiting.map(|(id, asked)| (*id, asked.to, asked.request)).collect();
        for (id, to, request) in waiting {
            let frame = self.own_frame(
                to.style,
                Message::Request { to, request: id, body: RequestBody::File(request) },
                (to == node).then_some(to),
            );
            self.send(now, connection, &frame);
        }
    }

    /// For this time we did not read from a node: answers of it, and of those behind it, may have waited.
    pub(super) fn requests_held_up(&mut self, now: Instant, node: NodeId, time: Duration) {
        let connections = &self.connections;
        let waiting = |to: NodeId| to == node || !connections.is_ready(to);
        for asked in self.requests.asked.values_mut().filter(|asked| waiting(asked.to)) {
            asked.deadline = (asked.deadline + time).min(now + PATIENCE);
            asked.repeat_at = (asked.repeat_at + time).min(now + REPEAT);
        }
    }

    pub(super) fn requests_due(&mut self, now: Instant) {
        let mut failed = Vec::new();
        let mut repeat = Vec::new();
        let connections = &self.connections;
        let asked = self.requests.asked.iter_mut().filter(|(_, asked)| !connections.holds_up(asked.to));
        for (id, asked) in asked {
            if asked.deadline <= now {
                let reason = match asked.received {
                    true if asked.cut => RequestFailure::Lost,
                    true => RequestFailure::Stopped,
                    false => RequestFailure::Unanswered,
                };
                failed.push((*id, reason));
            } else if !asked.received && asked.repeat_at <= now {
                asked.repeat_at = now + REPEAT;
                repeat.push(*id);
            }
        }
        for (id, reason) in failed {
            self.fail(id, reason);
        }
        for id in repeat {
            self.repeat(now, id);
        }
    }

    fn fail(&mut self, request: WireId, reason: RequestFailure) {
        if self.requests.asked.remove(&request).is_some() {
            self.event(Event::RequestFailed { request, reason });
        }
    }

    /// A message to us. Only the node that was asked can answer: the ID alone is known to the whole swarm.
    pub(super) fn answered(&mut self, now: Instant, by: ConnectionId, from: NodeId, message: &NodeMessage) {
        let (NodeMessage::Received { request: id }
        | NodeMessage::Response { request: id, .. }
        | NodeMessage::Error { request: id, .. }
        | NodeMessage::Finished { request: id }) = message
        else {
            return;
        };
        let Some(asked) = self.requests.asked.get_mut(id).filter(|asked| asked.to == from) else { return };
        if asked.is_from_another_life(by) {
            return self.fail(*id, RequestFailure::Left);
        }
        asked.deadline = now + if asked.cut { STRAGGLERS } else { PATIENCE };
        let first_word = !std::mem::replace(&mut asked.received, true);
        if first_word {
            self.event(Event::Received(*id));
        }
        match message {
            NodeMessage::Response { data, .. } => self.data_received(*id, data.as_ref()),
            NodeMessage::Error { text, .. } => self.fail(*id, RequestFailure::Refused(text.clone())),
            NodeMessage::Finished { .. } => self.answer_ended(now, *id),
            NodeMessage::Received { .. } | NodeMessage::Passing { .. } | NodeMessage::Opaque => {}
        }
    }

    /// The provider ended its answer. Of one that came short through others the rest may be on another way; if there is
    /// none, it is lost.
    fn answer_ended(&mut self, now: Instant, request: WireId) {
        let Some(asked) = self.requests.asked.get_mut(&request) else { return };
        if !asked.relayed || asked.remaining.is_none() {
            self.requests.asked.remove(&request);
            return self.event(Event::Finished(request));
        }
        let style = asked.to.style;
        asked.cut = true;
        asked.deadline = now + STRAGGLERS;
        if self.connections.ready_nodes().filter(|node| node.style == style).count() < 2 {
            self.fail(request, RequestFailure::Lost);
        }
    }

    fn data_received(&mut self, request: WireId, data: Option<&Bytes>) {
        let Some(data) = data else {
            return self.fail(request, RequestFailure::NoData);
        };
        let Some(asked) = self.requests.asked.get_mut(&request) else { return };
        if let Some(remaining) = asked.remaining {
            match remaining.checked_sub(data.len() as u64) {
                Some(rest) => asked.remaining = Some(rest),
                None => return self.fail(request, RequestFailure::TooMuch),
            }
        }
        let complete = asked.remaining == Some(0);
        self.event(Event::Data { request, data: data.clone() });
        // Not left to `Finished`, which may be lost on its way.
        if complete {
            self.requests.asked.remove(&request);
            self.event(Event::Finished(request));
        }
    }
}

/// Requests of others.
impl LegacySwarm {
    /// A request is processed once; its repetitions get Received again, in case the first was lost.
    pub(super) fn requested(&mut self, now: Instant, key: RequestKey, dialect: Dialect, body: &RequestBody) {
        if self.requests.seen.contains(key.from, key.id) {
            return self.reply(now, key, NodeMessage::Received { request: key.id });
        }
        let host = self.address_of(key.from);
        let admission = match body {
            RequestBody::File(_) => admit(&self.requests.served, now, key.from, host),
            RequestBody::Refused(_) | RequestBody::Other => Admission::Free,
        };
        let full = admission == Admission::Full;
        // 0.1.x knows no refusal: without Received it asks again, and there may be room then.
        if full && self.protocol == Protocol::KacheryP2p3 {
            return self
                .event(Event::Dropped { neighbour: Some(key.from), why: "too many requests at once" });
        }
        self.requests.seen.insert(now, key.from, key.id);
        self.reply(now, key, NodeMessage::Received { request: key.id });
        match body {
            RequestBody::File(_) if full => {
                self.reply_error(now, key, BUSY.to_owned());
            }
            RequestBody::File(request) => {
                if let Admission::InsteadOf(other) = admission {
                    self.give_up(now, other);
                }
                self.requests.serve(now, key, host);
                // Now, while its own connection is the one that spoke last.
                self.link_for(key);
                self.event(Event::Requested { key, dialect, request: *request });
            }
            RequestBody::Refused(text) => self.reply_error(now, key, text.clone()),
            RequestBody::Other => {}
        }
    }

    /// Ends a request that is being served, so that another one has its place. Its asker may try again.
    fn give_up(&mut self, now: Instant, key: RequestKey) {
        self.reply_error(now, key, BUSY.to_owned());
        // Its connection may have been closed by that, and all its requests with it.
        if self.requests.served.remove(&key).is_some() {
            self.event(Event::RequestAbandoned(key));
        }
    }

    fn reply(&mut self, now: Instant, key: RequestKey, message: NodeMessage) {
        self.send_directed(now, key.from, Message::ToNode { to: key.from, message });
    }

    fn reply_error(&mut self, now: Instant, key: RequestKey, text: String) {
        if self.protocol == Protocol::Daemon02 {
            self.send_part(now, key, NodeMessage::Error { request: key.id, text });
        }
    }

    /// Part of a response: all parts take the same way, so that they stay in order.
    fn send_part(&mut self, now: Instant, key: RequestKey, message: NodeMessage) {
        let to = key.from;
        let message = Message::ToNode { to, message };
        let through = self.requests.through(key).map(<[_]>::to_vec);
        if through.is_none()
            && let Some(link) = self.link_for(key)
        {
            let frame: Arc<OutgoingFrame> = self.own_frame(to.style, message, Some(to));
            self.send(now, link, &frame);
        } else {
            let frame = self.own_frame(to.style, message, None);
            let is_left_out = |node| through.as_ref().is_some_and(|through| !through.contains(&node));
            self.send_to_all(now, to.style, &frame, is_left_out);
        }
    }

    /// The connection of the asker that takes the parts of its answer, if it is a neighbour.
    fn link_for(&mut self, key: RequestKey) -> Option<ConnectionId> {
        if !self.is_connected(key.from) {
            return None;
        }
        let link = self.requests.served.get(&key).and_then(|served| served.link);
        let link = link.or_else(|| self.connections.answer_link(key.from));
        if let Some(served) = self.requests.served.get_mut(&key) {
            served.link = link;
        }
        link
    }

    /// True if there is room for data of this request; None: there is nobody to send it to. Of several neighbours the
    /// fastest sets the pace, so that one that does not read cannot hold up the others.
    fn room_for(&mut self, key: RequestKey) -> Option<bool> {
        if self.requests.through(key).is_none()
            && let Some(link) = self.link_for(key)
        {
            return self.connections.has_room(link);
        }
        let through = self.requests.through(key);
        let takes_part = |node: &NodeId| through.is_none_or(|through| through.contains(node));
        let nodes = self.connections.flood_room(key.from.style).filter(|(node, _)| takes_part(node));
        nodes.map(|(_, has_room)| has_room).reduce(|a, b| a || b)
    }

    pub(super) fn answer(&mut self, now: Instant, key: &RequestKey, reply: Reply) -> Room {
        if !self.requests.served.contains_key(key) {
            return Room::Gone;
        }
        match reply {
            Reply::Data(data) => return self.answer_data(now, *key, &data),
            Reply::Finished => self.send_part(now, *key, NodeMessage::Finished { request: key.id }),
            Reply::Error(text) => self.reply_error(now, *key, text),
        }
        self.requests.served.remove(key);
        Room::More
    }

    /// Sends data if there is room for it: so no number of requests makes a neighbour that reads look stalled.
    fn answer_data(&mut self, now: Instant, key: RequestKey, data: &Bytes) -> Room {
        let room = self.room_for(key);
        let Some(served) = self.requests.served.get_mut(&key) else { return Room::Gone };
        match room {
            None => {
                self.requests.served.remove(&key);
                return Room::Gone;
            }
            Some(false) => {
                served.blocked = true;
                return Room::Full;
            }
            Some(true) => {}
        }
        self.requests.turns += 1;
        served.turn = self.requests.turns;
        served.moved = now;
        if served.through.is_some() || !self.connections.is_ready(key.from) {
            let with_room = self.connections.flood_room(key.from.style).filter(|(_, has_room)| *has_room);
            let mut through: Vec<_> = with_room.map(|(node, _)| node).collect();
            through.retain(|node| served.through.as_ref().is_none_or(|before| before.contains(node)));
            served.through = Some(through);
        }
        let piece = piece_size(key);
        let mut rest = data.clone();
        while !rest.is_empty() {
            let data = Some(rest.split_to(piece.min(rest.len())));
            self.send_part(now, key, NodeMessage::Response { request: key.id, data });
        }
        // Sending more than there is room for may have closed its connection.
        if self.requests.served.contains_key(&key) { Room::More } else { Room::Gone }
    }

    /// There is room on this connection to this neighbour: tells the request that was served longest ago of those that wait
    /// for it, first of those of the neighbour itself: answers that it would pass on take what it leaves. What that one sends
    /// leads here again when it is written, so all come to their turn and no more wake than can send.
    pub(super) fn tell_writable_to(&mut self, connection: ConnectionId, neighbour: NodeId) {
        let waits = |key: &RequestKey, served: &Served| match &served.through {
            _ if !served.blocked => false,
            Some(through) => through.contains(&neighbour),
            None if self.is_connected(key.from) => {
                key.from == neighbour && served.link.is_none_or(|link| link == connection)
            }
            None => key.from.style == neighbour.style,
        };
        let waiting = self.requests.served.iter().filter(|(key, served)| waits(key, served));
        let next = waiting.min_by_key(|(key, served)| (key.from != neighbour, served.turn));
        if let Some(key) = next.map(|(key, _)| *key) {
            self.tell(key);
        }
    }

    /// A connection ended: tells blocked requests that have room now, or nobody to wait for.
    pub(super) fn tell_writable(&mut self) {
        let blocked = self.requests.served.iter().filter(|(_, served)| served.blocked);
        let mut blocked: Vec<_> = blocked.map(|(key, served)| (served.turn, *key)).collect();
        blocked.sort_unstable_by_key(|(turn, _)| *turn);
        for (_, key) in blocked {
            if self.room_for(key) != Some(false) {
                self.tell(key);
            }
        }
    }

    fn tell(&mut self, key: RequestKey) {
        if let Some(served) = self.requests.served.get_mut(&key) {
            served.blocked = false;
            self.event(Event::Writable(key));
        }
    }

    /// A connection of a neighbour ended: what was half sent on it cannot be continued, nor answers to nobody.
    pub(super) fn link_lost(&mut self, now: Instant, node: NodeId, connection: ConnectionId) {
        let left = !self.is_connected(node);
        let lost = |key: &RequestKey, served: &Served| {
            key.from == node && served.through.is_none() && (left || served.link == Some(connection))
        };
        let lost = self.requests.served.iter().filter(|(key, served)| lost(key, served));
        let mut abandoned: Vec<_> = lost.map(|(key, _)| *key).collect();
        abandoned.sort_unstable_by_key(|key| key.id);
        for key in abandoned {
            self.requests.served.remove(&key);
            self.event(Event::RequestAbandoned(key));
        }
        if !left {
            return;
        }
        let begun = self.requests.asked.iter_mut().filter(|(_, asked)| asked.to == node);
        let mut failed = Vec::new();
        for (id, asked) in begun {
            match asked.received {
                true => failed.push(*id),
                // It may come back within its time: it hears the request again when it does.
                false => asked.repeat_at = now + REPEAT,
            }
        }
        for id in failed {
            self.fail(id, RequestFailure::Left);
        }
    }
}

/// Raw bytes in one Response. In hypersign style the outer text must not exceed 1000 bytes.
fn piece_size(key: RequestKey) -> usize {
    match key.from.style {
        Style::Spki => limits::DATA_PIECE,
        Style::Hypersign => {
            (hyperswarm::limits::v2::MAX_STORED_VALUE_BYTES - HYPERSIGN_OVERHEAD - key.id.as_bytes().len())
                / 4
                * 3
        }
    }
}

#[cfg(test)]
impl LegacySwarm {
    /// As if this request had been made to us: lets a test answer in another node's place.
    pub(super) fn forge_served(&mut self, now: Instant, key: RequestKey) {
        self.requests.serve(now, key, None);
    }

    /// Answers of which this neighbour missed a part.
    pub(super) fn cut(&self, neighbour: NodeId) -> usize {
        self.connections.cuts(neighbour)
    }

    /// Requests that are being served.
    pub(super) fn serving(&self) -> usize {
        self.requests.served.len()
    }

    /// A request under an ID that a recorded conversation gave it.
    pub(crate) fn request_as(&mut self, now: Instant, to: NodeId, request: FileRequest, id: WireId) {
        let drawn = self.start_request(now, to, request);
        if let Some(asked) = self.requests.asked.remove(&drawn) {
            self.requests.asked.insert(id, asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::legacy::Style;
    use hyperswarm::crypto::PublicKey;

    #[test]
    fn an_answer_goes_on_over_a_connection_of_its_time_and_not_over_one_of_another_life() {
        let now = Instant::now();
        let (sha1, start, end) = (crate::store::Sha1([1; 20]), 0, 9);
        let asked = |relayed| Asked {
            to: NodeId::new(PublicKey([1; 32]), Style::Spki),
            request: FileRequest::Range { sha1, start, end },
            received: false,
            repeat_at: now,
            deadline: now,
            remaining: Some(9),
            relayed,
            cut: false,
            newest: Some(ConnectionId(2)),
            by: None,
        };
        for (first, then, another_life) in
            [(1, 1, false), (1, 2, false), (1, 3, true), (3, 1, true), (3, 3, false)]
        {
            let mut asked = asked(false);
            assert!(!asked.is_from_another_life(ConnectionId(first)));
            assert_eq!(asked.is_from_another_life(ConnectionId(then)), another_life, "{first}, then {then}");
        }
        // Through others every way is as good.
        let mut asked = asked(true);
        assert!(![1, 3].into_iter().any(|id| asked.is_from_another_life(ConnectionId(id))));
    }
}
