//! What shares a socket.

use std::sync::Arc;
use std::time::Instant;

use super::outgoing::Outgoing;
use super::received::Batch;
use super::socket::SocketId;

/// A protocol on one or several sockets, behind a lock of its own that each function takes once. The socket's task calls
/// it; none of the functions may wait, or send on `socket` itself.
///
/// A call may make something leave on other sockets of the same protocol: the protocol then calls
/// [`Socket::transmit`](super::Socket::transmit) for those, after it has let go of its lock.
pub(crate) trait Protocol: Send + Sync {
    /// Takes its own out of what has arrived on a socket; whatever it refuses is offered to the next protocol.
    fn receive(&self, now: Instant, socket: SocketId, batch: &mut Batch<'_>) -> Haste;

    /// Adds what is to leave from a socket, until `out` is full or nothing is left. Called while the socket's sending side
    /// is locked, by its task or by any user.
    fn poll_transmit(&self, now: Instant, socket: SocketId, out: &mut Outgoing);

    /// Does what is due, once per turn of a socket's task. True if something may leave because of that.
    fn turn(&self, now: Instant, socket: SocketId) -> bool;

    /// The next deadline, if no socket's task sees to it yet; the caller does from now on, with a [`turn`](Self::turn).
    /// So one task wakes up for a deadline, however many sockets the protocol has.
    fn arm(&self) -> Option<Instant>;

    /// The deadline that a task has armed has come, or the task has ended: others may arm it again.
    fn disarm(&self, at: Instant);

    /// Until when the protocol still has to answer on a socket whose users have all gone; None: it does not.
    fn lingers_until(&self, socket: SocketId) -> Option<Instant> {
        let _ = socket;
        None
    }

    /// A socket's task has ended: nothing will arrive or leave there any more, and the tasks of the other sockets have to
    /// be woken, as the deadlines are theirs to see to. `died`: it ended without being told to, perhaps in a panic inside
    /// this protocol.
    fn closed(&self, socket: SocketId, died: bool);
}

/// When what a protocol has to send because of a batch should leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// At once: it must not wait for the rest of a flood.
    Now,
    /// Within a millisecond: a user was woken that probably answers, and the answer can carry it.
    Soon,
}

/// Protocols in the order in which they are offered what arrives.
pub(crate) type Protocols = Arc<[Arc<dyn Protocol>]>;
