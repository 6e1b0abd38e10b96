//! Connections by public key (npm hyperdht's `listen` and `connect`): the handshake through the DHT, and the way through
//! NATs and firewalls.
//!
//! [`Connector`] is the machine, above [`Hyperdht`](crate::dht::hyperdht). It ends where the streams begin: it tells its
//! owner to connect a UDX stream, with which keys and where to.
//!
//! * `dial.rs`, `routes.rs`, `rounds.rs`: the client. It finds relays of the server, sends its handshake through them, and
//!   opens a way.
//! * `listen.rs`, `slot.rs`: the server. One slot for each handshake that may still lead to a connection.
//! * `handshake.rs`: Noise, and what both ends say in it. `remote.rs`: the same for the messages of a hole punch.
//! * `own.rs`: the socket to which others punch. `classify.rs`: what NAT a socket is behind.
//! * `strategy.rs`, `puncher.rs`: how to punch, and when which probe leaves.
//! * [`addresses`]: private networks, and who is near.
//!
//! A stream is opened with its first packet, or when there is a way to the peer. Until then it is a number, so that a
//! handshake that leads nowhere costs less than 2 KiB: the owner hands up UDX packets of streams that it does not know.

pub mod addresses;
pub mod classify;
mod connector;
mod context;
mod dial;
mod error;
mod handshake;
mod listen;
mod own;
pub mod puncher;
mod relays;
mod remote;
mod rounds;
mod routes;
mod slot;
pub mod strategy;
#[cfg(test)]
mod tests;

pub use self::connector::{Action, Config, Connect, Connector, DialId, Event, Role, Transmit};
use self::context::Context;
pub use self::dial::DialOptions;
pub use self::error::{ConnectError, HolepunchError};
pub use self::listen::ListenOptions;
