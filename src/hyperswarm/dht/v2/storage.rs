//! What others announce and store here: the commands `peers`, `mutable-store` and `immutable-store` of
//! @hyperswarm/dht (`index.js`, `stores.js`).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use rand::rngs::StdRng;

use super::operation::What;
use crate::codec::v2::{Kind, Mutable, PeersInput, PeersOutput, encode_address};
use crate::crypto::v2::hypersign;
use crate::crypto::{PublicKey, Signature, blake2b_256};
use crate::dht::records::{Recent, Record, Records, V2_TURN};
use crate::limits::v2::{
    MAX_LOCAL_PEER_RECORDS, MAX_LOCAL_PEERS_ANSWERED, MAX_PEER_RECORDS, MAX_PEERS_ANSWERED,
    MAX_RECORDS_PER_TOPIC, MAX_STORED_VALUE_BYTES, MAX_STORED_VALUES,
};

const INVALID_PORT: &str = "Invalid port";
const INVALID_INPUT: &str = "ERR_INVALID_INPUT";
const INVALID_SEQ: &str = "ERR_INVALID_SEQ";
const SEQ_MUST_EXCEED_CURRENT: &str = "ERR_SEQ_MUST_EXCEED_CURRENT";

/// What a command answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Value(Option<Bytes>),
    Error(&'static str, Option<Bytes>),
    /// The request makes no sense: no answer.
    Silence,
}

/// Announcements and values.
pub(super) struct Storage {
    /// By topic, then host and port; the value is the announced length.
    peers: Records<[u8; 32], u16, u64>,
    /// Hosts whose first two octets are the same see each other. Shares go by who sent a record: what it says of itself
    /// costs nothing.
    local_peers: Records<LocalName, LocalKey, ()>,
    values: Recent<Key, Bytes>,
}

/// Topic and the first two octets of the host.
type LocalName = ([u8; 32], [u8; 2]);
/// The last two octets of the host, and the port.
type LocalKey = [u8; 4];

/// Under what a value is stored. Mutable values are kept encoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Immutable([u8; 32]),
    Mutable([u8; 32], Bytes),
}

impl Storage {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            peers: Records::new(now, V2_TURN, MAX_PEER_RECORDS, MAX_RECORDS_PER_TOPIC),
            local_peers: Records::new(now, V2_TURN, MAX_LOCAL_PEER_RECORDS, MAX_RECORDS_PER_TOPIC),
            values: Recent::new(MAX_STORED_VALUES),
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.peers.expire(now);
        self.local_peers.expire(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.peers.poll_timeout(), self.local_peers.poll_timeout()].into_iter().flatten().min()
    }

    /// We can answer for what we stored ourselves.
    pub(super) fn keep_immutable(&mut self, target: [u8; 32], what: &What) {
        if let What::PutImmutable { value } = what {
            self.values.set(Key::Immutable(target), Ipv4Addr::LOCALHOST, value.clone());
        }
    }

    /// Command `peers`: a lookup, an announcement, or its opposite.
    pub(super) fn peers(
        &mut self,
        now: Instant,
        from: SocketAddrV4,
        topic: [u8; 32],
        kind: Kind,
        value: Option<&[u8]>,
        rng: &mut StdRng,
    ) -> Answer {
        let Some(Ok(input)) = value.map(PeersInput::decode) else { return Answer::Silence };
        let port = match input.port {
            None | Some(0) => from.port(),
            Some(port) => match u16::try_from(port) {
                Ok(port) => port,
                Err(_) => return Answer::Error(INVALID_PORT, None),
            },
        };
        let host = *from.ip();
        let local = input.local_address.map(|addr| local_record(topic, addr));
        if kind == Kind::Query {
            let own = Record { host, key: port, value: input.length.unwrap_or(0) };
            let with_lengths = input.include_length == Some(true);
            return Answer::Value(Some(self.lookup(now, topic, own, local, with_lengths, rng)));
        }
        let unannounce = input.unannounce == Some(true);
        match (unannounce, local) {
            (true, Some((name, key))) => self.local_peers.remove(now, &name, host, &key),
            (false, Some((name, key))) => {
                self.local_peers.add(now, name, Record { host, key, value: () }, rng);
            }
            (_, None) => {}
        }
        if unannounce {
            self.peers.remove(now, &topic, host, &port);
        } else {
            let record = Record { host, key: port, value: input.length.unwrap_or(0) };
            self.peers.add(now, topic, record, rng);
        }
        Answer::Value(None)
    }

    /// Command `mutable-store`. A refused value is not stored (the original reports the error and stores it).
    pub(super) fn mutable(
        &mut self,
        host: Ipv4Addr,
        target: [u8; 32],
        kind: Kind,
        value: Option<&[u8]>,
    ) -> Answer {
        let Some(Ok(input)) = value.map(Mutable::decode) else { return Answer::Silence };
        let key = Key::Mutable(target, input.salt.clone().unwrap_or_default());
        let stored = self.values.find(&key);
        // What was stored is what `Mutable::encode` made.
        let current = stored.as_deref().and_then(|bytes| Mutable::decode(bytes).ok());
        let seq = input.seq.unwrap_or(0);
        if kind == Kind::Query {
            return Answer::Value(stored.filter(|_| current.is_some_and(|c| c.seq.unwrap_or(0) >= seq)));
        }
        let (Some(new_value), Some(signature)) = (&input.value, input.signature) else {
            return Answer::Value(None);
        };
        let salt = input.salt.as_deref();
        if !hypersign::verify(&PublicKey(target), &Signature(signature), new_value, seq, salt) {
            return Answer::Error(INVALID_INPUT, None);
        }
        if let Some(current) = current {
            let current_seq = current.seq.unwrap_or(0);
            if seq == current_seq && current.value.as_ref() != Some(new_value) {
                return Answer::Error(INVALID_SEQ, stored);
            }
            if seq <= current_seq {
                return Answer::Error(SEQ_MUST_EXCEED_CURRENT, stored);
            }
        }
        self.values.set(key, host, Mutable { seq: Some(seq), ..input }.encode());
        Answer::Value(None)
    }

    /// Command `immutable-store`.
    pub(super) fn immutable(
        &mut self,
        host: Ipv4Addr,
        target: [u8; 32],
        kind: Kind,
        value: Option<&[u8]>,
    ) -> Answer {
        if kind == Kind::Query {
            return Answer::Value(self.values.find(&Key::Immutable(target)));
        }
        let Some(value) = value else { return Answer::Silence };
        if value.len() > MAX_STORED_VALUE_BYTES || blake2b_256(&[value]) != target {
            return Answer::Error(INVALID_INPUT, None);
        }
        self.values.set(Key::Immutable(target), host, Bytes::copy_from_slice(value));
        Answer::Value(None)
    }

    /// Up to 32 local and 50 remote records less two per local one, never the asker's own.
    fn lookup(
        &mut self,
        now: Instant,
        topic: [u8; 32],
        own: Record<u16, u64>,
        local: Option<(LocalName, LocalKey)>,
        with_lengths: bool,
        rng: &mut StdRng,
    ) -> Bytes {
        let mut locals = BytesMut::new();
        let mut local_count = 0;
        if let Some((name, key)) = local {
            for found in self.local_peers.sample(now, &name, MAX_LOCAL_PEERS_ANSWERED, rng) {
                if found.key != key {
                    locals.put_slice(&found.key);
                    local_count += 1;
                }
            }
        }
        let mut remotes = BytesMut::new();
        let room = MAX_PEERS_ANSWERED.saturating_sub(2 * local_count);
        for found in self.peers.sample(now, &topic, room, rng) {
            if found != own {
                remotes.put_slice(&encode_address(SocketAddrV4::new(found.host, found.key)));
                if with_lengths {
                    remotes.put_u64(found.value);
                }
            }
        }
        let present = |list: BytesMut| (!list.is_empty()).then(|| list.freeze());
        let (remotes, local_peers) = (present(remotes), present(locals));
        let (peers, peers_with_length) = if with_lengths { (None, remotes) } else { (remotes, None) };
        PeersOutput { peers, local_peers, peers_with_length }.encode()
    }
}

/// Name and key of a record in a local network.
fn local_record(topic: [u8; 32], addr: SocketAddrV4) -> (LocalName, LocalKey) {
    let [a, b, c, d] = Ipv4Addr::octets(addr.ip());
    let [high, low] = addr.port().to_be_bytes();
    ((topic, [a, b]), [c, d, high, low])
}

#[cfg(test)]
mod tests;
