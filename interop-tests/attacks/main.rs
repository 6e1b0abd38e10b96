//! Attacks on the running programs, and bad days: each was seen to succeed once, and must not again (RELIABILITY, 24 to 33).
//!
//! The attackers are those of `interop-tests/node/attacker.js`, each in a process of its own, on loopback; what needs several
//! hosts is in `scripts/lab`. Each test prints `check N: measured X, bar Y, seed S`. With `ATTACKS=long` set the counts are those of
//! the table in full.
//!
//! * [`resumed`]: bytes of an unfinished download change on disk.
//! * [`relayed`]: the only way to the provider is through a peer that relays.
//! * [`slow`]: providers that send next to nothing.
//! * [`sizes`]: wrong claims of a file's size.
//! * [`waiting`]: loads that only search, beside one that could be over at once.
//! * [`places`]: connections that hold every place of a daemon.
//! * [`replayed`]: what a node signed once, sent again by others.
//! * [`requests`]: more requests than a provider can serve.
//! * [`descriptors`]: connections that use up the descriptors.
//! * [`signed`]: a flood of signed messages, each of which costs a verification.
//! * [`one_host`]: one host floods the DHT.
//! * [`together`]: no attack: daemons that start in the same second.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "the interop tests need the rest of it")]
#[path = "../lab.rs"]
mod lab;
#[allow(dead_code, reason = "the interop tests need the rest of it")]
#[path = "../process.rs"]
mod process;

mod bar;
mod descriptors;
mod one_host;
mod places;
mod relayed;
mod replayed;
mod requests;
mod resumed;
mod signed;
mod sizes;
mod slow;
mod together;
mod waiting;
