//! UDX streams on UDP sockets.

mod datagrams;
mod outgoing;
mod path_mtu;
