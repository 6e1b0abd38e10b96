//! Announcements and values of our own, signed.

use std::net::SocketAddrV4;

use bytes::Bytes;

use crate::codec::compact::Writer;
use crate::codec::v4::{Announce, List, MutablePut, MutableSignable, MutableValue, Peer};
use crate::crypto::KeyPair;
use crate::crypto::v4::{Announcement, mutable_signable};
use crate::dht::id::NodeId;

/// The node that is to store or remove an announcement, and what it needs for that.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) target: [u8; 32],
    pub(super) node: NodeId,
    pub(super) token: [u8; 32],
}

/// The value of an `ANNOUNCE` (hyperdht `Persistent.signAnnounce`).
pub(super) fn announce(keys: &KeyPair, at: &At, relays: &[SocketAddrV4], bump: u64) -> Bytes {
    sign(keys, at, relays, bump, |signed| signed.announce_signable())
}

/// The value of an `UNANNOUNCE` (hyperdht `Persistent.signUnannounce`), which names no relays.
pub(super) fn unannounce(keys: &KeyPair, at: &At) -> Bytes {
    sign(keys, at, &[], 0, |signed| signed.unannounce_signable())
}

/// The value of a `MUTABLE_PUT` (hyperdht `Persistent.signMutable`), and its signature.
pub(super) fn put_mutable(keys: &KeyPair, seq: u64, value: &[u8]) -> Bytes {
    let mut out = Writer::new();
    MutableSignable { seq, value }.encode(&mut out);
    let signature = keys.sign(&mutable_signable(out.as_slice())).0;
    out.clear();
    let stored = MutableValue { seq, value, signature };
    MutablePut { public_key: keys.public().0, stored }.encode(&mut out);
    out.finish()
}

/// The record of a peer.
pub(super) fn encode_peer(public_key: &[u8; 32], relays: &[SocketAddrV4]) -> Bytes {
    let mut out = Writer::new();
    Peer { public_key: *public_key, relay_addresses: List::from(relays) }.encode(&mut out);
    out.finish()
}

fn sign(
    keys: &KeyPair,
    at: &At,
    relays: &[SocketAddrV4],
    bump: u64,
    signable: impl Fn(&Announcement<'_>) -> [u8; 64],
) -> Bytes {
    let peer = Peer { public_key: keys.public().0, relay_addresses: List::from(relays) };
    let mut out = Writer::new();
    peer.encode(&mut out);
    let signed = Announcement {
        target: &at.target,
        node: &at.node.0,
        token: &at.token,
        peer: out.as_slice(),
        refresh: None,
    };
    let signature = Some(keys.sign(&signable(&signed)).0);
    out.clear();
    Announce { peer: Some(peer), refresh: None, signature, bump }.encode(&mut out);
    out.finish()
}
