//! One joined topic of the original network as a machine without clock, sockets, tasks or signing.
//!
//! In: [`LegacySwarm::handle_connected`], [`LegacySwarm::handle_incoming`] (what a
//! [`ConnectionReader`](super::ConnectionReader) made of the bytes), [`LegacySwarm::handle_written`],
//! [`LegacySwarm::handle_closed`], [`LegacySwarm::handle_timeout`], and the wishes of this node: `seek`, `provide`,
//! `request`, `respond`. After any of them call [`LegacySwarm::poll_output`] until it has none, and arm a timer for
//! [`LegacySwarm::poll_timeout`].

mod types;

use std::time::Instant;

pub use types::{
    CloseReason, ConnectionId, ConnectionInfo, Event, Output, Reply, RequestKey, Room, SeekId, SwarmConfig,
};

use super::{FileRequest, Incoming, NodeId, Style, WireId};
use crate::store::Sha1;

/// A machine for one topic.
pub struct LegacySwarm {}

#[allow(unused_variables)]
impl LegacySwarm {
    /// A swarm without connections.
    pub fn new(config: SwarmConfig) -> Self {
        todo!()
    }

    /// A connection of the topic's hyperswarm exists. It is answered with `Output::Close` if there are too many.
    pub fn handle_connected(&mut self, now: Instant, connection: ConnectionId, info: ConnectionInfo) {
        todo!()
    }

    /// What the connection's reader found. After a [`super::ReadError`] close the socket and call `handle_closed`.
    pub fn handle_incoming(&mut self, now: Instant, connection: ConnectionId, incoming: Incoming) {
        todo!()
    }

    /// A frame of this weight (`OutgoingFrame::weight`) left the connection's queue: written, or found unsendable.
    pub fn handle_written(&mut self, now: Instant, connection: ConnectionId, weight: usize) {
        todo!()
    }

    /// The connection is gone (not to be called for one closed by `Output::Close`; harmless if it is).
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId) {
        todo!()
    }

    /// When to call `handle_timeout`; None: nothing waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }

    /// Asks all peers, and until `until` those that connect later. Answers come as [`Event::Providing`]. None: too
    /// many searches are running.
    pub fn seek(&mut self, now: Instant, sha1: Sha1, until: Instant) -> Option<SeekId> {
        todo!()
    }

    /// Ends a search early.
    pub fn cancel_seek(&mut self, seek: SeekId) {
        todo!()
    }

    /// Tells everybody of this style that we have the file (the answer to [`Event::Seeking`]).
    pub fn provide(&mut self, now: Instant, style: Style, sha1: Sha1, size: u64) {
        todo!()
    }

    /// Requests a file or range of a node of this swarm; repeated every 500 ms until the node says that it received
    /// it. Ends with [`Event::Finished`] or [`Event::RequestFailed`].
    pub fn request(&mut self, now: Instant, to: NodeId, request: FileRequest) -> WireId {
        todo!()
    }

    /// Forgets a request: what still arrives for it is dropped.
    pub fn cancel_request(&mut self, request: WireId) {
        todo!()
    }

    /// Answers a request. Data of any length is cut into pieces that the peer survives.
    /// [`Room::Full`]: wait for [`Event::Writable`] before the next data. [`Room::Gone`]: nobody waits any more.
    pub fn respond(&mut self, now: Instant, request: &RequestKey, reply: Reply) -> Room {
        todo!()
    }

    /// Nodes with at least one ready connection.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        std::iter::empty()
    }

    /// Whether this node has a ready connection.
    pub fn is_connected(&self, node: NodeId) -> bool {
        todo!()
    }
}
