//! UDX streams on UDP sockets: drives the machine of [`crate::udx`].
//!
//! ```text
//!  users of streams            one task per socket (driver)           the system
//!  UdxStream --write--> +-------------------------------+  receive (GRO, recvmmsg)
//!            <--read--- | Instance: Mutex<Endpoint>     | <----------------------- UDP
//!            <--wake--- | events -> wakers              | -----------------------> UDP
//!                       +-------------------------------+  transmit (GSO)
//! ```
//!
//! Files, each using only those before it: `datagrams` and `outgoing` (system calls), `port` (the sending side of a
//! socket), `instance` (the machine and its users), `driver` (the task), `handle` and `stream` (what users hold).
//!
//! Tasks: one per socket (`driver`), ending with the last [`UdxSocket`] and [`UdxStream`] that use it. Users run on
//! their own tasks; a user that writes enough for a batch sends it at once, without a task switch; smaller writes leave
//! when the socket's task runs next, that is after the writer's turn, or at a flush. A task that ends before its
//! streams (a panic, a runtime that shuts down) closes them with [`CloseReason::SocketClosed`](crate::udx::CloseReason).
//!
//! Locks, in this order: a socket's `outgoing` (made packets leave in order; taken by `try_lock` only, held across
//! `sendmsg`), then the instance's (the machine; never held across a system call). Nothing is awaited under either.
//!
//! Channels: datagrams of other protocols go through a bounded queue that drops when full ([`UdxSocket::take_foreign`]).

mod datagrams;
mod driver;
mod error;
mod handle;
mod instance;
mod outgoing;
mod path_mtu;
mod port;
mod stream;
#[cfg(test)]
mod tests;

pub use datagrams::Offload;
pub use error::StreamError;
pub use handle::{BindOptions, UdxSocket};
pub use port::ForeignDatagram;
pub use stream::{FirstContact, UdxStream};
