//! Datagrams of dht-rpc, and the values of its own commands.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::List;
use crate::codec::compact::{DecodeError, Reader, Writer};
use crate::limits::{MAX_BUCKET_NODES, v4::MAX_PING_DELAY};

/// First byte of a request: version 3, kind 0 in the high half.
const REQUEST: u8 = 0x03;
/// First byte of a reply: version 3, kind 1 in the high half.
const REPLY: u8 = 0x13;

/// Bits that say which fields a packet has. The first two are the same in both kinds.
mod flag {
    pub(super) const ID: u64 = 1;
    pub(super) const TOKEN: u64 = 2;
    pub(super) const INTERNAL: u64 = 4;
    pub(super) const TARGET: u64 = 8;
    pub(super) const CLOSER_NODES: u64 = 4;
    pub(super) const ERROR: u64 = 8;
    pub(super) const VALUE: u64 = 16;
}

/// What a request asks for. The numbers of dht-rpc's own commands and those of hyperdht overlap; `internal` tells them
/// apart. Numbers without a name here are answered with [`ErrorCode::UNKNOWN_COMMAND`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// True for a command of dht-rpc itself.
    pub internal: bool,
    /// The number on the wire.
    pub number: u64,
}

impl Command {
    /// An empty reply.
    pub const PING: Self = Self::internal(0);
    /// An empty reply to another port of the sender, see [`decode_nat_port`].
    pub const PING_NAT: Self = Self::internal(1);
    /// The nodes closest to the target.
    pub const FIND_NODE: Self = Self::internal(2);
    /// Says that a node does not answer, see [`decode_down_hint`].
    pub const DOWN_HINT: Self = Self::internal(3);
    /// An empty reply after a while, see [`decode_ping_delay`].
    pub const DELAYED_PING: Self = Self::internal(4);
    /// A [`Handshake`](super::Handshake) for the server of the target.
    pub const PEER_HANDSHAKE: Self = Self::external(0);
    /// A [`Holepunch`](super::Holepunch) message for the server of the target.
    pub const PEER_HOLEPUNCH: Self = Self::external(1);
    /// The announcement of a public key, a [`Peer`](super::Peer).
    pub const FIND_PEER: Self = Self::external(2);
    /// The announcements of a topic, a [`LookupReply`](super::LookupReply).
    pub const LOOKUP: Self = Self::external(3);
    /// Stores an [`Announce`](super::Announce).
    pub const ANNOUNCE: Self = Self::external(4);
    /// Removes it.
    pub const UNANNOUNCE: Self = Self::external(5);
    /// Stores a [`MutablePut`](super::MutablePut).
    pub const MUTABLE_PUT: Self = Self::external(6);
    /// A [`MutableValue`](super::MutableValue) of at least the given sequence number.
    pub const MUTABLE_GET: Self = Self::external(7);
    /// Stores the value, whose hash is the target.
    pub const IMMUTABLE_PUT: Self = Self::external(8);
    /// The bytes whose hash is the target.
    pub const IMMUTABLE_GET: Self = Self::external(9);
    /// A [`PluginRequest`](super::PluginRequest).
    pub const PLUGIN: Self = Self::external(10);

    const fn internal(number: u64) -> Self {
        Self { internal: true, number }
    }

    const fn external(number: u64) -> Self {
        Self { internal: false, number }
    }
}

/// The `error` of a reply. Numbers without a name here are errors too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u64);

impl ErrorCode {
    /// No error.
    pub const NONE: Self = Self(0);
    /// The node does not know the command, or does not serve it.
    pub const UNKNOWN_COMMAND: Self = Self(1);
    /// The token has expired, or was made for another host.
    pub const INVALID_TOKEN: Self = Self(2);
    /// hyperdht: another value is stored under this sequence number.
    pub const SEQ_REUSED: Self = Self(16);
    /// hyperdht: a value of a higher sequence number is stored.
    pub const SEQ_TOO_LOW: Self = Self(17);
}

/// Why a datagram is no packet of dht-rpc. Upstream drops it silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Empty, of another protocol, or of another version.
    #[error("not a packet of dht-rpc 6")]
    Kind,
    /// Cut off, or with an impossible field.
    #[error(transparent)]
    Field(#[from] DecodeError),
}

/// A datagram of dht-rpc, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Asks for something, or passes a message on (hyperdht's relays answer with requests).
    Request(Request<'a>),
    /// Answers a request.
    Reply(Reply<'a>),
}

impl<'a> Packet<'a> {
    /// Takes a datagram apart (dht-rpc `IO.onmessage`). Nothing is copied but hashes.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, PacketError> {
        let (kind, body) = datagram.split_first().ok_or(PacketError::Kind)?;
        let mut reader = Reader::new(body);
        match *kind {
            REQUEST => Ok(Self::Request(Request::decode(&mut reader)?)),
            REPLY => Ok(Self::Reply(Reply::decode(&mut reader)?)),
            _ => Err(PacketError::Kind),
        }
    }

    /// Appends the datagram.
    pub fn encode(&self, out: &mut Writer) {
        match self {
            Self::Request(request) => request.encode(out),
            Self::Reply(reply) => reply.encode(out),
        }
    }
}

/// A request (dht-rpc `Request`). `None` is an absent field, which is not the same as an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The reply repeats it; on its way through relays a handshake keeps it.
    pub tid: u16,
    /// The receiver as the sender sees it.
    pub to: SocketAddrV4,
    /// The sender's id as it claims: to be believed only if it is the hash of the address that the datagram came from.
    pub id: Option<[u8; 32]>,
    /// Given by an earlier reply of this receiver.
    pub token: Option<[u8; 32]>,
    /// What is asked for.
    pub command: Command,
    /// What it is asked about.
    pub target: Option<[u8; 32]>,
    /// Depends on the command.
    pub value: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// A request with no optional field.
    pub fn new(tid: u16, to: SocketAddrV4, command: Command) -> Self {
        Self { tid, to, id: None, token: None, command, target: None, value: None }
    }

    /// Reads what follows the first byte (dht-rpc `Request.decode`).
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let flags = reader.uint("flags")?;
        Ok(Self {
            tid: reader.uint16("tid")?,
            to: reader.ipv4_address("to")?,
            id: field(flags, flag::ID, || reader.fixed("id"))?,
            token: field(flags, flag::TOKEN, || reader.fixed("token"))?,
            command: Command { internal: flags & flag::INTERNAL != 0, number: reader.uint("command")? },
            target: field(flags, flag::TARGET, || reader.fixed("target"))?,
            value: field(flags, flag::VALUE, || reader.buffer("value"))?,
        })
    }

    /// Appends the datagram (dht-rpc `Request._encodeRequest`).
    pub fn encode(&self, out: &mut Writer) {
        let flags = bit(self.id.is_some(), flag::ID)
            | bit(self.token.is_some(), flag::TOKEN)
            | bit(self.command.internal, flag::INTERNAL)
            | bit(self.target.is_some(), flag::TARGET)
            | bit(self.value.is_some(), flag::VALUE);
        out.uint8(REQUEST).uint(flags).uint16(self.tid).ipv4_address(self.to);
        out.raw(bytes(&self.id)).raw(bytes(&self.token)).uint(self.command.number).raw(bytes(&self.target));
        if let Some(value) = self.value {
            out.buffer(value);
        }
    }
}

/// A reply. `None` is an absent field, which is not the same as an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The request's, repeated.
    pub tid: u16,
    /// The asker as the sender sees it.
    pub to: SocketAddrV4,
    /// The sender's id as it claims: to be believed only if it is the hash of the address that the datagram came from.
    pub id: Option<[u8; 32]>,
    /// Allows a later request of the same host to change something.
    pub token: Option<[u8; 32]>,
    /// Nodes closer to the target, at most [`MAX_BUCKET_NODES`]. None and an empty list are the same.
    pub closer_nodes: List<'a, SocketAddrV4>,
    /// Why the request was refused.
    pub error: ErrorCode,
    /// Depends on the command.
    pub value: Option<&'a [u8]>,
}

impl<'a> Reply<'a> {
    /// A reply with no optional field.
    pub fn new(tid: u16, to: SocketAddrV4) -> Self {
        let (closer_nodes, error) = (List::default(), ErrorCode::NONE);
        Self { tid, to, id: None, token: None, closer_nodes, error, value: None }
    }

    /// Reads what follows the first byte (dht-rpc `decodeReply`). Keeps the first 20 closer nodes; upstream
    /// never sends more.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let flags = reader.uint("flags")?;
        let nodes = |reader: &mut Reader<'a>| List::decode(reader, "closer nodes", MAX_BUCKET_NODES);
        Ok(Self {
            tid: reader.uint16("tid")?,
            to: reader.ipv4_address("to")?,
            id: field(flags, flag::ID, || reader.fixed("id"))?,
            token: field(flags, flag::TOKEN, || reader.fixed("token"))?,
            closer_nodes: field(flags, flag::CLOSER_NODES, || nodes(reader))?.unwrap_or_default(),
            error: ErrorCode(field(flags, flag::ERROR, || reader.uint("error"))?.unwrap_or(0)),
            value: field(flags, flag::VALUE, || reader.buffer("value"))?,
        })
    }

    /// Appends the datagram (dht-rpc `Request._sendReply`).
    pub fn encode(&self, out: &mut Writer) {
        let flags = bit(self.id.is_some(), flag::ID)
            | bit(self.token.is_some(), flag::TOKEN)
            | bit(!self.closer_nodes.is_empty(), flag::CLOSER_NODES)
            | bit(self.error != ErrorCode::NONE, flag::ERROR)
            | bit(self.value.is_some(), flag::VALUE);
        out.uint8(REPLY).uint(flags).uint16(self.tid).ipv4_address(self.to);
        out.raw(bytes(&self.id)).raw(bytes(&self.token));
        if !self.closer_nodes.is_empty() {
            self.closer_nodes.encode(out);
        }
        if self.error != ErrorCode::NONE {
            out.uint(self.error.0);
        }
        if let Some(value) = self.value {
            out.buffer(value);
        }
    }
}

/// Reads a field if its bit is set.
pub(super) fn field<T>(
    flags: u64,
    bit: u64,
    read: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if flags & bit == 0 { Ok(None) } else { read().map(Some) }
}

/// The bit of a field that is there.
pub(super) fn bit(present: bool, bit: u64) -> u64 {
    if present { bit } else { 0 }
}

/// The bytes of a hash or signature, none if it is absent.
pub(super) fn bytes<const N: usize>(field: &Option<[u8; N]>) -> &[u8] {
    field.as_ref().map_or(&[], <[u8; N]>::as_slice)
}

/// Value of a [`Command::PING_NAT`]: the port to answer to.
pub fn encode_nat_port(port: u16) -> [u8; 2] {
    port.to_le_bytes()
}

/// Reads the value of a [`Command::PING_NAT`]; what follows the port is ignored. No reply is due without a value, or to
/// port 0.
pub fn decode_nat_port(value: Option<&[u8]>) -> Option<u16> {
    Reader::new(value?).uint16("port").ok().filter(|port| *port != 0)
}

/// Value of a [`Command::DOWN_HINT`]: the node that does not answer. Its id is the hash of these bytes.
pub fn encode_down_hint(node: SocketAddrV4) -> [u8; 6] {
    let ([a, b, c, d], [low, high]) = (node.ip().octets(), node.port().to_le_bytes());
    [a, b, c, d, low, high]
}

/// Reads the value of a [`Command::DOWN_HINT`]; what follows the address is ignored. No reply is due without it.
pub fn decode_down_hint(value: Option<&[u8]>) -> Option<SocketAddrV4> {
    Reader::new(value?).ipv4_address("node").ok()
}

/// Value of a [`Command::DELAYED_PING`]: the delay in whole milliseconds, at most [`MAX_PING_DELAY`].
pub fn encode_ping_delay(delay: Duration) -> [u8; 4] {
    // The cap is far below 2^32 ms.
    (delay.min(MAX_PING_DELAY).as_millis() as u32).to_le_bytes()
}

/// Reads the value of a [`Command::DELAYED_PING`]; what follows the delay is ignored. No reply is due without it, or
/// after more than [`MAX_PING_DELAY`].
pub fn decode_ping_delay(value: Option<&[u8]>) -> Option<Duration> {
    let milliseconds = Reader::new(value?).uint32("delay").ok()?;
    Some(Duration::from_millis(milliseconds.into())).filter(|delay| *delay <= MAX_PING_DELAY)
}
