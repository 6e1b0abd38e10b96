//! Handshakes through the DHT: the message that relays pass on, and the payload that they cannot read.

use std::net::{SocketAddrV4, SocketAddrV6};

use super::rpc::{bit, field};
use super::{Firewall, List, ListItem, PeerError};
use crate::codec::compact::{DecodeError, Reader, Writer};
use crate::limits::v4::{MAX_NAMED_RELAYS, MAX_SHARED_ADDRESSES};

/// How far a handshake or holepunch message has come. Messages of other numbers are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u64);

impl Mode {
    /// From the client to a relay, or to the server itself.
    pub const FROM_CLIENT: Self = Self(0);
    /// From the server back to the relay.
    pub const FROM_SERVER: Self = Self(1);
    /// From a relay to the server, or to another relay.
    pub const FROM_RELAY: Self = Self(2);
    /// From that other relay to the server.
    pub const FROM_SECOND_RELAY: Self = Self(3);
    /// From the last relay, or the server itself, to the client.
    pub const REPLY: Self = Self(4);
}

/// Value of a `PEER_HANDSHAKE` (hyperdht `messages.handshake`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// How far it has come.
    pub mode: Mode,
    /// A message of the Noise handshake.
    pub noise: &'a [u8],
    /// The other end: the client on the way to the server, the server on the way back.
    pub peer_address: Option<SocketAddrV4>,
    /// The relay that is to pass the answer on; from a client the relay's next hop.
    pub relay_address: Option<SocketAddrV4>,
}

impl<'a> Handshake<'a> {
    const PEER_ADDRESS: u64 = 1;
    const RELAY_ADDRESS: u64 = 2;

    /// Reads the value of a request or reply.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let flags = reader.uint("flags")?;
        Ok(Self {
            mode: Mode(reader.uint("mode")?),
            noise: reader.buffer("noise")?,
            peer_address: field(flags, Self::PEER_ADDRESS, || reader.ipv4_address("peer address"))?,
            relay_address: field(flags, Self::RELAY_ADDRESS, || reader.ipv4_address("relay address"))?,
        })
    }

    /// Appends the value.
    pub fn encode(&self, out: &mut Writer) {
        let flags = bit(self.peer_address.is_some(), Self::PEER_ADDRESS)
            | bit(self.relay_address.is_some(), Self::RELAY_ADDRESS);
        out.uint(flags).uint(self.mode.0).buffer(self.noise);
        for address in [self.peer_address, self.relay_address].into_iter().flatten() {
            out.ipv4_address(address);
        }
    }
}

/// The plaintext of either Noise message (hyperdht `messages.noisePayload`). If its version is not 1, only the version is
/// known, and all other fields are as in the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoisePayload<'a> {
    /// 1 in every current version.
    pub version: u64,
    /// Why the server refuses.
    pub error: PeerError,
    /// What the sender knows about its NAT.
    pub firewall: Firewall,
    /// How to punch a hole to the server.
    pub holepunch: Option<HolepunchInfo<'a>>,
    /// The sender's addresses, public or of its local network, at most [`MAX_SHARED_ADDRESSES`].
    pub addresses4: List<'a, SocketAddrV4>,
    /// The same of IPv6.
    pub addresses6: List<'a, SocketAddrV6>,
    /// The sender's stream.
    pub udx: Option<UdxInfo>,
    /// Version of secret-stream, 1.
    pub secret_stream: Option<u64>,
    /// A relay server where the sender waits.
    pub relay_through: Option<RelayThrough>,
    /// Relays for the next handshake with this server, at most [`MAX_NAMED_RELAYS`]. Unlike none, an empty list
    /// replaces those known.
    pub relay_addresses: Option<List<'a, SocketAddrV4>>,
}

impl Default for NoisePayload<'_> {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            error: PeerError::NONE,
            firewall: Firewall::UNKNOWN,
            holepunch: None,
            addresses4: List::default(),
            addresses6: List::default(),
            udx: None,
            secret_stream: None,
            relay_through: None,
            relay_addresses: None,
        }
    }
}

impl<'a> NoisePayload<'a> {
    /// The current version.
    pub const VERSION: u64 = 1;

    const HOLEPUNCH: u64 = 1;
    const ADDRESSES4: u64 = 2;
    const ADDRESSES6: u64 = 4;
    const UDX: u64 = 8;
    const SECRET_STREAM: u64 = 16;
    const RELAY_THROUGH: u64 = 32;
    const RELAY_ADDRESSES: u64 = 64;

    /// Reads the payload of a Noise message. A list that is too long keeps its first items.
    pub fn decode(plaintext: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(plaintext);
        let version = reader.uint("version")?;
        if version != Self::VERSION {
            return Ok(Self { version, ..Self::default() });
        }
        let flags = reader.uint("flags")?;
        Ok(Self {
            version,
            error: PeerError(reader.uint("error")?),
            firewall: Firewall(reader.uint("firewall")?),
            holepunch: field(flags, Self::HOLEPUNCH, || HolepunchInfo::decode(&mut reader))?,
            addresses4: field(flags, Self::ADDRESSES4, || {
                List::decode(&mut reader, "addresses4", MAX_SHARED_ADDRESSES)
            })?
            .unwrap_or_default(),
            addresses6: field(flags, Self::ADDRESSES6, || {
                List::decode(&mut reader, "addresses6", MAX_SHARED_ADDRESSES)
            })?
            .unwrap_or_default(),
            udx: field(flags, Self::UDX, || UdxInfo::decode(&mut reader))?,
            secret_stream: field(flags, Self::SECRET_STREAM, || reader.uint("secret stream version"))?,
            relay_through: field(flags, Self::RELAY_THROUGH, || RelayThrough::decode(&mut reader))?,
            relay_addresses: field(flags, Self::RELAY_ADDRESSES, || {
                List::decode(&mut reader, "relay addresses", MAX_NAMED_RELAYS)
            })?,
        })
    }

    /// Appends the payload: only the version, if it is not the current one.
    pub fn encode(&self, out: &mut Writer) {
        out.uint(self.version);
        if self.version != Self::VERSION {
            return;
        }
        let flags = bit(self.holepunch.is_some(), Self::HOLEPUNCH)
            | bit(!self.addresses4.is_empty(), Self::ADDRESSES4)
            | bit(!self.addresses6.is_empty(), Self::ADDRESSES6)
            | bit(self.udx.is_some(), Self::UDX)
            | bit(self.secret_stream.is_some(), Self::SECRET_STREAM)
            | bit(self.relay_through.is_some(), Self::RELAY_THROUGH)
            | bit(self.relay_addresses.is_some(), Self::RELAY_ADDRESSES);
        out.uint(flags).uint(self.error.0).uint(self.firewall.0);
        if let Some(info) = &self.holepunch {
            out.uint(info.id);
            info.relays.encode(out);
        }
        if !self.addresses4.is_empty() {
            self.addresses4.encode(out);
        }
        if !self.addresses6.is_empty() {
            self.addresses6.encode(out);
        }
        if let Some(udx) = &self.udx {
            out.uint(udx.version).uint(u64::from(udx.reusable_socket)).uint(udx.id).uint(udx.seq);
        }
        if let Some(version) = self.secret_stream {
            out.uint(version);
        }
        if let Some(relay) = &self.relay_through {
            out.uint(relay.version).uint(0).raw(&relay.public_key).raw(&relay.token);
        }
        if let Some(relays) = &self.relay_addresses {
            relays.encode(out);
        }
    }
}

/// How to punch a hole to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolepunchInfo<'a> {
    /// Number of this handshake at the server, to be repeated in holepunch messages.
    pub id: u64,
    /// Relays that pass such messages on to the server, at most [`MAX_NAMED_RELAYS`].
    pub relays: List<'a, RelayInfo>,
}

impl<'a> HolepunchInfo<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let id = reader.uint("holepunch id")?;
        Ok(Self { id, relays: List::decode(reader, "holepunch relays", MAX_NAMED_RELAYS)? })
    }
}

/// A relay of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayInfo {
    /// Where it answers.
    pub relay_address: SocketAddrV4,
    /// The server as this relay sees it.
    pub peer_address: SocketAddrV4,
}

impl ListItem for RelayInfo {
    const BYTES: usize = 12;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let relay_address = reader.ipv4_address("relay address")?;
        Ok(Self { relay_address, peer_address: reader.ipv4_address("peer address")? })
    }

    fn write(self, out: &mut Writer) {
        out.ipv4_address(self.relay_address).ipv4_address(self.peer_address);
    }
}

/// A stream that waits for its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdxInfo {
    /// 1 in every current version.
    pub version: u64,
    /// True if the sender keeps the socket for further connections.
    pub reusable_socket: bool,
    /// Id of the stream. An id is four bytes of a packet's header: a larger number is none.
    pub id: u64,
    /// Number of the first packet, 0.
    pub seq: u64,
}

impl UdxInfo {
    const REUSABLE_SOCKET: u64 = 1;

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: reader.uint("udx version")?,
            reusable_socket: reader.uint("udx features")? & Self::REUSABLE_SOCKET != 0,
            id: reader.uint("udx id")?,
            seq: reader.uint("udx seq")?,
        })
    }
}

/// A relay server where the sender of a handshake waits for the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayThrough {
    /// 1 in every current version.
    pub version: u64,
    /// The relay server's key.
    pub public_key: [u8; 32],
    /// Names the pair of connections to the relay server.
    pub token: [u8; 32],
}

impl RelayThrough {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.uint("relay through version")?;
        // No flag has a meaning yet.
        reader.uint("relay through flags")?;
        let public_key = reader.fixed("relay through key")?;
        Ok(Self { version, public_key, token: reader.fixed("relay through token")? })
    }
}
