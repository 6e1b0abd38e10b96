//! The simulated network on which sans-io machines are tested: a virtual clock, endpoints by address, links with
//! delay, rate and queue, loss singly or in bursts, reordering, duplication and black holes for large datagrams, all
//! decided by one seed. Ten minutes of retries take microseconds, and a seed that failed fails again.

mod endpoints;
pub mod fuzz;
mod link;
mod nat;
mod network;
#[cfg(test)]
pub(crate) mod pair;
#[cfg(test)]
mod tests;

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use endpoints::Endpoints;
pub use link::{Bursts, HEADERS, Link, LinkStats};
pub use nat::{Nat, NatId};
pub use network::{LinkId, Network};

/// What the network drives. Machines of the crate have these functions; a test implements the trait for them.
pub trait Machine {
    /// A datagram arrived.
    fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]);
    /// A deadline passed.
    fn handle_timeout(&mut self, now: Instant);
    /// The next datagram to send, and where. Asked for after everything that arrived at one moment was handled.
    fn poll_transmit(&mut self) -> Option<(SocketAddrV4, Bytes)>;
    /// The next deadline.
    fn poll_timeout(&self) -> Option<Instant>;
    /// As `handle_datagram`, for a machine with several [sockets](Network::add_socket): the datagram arrived at `at`.
    fn handle_datagram_at(&mut self, now: Instant, at: SocketAddrV4, from: SocketAddrV4, bytes: &[u8]) {
        let _ = at;
        self.handle_datagram(now, from, bytes);
    }
    /// As `poll_transmit`, and the address of the socket that sends; none: the machine's own.
    fn poll_transmit_from(&mut self) -> Option<(Option<SocketAddrV4>, SocketAddrV4, Bytes)> {
        self.poll_transmit().map(|(to, payload)| (None, to, payload))
    }
}

/// What happened to a datagram, for the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Since the start.
    pub at: Duration,
    /// Sender.
    pub from: SocketAddrV4,
    /// Destination.
    pub to: SocketAddrV4,
    /// The datagram.
    pub payload: Bytes,
}

/// A datagram under way.
struct Datagram {
    at: Instant,
    /// Datagrams of one moment arrive in the order they were sent.
    number: u64,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: Bytes,
}

impl Ord for Datagram {
    /// A heap gives the greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Datagram {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Datagram {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Datagram {}
