//! Downloads, the pure part: [`plan`] decides what to ask of whom, [`blame`] keeps the books, [`candidates`] and
//! [`reputation`] remember who claimed and did what. Nothing here knows a message protocol, a task or the disk.

pub(crate) mod blame;
pub(crate) mod candidates;
pub(crate) mod failure;
pub(crate) mod keys;
pub(crate) mod plan;
pub(crate) mod reputation;
pub(crate) mod shares;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use self::keys::RequestKey;
use crate::node::peer::{Path, PeerKey, Unit, Via};

/// A peer says that it has the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Offer {
    pub(crate) peer: PeerKey,
    /// The protocol in which it said so, and can be asked.
    pub(crate) via: Via,
    /// Bytes of the file, as it claims.
    pub(crate) size: u64,
}

impl Offer {
    /// What the peer can be asked for.
    pub(crate) fn unit(&self) -> Unit {
        self.via.unit()
    }

    /// The peer's ID as it is written in that protocol.
    pub(crate) fn id(&self) -> String {
        self.via.id_of(self.peer)
    }
}

/// What a peer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The whole file.
    Whole,
    /// The bytes from the first offset up to, and without, the second.
    Range(u64, u64),
}

/// What comes for a request. Requests are named by the plan; protocols map the names to those on the wire.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// The next bytes.
    Data(RequestKey, Bytes),
    /// The peer says that this was all.
    Finished(RequestKey),
    /// No more will come.
    Failed(RequestKey, AskFailure),
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AskFailure {
    /// The peer is silent.
    Silent,
    /// The last connection to the peer is gone; it may come back.
    Left,
    /// More bytes came than were asked for.
    TooMuch,
    /// The peer has too much to do now, and may answer later.
    Busy,
    /// The peer says why.
    Refused(String),
}

/// How a peer can be reached, as its connections change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// What it is asked through is not open yet.
    Opening,
    /// It is looked for.
    Connecting,
    /// It can be asked.
    Reached(Path),
    /// It cannot be asked for this reason, and will not be.
    Unusable(String),
}
