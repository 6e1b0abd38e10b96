//! The Kademlia core (table, query, requests, tokens, records), which both generations share, and their nodes: [`v2`] on
//! the wire of dht-rpc 4.9 with @hyperswarm/dht, [`v4`] on that of dht-rpc 6, and [`hyperdht`] as a second layer above it.
//!
//! Every machine has the same shape:
//!
//! ```text
//! handle_datagram(now, from, bytes)    a stranger's bytes
//! handle_timeout(now)                  when poll_timeout() said so (calling early or late is harmless)
//! poll_transmit() -> Option<Transmit>  datagrams to send now
//! poll_event() -> Option<Event>        what the owner should know
//! poll_timeout() -> Option<Instant>    the next deadline
//! ```
//!
//! * [`id`]: ids and the XOR metric.
//! * [`table`]: whom we know; k-buckets, and the same nodes in order of last contact.
//! * [`query`]: one iterative walk towards a target, and the update of the nodes found closest.
//! * [`rpc`]: requests in flight: resends, time-outs, pacing, and who may answer.
//! * [`tokens`]: proofs that a host receives what we send to it.
//! * [`guard`]: what strangers may make us send, and to whom.
//! * [`shares`]: how much of what is scarce one host, or one network of hosts, may have.
//! * [`records`]: announcements and values stored for others.
//!
//! | | asks and answers | stores and finds |
//! | --- | --- | --- |
//! | v2 | [`v2`] | [`v2`] |
//! | v4 | [`v4`] (dht-rpc): requests, queries, the table, and whether strangers reach us | [`hyperdht`]: topics, servers, values; handshakes on their way to servers, and servers of our own |

pub mod guard;
pub mod hyperdht;
pub mod id;
pub mod query;
pub mod records;
pub mod rpc;
pub mod shares;
pub mod table;
pub mod tokens;
pub mod v2;
pub mod v4;
