//! Where the packets of a stream go, and where they come from.

use std::net::SocketAddr;

use crate::udx::types::{Remote, SocketId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::udx) struct Path {
    pub(in crate::udx) socket: SocketId,
    pub(in crate::udx) remote: Remote,
}

#[derive(Debug, Default)]
pub(super) struct Paths {
    current: Option<Path>,
    /// The way before a change of remote, for the packets below the number.
    old: Option<(Path, u64)>,
    /// The other path on which the peer was last heard, if it was.
    heard: Option<(SocketId, SocketAddr)>,
}

impl Paths {
    pub(super) fn current(&self) -> Option<Path> {
        self.current
    }

    pub(super) fn old(&self) -> Option<Path> {
        self.old.map(|(path, _)| path)
    }

    pub(super) fn connect(&mut self, socket: SocketId, remote: Remote) {
        self.current = Some(Path { socket, remote });
    }

    /// A packet of the peer came this way. True if the owner should know: it is not the way on which packets go, and
    /// was not told of before.
    pub(super) fn hear(&mut self, socket: SocketId, from: SocketAddr) -> bool {
        let other = self.current.is_some_and(|path| path.socket != socket || path.remote.address != from);
        other && self.heard.replace((socket, from)) != Some((socket, from))
    }

    /// The owner wants to be told again.
    pub(super) fn forget_heard(&mut self) {
        self.heard = None;
    }

    /// Packets from number `next` on go the new way.
    pub(super) fn change(&mut self, socket: SocketId, remote: Remote, next: u64) {
        if let Some(path) = self.current {
            self.old = Some((path, next));
        }
        self.connect(socket, remote);
        self.heard = None;
    }

    /// Everything below `base` is acknowledged. True if that ends a change of remote.
    pub(super) fn forget_old(&mut self, base: u64) -> bool {
        self.old.take_if(|(_, until)| base >= *until).is_some()
    }

    /// The way of this packet.
    pub(super) fn of(&self, number: u64) -> Option<Path> {
        match self.old {
            Some((path, until)) if number < until => Some(path),
            _ => self.current,
        }
    }

    /// True if a change of remote is going on.
    pub(super) fn changing(&self) -> bool {
        self.old.is_some()
    }
}
