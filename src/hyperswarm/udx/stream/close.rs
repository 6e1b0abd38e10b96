//! How streams end, and what their owners are told.

use std::net::SocketAddr;

use super::Stream;
use super::path::Path;
use crate::udx::packet::{HEADER_BYTES, flag};
use crate::udx::types::{CloseReason, Event, SocketId, StreamId};

#[derive(Debug, Default)]
pub(super) struct Life {
    closed: Option<CloseReason>,
    farewell: Option<Farewell>,
}

impl Life {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(super) fn reason(&self) -> Option<CloseReason> {
        self.closed
    }
}

/// The last packet of a stream, which outlives it.
#[derive(Clone, Copy, Debug)]
pub(in crate::udx) struct Farewell {
    pub(in crate::udx) path: Path,
    pub(in crate::udx) packet: [u8; HEADER_BYTES],
    /// To be sent now.
    pub(in crate::udx) due: bool,
    /// To be repeated if the peer sends its end again, which means that it was lost.
    pub(in crate::udx) linger: bool,
}

/// What the owner was not told yet: one of each kind at most.
#[derive(Debug, Default)]
pub(super) struct Events {
    contact: Option<(SocketId, SocketAddr)>,
    contacted: bool,
    other_path: Option<(SocketId, SocketAddr)>,
    readable: bool,
    writable: bool,
    message: bool,
    ended: bool,
    finished: bool,
    remote_changed: bool,
    closed: Option<CloseReason>,
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        match event {
            Event::FirstContact { socket, from } => self.contact(socket, from),
            Event::OtherPath { socket, from } => self.other_path = Some((socket, from)),
            Event::Readable => self.readable = true,
            Event::Writable => self.writable = true,
            Event::Message => self.message = true,
            Event::Ended => self.ended = true,
            Event::Finished => self.finished = true,
            Event::RemoteChanged => self.remote_changed = true,
            Event::Closed(reason) => self.closed = Some(reason),
        }
    }

    /// The first packet was let in.
    pub(super) fn contact(&mut self, socket: SocketId, from: SocketAddr) {
        if !self.contacted {
            self.contacted = true;
            self.contact = Some((socket, from));
        }
    }

    fn is_empty(&self) -> bool {
        !(self.contact.is_some()
            || self.other_path.is_some()
            || self.readable
            || self.writable
            || self.message
            || self.ended
            || self.finished
            || self.remote_changed
            || self.closed.is_some())
    }

    fn take(&mut self) -> Option<Event> {
        let flags = [
            (&mut self.readable, Event::Readable),
            (&mut self.message, Event::Message),
            (&mut self.writable, Event::Writable),
            (&mut self.remote_changed, Event::RemoteChanged),
            (&mut self.ended, Event::Ended),
            (&mut self.finished, Event::Finished),
        ];
        if let Some((socket, from)) = self.contact.take() {
            return Some(Event::FirstContact { socket, from });
        }
        if let Some((socket, from)) = self.other_path.take() {
            return Some(Event::OtherPath { socket, from });
        }
        for (pending, event) in flags {
            if std::mem::take(pending) {
                return Some(event);
            }
        }
        self.closed.take().map(Event::Closed)
    }
}

impl Stream {
    pub(in crate::udx) fn has_events(&self) -> bool {
        !self.notes.events.is_empty()
    }

    pub(in crate::udx) fn take_event(&mut self) -> Option<Event> {
        self.notes.events.take()
    }

    pub(in crate::udx) fn take_farewell(&mut self) -> Option<Farewell> {
        self.life.farewell.take()
    }

    /// The stream whose peer gets the packets of this one.
    pub(in crate::udx) fn relay(&self) -> Option<StreamId> {
        self.relay
    }

    /// Where packets go, on all ways that are in use.
    pub(in crate::udx) fn ways(&self) -> (Option<Path>, Option<Path>) {
        (self.sending.paths.current(), self.sending.paths.old())
    }

    /// Both directions are over, and both sides know?
    pub(super) fn close_if_done(&mut self) {
        if self.sending.ending.arrived && self.receiver.ended() {
            self.close(CloseReason::Ended);
        }
    }

    /// The end. Keeps only what the reader has not read; the last packet is the endpoint's to send.
    pub(in crate::udx) fn close(&mut self, reason: CloseReason) {
        if self.life.is_closed() {
            return;
        }
        let relaying = self.relay.is_some();
        let last = match reason {
            CloseReason::Destroyed if !relaying => Some((flag::DESTROY, true, false)),
            CloseReason::Ended => Some((0, self.notes.control.ack, true)),
            _ => None,
        };
        if let Some(path) = self.sending.paths.current()
            && let Some((flags, due, linger)) = last
        {
            let next = self.sending.flight.next();
            let packet = self.sending.header(flags, next, 0, path, &mut self.receiver).encode();
            self.life.farewell = Some(Farewell { path, packet, due, linger });
        }
        self.life.closed = Some(reason);
        self.notes.events.push(Event::Closed(reason));
        self.notes.control = super::Control::default();
        self.sending.clear();
        self.receiver.drop_early();
    }
}
