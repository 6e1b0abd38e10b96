//! What each kind of query asks, and what it makes of the answers.

use std::net::SocketAddrV4;

use bytes::Bytes;

use super::{Event, Peer, QueryId, Value};
use crate::codec::v2::{Message, Mutable, PeersInput, PeersOutput, decode_peers, decode_peers_with_length};
use crate::crypto::v2::hypersign::{self, SignableError};
use crate::crypto::{KeyPair, PublicKey, blake2b_256};
use crate::dht::guard::is_sane;
use crate::dht::query::Query;
use crate::limits::v2::{MAX_PEERS_PER_ANSWER, MAX_STORED_VALUE_BYTES};

/// Command names.
pub(super) const PING: &str = "_ping";
pub(super) const FIND_NODE: &str = "_find_node";
pub(super) const HOLEPUNCH: &str = "_holepunch";
pub(super) const PEERS: &str = "peers";
pub(super) const MUTABLE: &str = "mutable-store";
pub(super) const IMMUTABLE: &str = "immutable-store";

/// A running query and what it is for.
pub(super) struct Operation {
    pub(super) query: Query,
    pub(super) what: What,
    /// A node proved that it has a value at least as new as the one to be stored.
    pub(super) superseded: bool,
}

/// The kinds of queries.
#[derive(Clone, Debug)]
pub(super) enum What {
    Bootstrap,
    Lookup,
    Announce { port: u16 },
    Unannounce { port: u16 },
    PutImmutable { value: Bytes },
    GetImmutable,
    PutMutable { record: Mutable },
    GetMutable { salt: Option<Bytes>, seq: u64 },
}

impl What {
    /// An immutable value and its target.
    pub(super) fn put_immutable(value: Bytes) -> Result<([u8; 32], Self), SignableError> {
        if value.len() > MAX_STORED_VALUE_BYTES {
            return Err(SignableError::ValueTooLong(value.len()));
        }
        Ok((blake2b_256(&[&value]), Self::PutImmutable { value }))
    }

    /// A mutable value, signed.
    pub(super) fn put_mutable(
        key_pair: &KeyPair,
        value: Bytes,
        seq: u64,
        salt: Option<Bytes>,
    ) -> Result<Self, SignableError> {
        let signature = hypersign::sign(key_pair, &value, seq, salt.as_deref())?;
        let record = Mutable { value: Some(value), signature: Some(signature.0), seq: Some(seq), salt };
        Ok(Self::PutMutable { record })
    }

    /// True if the closest nodes are updated at the end.
    pub(super) fn wants_update(&self) -> bool {
        matches!(self, Self::Announce { .. }) || self.only_updates()
    }

    /// True for what daemons meet by.
    pub(super) fn is_about_a_topic(&self) -> bool {
        matches!(self, Self::Lookup | Self::Announce { .. } | Self::Unannounce { .. })
    }

    /// True if the walk only looks for nodes.
    fn only_updates(&self) -> bool {
        matches!(self, Self::Unannounce { .. } | Self::PutImmutable { .. } | Self::PutMutable { .. })
    }

    /// Command and value of a request in the walk or in the update.
    pub(super) fn request(&self, update: bool) -> (&'static str, Option<Bytes>) {
        if self.only_updates() && !update {
            return (FIND_NODE, None);
        }
        match self {
            Self::Bootstrap => (FIND_NODE, None),
            Self::Lookup => (PEERS, Some(announcement(0, false))),
            Self::Announce { port } => (PEERS, Some(announcement(*port, false))),
            Self::Unannounce { port } => (PEERS, Some(announcement(*port, true))),
            Self::PutImmutable { value } => (IMMUTABLE, Some(value.clone())),
            Self::GetImmutable => (IMMUTABLE, None),
            Self::PutMutable { record } => (MUTABLE, Some(record.encode())),
            Self::GetMutable { salt, seq } => {
                let wanted = Mutable { seq: Some(*seq), salt: salt.clone(), ..Mutable::default() };
                (MUTABLE, Some(wanted.encode()))
            }
        }
    }
}

impl Operation {
    /// What an answer from `from` means to the owner. `own` is our address as most nodes see it.
    pub(super) fn read(
        &mut self,
        id: QueryId,
        from: SocketAddrV4,
        message: &Message,
        update: bool,
        own: Option<SocketAddrV4>,
    ) -> Vec<Event> {
        let Some(value) = &message.value else { return Vec::new() };
        let target = *self.query.target();
        match &self.what {
            What::Lookup | What::Announce { .. } if !update && message.error.is_none() => {
                let is_own = |addr: SocketAddrV4| Some(addr) == message.to || Some(addr) == own;
                peers(value, from)
                    .filter(|addr| !is_own(*addr))
                    .map(|addr| Peer { addr, referrer: from, to: message.to })
                    .map(|peer| Event::Peer(id, peer))
                    .collect()
            }
            What::GetImmutable if message.error.is_none() && blake2b_256(&[value]) == target => {
                vec![Event::Value(id, Value { value: value.clone(), seq: 0 })]
            }
            What::GetMutable { salt, seq } if message.error.is_none() => {
                let newer = verified(value, &PublicKey(target), salt.as_deref()).filter(|v| v.seq >= *seq);
                newer.into_iter().map(|value| Event::Value(id, value)).collect()
            }
            What::PutMutable { record } if update && message.error.is_some() => {
                let stored = verified(value, &PublicKey(target), record.salt.as_deref());
                self.superseded |= stored.is_some_and(|stored| Some(stored.seq) >= record.seq);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

/// The value of a `peers` request as the originals write it: an announcement and a lookup say that no lengths are
/// wanted, an unannouncement does not.
fn announcement(port: u16, unannounce: bool) -> Bytes {
    let port = Some(u32::from(port));
    if unannounce {
        PeersInput { port, unannounce: Some(true), ..PeersInput::default() }.encode()
    } else {
        PeersInput { port, include_length: Some(false), ..PeersInput::default() }.encode()
    }
}

/// The usable peers of a lookup answer.
fn peers(value: &[u8], from: SocketAddrV4) -> impl Iterator<Item = SocketAddrV4> {
    let output = PeersOutput::decode(value).unwrap_or_default();
    let list = match (output.peers_with_length, output.peers) {
        (Some(list), _) => {
            decode_peers_with_length(&list).map(|list| list.iter().map(|p| p.addr).collect::<Vec<_>>())
        }
        (None, Some(list)) => decode_peers(&list),
        (None, None) => None,
    };
    let sane = move |addr: &SocketAddrV4| is_sane(*addr, *from.ip());
    list.unwrap_or_default().into_iter().filter(sane).take(MAX_PEERS_PER_ANSWER)
}

/// The value in a mutable-store answer if `key` signed it with this salt (the salt of the answer does not count).
fn verified(answer: &[u8], key: &PublicKey, salt: Option<&[u8]>) -> Option<Value> {
    let record = Mutable::decode(answer).ok()?;
    let (value, seq) = (record.value?, record.seq.unwrap_or(0));
    let signature = crate::crypto::Signature(record.signature?);
    hypersign::verify(key, &signature, &value, seq, salt).then_some(Value { value, seq })
}
