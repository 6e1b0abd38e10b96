//! Holepunch messages, and the payload in their box.

use std::net::SocketAddrV4;

use super::rpc::{bit, bytes, field};
use super::{Firewall, List, Mode, PeerError};
use crate::codec::compact::{DecodeError, Reader, Writer};
use crate::limits::v4::MAX_PUNCHED_ADDRESSES;

/// Value of a `PEER_HOLEPUNCH` (hyperdht `messages.holepunch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holepunch<'a> {
    /// How far it has come.
    pub mode: Mode,
    /// Number of the handshake at the server; 0 on the way back.
    pub id: u64,
    /// A sealed [`HolepunchPayload`], see [`crate::crypto::v4::SecurePayload`].
    pub payload: &'a [u8],
    /// The other end: the server from a client, the client on the way to the server, the server on the way back.
    pub peer_address: Option<SocketAddrV4>,
}

impl<'a> Holepunch<'a> {
    const PEER_ADDRESS: u64 = 1;

    /// Reads the value of a request or reply.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let flags = reader.uint("flags")?;
        Ok(Self {
            mode: Mode(reader.uint("mode")?),
            id: reader.uint("id")?,
            payload: reader.buffer("payload")?,
            peer_address: field(flags, Self::PEER_ADDRESS, || reader.ipv4_address("peer address"))?,
        })
    }

    /// Appends the value.
    pub fn encode(&self, out: &mut Writer) {
        out.uint(bit(self.peer_address.is_some(), Self::PEER_ADDRESS)).uint(self.mode.0).uint(self.id);
        out.buffer(self.payload);
        if let Some(address) = self.peer_address {
            out.ipv4_address(address);
        }
    }
}

/// State of one end of a hole punch, for the other end (hyperdht `messages.holepunchPayload`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HolepunchPayload<'a> {
    /// Why the sender gives up or waits.
    pub error: PeerError,
    /// What the sender knows about its NAT.
    pub firewall: Firewall,
    /// Number of the client's message; the server repeats the highest. Not above [`Self::MAX_ROUND`] in what we send.
    pub round: u64,
    /// True if the sender has heard from the other end directly.
    pub connected: bool,
    /// True if the sender probes, or is about to.
    pub punching: bool,
    /// Where to probe the sender, at most [`MAX_PUNCHED_ADDRESSES`]. Port 0 stands for any port.
    pub addresses: Option<List<'a, SocketAddrV4>>,
    /// Where the sender probes the other end.
    pub remote_address: Option<SocketAddrV4>,
    /// To be repeated by the other end, which proves that it receives at its address.
    pub token: Option<[u8; 32]>,
    /// The token of the other end.
    pub remote_token: Option<[u8; 32]>,
}

impl<'a> HolepunchPayload<'a> {
    /// Upstream has one byte for the round, and reserves no room for longer forms.
    pub const MAX_ROUND: u64 = 252;

    const CONNECTED: u64 = 1;
    const PUNCHING: u64 = 2;
    const ADDRESSES: u64 = 4;
    const REMOTE_ADDRESS: u64 = 8;
    const TOKEN: u64 = 16;
    const REMOTE_TOKEN: u64 = 32;

    /// Reads an opened payload. A list that is too long keeps its first items.
    pub fn decode(plaintext: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(plaintext);
        let flags = reader.uint("flags")?;
        Ok(Self {
            error: PeerError(reader.uint("error")?),
            firewall: Firewall(reader.uint("firewall")?),
            round: reader.uint("round")?,
            connected: flags & Self::CONNECTED != 0,
            punching: flags & Self::PUNCHING != 0,
            addresses: field(flags, Self::ADDRESSES, || {
                List::decode(&mut reader, "addresses", MAX_PUNCHED_ADDRESSES)
            })?,
            remote_address: field(flags, Self::REMOTE_ADDRESS, || reader.ipv4_address("remote address"))?,
            token: field(flags, Self::TOKEN, || reader.fixed("token"))?,
            remote_token: field(flags, Self::REMOTE_TOKEN, || reader.fixed("remote token"))?,
        })
    }

    /// Appends the plaintext.
    pub fn encode(&self, out: &mut Writer) {
        let flags = bit(self.connected, Self::CONNECTED)
            | bit(self.punching, Self::PUNCHING)
            | bit(self.addresses.is_some(), Self::ADDRESSES)
            | bit(self.remote_address.is_some(), Self::REMOTE_ADDRESS)
            | bit(self.token.is_some(), Self::TOKEN)
            | bit(self.remote_token.is_some(), Self::REMOTE_TOKEN);
        out.uint(flags).uint(self.error.0).uint(self.firewall.0).uint(self.round);
        if let Some(addresses) = &self.addresses {
            addresses.encode(out);
        }
        if let Some(address) = self.remote_address {
            out.ipv4_address(address);
        }
        out.raw(bytes(&self.token)).raw(bytes(&self.remote_token));
    }
}
