//! Hashes, signatures and seals of the v4 network: node ids, tokens, announcements and mutable values, and the payload
//! of holepunch messages.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use zeroize::Zeroizing;

use super::secretbox::{self, Forged, NONCE_BYTES};
use super::{Namespace, blake2b_256, keyed_blake2b_256};

/// The id of the node at this address (dht-rpc `peer.id`).
pub fn node_id(address: SocketAddrV4) -> [u8; 32] {
    blake2b_256(&[&address.ip().octets(), &address.port().to_le_bytes()])
}

/// A token for a host under one of the node's secrets (dht-rpc `IO.token`), or under the secret of one hole punch
/// (hyperdht `HolepunchPayload.token`). The port is not covered.
pub fn host_token(secret: &[u8; 32], host: Ipv4Addr) -> [u8; 32] {
    const LONGEST: usize = "255.255.255.255".len();
    let mut text = [0; LONGEST];
    let mut room = text.as_mut_slice();
    // Never fails: there is room for the longest address.
    let _ = write!(room, "{host}");
    let unused = room.len();
    keyed_blake2b_256(secret, &[text.get(..LONGEST - unused).unwrap_or_default()])
}

/// All that the signature of an announcement covers besides its purpose (hyperdht `annSignable`).
#[derive(Clone, Copy, Debug)]
pub struct Announcement<'a> {
    /// The topic, or the hash of the peer's key.
    pub target: &'a [u8; 32],
    /// The node that is to store it.
    pub node: &'a [u8; 32],
    /// The token that this node gave.
    pub token: &'a [u8; 32],
    /// The encoded peer, with all of its relay addresses.
    pub peer: &'a [u8],
    /// The hash of what will refresh the announcement.
    pub refresh: Option<&'a [u8; 32]>,
}

impl Announcement<'_> {
    /// The bytes to sign in order to announce.
    pub fn announce_signable(&self) -> [u8; 64] {
        self.signable(Namespace::Announce)
    }

    /// The bytes to sign in order to withdraw the announcement.
    pub fn unannounce_signable(&self) -> [u8; 64] {
        self.signable(Namespace::Unannounce)
    }

    fn signable(&self, purpose: Namespace) -> [u8; 64] {
        let refresh = self.refresh.map_or(&[][..], <[u8; 32]>::as_slice);
        signable(purpose, &[self.target, self.node, self.token, self.peer, refresh])
    }
}

/// The bytes to sign of a mutable value (hyperdht `Persistent.signMutable`), whose sequence number and bytes are encoded
/// as `codec::v4::MutableSignable`.
pub fn mutable_signable(encoded: &[u8]) -> [u8; 64] {
    signable(Namespace::MutablePut, &[encoded])
}

/// The purpose, then the hash of all parts.
fn signable(purpose: Namespace, parts: &[&[u8]]) -> [u8; 64] {
    let mut signable = [0; 64];
    let (namespace, hash) = signable.split_at_mut(32);
    namespace.copy_from_slice(&purpose.bytes());
    hash.copy_from_slice(&blake2b_256(parts));
    signable
}

/// The key of the holepunch messages that follow a handshake (hyperdht `NoiseWrap.final`).
pub fn holepunch_secret(handshake_hash: &[u8; 64]) -> Zeroizing<[u8; 32]> {
    keyed_blake2b_256(handshake_hash, &[&Namespace::PeerHolepunch.bytes()]).into()
}

/// Seals and opens the payload of holepunch messages: a nonce, then a secretbox (hyperdht `HolepunchPayload` in
/// `lib/secure-payload.js`).
pub struct SecurePayload {
    secret: Zeroizing<[u8; 32]>,
}

impl SecurePayload {
    /// Bytes by which a sealed payload is longer.
    pub const OVERHEAD: usize = NONCE_BYTES + secretbox::OVERHEAD;

    /// For the messages that follow a handshake, see [`holepunch_secret`].
    pub fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        Self { secret }
    }

    /// Seals a payload under a nonce, which must be random.
    pub fn seal(&self, nonce: &[u8; NONCE_BYTES], payload: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; payload.len() + Self::OVERHEAD];
        let (first, rest) = sealed.split_at_mut(NONCE_BYTES);
        first.copy_from_slice(nonce);
        secretbox::seal(&self.secret, nonce, payload, rest);
        sealed
    }

    /// Opens a payload. One that was empty is refused, as upstream.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Forged> {
        let (nonce, rest) = sealed.split_first_chunk().ok_or(Forged)?;
        let length =
            rest.len().checked_sub(secretbox::OVERHEAD).filter(|length| *length > 0).ok_or(Forged)?;
        let mut payload = vec![0; length];
        secretbox::open(&self.secret, nonce, rest, &mut payload)?;
        Ok(payload)
    }
}

#[cfg(test)]
mod tests;
