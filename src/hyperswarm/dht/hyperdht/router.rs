//! Handshakes and holepunch messages on their way (hyperdht `lib/router.js`): those for servers of our own go up to the
//! owner, those for others are passed on.
//!
//! A client sends such a message to a relay, where the server announced itself. The relay passes it on as a request that
//! keeps the client's request id, the server answers with a request to the relay, and the relay answers the client. So each
//! datagram that comes in makes one go out, to an address that somebody else chose. It goes to nobody but those who
//! announced themselves here or sent us something in the last minute, and what is sent for one host is limited.

use std::net::SocketAddrV4;
use std::time::Instant;

use bytes::Bytes;

use super::{Event, Hyperdht, Target};
use crate::codec::compact::Writer;
use crate::codec::v4::{Handshake, Holepunch, Mode};
use crate::dht::guard::{can_be_meant, is_sane};
use crate::dht::rpc::Via;
use crate::dht::v4::{Incoming, Response};

/// A handshake for a server of ours, to be answered with [`Hyperdht::reply_handshake`], or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeMessage {
    /// The request that brought it.
    pub incoming: Incoming,
    /// The server: hash of its public key.
    pub target: Target,
    /// [`Mode::FROM_CLIENT`], [`Mode::FROM_RELAY`] or [`Mode::FROM_SECOND_RELAY`].
    pub mode: Mode,
    /// A message of the Noise handshake, not empty.
    pub noise: Bytes,
    /// The client as its relay sees it; none: it has sent this itself.
    pub peer_address: Option<SocketAddrV4>,
    /// The relay that is to pass the answer on, if it is not the sender.
    pub relay_address: Option<SocketAddrV4>,
}

/// A holepunch message for a server of ours, to be answered with [`Hyperdht::reply_holepunch`], or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolepunchMessage {
    /// The request that brought it.
    pub incoming: Incoming,
    /// The server: hash of its public key.
    pub target: Target,
    /// Number of the handshake at the server.
    pub id: u64,
    /// A sealed payload.
    pub payload: Bytes,
    /// The client as the relay sees it.
    pub peer_address: SocketAddrV4,
}

impl Hyperdht {
    /// Answers a handshake the way it came. `via`: the socket that sends the answer, if it is not the one on which the
    /// message came.
    pub fn reply_handshake(
        &mut self,
        now: Instant,
        message: &HandshakeMessage,
        noise: &[u8],
        via: Option<Via>,
    ) {
        let incoming = sent_from(&message.incoming, via);
        let peer_address = message.peer_address;
        let back = |mode| Handshake { mode, noise, peer_address, relay_address: None };
        match message.mode {
            Mode::FROM_CLIENT => {
                let value = encode(|out| Handshake { peer_address: None, ..back(Mode::REPLY) }.encode(out));
                self.node.respond(now, &incoming, &Response { value: Some(value), ..Response::default() });
            }
            Mode::FROM_RELAY => {
                let value = encode(|out| back(Mode::FROM_SERVER).encode(out));
                self.node.relay(now, &incoming, incoming.from, &value);
            }
            Mode::FROM_SECOND_RELAY => {
                if let Some(relay) = message.relay_address {
                    let value = encode(|out| back(Mode::FROM_SERVER).encode(out));
                    self.node.relay(now, &incoming, relay, &value);
                }
            }
            _ => {}
        }
    }

    /// Answers a holepunch message through the relay that brought it, like [`Self::reply_handshake`].
    pub fn reply_holepunch(
        &mut self,
        now: Instant,
        message: &HolepunchMessage,
        payload: &[u8],
        via: Option<Via>,
    ) {
        let incoming = sent_from(&message.incoming, via);
        let peer_address = Some(message.peer_address);
        let back = Holepunch { mode: Mode::FROM_SERVER, id: 0, payload, peer_address };
        self.node.relay(now, &incoming, incoming.from, &encode(|out| back.encode(out)));
    }

    /// A `PEER_HANDSHAKE` (`onpeerhandshake`). What it is, and whether it makes sense, is looked at before anything is done.
    pub(super) fn route_handshake(&mut self, now: Instant, incoming: &Incoming) {
        let Some(Ok(handshake)) = incoming.value.as_deref().map(Handshake::decode) else { return };
        let Some(target) = incoming.target.filter(|_| !handshake.noise.is_empty()) else { return };
        if self.is_serving(&target) {
            return self.receive_handshake(incoming, target, &handshake);
        }
        let (from, noise) = (incoming.from, handshake.noise);
        let relay = self.forward(&target);
        let (mode, peer_address, relay_address) = match handshake.mode {
            Mode::FROM_CLIENT => (Mode::FROM_RELAY, Some(from), None),
            Mode::FROM_RELAY => (Mode::FROM_SECOND_RELAY, handshake.peer_address, Some(from)),
            Mode::FROM_SERVER => {
                if let Some(client) = self.who_asked(now, handshake.peer_address) {
                    let answer =
                        Handshake { mode: Mode::REPLY, noise, peer_address: Some(from), relay_address: None };
                    self.node.respond_to(now, incoming, client, encode(|out| answer.encode(out)));
                }
                return;
            }
            _ => return,
        };
        let named = handshake.relay_address.filter(|_| handshake.mode == Mode::FROM_CLIENT);
        match self.who_asked(now, named).or(relay) {
            Some(next) => {
                let value = encode(|out| Handshake { mode, noise, peer_address, relay_address }.encode(out));
                self.node.relay(now, incoming, next, &value);
            }
            // The client can go on to nodes that may know more.
            None if handshake.mode == Mode::FROM_CLIENT => {
                self.node.respond(now, incoming, &Response { closer_nodes: true, ..Response::default() });
            }
            None => {}
        }
    }

    /// A `PEER_HOLEPUNCH` (`onpeerholepunch`).
    pub(super) fn route_holepunch(&mut self, now: Instant, incoming: &Incoming) {
        let Some(Ok(holepunch)) = incoming.value.as_deref().map(Holepunch::decode) else { return };
        let Some(target) = incoming.target else { return };
        let (from, Holepunch { id, payload, peer_address, .. }) = (incoming.from, holepunch);
        match holepunch.mode {
            Mode::FROM_CLIENT => {
                let relay = self.forward(&target);
                if let Some(next) = self.who_asked(now, peer_address).or(relay) {
                    let mode = Mode::FROM_RELAY;
                    let message = Holepunch { mode, id, payload, peer_address: Some(from) };
                    self.node.relay(now, incoming, next, &encode(|out| message.encode(out)));
                }
            }
            Mode::FROM_RELAY => {
                let peer_address = peer_address.filter(|client| is_credible(*client, from));
                if let Some(peer_address) = peer_address.filter(|_| self.is_serving(&target)) {
                    self.emit(Event::Holepunch(HolepunchMessage {
                        incoming: incoming.clone(),
                        target,
                        id,
                        payload: Bytes::copy_from_slice(payload),
                        peer_address,
                    }));
                }
            }
            Mode::FROM_SERVER => {
                // Upstream answers the sender if nobody is named.
                if let Some(client) = self.who_asked(now, peer_address.or(Some(from))) {
                    let answer = Holepunch { mode: Mode::REPLY, id, payload, peer_address: Some(from) };
                    self.node.respond_to(now, incoming, client, encode(|out| answer.encode(out)));
                }
            }
            _ => {}
        }
    }

    /// A handshake for a server of ours.
    fn receive_handshake(&mut self, incoming: &Incoming, target: Target, handshake: &Handshake<'_>) {
        let Handshake { mode, noise, peer_address, relay_address } = *handshake;
        let credible = |address: Option<SocketAddrV4>| {
            address.is_some_and(|address| is_credible(address, incoming.from))
        };
        let (peer_address, relay_address) = match mode {
            Mode::FROM_CLIENT => (None, None),
            Mode::FROM_RELAY if credible(peer_address) => (peer_address, None),
            Mode::FROM_SECOND_RELAY if credible(peer_address) && credible(relay_address) => {
                (peer_address, relay_address)
            }
            _ => return,
        };
        let noise = Bytes::copy_from_slice(noise);
        let incoming = incoming.clone();
        let message = HandshakeMessage { incoming, target, mode, noise, peer_address, relay_address };
        self.emit(Event::Handshake(message));
    }

    /// Where messages for this target are passed on to, if its server announced itself here.
    pub(super) fn forward(&self, target: &Target) -> Option<SocketAddrV4> {
        self.storage.as_ref()?.forward(target)
    }

    /// This address, if it sent us a request in the last minute: then it may be sent something in return.
    fn who_asked(&self, now: Instant, address: Option<SocketAddrV4>) -> Option<SocketAddrV4> {
        address.filter(|address| self.node.heard_lately(now, *address))
    }
}

/// True if `informant` can honestly name this address.
pub(super) fn is_credible(address: SocketAddrV4, informant: SocketAddrV4) -> bool {
    is_sane(address, *informant.ip()) && can_be_meant(*address.ip(), *informant.ip())
}

/// The request as if it had come on this socket, from which the answer leaves then.
fn sent_from(incoming: &Incoming, via: Option<Via>) -> Incoming {
    Incoming { via: via.unwrap_or(incoming.via), ..incoming.clone() }
}

fn encode(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut out = Writer::new();
    write(&mut out);
    out.finish()
}
