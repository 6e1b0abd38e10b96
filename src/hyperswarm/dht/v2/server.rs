//! Requests of others.

use std::net::SocketAddrV4;
use std::time::Instant;

use bytes::Bytes;

use super::Node;
use super::operation::{FIND_NODE, HOLEPUNCH, IMMUTABLE, MUTABLE, PEERS, PING};
use super::storage::Answer;
use crate::codec::v2::{Kind, Message, NodeRecord, encode_address, encode_nodes};
use crate::dht::id::NodeId;
use crate::limits::MAX_BUCKET_NODES;

/// What the original answers to a command it does not know.
const UNSUPPORTED_COMMAND: &str = "Unsupported command";

impl Node {
    /// A query or update of somebody (dht-rpc `onrequest`). An update without a good token is dropped.
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        message: Message,
        length: usize,
    ) {
        let host = *from.ip();
        self.guard.received(now, host, length);
        if message.kind == Kind::Update {
            let Some(token) = &message.token else { return };
            if !self.tokens.verify(now, host, token, &mut self.rng) {
                return;
            }
            self.guard.validated(now, host);
        }
        if let Some(id) = message.id {
            self.heard(now, NodeId(id), from, None, false);
        }
        match message.command.as_deref().unwrap_or_default() {
            PING => self.handle_ping(now, from, &message),
            FIND_NODE => {
                if let Some(target) = message.target {
                    let nodes = self.closer_nodes(&target);
                    self.respond(now, from, message.rid, None, Some(nodes));
                }
            }
            HOLEPUNCH => self.handle_holepunch(now, from, message),
            _ => self.handle_command(now, from, &message),
        }
    }

    /// Answers a request, with a token for whoever receives at `to`.
    pub(super) fn respond(
        &mut self,
        now: Instant,
        to: SocketAddrV4,
        rid: u16,
        value: Option<Bytes>,
        closer_nodes: Option<Bytes>,
    ) {
        let token = self.tokens.create(now, *to.ip(), &mut self.rng);
        let message = Message {
            to: Some(to),
            closer_nodes,
            token: Some(token),
            value,
            ..self.message(Kind::Response, rid)
        };
        self.transmit_guarded(now, to, message.encode());
    }

    /// Sends because a stranger wants it: within what an unproven address may receive.
    pub(super) fn transmit_guarded(&mut self, now: Instant, to: SocketAddrV4, payload: Bytes) {
        if self.guard.may_send(now, *to.ip(), payload.len()) {
            self.transmit(to, payload);
        }
    }

    fn handle_ping(&mut self, now: Instant, from: SocketAddrV4, message: &Message) {
        // Who expects another id than ours means another node.
        if message.value.as_ref().is_none_or(|id| id.as_ref() == self.id.0) {
            let value = Bytes::copy_from_slice(&encode_address(from));
            self.respond(now, from, message.rid, Some(value), None);
        }
    }

    fn handle_command(&mut self, now: Instant, from: SocketAddrV4, message: &Message) {
        let Some(target) = message.target else { return };
        let (kind, value) = (message.kind, message.value.as_deref());
        let answer = match message.command.as_deref().unwrap_or_default() {
            PEERS => self.storage.peers(now, from, target, kind, value, &mut self.rng),
            MUTABLE => self.storage.mutable(*from.ip(), target, kind, value),
            IMMUTABLE => self.storage.immutable(*from.ip(), target, kind, value),
            _ => Answer::Error(UNSUPPORTED_COMMAND, None),
        };
        let nodes = self.closer_nodes(&target);
        match answer {
            Answer::Value(value) => self.respond(now, from, message.rid, value, Some(nodes)),
            Answer::Error(error, value) => {
                let refusal = Message {
                    to: Some(from),
                    closer_nodes: Some(nodes),
                    error: Some(error.to_owned()),
                    value,
                    ..self.message(Kind::Response, message.rid)
                };
                self.transmit_guarded(now, from, refusal.encode());
            }
            Answer::Silence => {}
        }
    }

    fn closer_nodes(&self, target: &[u8; 32]) -> Bytes {
        let closest = self.table.closest(target, MAX_BUCKET_NODES);
        let records: Vec<_> = closest.iter().map(|c| NodeRecord { id: c.id.0, addr: c.addr }).collect();
        encode_nodes(&records)
    }
}
