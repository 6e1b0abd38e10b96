//! Whole members of a topic on the simulated network: the real DHT node, announcer and peers, with connections that are
//! made of datagrams.

mod crowded;
mod meeting;
mod world;
