//! Encrypted streams: npm @hyperswarm/secret-stream 6.9 as machines without sockets or clocks.
//!
//! ```text
//!             keys from a handshake through the DHT ----+
//!                                                       v
//! bytes -> [Opening: Noise XX or IK in frames] -> noise::Keys --> [Sender]   messages -> bytes
//!                                                              +> [Receiver] bytes -> messages
//!                                                              +> [MessageSealer], [MessageOpener]  unordered messages
//! ```
//!
//! Everything on the wire is in frames: three bytes of length, little endian, and as many bytes. After the handshake's
//! frames each side sends a header (stream id and secretstream header), without waiting for the other's, and then one
//! frame per message. Empty messages keep a connection alive.
//!
//! An error of any of these ends the stream: the owner is to destroy the transport, as nothing after it can be read.

mod frames;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
mod keep_alive;
mod opening;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;
mod unordered;

pub use frames::Frames;
pub use keep_alive::KeepAlive;
pub use opening::Opening;
pub use receiver::Receiver;
pub use sender::{BULK_FRAME_BYTES, MAX_MESSAGE_BYTES, MessageTooLong, Sender};
pub use unordered::{MessageOpener, MessageSealer, SealError};

use crate::crypto::noise::{HandshakeError, Keys};
use crate::crypto::secretstream::HEADER_BYTES;
use crate::crypto::{Namespace, keyed_blake2b_256};

/// Bytes of a header frame's body.
const HEADER_FRAME_BYTES: usize = 32 + HEADER_BYTES;

/// Why a stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The handshake at its beginning failed.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// A frame is longer than was agreed to take.
    #[error("frame of {length} bytes, more than {limit}")]
    FrameTooLong {
        /// What its length says.
        length: usize,
        /// What is taken.
        limit: usize,
    },
    /// The header is not 56 bytes ("Invalid header message received").
    #[error("header of {0} bytes instead of 56")]
    HeaderLength(usize),
    /// The header names another stream: the sides do not share a handshake, or both have the same role ("Invalid
    /// header received").
    #[error("header of another stream")]
    ForeignHeader,
    /// A frame is too short to be a message ("Invalid message received").
    #[error("frame of {0} bytes, too short for a message")]
    FrameTooShort(usize),
    /// A message was changed, repeated, left out, or is of another key.
    #[error("message {0} of the stream does not authenticate")]
    Forged(u64),
    /// The bytes ended inside a frame, or before the header.
    #[error("the stream ended inside a frame")]
    Cut,
}

/// Names one direction of a stream (`NoiseSecretStream.id`).
pub fn stream_id(keys: &Keys, by_initiator: bool) -> [u8; 32] {
    keyed_blake2b_256(&keys.handshake_hash, &[&role(by_initiator).bytes()])
}

/// The namespace of what the initiator, or the responder, sends.
fn role(initiator: bool) -> Namespace {
    if initiator { Namespace::Initiator } else { Namespace::Responder }
}
