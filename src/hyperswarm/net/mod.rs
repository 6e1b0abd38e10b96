//! The only place of `hyperswarm` with sockets, tasks and a clock: it drives the machines of the other rooms.

mod random;
pub mod v2;
