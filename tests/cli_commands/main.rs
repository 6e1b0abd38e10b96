//! The command line as its users see it: the real binaries, their output, their exit codes.
// Helpers of tests may panic; clippy recognises only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod config_file;
mod daemon;
mod demo;
mod dht_node;
mod local;
mod outcomes;
mod partials;
mod run;
mod system;
mod without_daemon;
mod wrappers;
