//! What goes in and out of a [`LegacySwarm`](super::LegacySwarm).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand::rngs::StdRng;

use super::budget::SharedBudget;
use crate::node::legacy::reader::Direction;
use crate::node::legacy::{Dialect, FileRequest, NodeId, OutgoingFrame, Protocol, Purpose, WireId};
use crate::store::Sha1;
use hyperswarm::crypto::PublicKey;

/// How to make a swarm.
pub struct SwarmConfig {
    /// The protocol of the topic.
    pub protocol: Protocol,
    /// The rest of the topic.
    pub purpose: Purpose,
    /// Our public key.
    pub own: PublicKey,
    /// For message and request IDs; seeded by the operating system in the daemon.
    pub rng: StdRng,
    /// What the swarms of a node may spend together.
    pub budget: SharedBudget,
}

/// The caller's name for a connection; never reused within a swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What is known of a new connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionInfo {
    /// Who opened it.
    pub direction: Direction,
    /// uTP: the original that accepted it says nothing until it has read something, so we speak first.
    pub utp: bool,
    /// The other end; its style is remembered.
    pub remote: SocketAddr,
}

/// A search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeekId(pub(super) u64);

/// A request of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Who asks.
    pub from: NodeId,
    /// Its ID.
    pub id: WireId,
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The next bytes of the file or range; [`crate::limits::DATA_PIECE`] at once is a good number, and 8 KiB for a
    /// 0.1.2 peer, whose messages carry 378.
    Data(Bytes),
    /// All data was sent.
    Finished,
    /// It cannot be served (0.2.1 sends the text; 0.1.x knows no errors and sends nothing, as the originals).
    Error(String),
}

/// True if a reply was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Room {
    /// Taken.
    More,
    /// Not taken now: offer it again after [`Event::Writable`].
    Full,
    /// Not taken: the request is unknown, finished, or its node left.
    Gone,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Output {
    /// Prepare the frame, write it after those sent to this connection before, then call `handle_written` with its
    /// weight. The machine bounds the bytes queued per connection ([`crate::limits::CONNECTION_QUEUE_MAX`], and for what is relayed
    /// [`crate::limits::CONNECTION_QUEUE_RELAY`] and [`crate::limits::RELAY_ANSWERS`]).
    Send {
        /// Where.
        connection: ConnectionId,
        /// What.
        frame: Arc<OutgoingFrame>,
    },
    /// Write what was sent before (best effort), then close. The machine has forgotten the connection already.
    Close {
        /// Which.
        connection: ConnectionId,
        /// For the log, and for whether to dial again.
        reason: CloseReason,
    },
    /// Something happened.
    Event(Event),
}

/// Why the machine closes a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both ends are this node: do not dial this address again.
    #[error("it leads to this node itself")]
    OwnNode,
    /// We spoke first in the wrong style; the right one is remembered: dial again.
    #[error("the peer signs in the other style; dial again")]
    WrongStyle,
    /// A style that makes no sense in this swarm.
    #[error("the peer's node ID has a style that this swarm does not speak")]
    StyleNotSpoken,
    /// No handshake within 10 s.
    #[error("no handshake within 10 s")]
    HandshakeTimeout,
    /// Nothing heard from the node for 10 s.
    #[error("nothing heard for 10 s")]
    Silent,
    /// The peer sent an unsigned error frame.
    #[error("the peer reported an error: {0}")]
    PeerError(String),
    /// It does not read what we send.
    #[error("the peer does not read: more than {} bytes wait", crate::limits::CONNECTION_QUEUE_MAX)]
    Stalled,
    /// Too many connections.
    #[error("too many connections")]
    TooMany,
    /// Messages out of order: a second `initial`, or messages before the first.
    #[error("unexpected message: {0}")]
    Unexpected(&'static str),
}

/// The error text of a node that has too much to do; another attempt later may succeed.
pub const BUSY: &str = "Too many requests at once, try again later.";

/// Why a request of ours will not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFailure {
    /// Not received by the node, however often it was repeated.
    #[error("the provider does not answer (10 s)")]
    Unanswered,
    /// No data for too long.
    #[error("the provider stopped sending (nothing for 10 s)")]
    Stopped,
    /// Its last connection is gone; it may come back.
    #[error("the provider left")]
    Left,
    /// A part of an answer that came through other nodes did not arrive. What was delivered of it may have holes. The
    /// provider is not to blame, nor is any node in between known to be.
    #[error("a part of the answer was lost on its way")]
    Lost,
    /// A response without valid data.
    #[error("the provider sent a response without data")]
    NoData,
    /// More data than the range holds.
    #[error("the provider sent more bytes than asked for")]
    TooMuch,
    /// It says why.
    #[error("the provider says: {0}")]
    Refused(String),
}

/// Something for the node above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The node's first connection is ready: it hears us.
    PeerConnected(NodeId),
    /// Its last connection is gone.
    PeerGone(NodeId),
    /// A node looks for a file; answer with `provide(dialect.style(), ..)` if the store has it.
    Seeking {
        /// Who.
        from: NodeId,
        /// What it understands.
        dialect: Dialect,
        /// The file.
        sha1: Sha1,
    },
    /// A node has a file. May repeat, and may come without having been asked for.
    Providing {
        /// Who; the same for the transfer swarm.
        from: NodeId,
        /// The neighbour that brought the word.
        by: NodeId,
        /// On which topics it can be asked.
        dialect: Dialect,
        /// The file.
        sha1: Sha1,
        /// Bytes, as it claims.
        size: u64,
    },
    /// A node wants a file; Received was sent. Answer with `respond`, in any case with Finished or Error.
    Requested {
        /// To name it in `respond`.
        key: RequestKey,
        /// What it understands.
        dialect: Dialect,
        /// What it wants.
        request: FileRequest,
    },
    /// There is room for more data of this request.
    Writable(RequestKey),
    /// The asking node left: stop reading the file.
    RequestAbandoned(RequestKey),
    /// The node has our request.
    Received(WireId),
    /// Next bytes, in order.
    Data {
        /// Ours.
        request: WireId,
        /// Of any length.
        data: Bytes,
    },
    /// The node says that was all.
    Finished(WireId),
    /// It will not come.
    RequestFailed {
        /// Ours.
        request: WireId,
        /// Why.
        reason: RequestFailure,
    },
    /// A message was dropped; for the log.
    Dropped {
        /// Who sent it to us, if known.
        neighbour: Option<NodeId>,
        /// Which field or rule.
        why: &'static str,
    },
}

/// A deadline that is the sooner of two.
pub(super) fn sooner(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
