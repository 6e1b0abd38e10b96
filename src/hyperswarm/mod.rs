//! Wire-compatible Hyperswarm: the DHT of generation v2 that finds peers by topic, multicast DNS and the swarm that
//! keeps connections; and the encrypted streams of generation v4 ([`udx`], [`secret_stream`], [`mux`]). It knows
//! nothing of kachery and could be a crate of its own.
//!
//! Everything outside [`net`] is sans-io: see [`dht`] for the shape of a machine.

pub mod codec;
pub mod crypto;
pub mod dht;
pub mod mux;
pub mod net;
pub mod secret_stream;
pub mod swarm;
pub mod udx;

use std::fmt;

/// The 32 bytes under which peers announce and find each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(pub [u8; 32]);

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({self})")
    }
}
