//! Requests of others: those of dht-rpc itself are answered here, all others go to the owner.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::Purpose;
use super::{Event, Incoming, Node, Response, proven_id};
use crate::codec::v4::{
    Command, ErrorCode, List, Reply, Request, decode_down_hint, decode_nat_port, decode_ping_delay,
};
use crate::crypto::v4::node_id;
use crate::dht::guard::is_sane;
use crate::dht::id::NodeId;
use crate::dht::rpc::Via;
use crate::limits::{MAX_BUCKET_NODES, v4::MAX_DELAYED_PINGS, v4::MAX_LIVENESS_CHECKS};

/// A hint about a node heard more recently than this is ignored, in ticks of five seconds.
const HEARD_RECENTLY: u32 = 2;

/// A ping to be answered later.
pub(super) struct DelayedPing {
    pub(super) at: Instant,
    via: Via,
    to: SocketAddrV4,
    tid: u16,
}

/// Where a reply goes, and what it repeats.
#[derive(Clone, Copy)]
struct Back {
    via: Via,
    to: SocketAddrV4,
    tid: u16,
}

impl Node {
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        via: Via,
        from: SocketAddrV4,
        request: Request<'_>,
        bytes: usize,
    ) {
        let host = *from.ip();
        self.guard.received(now, host, bytes);
        self.senders.heard(now, from);
        let back = Back { via, to: from, tid: request.tid };
        if let Some(token) = &request.token {
            if !self.tokens.verify(now, host, token, &mut self.rng) {
                let error = ErrorCode::INVALID_TOKEN;
                let response = Response { error, token: true, closer_nodes: true, value: None };
                return self.reply(now, back, request.target.as_ref(), &response);
            }
            self.guard.validated(now, host);
        }
        let id = proven_id(request.id, from);
        if let Some(id) = id {
            self.heard(now, id, from, request.to, via == self.reach.asking(), false);
        }
        if request.command.internal {
            self.serve(now, back, &request);
        } else {
            self.emit(Event::Request(Incoming {
                via,
                from,
                id,
                to: request.to,
                tid: request.tid,
                token: request.token,
                command: request.command,
                target: request.target,
                value: request.value.map(Bytes::copy_from_slice),
            }));
        }
    }

    /// Answers a command of dht-rpc (dht-rpc `_onrequest`).
    fn serve(&mut self, now: Instant, back: Back, request: &Request<'_>) {
        let empty = Response::default();
        match request.command {
            Command::PING => self.reply(now, back, None, &empty),
            Command::PING_NAT => {
                if let Some(port) = decode_nat_port(request.value) {
                    let to = SocketAddrV4::new(*back.to.ip(), port);
                    self.reply(now, Back { to, ..back }, None, &empty);
                }
            }
            Command::FIND_NODE => {
                if let Some(target) = &request.target {
                    self.reply(now, back, Some(target), &Response { closer_nodes: true, ..empty });
                }
            }
            Command::DOWN_HINT => {
                if let Some(node) = decode_down_hint(request.value) {
                    self.doubt(now, back.to, node);
                    self.reply(now, back, None, &empty);
                }
            }
            Command::DELAYED_PING => {
                if let Some(delay) = decode_ping_delay(request.value) {
                    self.ping_later(now, back, delay);
                }
            }
            _ => {
                let error = ErrorCode::UNKNOWN_COMMAND;
                self.reply(
                    now,
                    back,
                    request.target.as_ref(),
                    &Response { error, closer_nodes: true, ..empty },
                );
            }
        }
    }

    /// Answers a request of the owner's (dht-rpc `Request.reply`, `error`).
    pub fn respond(&mut self, now: Instant, to: &Incoming, response: &Response) {
        let back = Back { via: to.via, to: to.from, tid: to.tid };
        self.reply(now, back, to.target.as_ref(), response);
    }

    /// Answers a request to somebody else than who passed it on, without token or closer nodes. The caller is sure that
    /// `asker` wants it.
    pub fn respond_to(&mut self, now: Instant, to: &Incoming, asker: SocketAddrV4, value: Bytes) {
        if !self.guard.may_forward(now, *to.from.ip(), value.len()) {
            return;
        }
        let back = Back { via: to.via, to: asker, tid: to.tid };
        self.reply(now, back, None, &Response { value: Some(value), ..Response::default() });
    }

    /// Passes a request on with another value (dht-rpc `Request.relay`). Its receiver, or the one after it, answers the
    /// asker. Nothing is sent if the limits of the asker, or of who would receive it, are used up. The caller is sure that
    /// `next` wants it.
    pub fn relay(&mut self, now: Instant, passed: &Incoming, next: SocketAddrV4, value: &[u8]) {
        let id = self.shown_id(passed.via);
        let (target, value) = (passed.target, Some(value));
        self.writer.clear();
        Request { id, target, value, ..Request::new(passed.tid, next, passed.command) }
            .encode(&mut self.writer);
        let bytes = self.writer.len();
        // On our own machine only servers are that have sent something from there.
        let may = is_sane(next, *next.ip())
            && self.guard.may_forward(now, *passed.from.ip(), bytes)
            && self.guard.may_send(now, *next.ip(), bytes);
        if may {
            let payload = Bytes::copy_from_slice(self.writer.as_slice());
            self.transmit(next, passed.via, payload);
        }
    }

    /// True if a request came from this address in the last minute. It may be forged.
    pub fn heard_lately(&self, now: Instant, addr: SocketAddrV4) -> bool {
        self.senders.heard_lately(now, addr)
    }

    /// Sends the pings that are due.
    pub(super) fn answer_delayed_pings(&mut self, now: Instant) {
        let due = |ping: &DelayedPing| ping.at <= now;
        let (due, later): (Vec<_>, Vec<_>) = self.upkeep.delayed.drain(..).partition(due);
        self.upkeep.delayed = later;
        for DelayedPing { via, to, tid, .. } in due {
            self.reply(now, Back { via, to, tid }, None, &Response::default());
        }
    }

    fn reply(&mut self, now: Instant, back: Back, target: Option<&[u8; 32]>, response: &Response) {
        let mut nodes = [SocketAddrV4::new([0; 4].into(), 0); MAX_BUCKET_NODES];
        let mut count = 0;
        if let Some(target) = target.filter(|_| response.closer_nodes) {
            count = self.table.closest_addresses(target, &mut nodes);
        }
        let token = match response.token {
            true => Some(self.tokens.create(now, *back.to.ip(), &mut self.rng)),
            false => None,
        };
        let id = self.shown_id(back.via);
        self.writer.clear();
        Reply {
            id,
            token,
            closer_nodes: List::from(nodes.get(..count).unwrap_or_default()),
            error: response.error,
            value: response.value.as_deref(),
            ..Reply::new(back.tid, back.to)
        }
        .encode(&mut self.writer);
        // The address may be forged.
        if is_sane(back.to, *back.to.ip()) && self.guard.may_send(now, *back.to.ip(), self.writer.len()) {
            let payload = Bytes::copy_from_slice(self.writer.as_slice());
            self.transmit(back.to, back.via, payload);
        }
    }

    /// Somebody says that a node is down: it is asked itself, and only its own silence removes it.
    fn doubt(&mut self, now: Instant, informant: SocketAddrV4, addr: SocketAddrV4) {
        let id = NodeId(node_id(addr));
        let tick = self.upkeep.tick;
        let Some(contact) = self.table.find(&id) else { return };
        let heard = tick.saturating_sub(contact.pinged) < HEARD_RECENTLY;
        if heard || self.upkeep.checks >= MAX_LIVENESS_CHECKS || !self.guard.may_hint(now, *informant.ip()) {
            return;
        }
        self.check(now, id, addr);
    }

    pub(super) fn check(&mut self, now: Instant, node: NodeId, addr: SocketAddrV4) {
        let tick = self.upkeep.tick;
        if let Some(contact) = self.table.find_mut(&node) {
            contact.pinged = tick;
        }
        self.upkeep.checks += 1;
        self.ping(now, addr, Purpose::Check { node });
    }

    fn ping_later(&mut self, now: Instant, back: Back, delay: Duration) {
        if self.upkeep.delayed.len() < MAX_DELAYED_PINGS {
            let Back { via, to, tid } = back;
            self.upkeep.delayed.push(DelayedPing { at: now + delay, via, to, tid });
        }
    }
}
