//! UDP sockets that several protocols share.
//!
//! ```text
//!  users of a protocol          one task per socket (driver)            the system
//!  (streams, DHT, ...)      +--------------------------------+  receive (GRO, recvmmsg)
//!  ---- call, under ------> | protocols, in their order,     | <------------------------ UDP
//!       its own lock        | each behind a lock of its own  | ------------------------> UDP
//!                           +--------------------------------+  transmit (GSO, sendmmsg)
//! ```
//!
//! A [`Protocol`] sees a received batch where the system has put it, takes what is its own, and leaves the rest to the
//! next one; what no protocol takes is dropped. It puts what it sends straight into the buffer that the system reads.
//! So there is neither a queue nor a copy between a socket and a protocol, and a protocol's lock is taken once per batch.
//!
//! Files, each using only those before it: `received` and `datagrams` (system calls), `outgoing` (what is on its way into
//! the system), `protocol`, `socket` (its sending side, and what users hold), `driver` (the task).
//!
//! Tasks: one per socket (`driver`), ending with the last [`Handle`] to it. Anybody may send with `Socket::transmit`,
//! so that a user with enough for a batch needs no task switch.
//!
//! Locks, in this order: a socket's `outgoing` (taken by `try_lock` only, held across system calls: datagrams leave in
//! the order in which they were made, each with the socket options that are meant for it), then a protocol's (never held
//! across a system call, nor while another one's is taken). Nothing is awaited under either.
//!
//! Memory: buffers belong to threads, not to sockets. A socket without traffic has none.

mod datagrams;
mod driver;
mod outgoing;
mod protocol;
mod received;
mod socket;
#[cfg(test)]
mod tests;

pub use datagrams::Offload;

pub(crate) use driver::Driver;
pub(crate) use outgoing::{Outgoing, Way};
pub(crate) use protocol::{Haste, Protocol, Protocols};
pub(crate) use received::Batch;
pub(crate) use socket::{Handle, SocketId};
