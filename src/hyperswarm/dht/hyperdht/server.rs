//! Requests of others about what is stored here (hyperdht `onrequest`). A request that makes no sense gets no reply.

use std::time::Instant;

use bytes::Bytes;

use super::announcement::encode_peer;
use super::storage::{Storage, Write};
use super::{Hyperdht, Target};
use crate::codec::v4::{Command, ErrorCode};
use crate::dht::id::NodeId;
use crate::dht::v4::{Incoming, Response};

impl Hyperdht {
    pub(super) fn handle_request(&mut self, now: Instant, incoming: &Incoming) {
        match incoming.command {
            Command::PEER_HANDSHAKE => self.route_handshake(now, incoming),
            Command::PEER_HOLEPUNCH => self.route_holepunch(now, incoming),
            _ => match self.node.id() {
                Some(own) => self.serve(now, own, incoming),
                None => self.refuse(now, incoming, ErrorCode::UNKNOWN_COMMAND),
            },
        }
    }

    /// Answers a request as the persistent node `own`.
    fn serve(&mut self, now: Instant, own: NodeId, incoming: &Incoming) {
        self.expire(now);
        match incoming.command {
            Command::FIND_PEER | Command::LOOKUP => {
                if let Some(target) = &incoming.target {
                    let found = self.find(now, incoming.command, target);
                    self.reply(now, incoming, found);
                }
            }
            Command::MUTABLE_GET => {
                if let (Some(target), Some(value)) = (&incoming.target, &incoming.value)
                    && let Some(found) = kept(&mut self.storage, now).get_mutable(target, value)
                {
                    self.reply(now, incoming, found);
                }
            }
            Command::IMMUTABLE_GET => {
                if let Some(target) = &incoming.target {
                    let found = self.storage.as_mut().and_then(|storage| storage.get_immutable(target));
                    self.reply(now, incoming, found);
                }
            }
            Command::ANNOUNCE | Command::UNANNOUNCE | Command::MUTABLE_PUT | Command::IMMUTABLE_PUT => {
                self.write(now, own, incoming);
            }
            // No plugin is known here.
            Command::PLUGIN => {}
            _ => self.refuse(now, incoming, ErrorCode::UNKNOWN_COMMAND),
        }
    }

    /// Answers a request that changes something, for which a token is needed.
    fn write(&mut self, now: Instant, own: NodeId, incoming: &Incoming) {
        let (Some(target), Some(token), Some(value)) = (incoming.target, incoming.token, &incoming.value)
        else {
            return;
        };
        let write = Write { from: incoming.from, target, token, value };
        let wall = self.wall(now);
        match incoming.command {
            Command::ANNOUNCE if self.is_serving(&target) => {
                // Nobody takes the place of a server of our own.
                self.confirm(now, incoming);
            }
            Command::ANNOUNCE => {
                let storage = kept(&mut self.storage, now);
                if storage.announce(now, own, &write, wall, self.node.rng()) {
                    self.confirm(now, incoming);
                }
            }
            Command::UNANNOUNCE if kept(&mut self.storage, now).unannounce(now, own, &write) => {
                self.confirm(now, incoming);
            }
            Command::MUTABLE_PUT => match kept(&mut self.storage, now).put_mutable(&write) {
                Some(ErrorCode::NONE) => self.reply(now, incoming, None),
                Some(error) => self.refuse(now, incoming, error),
                None => {}
            },
            Command::IMMUTABLE_PUT if kept(&mut self.storage, now).put_immutable(&write) => {
                self.reply(now, incoming, None);
            }
            _ => {}
        }
    }

    /// What is announced under this target. A server of our own comes first, and names no relays: we are one.
    fn find(&mut self, now: Instant, command: Command, target: &Target) -> Option<Bytes> {
        let serving = self.listeners.get(target).filter(|listener| listener.is_serving());
        let own = serving.map(|listener| encode_peer(&listener.public_key().0, &[]));
        match command {
            Command::FIND_PEER => own.or_else(|| self.storage.as_ref()?.find_peer(target)),
            _ => kept(&mut self.storage, now).lookup(now, target, own, self.node.rng()),
        }
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(storage) = &mut self.storage {
            storage.expire(now);
            if storage.poll_timeout().is_none() {
                self.storage = None;
            }
        }
    }

    fn reply(&mut self, now: Instant, incoming: &Incoming, value: Option<Bytes>) {
        let response = Response { value, token: true, closer_nodes: true, ..Response::default() };
        self.node.respond(now, incoming, &response);
    }

    fn confirm(&mut self, now: Instant, incoming: &Incoming) {
        self.node.respond(now, incoming, &Response::default());
    }

    fn refuse(&mut self, now: Instant, incoming: &Incoming, error: ErrorCode) {
        self.node.respond(now, incoming, &Response { error, closer_nodes: true, ..Response::default() });
    }
}

/// Makes room for what is to be stored.
pub(super) fn kept(storage: &mut Option<Box<Storage>>, now: Instant) -> &mut Storage {
    storage.get_or_insert_with(|| Box::new(Storage::new(now)))
}
