//! What a persistent node stores for others (hyperdht `lib/persistent.js`): announcements of topics and of keys, mutable
//! and immutable values.
//!
//! Everything lives in two generations, see [`crate::dht::records`]: announcements for 13 to 27 minutes, values for 32 to
//! 64 hours after they were last put or read. Under pressure, hosts and networks keep fair shares.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;

use crate::codec::compact::Writer;
use crate::codec::v4::{
    Announce, ErrorCode, MutablePut, MutableValue, Peer, decode_minimum_seq, encode_lookup_reply,
};
use crate::crypto::v4::{Announcement, mutable_signable};
use crate::crypto::{PublicKey, Signature, blake2b_256};
use crate::dht::id::NodeId;
use crate::dht::records::{Recent, Record, Records};
use crate::limits::v4::{
    MAX_ANNOUNCED_RELAYS, MAX_ANNOUNCEMENTS, MAX_ANNOUNCEMENTS_PER_TOPIC, MAX_BUMPS, MAX_FORWARDS,
    MAX_PEERS_PER_REPLY, MAX_REFRESHES, MAX_VALUE_BYTES, MAX_VALUES,
};

/// Generations of announcements turn this often: two thirds of hyperdht's 20 minutes.
const TURN: Duration = Duration::from_secs(800);
/// Generations of values turn this often: two thirds of hyperdht's 48 hours.
const VALUES_TURN: Duration = Duration::from_secs(32 * 3600);
/// Milliseconds by which a bump may be ahead of our clock.
const BUMP_DRIFT: u64 = 60_000;

/// A request that may change something.
pub(super) struct Write<'a> {
    /// The sender.
    pub(super) from: SocketAddrV4,
    pub(super) target: [u8; 32],
    pub(super) token: [u8; 32],
    pub(super) value: &'a [u8],
}

/// Relays of a stored announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relays([Option<SocketAddrV4>; MAX_ANNOUNCED_RELAYS]);

/// A peer that announced its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forward {
    /// From where it announced itself.
    pub(super) relay: SocketAddrV4,
    public_key: [u8; 32],
    relays: Relays,
}

/// What a refresh brings back.
#[derive(Clone, Copy)]
struct Refreshable {
    target: [u8; 32],
    public_key: [u8; 32],
    relays: Relays,
}

/// What a node stores. Empty, it takes no memory of the heap.
pub(super) struct Storage {
    /// By topic and public key.
    records: Records<[u8; 32], [u8; 32], Relays>,
    /// By hash of the public key.
    forwards: Recent<[u8; 32], Forward>,
    refreshes: Recent<[u8; 32], Refreshable>,
    /// By topic, in milliseconds since 1970.
    bumps: Recent<[u8; 32], u64>,
    /// As [`MutableValue`] encodes them.
    mutables: Recent<[u8; 32], Bytes>,
    immutables: Recent<[u8; 32], Bytes>,
}

impl Storage {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            records: Records::new(now, TURN, MAX_ANNOUNCEMENTS, MAX_ANNOUNCEMENTS_PER_TOPIC),
            forwards: Recent::turning(now, TURN, MAX_FORWARDS),
            refreshes: Recent::turning(now, TURN, MAX_REFRESHES),
            bumps: Recent::turning(now, TURN, MAX_BUMPS),
            mutables: Recent::turning(now, VALUES_TURN, MAX_VALUES),
            immutables: Recent::turning(now, VALUES_TURN, MAX_VALUES),
        }
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        self.records.expire(now);
        self.forwards.expire(now);
        self.refreshes.expire(now);
        self.bumps.expire(now);
        self.mutables.expire(now);
        self.immutables.expire(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let announcements = [
            self.records.poll_timeout(),
            self.forwards.poll_timeout(),
            self.refreshes.poll_timeout(),
            self.bumps.poll_timeout(),
        ];
        let values = [self.mutables.poll_timeout(), self.immutables.poll_timeout()];
        announcements.into_iter().chain(values).flatten().min()
    }

    /// Where handshakes for this target are passed on to.
    pub(super) fn forward(&self, target: &[u8; 32]) -> Option<SocketAddrV4> {
        self.forwards.look_at(target).map(|forward| forward.relay)
    }

    /// The reply to a `FIND_PEER` (`onfindpeer`).
    pub(super) fn find_peer(&self, target: &[u8; 32]) -> Option<Bytes> {
        let Forward { public_key, relays, .. } = self.forwards.look_at(target)?;
        Some(encode_peer(public_key, relays))
    }

    /// The reply to a `LOOKUP` (`onlookup`): up to 20 announcements of a topic, in fair shares of the hosts that sent them,
    /// then that of a key. `own`: the announcement of a server of our own.
    pub(super) fn lookup(
        &mut self,
        now: Instant,
        target: &[u8; 32],
        own: Option<Bytes>,
        rng: &mut StdRng,
    ) -> Option<Bytes> {
        let found = self.records.sample(now, target, MAX_PEERS_PER_REPLY, rng);
        let mut peers: Vec<Bytes> =
            found.iter().map(|record| encode_peer(&record.key, &record.value)).collect();
        if peers.len() < MAX_PEERS_PER_REPLY {
            peers.extend(own.or_else(|| self.find_peer(target)));
        }
        if peers.is_empty() {
            return None;
        }
        let bump = self.bumps.look_at(target).copied().unwrap_or(0);
        let mut out = Writer::new();
        encode_lookup_reply(peers.iter().map(Bytes::as_ref), bump, &mut out);
        Some(out.finish())
    }

    /// An `ANNOUNCE` to us, whose id is `own`; `wall` is the time in milliseconds since 1970 (`onannounce`). True if it
    /// is to be confirmed; all else gets no reply.
    pub(super) fn announce(
        &mut self,
        now: Instant,
        own: NodeId,
        write: &Write<'_>,
        wall: u64,
        rng: &mut StdRng,
    ) -> bool {
        let Ok(announce) = Announce::decode(write.value) else { return false };
        let Some(peer) = announce.peer else {
            return announce.refresh.is_some_and(|preimage| self.refresh(now, write.from, preimage, rng));
        };
        if !is_signed(own, write, &announce, &peer, |signed| signed.announce_signable()) {
            return false;
        }
        let relays = Relays::of(&peer);
        let announced = Refreshable { target: write.target, public_key: peer.public_key, relays };
        if !self.keep(now, write.from, &announced, rng)
            && announce.bump > self.bumps.look_at(&write.target).copied().unwrap_or(0)
            && announce.bump <= wall.saturating_add(BUMP_DRIFT)
        {
            self.bumps.set(write.target, *write.from.ip(), announce.bump);
        }
        if let Some(refresh) = announce.refresh {
            self.refreshes.set(refresh, *write.from.ip(), announced);
        }
        true
    }

    /// An `UNANNOUNCE` to us, whose id is `own` (`onunannounce`). True if it is to be confirmed.
    pub(super) fn unannounce(&mut self, now: Instant, own: NodeId, write: &Write<'_>) -> bool {
        let Ok(announce) = Announce::decode(write.value) else { return false };
        let Some(peer) = announce.peer else { return false };
        let signed = is_signed(own, write, &announce, &peer, |signed| signed.unannounce_signable());
        if signed {
            self.remove(now, &write.target, &peer.public_key);
        }
        signed
    }

    /// Removes an announcement.
    pub(super) fn remove(&mut self, now: Instant, target: &[u8; 32], public_key: &[u8; 32]) {
        if blake2b_256(&[public_key]) == *target {
            self.forwards.remove(target);
        }
        self.records.forget(now, target, public_key);
    }

    /// A `MUTABLE_PUT` (`onmutableput`): the code of its reply, or none.
    pub(super) fn put_mutable(&mut self, write: &Write<'_>) -> Option<ErrorCode> {
        let put = MutablePut::decode(write.value).ok()?;
        let MutableValue { seq, value, signature } = put.stored;
        let is_owners = value.len() <= MAX_VALUE_BYTES
            && blake2b_256(&[&put.public_key]) == write.target
            && verify_mutable(&PublicKey(put.public_key), &put.stored);
        if !is_owners {
            return None;
        }
        let known = self.mutables.find(&write.target);
        // What is stored is what `MutableValue::encode` made.
        if let Some(known) = known.as_deref().and_then(|bytes| MutableValue::decode(bytes).ok()) {
            if seq == known.seq && value != known.value {
                return Some(ErrorCode::SEQ_REUSED);
            }
            if seq < known.seq {
                return Some(ErrorCode::SEQ_TOO_LOW);
            }
        }
        let mut out = Writer::with_capacity(value.len() + 80);
        MutableValue { seq, value, signature }.encode(&mut out);
        self.mutables.set(write.target, *write.from.ip(), Bytes::copy_from_slice(out.as_slice()));
        Some(ErrorCode::NONE)
    }

    /// A `MUTABLE_GET` (`onmutableget`): the reply's value; none at all if there is to be no reply.
    pub(super) fn get_mutable(&mut self, target: &[u8; 32], value: &[u8]) -> Option<Option<Bytes>> {
        let minimum = decode_minimum_seq(value).ok()?;
        let known = self.mutables.find(target);
        Some(known.filter(|bytes| MutableValue::decode(bytes).is_ok_and(|known| known.seq >= minimum)))
    }

    /// An `IMMUTABLE_PUT` (`onimmutableput`). True if it is to be confirmed.
    pub(super) fn put_immutable(&mut self, write: &Write<'_>) -> bool {
        let good = write.value.len() <= MAX_VALUE_BYTES && blake2b_256(&[write.value]) == write.target;
        if good {
            self.immutables.set(write.target, *write.from.ip(), Bytes::copy_from_slice(write.value));
        }
        good
    }

    /// An `IMMUTABLE_GET` (`onimmutableget`): the reply's value.
    pub(super) fn get_immutable(&mut self, target: &[u8; 32]) -> Option<Bytes> {
        self.immutables.find(target)
    }

    /// Keeps an announcement. True if it is that of a key.
    fn keep(&mut self, now: Instant, from: SocketAddrV4, announced: &Refreshable, rng: &mut StdRng) -> bool {
        let Refreshable { target, public_key, relays } = *announced;
        let of_key = blake2b_256(&[&public_key]) == target;
        // A peer that moved to another host has one record all the same.
        self.records.forget(now, &target, &public_key);
        if of_key {
            self.forwards.set(target, *from.ip(), Forward { relay: from, public_key, relays });
        } else {
            let record = Record { host: *from.ip(), key: public_key, value: relays };
            self.records.add(now, target, record, rng);
        }
        of_key
    }

    /// Renews the announcement that came with the hash of `preimage` (`_onrefresh`): a chain of hashes, of which each
    /// one renews once.
    fn refresh(&mut self, now: Instant, from: SocketAddrV4, preimage: [u8; 32], rng: &mut StdRng) -> bool {
        let Some(announced) = self.refreshes.remove(&blake2b_256(&[&preimage])) else { return false };
        self.keep(now, from, &announced, rng);
        self.refreshes.set(preimage, *from.ip(), announced);
        true
    }
}

impl Relays {
    /// The first relays of a peer; the signature covered all of them.
    fn of(peer: &Peer<'_>) -> Self {
        let mut relays = [None; MAX_ANNOUNCED_RELAYS];
        relays.iter_mut().zip(peer.relay_addresses).for_each(|(slot, relay)| *slot = Some(relay));
        Self(relays)
    }
}

/// The record of a peer, as it is handed out.
fn encode_peer(public_key: &[u8; 32], relays: &Relays) -> Bytes {
    let relays: Vec<SocketAddrV4> = relays.0.iter().flatten().copied().collect();
    super::announcement::encode_peer(public_key, &relays)
}

/// True if the peer itself signed this for us.
fn is_signed(
    own: NodeId,
    write: &Write<'_>,
    announce: &Announce<'_>,
    peer: &Peer<'_>,
    signable: impl Fn(&Announcement<'_>) -> [u8; 64],
) -> bool {
    let Some(signature) = announce.signature else { return false };
    let mut encoded = Writer::new();
    peer.encode(&mut encoded);
    let signed = Announcement {
        target: &write.target,
        node: &own.0,
        token: &write.token,
        peer: encoded.as_slice(),
        refresh: announce.refresh.as_ref(),
    };
    PublicKey(peer.public_key).verify(&signable(&signed), &Signature(signature))
}

/// True if the owner of the key signed this value (`Persistent.verifyMutable`).
pub(super) fn verify_mutable(key: &PublicKey, value: &MutableValue<'_>) -> bool {
    let mut encoded = Writer::new();
    value.signable().encode(&mut encoded);
    key.verify(&mutable_signable(encoded.as_slice()), &Signature(value.signature))
}

#[cfg(test)]
impl super::Hyperdht {
    pub(super) fn kept(&mut self, now: Instant) -> &mut Storage {
        super::server::kept(&mut self.storage, now)
    }
}

#[cfg(test)]
impl Storage {
    /// An announcement and what refreshes it, as if they had been signed.
    pub(super) fn keep_unsigned(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        target: [u8; 32],
        public_key: [u8; 32],
        rng: &mut StdRng,
    ) {
        let announced = Refreshable { target, public_key, relays: Relays([None; MAX_ANNOUNCED_RELAYS]) };
        self.keep(now, from, &announced, rng);
        self.refreshes.set(public_key, *from.ip(), announced);
    }

    pub(super) fn bump_unsigned(&mut self, from: SocketAddrV4, target: [u8; 32]) {
        self.bumps.set(target, *from.ip(), 1);
    }

    /// Announcements of topics, of keys, what refreshes them, bumps, and values of both kinds.
    pub(super) fn counts(&self) -> [usize; 6] {
        let announcements = [self.records.len(), self.forwards.len(), self.refreshes.len()];
        let [records, forwards, refreshes] = announcements;
        [records, forwards, refreshes, self.bumps.len(), self.mutables.len(), self.immutables.len()]
    }
}
