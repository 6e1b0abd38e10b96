//! What the user of a stream waits for, and what it was told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use crate::net::udp::{Handle, SocketId};
use crate::udx::{CloseReason, Event};

/// See the module.
pub(super) struct User {
    /// The socket it sends on, kept open by it.
    pub(super) socket: Arc<Handle>,
    /// The one before a change of remote, kept open until all that was sent there has arrived.
    pub(super) old: Option<Arc<Handle>>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) messages: Option<Waker>,
    /// Of those who wait for anything else.
    others: Vec<Waker>,
    pub(super) progress: Progress,
    /// Its sending side was finished.
    pub(super) finishing: bool,
    pub(super) unflushed: bool,
    /// Bytes written since packets of them were last sent.
    pub(super) unsent: usize,
}

/// What happened to a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) contact: Option<(SocketId, SocketAddr)>,
    pub(super) other_path: Option<(SocketId, SocketAddr)>,
    /// Something of the peer has arrived.
    pub(super) heard: bool,
    pub(super) ended: bool,
    pub(super) finished: bool,
    pub(super) remote_changes: u64,
    pub(super) closed: Option<CloseReason>,
}

impl Progress {
    /// True if both sides have ended.
    pub(super) fn over(&self) -> bool {
        self.closed == Some(CloseReason::Ended)
    }
}

impl User {
    pub(super) fn new(socket: Arc<Handle>) -> Self {
        Self {
            socket,
            old: None,
            reader: None,
            writer: None,
            messages: None,
            others: Vec::new(),
            progress: Progress::default(),
            finishing: false,
            unflushed: false,
            unsent: 0,
        }
    }

    /// Notes what happened, and collects whom to wake.
    pub(super) fn tell(&mut self, event: Event, awake: &mut Vec<Waker>) {
        match event {
            Event::Readable => {
                awake.extend(self.reader.take());
                if std::mem::replace(&mut self.progress.heard, true) {
                    return;
                }
            }
            Event::Writable => return awake.extend(self.writer.take()),
            Event::Message => return awake.extend(self.messages.take()),
            Event::Closed(reason) => return self.close(reason, awake),
            Event::Ended => {
                (self.progress.heard, self.progress.ended) = (true, true);
                awake.extend(self.reader.take());
            }
            Event::FirstContact { socket, from } => self.progress.contact = Some((socket, from)),
            Event::OtherPath { socket, from } => self.progress.other_path = Some((socket, from)),
            Event::Finished => self.progress.finished = true,
            Event::RemoteChanged => {
                self.old = None;
                self.progress.remote_changes += 1;
            }
        }
        awake.append(&mut self.others);
    }

    /// The stream's user has dropped it: who waits for its end is to be woken.
    pub(super) fn into_others(self) -> Vec<Waker> {
        self.others
    }

    /// The stream is over.
    pub(super) fn close(&mut self, reason: CloseReason, awake: &mut Vec<Waker>) {
        self.old = None;
        self.progress.closed = Some(reason);
        awake.extend([self.reader.take(), self.writer.take(), self.messages.take()].into_iter().flatten());
        awake.append(&mut self.others);
    }

    /// Wakes `waker` at the next change that is neither reading, writing nor a message.
    pub(super) fn wake_other(&mut self, waker: &Waker) {
        if !self.others.iter().any(|other| other.will_wake(waker)) {
            self.others.push(waker.clone());
        }
    }
}
