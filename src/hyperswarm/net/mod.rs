//! The only place of `hyperswarm` with sockets, tasks and a clock: it drives the machines of the other rooms.

pub mod mux;
mod random;
pub mod secret_stream;
pub mod udx;
pub mod v2;
