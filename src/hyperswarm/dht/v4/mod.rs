//! The node of today's DHT (dht-rpc 6), from its parts up.
//!
//! * [`nat`]: our own address, as other nodes see it.
//! * [`health`]: does the network answer?

pub mod health;
pub mod nat;
