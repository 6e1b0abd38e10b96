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
//! Tasks: one per socket (`driver`), ending with the last [`UdxSocket`] and [`UdxStream`] that use it. Users run on
//! their own tasks; who writes enough for a batch sends it at once, without a task switch; smaller writes leave when
//! the socket's task runs next, that is after the writer's turn, or at a flush.
//!
//! Locks, in this order: a socket's `sender` (made packets leave in order; taken by `try_lock` only, held across
//! `sendmsg`), then the instance's (the machine; never held across a system call). Nothing is awaited under either.
//!
//! Channels: datagrams of other protocols go through a bounded queue that drops when full ([`UdxSocket::take_foreign`]).

mod datagrams;
mod driver;
mod error;
mod instance;
mod outgoing;
mod path_mtu;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

pub use datagrams::Offload;
pub use error::StreamError;
pub use socket::{BindOptions, ForeignDatagram, UdxSocket};
pub use stream::{FirstContact, UdxStream};
