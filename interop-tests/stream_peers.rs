//! What the tests of streams share: what their JavaScript peers report, and the bytes both sides send.

use bytes::Bytes;
use serde_json::Value;
use sha1::{Digest, Sha1};

use crate::lab::LONG;
use crate::process::Process;

/// Waits until the peer reports `name`.
pub(crate) fn event(process: &Process, name: &str) -> Value {
    event_that(process, name, |_| true)
}

/// Waits until the peer reports `name` with fields that `wanted` accepts.
pub(crate) fn event_that(process: &Process, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    // Other tasks of the test go on meanwhile.
    tokio::task::block_in_place(|| {
        process.line(name, LONG, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["event"] == name && wanted(&line)).then_some(line)
        })
    })
}

/// The port in the peer's `ready`.
pub(crate) fn port(process: &Process) -> u16 {
    event(process, "ready")["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port")
}

/// The bytes that `lib/traffic.js` sends: 32-bit xorshift words, so that no part equals another.
pub(crate) fn pattern(length: usize) -> Bytes {
    let mut state = 1_u32;
    let mut bytes = Vec::with_capacity(length + 4);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// As the peers report it.
pub(crate) fn sha1(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha1::digest(bytes))
}
