//! The sending side of a socket, and what its users hold.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use futures::task::AtomicWaker;
use parking_lot::Mutex;

use super::datagrams::{Datagrams, Offload};
use super::driver::Driver;
use super::outgoing::{Outgoing, Progress};
use super::protocol::Protocols;
use crate::limits::UDP_TRANSMIT_BATCHES;

pub(crate) use crate::udx::SocketId;

/// Holds a socket open: its task ends with the last one.
pub(crate) struct Handle(Arc<Socket>);

impl Handle {
    /// Binds a socket for these protocols and starts its task. Needs a tokio runtime.
    pub(crate) fn bind(
        address: SocketAddr,
        offload: Offload,
        protocols: Protocols,
    ) -> io::Result<(Arc<Self>, Driver)> {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let socket = Arc::new(Socket {
            id: SocketId(LAST.fetch_add(1, Ordering::Relaxed)),
            datagrams: Datagrams::bind(address, offload)?,
            protocols,
            outgoing: Mutex::new(None),
            again: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        Ok((Arc::new(Self(Arc::clone(&socket))), Driver::new(socket)))
    }
}

impl Deref for Handle {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

/// A socket as its task and the users of its protocols share it.
pub(crate) struct Socket {
    id: SocketId,
    pub(super) datagrams: Datagrams,
    pub(super) protocols: Protocols,
    /// Held while datagrams are made and sent, so that they leave in the order they were made, with the socket's options
    /// as they need them. What is in it waits for room.
    outgoing: Mutex<Option<Outgoing>>,
    /// Somebody has something to send: the holder of `outgoing` looks again before letting go.
    again: AtomicBool,
    /// The system's buffer is full; the task waits for room.
    pub(super) blocked: AtomicBool,
    /// The socket has no users any more, or no task.
    pub(super) closing: AtomicBool,
    /// The socket's task.
    pub(super) task: AtomicWaker,
}

impl Socket {
    /// Its number, which no other socket of this process has.
    pub(crate) fn id(&self) -> SocketId {
        self.id
    }

    /// Where it is bound.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.datagrams.local_address()
    }

    /// The protocols on it.
    pub(crate) fn protocols(&self) -> &Protocols {
        &self.protocols
    }

    /// False if the socket's task has ended, so that nothing would ever leave or arrive.
    pub(crate) fn is_open(&self) -> bool {
        !self.closing.load(Ordering::SeqCst)
    }

    /// Lets the socket's task have a turn.
    pub(crate) fn wake(&self) {
        self.task.wake();
    }

    /// Ready when the system takes datagrams again.
    #[cfg(test)]
    pub(crate) fn poll_writable(
        &self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.datagrams.poll_writable(context)
    }

    /// Sends what the protocols have for this socket, a bounded number of bursts; the socket's task does the rest. If
    /// somebody else is sending, that one does it. The caller must not hold the lock of a protocol.
    pub(crate) fn transmit(&self) {
        self.again.store(true, Ordering::SeqCst);
        while self.again.load(Ordering::SeqCst) {
            // The present holder sees `again` after letting go at the latest.
            let Some(mut waiting) = self.outgoing.try_lock() else { return };
            if !self.again.swap(false, Ordering::SeqCst) {
                continue;
            }
            let mut outgoing = waiting.take().unwrap_or_else(Outgoing::take);
            let left = self.transmit_bursts(&mut outgoing);
            match outgoing.is_empty() {
                true => outgoing.give_back(),
                false => *waiting = Some(outgoing),
            }
            drop(waiting);
            if left {
                self.task.wake();
                return;
            }
        }
    }

    /// True if the task has to be told that something is left.
    fn transmit_bursts(&self, outgoing: &mut Outgoing) -> bool {
        for burst in 0..UDP_TRANSMIT_BATCHES {
            if outgoing.advance(&self.datagrams) == Progress::Blocked {
                return self.block();
            }
            self.gather(burst, outgoing);
            if outgoing.is_empty() {
                return false;
            }
        }
        outgoing.advance(&self.datagrams) == Progress::Done || self.block()
    }

    /// Asks the protocols for a burst, another one first each time: no protocol keeps the others from sending.
    fn gather(&self, burst: usize, outgoing: &mut Outgoing) {
        let now = Instant::now();
        let count = self.protocols.len();
        let first = burst.checked_rem(count).unwrap_or(0);
        for protocol in self.protocols.iter().cycle().skip(first).take(count) {
            if outgoing.is_full() {
                return;
            }
            protocol.poll_transmit(now, self.id, outgoing);
        }
    }

    /// The task has to wait for room. True if it must still be told: if it waits already, waking it, possibly by
    /// itself, would make it try again and again. After it has waited it tries once more, so nobody is forgotten.
    fn block(&self) -> bool {
        !self.blocked.swap(true, Ordering::SeqCst)
    }
}
