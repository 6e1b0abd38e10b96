//! The relay of holepunches: A asks R, who named B to A, to tell B of A; B then sends to A, which opens B's NAT.
//!
//! The original sends to any address anybody names. Here the address must be sane, and both the asker and the host
//! that would receive are limited.

use std::net::SocketAddrV4;
use std::time::Instant;

use super::operation::HOLEPUNCH;
use super::{Node, may_name};
use crate::codec::v2::{Holepunch, Kind, Message};

impl Node {
    /// As A: asks `referrer` to tell `to` of us. With no `rid` the answer of `to` means nothing to us, only its
    /// arrival at our NAT does.
    pub(super) fn ask_for_punch(&mut self, rid: Option<u16>, to: SocketAddrV4, referrer: SocketAddrV4) {
        let rid = rid.unwrap_or_else(|| self.requests.fresh_rid());
        let message = Message {
            to: Some(referrer),
            command: Some(HOLEPUNCH.to_owned()),
            value: Some(Holepunch { from: None, to: Some(to) }.encode()),
            ..self.message(Kind::Query, rid)
        };
        self.transmit(referrer, message.encode());
    }

    /// As R or B (dht-rpc `_onholepunch`).
    pub(super) fn handle_holepunch(&mut self, now: Instant, from: SocketAddrV4, message: Message) {
        // A holepunch sent directly has no value; it has done its work by arriving.
        let Some(value) = &message.value else { return };
        let Ok(value) = Holepunch::decode(value) else { return };
        if let Some(to) = value.to {
            self.relay_punch(now, from, to, message);
        } else if let Some(asker) = value.from {
            if may_name(&self.bootstrap, from, asker) && self.guard.may_punch(now, *from.ip()) {
                self.respond(now, asker, message.rid, None, None);
            }
        } else {
            self.respond(now, from, message.rid, None, None);
        }
    }

    fn relay_punch(&mut self, now: Instant, from: SocketAddrV4, to: SocketAddrV4, message: Message) {
        if to == from || !may_name(&self.bootstrap, from, to) || !self.guard.may_punch(now, *from.ip()) {
            return;
        }
        let relayed = Message {
            to: Some(to),
            // The originals re-encode the message they decoded, which leaves an empty error in it.
            error: Some(String::new()),
            command: message.command,
            value: Some(Holepunch { from: Some(from), to: None }.encode()),
            ..self.message(Kind::Query, message.rid)
        };
        self.transmit_guarded(now, to, relayed.encode());
    }
}
