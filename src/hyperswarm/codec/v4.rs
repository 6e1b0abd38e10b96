//! Messages of the v4 network: dht-rpc 6.27 (`lib/io.js`) and hyperdht 6.34 (`lib/messages.js`), in compact-encoding.
//!
//! * A datagram is a [`Packet`]: a [`Request`] or a [`Reply`] of dht-rpc.
//! * The value inside depends on the [`Command`]: [`Handshake`] and [`Holepunch`] travel through relays, [`Peer`],
//!   [`LookupReply`], [`Announce`], [`MutablePut`], [`MutableValue`] and [`PluginRequest`] are for the node asked.
//! * A [`NoisePayload`] is inside each message of a handshake, a [`HolepunchPayload`] inside the box of a holepunch message.
//!
//! Values borrow from the datagram that they were decoded from, lists included ([`List`]), so that decoding allocates
//! nothing. Each type has `decode`, which reads a whole value and ignores what follows it, and `encode`, which appends to
//! the caller's [`Writer`](super::compact::Writer). Unknown numbers ([`Mode`], [`Firewall`], flags) are no errors, as
//! upstream: they may come from later versions.

mod handshake;
mod holepunch;
mod hyperdht;
mod list;
mod rpc;
#[cfg(test)]
mod tests;

pub use handshake::{Handshake, HolepunchInfo, Mode, NoisePayload, RelayInfo, RelayThrough, UdxInfo};
pub use holepunch::{Holepunch, HolepunchPayload};
pub use hyperdht::{
    Announce, LookupReply, MutablePut, MutableSignable, MutableValue, Peer, Peers, PluginRequest,
    decode_minimum_seq, encode_lookup_reply,
};
pub use list::{Iter, List, ListItem};
pub use rpc::{
    Command, ErrorCode, Packet, PacketError, Reply, Request, decode_down_hint, decode_nat_port,
    decode_ping_delay, encode_down_hint, encode_nat_port, encode_ping_delay,
};

/// Errors inside handshakes and holepunch messages (hyperdht `ERROR`). Numbers without a name here are errors too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerError(pub u64);

impl PeerError {
    /// All is well.
    pub const NONE: Self = Self(0);
    /// The peer gave up.
    pub const ABORTED: Self = Self(1);
    /// The peer speaks another version of the handshake.
    pub const VERSION_MISMATCH: Self = Self(2);
    /// The peer has no room for another hole punch with random ports now.
    pub const TRY_LATER: Self = Self(3);
}

/// What a peer knows about its NAT (hyperdht `FIREWALL`). Ordered as upstream compares them; numbers above
/// [`Self::RANDOM`] count like it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firewall(pub u64);

impl Firewall {
    /// Not known yet.
    pub const UNKNOWN: Self = Self(0);
    /// Anybody can send to it.
    pub const OPEN: Self = Self(1);
    /// Each peer sees the same port.
    pub const CONSISTENT: Self = Self(2);
    /// Each peer sees another port.
    pub const RANDOM: Self = Self(3);
}
