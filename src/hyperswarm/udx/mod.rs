//! UDX: reliable, congestion-controlled streams over UDP, wire-compatible with npm udx-native 1.21 (libudx).
//!
//! [`Endpoint`] is the machine: it takes datagrams and the time, and gives datagrams, deadlines and events. Streams
//! live in it and are reached with [`Endpoint::stream`]. There is no handshake: each side opens a stream with an id of
//! its own, the ids are exchanged by other means, and [`Stream::connect`] names the peer's id and address.
//!
//! ```text
//! write(Bytes) -> queue -> packets in GSO batches -> flight (acks, SACK, RACK, RTO) -> freed
//! datagram -> packet -> in-order buffer (or kept out of order) -> read() -> Bytes
//! ```

pub mod congestion;
mod endpoint;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
mod id_map;
pub mod pacing;
mod packet;
mod stream;
#[cfg(test)]
mod tests;
mod types;

pub use endpoint::{Endpoint, StreamGuard};
pub use packet::{Extension, HEADER_BYTES, Header, Packet, PacketError, SackBlocks, flag};
pub use stream::Stream;
pub use types::{
    CloseReason, Closed, Config, Disposition, Event, Firewall, MessageError, OpenError, Remote, SocketId,
    StateError, Stats, StreamId, StreamOptions, Transmit,
};
