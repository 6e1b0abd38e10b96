//! The sending side of a socket, and where datagrams of other protocols go.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::task::AtomicWaker;
use tokio::sync::mpsc;

use super::datagrams::Datagrams;
use super::error::StreamError;
use super::outgoing::{Outgoing, Progress};
use crate::limits::{MAX_FOREIGN_DATAGRAM_BYTES, UDP_TRANSMIT_BATCHES};
use crate::udx::{SocketId, Transmit};

/// A datagram that is none of UDX, with its sender.
pub type ForeignDatagram = (SocketAddr, Bytes);

/// Ends the socket's task with the last user of the socket.
pub(super) struct SocketGuard {
    pub(super) state: Arc<SocketState>,
    foreign_datagrams: Mutex<Option<mpsc::Receiver<ForeignDatagram>>>,
}

impl SocketGuard {
    pub(super) fn new(
        id: SocketId,
        datagrams: Datagrams,
        foreign_datagrams: Option<mpsc::Receiver<ForeignDatagram>>,
    ) -> Self {
        let state = Arc::new(SocketState {
            id,
            datagrams,
            outgoing: Mutex::default(),
            again: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        Self { state, foreign_datagrams: Mutex::new(foreign_datagrams) }
    }

    pub(super) fn take_foreign(&self) -> Option<mpsc::Receiver<ForeignDatagram>> {
        self.foreign_datagrams.lock().take()
    }

    /// An error if the socket's task has ended, so that nothing would ever leave or arrive.
    pub(super) fn check_open(&self) -> Result<(), StreamError> {
        match self.state.closing.load(Ordering::SeqCst) {
            true => Err(StreamError::SocketClosed),
            false => Ok(()),
        }
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::SeqCst);
        self.state.task.wake();
    }
}

/// A socket as its task and the writers of its streams share it.
pub(super) struct SocketState {
    pub(super) id: SocketId,
    pub(super) datagrams: Datagrams,
    /// Held while packets are made and sent, so that they leave in the order they were numbered.
    outgoing: Mutex<Outgoing>,
    /// Somebody has something to send: the holder of `outgoing` looks again before letting go.
    again: AtomicBool,
    /// The system's buffer is full; the task waits for room.
    pub(super) blocked: AtomicBool,
    /// The socket has no users any more, or no task.
    pub(super) closing: AtomicBool,
    /// The socket's task.
    pub(super) task: AtomicWaker,
}

impl SocketState {
    /// Sends the batches that `next` makes, a bounded number; the socket's task does the rest. If somebody else is
    /// sending, that one does it.
    pub(super) fn transmit(&self, mut next: impl FnMut(usize, &mut Vec<u8>) -> Option<Transmit>) {
        self.again.store(true, Ordering::SeqCst);
        while self.again.load(Ordering::SeqCst) {
            // The present holder sees `again` after letting go at the latest.
            let Some(mut outgoing) = self.outgoing.try_lock() else { return };
            if self.again.swap(false, Ordering::SeqCst) && self.transmit_batches(&mut next, &mut outgoing) {
                self.task.wake();
                return;
            }
        }
    }

    /// True if the task has to be told that something is left.
    fn transmit_batches(
        &self,
        next: &mut impl FnMut(usize, &mut Vec<u8>) -> Option<Transmit>,
        outgoing: &mut Outgoing,
    ) -> bool {
        for _ in 0..UDP_TRANSMIT_BATCHES {
            if outgoing.advance(&self.datagrams) == Progress::Blocked {
                return self.block();
            }
            let Some(batch) = next(MOST_DATAGRAMS, &mut outgoing.buffer) else { return false };
            outgoing.address(&batch);
        }
        outgoing.advance(&self.datagrams) == Progress::Done || self.block()
    }

    /// The task has to wait for room. True if it must still be told: if it waits already, waking it, possibly by
    /// itself, would make it try again and again. After it has waited it tries once more, so nobody is forgotten.
    fn block(&self) -> bool {
        !self.blocked.swap(true, Ordering::SeqCst)
    }
}

/// Datagrams in a batch; Linux cuts at most so many.
const MOST_DATAGRAMS: usize = 64;

/// Where datagrams of other protocols go.
pub(super) struct Foreign(Option<mpsc::Sender<ForeignDatagram>>);

impl Foreign {
    pub(super) fn new(queue: usize) -> (Self, Option<mpsc::Receiver<ForeignDatagram>>) {
        if queue == 0 {
            return (Self(None), None);
        }
        // Full: the datagram is dropped, as a network does.
        let (sender, receiver) = mpsc::channel(queue);
        (Self(Some(sender)), Some(receiver))
    }

    pub(super) fn offer(&self, from: SocketAddr, datagram: &[u8]) {
        if let Some(queue) = &self.0
            && datagram.len() <= MAX_FOREIGN_DATAGRAM_BYTES
            && let Ok(place) = queue.try_reserve()
        {
            place.send((from, Bytes::copy_from_slice(datagram)));
        }
    }
}
