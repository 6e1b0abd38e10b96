//! What the `value` field of a message holds, by command.

use std::net::SocketAddrV4;

use bytes::Bytes;
use prost::Message as _;

use super::{DecodeError, emit::Emitter, encode_address, optional_address, optional_array};
use crate::codec::MAX_SAFE_INTEGER;

#[allow(missing_docs, unreachable_pub, clippy::doc_markdown)]
mod wire {
    include!("wire/hyperswarm_dht.rs");
}

/// Value of a `_holepunch` query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holepunch {
    /// Who wants to be reached.
    pub from: Option<SocketAddrV4>,
    /// Who should be reached.
    pub to: Option<SocketAddrV4>,
}

impl Holepunch {
    /// The bytes of dht-rpc's `Holepunch.encode`.
    pub fn encode(&self) -> Bytes {
        let mut out = Emitter::default();
        out.bytes(2, self.from.map(encode_address).as_ref().map(<[u8; 6]>::as_slice));
        out.bytes(3, self.to.map(encode_address).as_ref().map(<[u8; 6]>::as_slice));
        out.finish()
    }

    /// Refuses addresses that are not 6 bytes or have port 0.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let raw = super::wire::Holepunch::decode(bytes)?;
        Ok(Self { from: optional_address(raw.from, "from")?, to: optional_address(raw.to, "to")? })
    }
}

/// Request of the command `peers`: a lookup when queried, an announcement or its opposite when updated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeersInput {
    /// The announced port; 0 and absent mean the source port of the datagram. Above 65535 it is answered with an
    /// error, so it is kept as sent.
    pub port: Option<u32>,
    /// Address in the local network.
    pub local_address: Option<SocketAddrV4>,
    /// Take the announcement back.
    pub unannounce: Option<bool>,
    /// Hypercore's length.
    pub length: Option<u64>,
    /// Answer with lengths.
    pub include_length: Option<bool>,
}

impl PeersInput {
    /// The bytes of @hyperswarm/dht's `PeersInput.encode`.
    pub fn encode(&self) -> Bytes {
        let mut out = Emitter::default();
        out.varint(1, self.port.map(u64::from));
        out.bytes(2, self.local_address.map(encode_address).as_ref().map(<[u8; 6]>::as_slice));
        out.varint(3, self.unannounce.map(u64::from));
        out.varint(4, self.length);
        out.varint(5, self.include_length.map(u64::from));
        out.finish()
    }

    /// Refuses a local address that is not 6 bytes or has port 0, and lengths JavaScript cannot count.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let raw = wire::PeersInput::decode(bytes)?;
        Ok(Self {
            port: raw.port,
            local_address: optional_address(raw.local_address, "localAddress")?,
            unannounce: raw.unannounce,
            length: safe_integer(raw.length, "length")?,
            include_length: raw.include_length,
        })
    }
}

/// Answer of the command `peers`; the lists are decoded by [`super::decode_peers`] and its siblings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeersOutput {
    /// 6 bytes each.
    pub peers: Option<Bytes>,
    /// 4 bytes each.
    pub local_peers: Option<Bytes>,
    /// 14 bytes each.
    pub peers_with_length: Option<Bytes>,
}

impl PeersOutput {
    /// The bytes of @hyperswarm/dht's `PeersOutput.encode`.
    pub fn encode(&self) -> Bytes {
        let mut out = Emitter::default();
        out.bytes(1, self.peers.as_deref());
        out.bytes(2, self.local_peers.as_deref());
        out.bytes(3, self.peers_with_length.as_deref());
        out.finish()
    }

    /// Only the outer message is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let raw = wire::PeersOutput::decode(bytes)?;
        Ok(Self { peers: raw.peers, local_peers: raw.local_peers, peers_with_length: raw.peers_with_length })
    }
}

/// Request and answer of the command `mutable-store`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mutable {
    /// The stored value.
    pub value: Option<Bytes>,
    /// By the key that is the target of the message.
    pub signature: Option<[u8; 64]>,
    /// Sequence number; absent means 0.
    pub seq: Option<u64>,
    /// Tells several values of one key apart.
    pub salt: Option<Bytes>,
}

impl Mutable {
    /// The bytes of @hyperswarm/dht's `Mutable.encode`.
    pub fn encode(&self) -> Bytes {
        let mut out = Emitter::default();
        out.bytes(1, self.value.as_deref());
        out.bytes(2, self.signature.as_ref().map(<[u8; 64]>::as_slice));
        out.varint(3, self.seq);
        out.bytes(4, self.salt.as_deref());
        out.finish()
    }

    /// Refuses a signature that is not 64 bytes and sequence numbers JavaScript cannot count.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let raw = wire::Mutable::decode(bytes)?;
        Ok(Self {
            value: raw.value,
            signature: optional_array(raw.signature, "signature")?,
            seq: safe_integer(raw.seq, "seq")?,
            salt: raw.salt,
        })
    }
}

fn safe_integer(number: Option<u64>, name: &'static str) -> Result<Option<u64>, DecodeError> {
    match number {
        Some(n) if n > MAX_SAFE_INTEGER => Err(DecodeError::Invalid(name)),
        other => Ok(other),
    }
}
