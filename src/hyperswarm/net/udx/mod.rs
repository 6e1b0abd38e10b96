//! UDX streams on UDP sockets: drives the machine of [`crate::udx`].
//!
//! An `Instance` is a protocol on its sockets (see `net/udp`): their tasks give it packets, ask it for packets, and see to
//! its deadlines.
//!
//! Files, each using only those before it: `user` (what users wait for), `instance` (the machine and its users), `handle`
//! and `stream` (what users hold).
//!
//! Tasks: none of its own. A socket's task ends with the last [`UdxSocket`] and [`UdxStream`] that use it. Users run on
//! their own tasks; a user that writes enough for a batch sends it at once, without a task switch; smaller writes leave
//! when the socket's task runs next, that is after the writer's turn, or at a flush. A task that ends before its
//! streams (a panic, a runtime that shuts down) closes them with [`CloseReason::SocketClosed`](crate::udx::CloseReason).
//!
//! Locks: the instance's (the machine), never held across a system call. Nothing is awaited under it.

mod error;
mod handle;
mod instance;
mod path_mtu;
mod stream;
#[cfg(test)]
mod tests;
mod user;

pub use super::udp::Offload;
pub use error::StreamError;
pub use handle::{BindOptions, UdxSocket};
pub use stream::{Contact, UdxStream};

pub(crate) use instance::Instance;
pub(crate) use path_mtu::path_mtu;
