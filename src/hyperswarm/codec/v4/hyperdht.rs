//! Records that hyperdht's nodes store and hand out: announcements of peers, mutable and immutable values. The value of an
//! immutable put, and of the reply to a get, is the stored bytes as they are.

use std::borrow::Cow;
use std::net::SocketAddrV4;

use super::List;
use super::rpc::{bit, bytes, field};
use crate::codec::compact::{DecodeError, Reader, Writer};
use crate::limits::MAX_ARRAY_ITEMS;
use crate::limits::v4::{MAX_ANNOUNCED_RELAYS, MAX_PEERS_PER_REPLY};

/// A peer that can be connected to (hyperdht `messages.peer`): the record of an announcement, and as such the reply to
/// a `FIND_PEER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer<'a> {
    /// Its key.
    pub public_key: [u8; 32],
    /// Nodes through which a handshake reaches it.
    pub relay_addresses: List<'a, SocketAddrV4>,
}

impl<'a> Peer<'a> {
    /// Reads the reply to a `FIND_PEER`.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(value))
    }

    /// Appends the record. A signature covers these bytes, with all relay addresses.
    pub fn encode(&self, out: &mut Writer) {
        self.relay_addresses.encode(out.raw(&self.public_key));
    }

    /// The peer as it is stored and handed out: with the first [`MAX_ANNOUNCED_RELAYS`] relay addresses (hyperdht
    /// `Persistent.onannounce`, which cuts after it has verified the signature).
    #[must_use]
    pub fn trimmed(self) -> Self {
        Self { relay_addresses: self.relay_addresses.first(MAX_ANNOUNCED_RELAYS), ..self }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let public_key = reader.fixed("public key")?;
        Ok(Self { public_key, relay_addresses: List::decode(reader, "relay addresses", usize::MAX)? })
    }
}

/// The reply to a `LOOKUP` that knows somebody (hyperdht `messages.lookupRawReply`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupReply<'a> {
    /// Peers that announced the topic.
    pub peers: Peers<'a>,
    /// When the topic was last bumped, in milliseconds since 1970; 0 if never.
    pub bump: u64,
}

impl<'a> LookupReply<'a> {
    /// Reads the value of a reply. The whole list must be valid; the first 20 peers are kept, as upstream never names
    /// more. Old nodes leave the bump out.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let peers = Peers::read(&mut reader)?;
        let bump = if reader.is_empty() { 0 } else { reader.uint("bump")? };
        Ok(Self { peers, bump })
    }
}

/// Appends the value of a reply to a `LOOKUP`: stored records as they are, each an encoded [`Peer`].
pub fn encode_lookup_reply<'r>(
    records: impl ExactSizeIterator<Item = &'r [u8]>,
    bump: u64,
    out: &mut Writer,
) {
    out.uint(records.len() as u64);
    for record in records {
        out.raw(record);
    }
    out.uint(bump);
}

/// The peers of a [`LookupReply`], at most [`MAX_PEERS_PER_REPLY`], in the bytes of the reply. They have been validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers<'a> {
    count: usize,
    records: &'a [u8],
}

impl<'a> Peers<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.uint("peers")?;
        if count > MAX_ARRAY_ITEMS {
            return Err(DecodeError::TooManyItems("peers"));
        }
        let start = reader.clone().raw();
        for _ in 0..count {
            Peer::read(reader)?;
        }
        let records = start.get(..start.len() - reader.remaining()).unwrap_or_default();
        Ok(Self { count: (count as usize).min(MAX_PEERS_PER_REPLY), records })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The peers in order, decoded one by one.
    pub fn iter(&self) -> impl Iterator<Item = Peer<'a>> + use<'a> {
        let mut reader = Reader::new(self.records);
        // None of them fails: all have been read before.
        (0..self.count).map_while(move |_| Peer::read(&mut reader).ok())
    }
}

/// Value of an `ANNOUNCE` or `UNANNOUNCE` (hyperdht `messages.announce`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announce<'a> {
    /// The peer that announces itself. Without it, a stored announcement is to be refreshed.
    pub peer: Option<Peer<'a>>,
    /// With a peer: the hash of what will refresh this announcement; alone: what refreshes it.
    pub refresh: Option<[u8; 32]>,
    /// By the peer's key over [`crate::crypto::v4::Announcement`].
    pub signature: Option<[u8; 64]>,
    /// A time in milliseconds since 1970 that is to be known of the topic; 0 if none. The signature does not cover it.
    pub bump: u64,
}

impl<'a> Announce<'a> {
    const PEER: u64 = 1;
    const REFRESH: u64 = 2;
    const SIGNATURE: u64 = 4;
    const BUMP: u64 = 8;

    /// Reads the value of a request.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let flags = reader.uint("flags")?;
        Ok(Self {
            peer: field(flags, Self::PEER, || Peer::read(&mut reader))?,
            refresh: field(flags, Self::REFRESH, || reader.fixed("refresh"))?,
            signature: field(flags, Self::SIGNATURE, || reader.fixed("signature"))?,
            bump: field(flags, Self::BUMP, || reader.uint("bump"))?.unwrap_or(0),
        })
    }

    /// Appends the value.
    pub fn encode(&self, out: &mut Writer) {
        let flags = bit(self.peer.is_some(), Self::PEER)
            | bit(self.refresh.is_some(), Self::REFRESH)
            | bit(self.signature.is_some(), Self::SIGNATURE)
            | bit(self.bump != 0, Self::BUMP);
        out.uint(flags);
        if let Some(peer) = &self.peer {
            peer.encode(out);
        }
        out.raw(bytes(&self.refresh)).raw(bytes(&self.signature));
        if self.bump != 0 {
            out.uint(self.bump);
        }
    }
}

/// Value of a `MUTABLE_PUT` (hyperdht `messages.mutablePutRequest`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MutablePut<'a> {
    /// Key of the owner. The target is its hash.
    pub public_key: [u8; 32],
    /// The value with its signature.
    pub stored: MutableValue<'a>,
}

impl<'a> MutablePut<'a> {
    /// Reads the value of a request.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        Ok(Self { public_key: reader.fixed("public key")?, stored: MutableValue::read(&mut reader)? })
    }

    /// Appends the value.
    pub fn encode(&self, out: &mut Writer) {
        self.stored.encode(out.raw(&self.public_key));
    }
}

/// A mutable value as it is stored, and the reply to a `MUTABLE_GET` (hyperdht `messages.mutableGetResponse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MutableValue<'a> {
    /// A value with a higher number is newer.
    pub seq: u64,
    /// The bytes, which may be none.
    pub value: &'a [u8],
    /// By the key of the value over [`MutableSignable`], see [`crate::crypto::v4::mutable_signable`].
    pub signature: [u8; 64],
}

impl<'a> MutableValue<'a> {
    /// Reads the value of a reply, or what is stored.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(value))
    }

    /// Appends the value.
    pub fn encode(&self, out: &mut Writer) {
        self.signable().encode(out);
        out.raw(&self.signature);
    }

    /// What the signature covers.
    pub fn signable(&self) -> MutableSignable<'a> {
        MutableSignable { seq: self.seq, value: self.value }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let MutableSignable { seq, value } = MutableSignable::read(reader)?;
        Ok(Self { seq, value, signature: reader.fixed("signature")? })
    }
}

/// What is signed of a mutable value (hyperdht `messages.mutableSignable`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MutableSignable<'a> {
    /// See [`MutableValue::seq`].
    pub seq: u64,
    /// See [`MutableValue::value`].
    pub value: &'a [u8],
}

impl<'a> MutableSignable<'a> {
    /// Reads it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes))
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Writer) {
        out.uint(self.seq).buffer(self.value);
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { seq: reader.uint("seq")?, value: reader.buffer("value")? })
    }
}

/// Reads the value of a `MUTABLE_GET`: the lowest sequence number that is of interest, 0 for any. To encode it, write a
/// `uint`.
pub fn decode_minimum_seq(value: &[u8]) -> Result<u64, DecodeError> {
    Reader::new(value).uint("seq")
}

/// Value of a `PLUGIN` request (hyperdht `messages.pluginRequest`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRequest<'a> {
    /// Name of the plugin. What was not UTF-8 is U+FFFD.
    pub plugin: Cow<'a, str>,
    /// Version of the plugin.
    pub version: u64,
    /// What it is asked for.
    pub command: u64,
    /// Depends on the command.
    pub value: Option<&'a [u8]>,
}

impl<'a> PluginRequest<'a> {
    const VALUE: u64 = 1;

    /// Reads the value of a request.
    pub fn decode(value: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let (plugin, version) = (reader.string("plugin")?, reader.uint("version")?);
        let (command, flags) = (reader.uint("command")?, reader.uint("flags")?);
        let value = field(flags, Self::VALUE, || reader.buffer("value"))?;
        Ok(Self { plugin, version, command, value })
    }

    /// Appends the value.
    pub fn encode(&self, out: &mut Writer) {
        out.string(&self.plugin).uint(self.version).uint(self.command);
        out.uint(bit(self.value.is_some(), Self::VALUE));
        if let Some(value) = self.value {
            out.buffer(value);
        }
    }
}
