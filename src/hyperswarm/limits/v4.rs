//! Caps of the v4 network (hyperdht 6, hyperswarm 4).

use std::time::Duration;

// ---- DHT ----

/// Longest delay of a delayed ping, as dht-rpc's `maxPingDelay`: a request for a longer one is not answered.
pub const MAX_PING_DELAY: Duration = Duration::from_secs(10);
/// Peers taken from one lookup reply, as many as hyperdht answers with.
pub const MAX_PEERS_PER_REPLY: usize = 20;
/// Relay addresses of an announcement that are stored and handed out, as in hyperdht. Its signature covers all.
pub const MAX_ANNOUNCED_RELAYS: usize = 3;

// ---- handshakes and holepunching ----

/// Addresses of either family taken from one handshake: one for each interface of a host with many containers. Each
/// may be pinged.
pub const MAX_SHARED_ADDRESSES: usize = 32;
/// Relays taken from one handshake, those for punching and those for the next connection each. hyperdht names at most
/// three.
pub const MAX_NAMED_RELAYS: usize = 8;
/// Addresses taken from one holepunch message. hyperdht names one or two; each is probed ten times, so that a longer
/// list would be a way to make us probe strangers.
pub const MAX_PUNCHED_ADDRESSES: usize = 8;
