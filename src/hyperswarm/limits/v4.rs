//! Caps of the v4 network (hyperdht 6, hyperswarm 4).

use std::time::Duration;

// ---- DHT ----

/// Longest delay of a delayed ping, as dht-rpc's `maxPingDelay`: a request for a longer one is not answered.
pub const MAX_PING_DELAY: Duration = Duration::from_secs(10);
/// Delayed pings that wait to be answered. Further ones are not: they cost the asker nothing, and us memory.
pub const MAX_DELAYED_PINGS: usize = 256;
/// Requests that leave in 750 ms, less those that end, as dht-rpc's `maxWindow`; twice as many in 3 s.
pub const REQUEST_WINDOW: u32 = 80;
/// Pings under way of nodes of the table because somebody said that they are down, as in dht-rpc.
pub const MAX_LIVENESS_CHECKS: usize = 10;
/// Such words of one host that are looked into, per minute.
pub const DOWN_HINTS_PER_MINUTE: u32 = 20;
/// Nodes that we say are down, per tick of five seconds, as dht-rpc's `downHintsRateLimit`.
pub const DOWN_HINTS_PER_TICK: usize = 50;
/// Pings under way of nodes in full buckets, or of those who want their places, as in dht-rpc.
pub const MAX_SWAPS: usize = 3;
/// Nodes asked to reach our server's socket, as in dht-rpc.
pub const NAT_CHECK_NODES: usize = 5;
/// Hosts heard at that socket that are remembered until the check ends: those asked, and strangers who come meanwhile.
pub const NAT_CHECK_HOSTS: usize = 256;
/// Addresses that sent us a request in the last minute, in each of two generations: those that messages of others may be
/// passed on to. At most about 80 KiB; at 10,000 requests a second from forged addresses they last for 0.4 seconds, in
/// which an answer to a forwarded message comes.
pub const MAX_RECENT_SENDERS: usize = 4096;
/// Bytes of handshakes and holepunch messages that are passed on for one host, per minute: about 20,000 handshakes.
pub const FORWARDED_BYTES_PER_MINUTE: u32 = 8 << 20;
/// Announcements of topics kept in the fresh generation, half of what hyperdht has: twice this in all, about 9 MiB.
pub const MAX_ANNOUNCEMENTS: usize = 32_768;
/// Announcements of one topic, kept like the others: what a reply is chosen from, and few enough to be sorted for it.
pub const MAX_ANNOUNCEMENTS_PER_TOPIC: usize = 1024;
/// Peers that announced their own keys, to whom handshakes are passed on, kept like announcements: about 9 MiB in all.
pub const MAX_FORWARDS: usize = 32_768;
/// Announcements that can be refreshed by a hash, kept like announcements. Nobody uses that today.
pub const MAX_REFRESHES: usize = 4096;
/// Topics with a time at which they were bumped, kept like announcements.
pub const MAX_BUMPS: usize = 8192;
/// Values of either kind kept in the fresh generation: with [`MAX_VALUE_BYTES`] 18 MiB of either kind in all.
pub const MAX_VALUES: usize = 8192;
/// Bytes of a value, so that it fits a datagram. Longer ones are not stored.
pub const MAX_VALUE_BYTES: usize = 1024;
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
/// Sockets that a node behind a random NAT opens for one hole punch, as in hyperdht: its mappings then are so many that
/// a guess of the other end meets one in 252 times.
pub const PUNCH_SOCKETS: usize = 256;
/// How others see our own socket, as the latest answers say: enough to tell what kind of NAT we are behind.
pub const NAT_RECENT_SAMPLES: usize = 8;
/// Handshakes that a listening key has answered and that may still lead to a connection. Each is less than 2 KiB.
pub const MAX_HANDSHAKES: usize = 256;
/// Of these, the ones of one client's host while all together are more than half of [`MAX_HANDSHAKES`]: many members of
/// a laboratory are behind one address.
pub const MAX_HANDSHAKES_PER_HOST: usize = 16;
/// Probes to one client that it may cause with probes or messages of its own, for each handshake.
pub const MAX_PROBE_ECHOES: usize = 20;
/// Connection attempts of a node under way. Each may have ten requests in flight, of which a node has 1024.
pub const MAX_DIALS: usize = 96;
/// Relays to which one connection attempt sends its handshake.
pub const MAX_TRIED_RELAYS: usize = 64;
/// Connections that others have made to a server and that nobody has taken. Further ones are ended.
pub const MAX_UNTAKEN_CONNECTIONS: usize = 64;
/// Packets of a server that are kept until its reply to the handshake has come, which takes another way.
pub const MAX_EARLY_PACKETS: usize = 4;
/// Peers whose relays are remembered for the next connection, as in hyperdht.
pub const MAX_PEERS_WITH_RELAYS: usize = 512;

// ---- swarm ----

/// Peers that a swarm knows without being connected to them: what strangers say in look-ups. Further ones are not taken
/// until some are tried and forgotten.
pub const SWARM_KNOWN_PEERS: usize = 4096;
/// Attempts of a swarm at a time, those included that take long.
pub const SWARM_ATTEMPTS: usize = 16;
/// Connections of a swarm that its user has not taken. Further ones wait for their turn.
pub const SWARM_UNTAKEN_CONNECTIONS: usize = 64;
