//! Messages of the v2 network: dht-rpc 4.9 (`lib/messages.js`) and @hyperswarm/dht 3.6 (`messages.js`).
//!
//! prost decodes (any field order, unknown fields skipped, the last of several wins); the types here then hold only
//! what is valid. Encoding is by hand in `emit`, because the originals write field 11 first and protobuf
//! generators write in order of field numbers.

mod address;
mod emit;
pub mod mdns;
mod values;

use bytes::Bytes;
use prost::Message as _;
use std::net::SocketAddrV4;

pub use address::{
    NodeRecord, PeerWithLength, decode_address, decode_local_peers, decode_nodes, decode_peers,
    decode_peers_with_length, encode_address, encode_nodes,
};
pub use values::{Holepunch, Mutable, PeersInput, PeersOutput};

#[allow(missing_docs, unreachable_pub, clippy::doc_markdown)]
mod wire {
    include!("v2/wire/dht_rpc.rs");
}

/// The protocol version in every datagram.
pub const VERSION: u64 = 1;

/// Why bytes are not a message of this network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf, cut off, or a field of another wire type.
    #[error("not a protobuf message: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A required field is absent.
    #[error("missing field: {0}")]
    Missing(&'static str),
    /// A field has an impossible length or value.
    #[error("invalid field: {0}")]
    Invalid(&'static str),
}

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks.
    Query,
    /// Changes something at the receiver; needs a token.
    Update,
    /// Answers either.
    Response,
}

/// One datagram. `None` is an absent field, which is not the same as an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Protocol version, 1 from every current node.
    pub version: Option<u64>,
    /// Query, update or response.
    pub kind: Kind,
    /// Request id; the response repeats it.
    pub rid: u16,
    /// The destination as the sender sees it.
    pub to: Option<SocketAddrV4>,
    /// The sender, unless ephemeral.
    pub id: Option<[u8; 32]>,
    /// What is asked about.
    pub target: Option<[u8; 32]>,
    /// Encoded list of nodes, see [`decode_nodes`].
    pub closer_nodes: Option<Bytes>,
    /// Proof that the holder receives at its address.
    pub token: Option<[u8; 32]>,
    /// Name of the command of a query or update.
    pub command: Option<String>,
    /// Why a request was refused.
    pub error: Option<String>,
    /// Depends on the command.
    pub value: Option<Bytes>,
}

impl Message {
    /// A message of the current version with no optional field.
    pub fn new(kind: Kind, rid: u16) -> Self {
        Self {
            version: Some(VERSION),
            kind,
            rid,
            to: None,
            id: None,
            target: None,
            closer_nodes: None,
            token: None,
            command: None,
            error: None,
            value: None,
        }
    }

    /// The bytes `Message.encode` of dht-rpc makes of the same fields.
    pub fn encode(&self) -> Bytes {
        let mut out = emit::Emitter::default();
        out.varint(11, self.version);
        out.varint(1, Some(self.kind.number()));
        out.varint(2, Some(u64::from(self.rid)));
        out.bytes(10, self.to.map(encode_address).as_ref().map(<[u8; 6]>::as_slice));
        out.bytes(3, self.id.as_ref().map(<[u8; 32]>::as_slice));
        out.bytes(4, self.target.as_ref().map(<[u8; 32]>::as_slice));
        out.bytes(5, self.closer_nodes.as_deref());
        out.bytes(6, self.token.as_ref().map(<[u8; 32]>::as_slice));
        out.bytes(7, self.command.as_deref().map(str::as_bytes));
        out.bytes(8, self.error.as_deref().map(str::as_bytes));
        out.bytes(9, self.value.as_deref());
        out.finish()
    }

    /// Decodes one datagram. Stricter than dht-rpc: an id, target, token or address of the wrong length is refused
    /// (the original fails on them later), and so is a type other than 1, 2 and 3.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let raw = wire::Message::decode(bytes)?;
        Ok(Self {
            version: raw.version,
            kind: Kind::from_number(raw.r#type.ok_or(DecodeError::Missing("type"))?)?,
            rid: u16::try_from(raw.rid.ok_or(DecodeError::Missing("rid"))?)
                .map_err(|_| DecodeError::Invalid("rid"))?,
            to: optional_address(raw.to, "to")?,
            id: optional_array(raw.id, "id")?,
            target: optional_array(raw.target, "target")?,
            closer_nodes: raw.closer_nodes,
            token: optional_array(raw.roundtrip_token, "roundtripToken")?,
            command: raw.command,
            error: raw.error,
            value: raw.value,
        })
    }
}

impl Kind {
    fn number(self) -> u64 {
        match self {
            Self::Query => 1,
            Self::Update => 2,
            Self::Response => 3,
        }
    }

    fn from_number(number: u32) -> Result<Self, DecodeError> {
        match number {
            1 => Ok(Self::Query),
            2 => Ok(Self::Update),
            3 => Ok(Self::Response),
            _ => Err(DecodeError::Invalid("type")),
        }
    }
}

fn optional_array<const N: usize>(
    field: Option<Bytes>,
    name: &'static str,
) -> Result<Option<[u8; N]>, DecodeError> {
    field.map(|b| <[u8; N]>::try_from(b.as_ref()).map_err(|_| DecodeError::Invalid(name))).transpose()
}

fn optional_address(field: Option<Bytes>, name: &'static str) -> Result<Option<SocketAddrV4>, DecodeError> {
    field.map(|b| decode_address(&b).ok_or(DecodeError::Invalid(name))).transpose()
}

#[cfg(test)]
mod tests;
