//! The adapter between the machines of [`crate::node::legacy`] and the neutral rooms: sockets, tasks and locks of joined
//! topics, and providers that are asked in their transfer swarms.

mod connection;
mod serve;
mod source;
pub(crate) mod swarm;
pub(crate) mod transfers;

pub(crate) use self::source::{Asked, Source};
