//! The Kademlia core (table, query, requests, tokens, records) and, in [`v2`], the wire of dht-rpc 4.9.
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

pub mod v2;
