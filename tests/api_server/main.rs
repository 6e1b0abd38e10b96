//! The HTTP API as its clients see it: raw HTTP against a scripted node, no network but loopback.
// Helpers of tests may panic; clippy recognises only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod guard;
mod http;
mod legacy;
mod long_requests;
mod scripted;
mod slow_clients;
mod stored;
mod v1;
