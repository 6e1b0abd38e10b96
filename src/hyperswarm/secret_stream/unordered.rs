//! Messages beside the stream, in datagrams of their own: unordered, lost without notice, and repeated by whoever
//! copies them, as there is no protection against replay.
//!
//! Their keys are derived from the handshake hash alone, as upstream does. That hash covers what both sides sent, not
//! what they share: who recorded the whole handshake can read and forge these messages. Say nothing secret in them.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::role;
use crate::crypto::noise::Keys;
use crate::crypto::secretbox::{self, NONCE_BYTES, OVERHEAD};
use crate::crypto::{Namespace, keyed_blake2b_256};

/// Bytes of the counter before every sealed message; the rest of the nonce is zero.
const COUNTER_BYTES: usize = 8;

/// All 2^64 counters have been used ("udp send nonce exchausted"): the stream is to be destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all counters of unordered messages are used up")]
pub struct SealError;

/// Seals unordered messages.
pub struct MessageSealer {
    key: Zeroizing<[u8; 32]>,
    counter: u64,
    initial: u64,
}

impl MessageSealer {
    /// Starts with a random counter.
    pub fn new(keys: &Keys, initial: u64) -> Self {
        Self { key: message_key(keys, keys.initiator), counter: initial, initial }
    }

    /// The envelope of a message, longer by 24 bytes.
    pub fn seal(&mut self, message: &[u8]) -> Result<Bytes, SealError> {
        let counter = self.counter.wrapping_add(1);
        if counter == self.initial {
            return Err(SealError);
        }
        self.counter = counter;
        let mut envelope = vec![0; COUNTER_BYTES + OVERHEAD + message.len()];
        let (head, sealed) = envelope.split_at_mut(COUNTER_BYTES);
        head.copy_from_slice(&counter.to_le_bytes());
        secretbox::seal(&self.key, &nonce(counter.to_le_bytes()), message, sealed);
        Ok(envelope.into())
    }
}

#[cfg(test)]
impl MessageSealer {
    /// As if all messages up to `counter` had been sent.
    pub(super) fn skip_to(&mut self, counter: u64) {
        self.counter = counter;
    }
}

/// Opens the other side's unordered messages.
pub struct MessageOpener {
    key: Zeroizing<[u8; 32]>,
}

impl MessageOpener {
    /// For the keys of a finished handshake.
    pub fn new(keys: &Keys) -> Self {
        Self { key: message_key(keys, !keys.initiator) }
    }

    /// The message in an envelope. Datagrams that are none are to be ignored: anybody can send them.
    pub fn open(&self, envelope: &[u8]) -> Option<Bytes> {
        let (counter, sealed) = envelope.split_first_chunk::<COUNTER_BYTES>()?;
        let mut message = vec![0; sealed.len().checked_sub(OVERHEAD)?];
        secretbox::open(&self.key, &nonce(*counter), sealed, &mut message).ok()?;
        Some(message.into())
    }
}

fn message_key(keys: &Keys, by_initiator: bool) -> Zeroizing<[u8; 32]> {
    let parts: [&[u8]; 2] = [&role(by_initiator).bytes(), &Namespace::Send.bytes()];
    Zeroizing::new(keyed_blake2b_256(&keys.handshake_hash, &parts))
}

fn nonce(counter: [u8; COUNTER_BYTES]) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    for (out, byte) in nonce.iter_mut().zip(counter) {
        *out = byte;
    }
    nonce
}
