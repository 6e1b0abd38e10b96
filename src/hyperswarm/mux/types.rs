use bytes::Bytes;

use crate::codec::compact::DecodeError;
use crate::limits::{MUX_BATCH_DEPTH, MUX_CHANNELS, MUX_HANDSHAKE_BYTES, MUX_MESSAGE_BYTES, MUX_NAME_BYTES};

/// A channel we opened. Numbers on the wire are used again after a close, these are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    pub(super) slot: usize,
    pub(super) serial: u64,
}

/// An open of the peer that waits for our decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncomingId {
    pub(super) slot: usize,
    pub(super) serial: u64,
}

/// How to open a channel (`createChannel` and `Channel.open` of protomux).
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// Other names of the protocol under which the peer may open the same channel.
    pub aliases: Vec<String>,
    /// Refuse to open it if we have a channel with this protocol and id open already.
    pub unique: bool,
    /// What the peer gets with the open; its encoding is a matter of the protocol.
    pub handshake: Bytes,
    /// Message types we know, numbered from 0; others are ignored.
    pub message_types: u64,
}

impl Default for ChannelOptions {
    /// No aliases, unique, an empty handshake, one message type.
    fn default() -> Self {
        Self { aliases: Vec::new(), unique: true, handshake: Bytes::new(), message_types: 1 }
    }
}

/// What happened. Events of one channel are in the order in which the peer caused them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a channel of a protocol registered with [`Mux::pair`](super::Mux::pair) that we have not
    /// opened. What it sends there is kept until we accept or reject.
    RemoteOpen {
        /// For the decision.
        incoming: IncomingId,
        /// The name used by the peer.
        protocol: String,
        /// Empty if there is none.
        id: Bytes,
        /// As the peer encoded it.
        handshake: Bytes,
    },
    /// The peer closed a channel about which we had not decided yet. Nothing is left of it.
    Withdrawn {
        /// As in the [`RemoteOpen`](Event::RemoteOpen) before.
        incoming: IncomingId,
    },
    /// Both sides have opened the channel.
    Opened {
        /// Which channel.
        channel: ChannelId,
        /// The peer's, as it encoded it.
        handshake: Bytes,
    },
    /// A message of a type the channel knows.
    Message {
        /// Which channel.
        channel: ChannelId,
        /// The number of the message type, below `message_types`.
        kind: u64,
        /// The encoded message.
        body: Bytes,
    },
    /// The channel is closed, not by us. It is its last event.
    Closed {
        /// Which channel.
        channel: ChannelId,
        /// Why.
        reason: CloseReason,
    },
    /// The output has been above the high water mark, and is below it again.
    Drained,
    /// The peer broke the protocol, or the owner called [`Mux::destroy`](super::Mux::destroy): the connection is
    /// to be destroyed. Comes after a `Closed` for every channel, and is the last event.
    Failed(Error),
}

/// Why a channel is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it.
    Remote,
    /// The peer did not want it.
    Rejected,
    /// The connection ended or was destroyed.
    Connection,
}

/// Why the connection is to be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A frame does not decode.
    #[error("protomux: {0}")]
    Decode(#[from] DecodeError),
    /// The number of a new channel is 0, in use, or leaves others out ("Invalid open message").
    #[error(
        "protomux: the peer opened {protocol:?} as channel {channel}, which is 0, in use or out of order"
    )]
    InvalidOpen {
        /// The peer's number for it.
        channel: u64,
        /// The peer's name for it.
        protocol: String,
    },
    /// The peer has opened more channels than one connection carries.
    #[error("protomux: the peer opened {protocol:?} as its channel {}, the limit is {MUX_CHANNELS}", MUX_CHANNELS + 1)]
    TooManyChannels {
        /// The peer's name for the last one.
        protocol: String,
    },
    /// An open brings more handshake than any protocol needs.
    #[error(
        "protomux: {bytes} bytes of handshake for channel {channel} ({protocol:?}), at most {MUX_HANDSHAKE_BYTES}"
    )]
    HandshakeTooLong {
        /// The peer's number for it.
        channel: u64,
        /// The peer's name for it.
        protocol: String,
        /// What it sent.
        bytes: usize,
    },
    /// A reject for a channel that was not waiting for an answer ("Invalid reject message").
    #[error("protomux: the peer rejected channel {0}, which was not waiting for an answer")]
    InvalidReject(u64),
    /// Batches inside batches; the original never sends any.
    #[error("protomux: batches nested more than {MUX_BATCH_DEPTH} deep")]
    BatchTooDeep,
    /// The owner of a channel could not make sense of what it got.
    #[error("protomux: channel {channel} ({protocol:?}): {reason}")]
    Channel {
        /// Our number for it.
        channel: u64,
        /// Our name for it.
        protocol: String,
        /// In the words of the owner.
        reason: String,
    },
}

/// Why a channel cannot be opened or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The connection has failed or ended.
    #[error("the connection is closed")]
    Closed,
    /// `unique` was asked for.
    #[error("a channel with this protocol and id is open already")]
    NotUnique,
    /// The channels of one connection are limited.
    #[error("{MUX_CHANNELS} channels are open already")]
    TooManyChannels,
    /// Longer than any that is accepted.
    #[error("protocol name or id of more than {MUX_NAME_BYTES} bytes")]
    NameTooLong,
    /// Longer than any that is accepted.
    #[error("handshake of more than {MUX_HANDSHAKE_BYTES} bytes")]
    HandshakeTooLong,
    /// The peer has closed it, or it has been accepted or rejected.
    #[error("the incoming channel is gone")]
    Gone,
    /// Both sides match opens in the order in which they were sent, so an older one must be decided first.
    #[error("an older incoming channel with this protocol and id waits for its decision")]
    OutOfTurn,
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The channel is closed.
    #[error("the channel is closed")]
    Closed,
    /// It does not fit one frame of a secret stream.
    #[error("message of more than {MUX_MESSAGE_BYTES} bytes with its header")]
    TooLong,
}
