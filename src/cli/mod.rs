//! (room of cli)

pub mod progress;
pub mod store_commands;
