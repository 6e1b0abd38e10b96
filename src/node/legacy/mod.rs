//! The message protocols of the original daemons (June and July 2020), sans-io: kachery-p2p 0.1.2, 0.1.6 and
//! 0.2.1 on npm (`kachery-p2p-daemon`), with json-socket 0.3.0 as framing.
//!
//! How the pieces are meant to be driven, one [`LegacySwarm`] per joined topic:
//!
//! ```text
//! socket bytes -> ConnectionReader (on the connection's own task: frames, JSON, outer signature)
//!              -> Incoming -> LegacySwarm::handle_incoming -> poll_output
//! Output::Send -> OutgoingFrame::prepare (any thread: base64, both signatures) -> bytes -> socket
//!              -> LegacySwarm::handle_written (gives the room in the connection's queue back)
//! ```
//!
//! The machine itself neither signs nor verifies, so one lock or one task around it is enough, while signing and
//! verifying (0.4 and 0.2 ms for 64 KiB of file data) run beside it on as many threads as there are.

pub mod envelope;
pub mod frame;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
pub mod json;
mod long_message;
pub mod message;
pub mod node_id;
pub mod outgoing;
pub mod reader;
pub mod swarm;
pub mod topic;

#[cfg(test)]
mod tests;

pub use envelope::Signer;
pub use message::{FileRequest, WireId};
pub use node_id::{NodeId, Style};
pub use outgoing::OutgoingFrame;
pub use reader::{Broadcast, ConnectionReader, Direction, Incoming, ReadError};
pub use swarm::{
    BUSY, CloseReason, ConnectionId, ConnectionInfo, Event, LegacySwarm, Output, Reply, RequestFailure,
    RequestKey, Room, SeekId, SharedBudget, SwarmConfig,
};
pub use topic::Purpose;

use crate::limits;

/// The protocol name, part of every topic and of `initial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// `kachery-p2p-3`: versions 0.1.2 (64-hex node IDs) and 0.1.6 (88-hex node IDs).
    KacheryP2p3,
    /// `kachery-p2p-daemon-0.2`: version 0.2.1 (88-hex node IDs only).
    Daemon02,
}

impl Protocol {
    /// Both, in the order in which a daemon joins them.
    pub const ALL: [Self; 2] = [Self::Daemon02, Self::KacheryP2p3];

    /// As on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KacheryP2p3 => "kachery-p2p-3",
            Self::Daemon02 => "kachery-p2p-daemon-0.2",
        }
    }

    /// The dialect that a node with an ID of this style speaks here; none: such IDs do not exist in the protocol.
    pub const fn dialect(self, style: Style) -> Option<Dialect> {
        match (self, style) {
            (Self::KacheryP2p3, Style::Hypersign) => Some(Dialect::V012),
            (Self::KacheryP2p3, Style::Spki) => Some(Dialect::V016),
            (Self::Daemon02, Style::Spki) => Some(Dialect::V021),
            (Self::Daemon02, Style::Hypersign) => None,
        }
    }
}

/// What one peer understands: a protocol together with the style of its node ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// 0.1.2: whole files, hypersign signatures over at most 1000 bytes.
    V012,
    /// 0.1.6: whole files.
    V016,
    /// 0.2.1: ranges and errors.
    V021,
}

impl Dialect {
    /// All three.
    pub const ALL: [Self; 3] = [Self::V012, Self::V016, Self::V021];

    /// The protocol on whose topics this dialect lives.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::V012 | Self::V016 => Protocol::KacheryP2p3,
            Self::V021 => Protocol::Daemon02,
        }
    }

    /// The style of its node IDs and signatures.
    pub const fn style(self) -> Style {
        match self {
            Self::V012 => Style::Hypersign,
            Self::V016 | Self::V021 => Style::Spki,
        }
    }

    /// Whether requests name a byte range; otherwise a request is for the whole file.
    pub const fn has_ranges(self) -> bool {
        matches!(self, Self::V021)
    }

    /// True if a file of `size` bytes can be requested of an *original* of this dialect without harming it: the
    /// original 0.1.2 answers a request for 379..=567 bytes with nothing and dies on 568 and more (its signatures
    /// cover at most 1000 bytes).
    ///
    /// A 64-hex provider may also be one of ours, which serves any size. Ours can be recognised: every one of ours
    /// is also on `kachery-p2p-daemon-0.2` under the 88-hex ID of the same key, so when both IDs answered
    /// (`NodeId::key` is equal), request of the 88-hex one and leave the 64-hex one alone. Only when nothing but a
    /// 64-hex ID offers a larger file is asking it justified, as a last resort: the user then gets the file from a
    /// node of ours whose 0.2 topic could not be reached, at the risk of ending an original.
    pub const fn may_request(self, size: u64) -> bool {
        match self {
            Self::V012 => size <= limits::V012_MAX_FILE,
            Self::V016 | Self::V021 => true,
        }
    }
}
