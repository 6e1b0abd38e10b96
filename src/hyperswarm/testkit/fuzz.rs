//! Every decoder under mutated input: RELIABILITY 1. The bodies are in the `fuzz.rs` of their rooms. They run here
//! as seeded mutations in `cargo test`, and as cargo-fuzz targets, from the same samples.

mod runner;

use std::time::Instant;

use data_encoding::HEXLOWER;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use serde_json::Value;

use crate::codec::fuzz as codec;
use crate::crypto::fuzz as crypto;
use crate::dht::hyperdht::fuzz as hyperdht;
use crate::mux::fuzz as mux;
use crate::secret_stream::fuzz as secret_stream;
use crate::udx::fuzz as udx;

pub use runner::{try_all, write_samples};

/// A decoder, or a machine that is fed.
pub struct Target {
    /// As the cargo-fuzz target is called.
    pub name: &'static str,
    /// Panics when something is wrong; machines start at the given time. Gives whether the input was understood, at least in part.
    pub run: fn(Instant, &[u8]) -> bool,
    /// What mutations start from.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// How many mutations `cargo test` tries: [`BAR`], or what time allows.
    pub executions: u64,
}

/// Mutations that `cargo test` is to try, if they are not too slow.
pub const BAR: u64 = 200_000;

/// The targets of this package.
pub const TARGETS: &[Target] = &[
    Target::new("compact", |_, data| codec::compact(data), || hex_of(COMPACT), BAR),
    Target::new("dht_v2", |_, data| codec::dht_v2(data), || hex_of(PROTOBUF), BAR),
    Target::new("dht_v4", |_, data| codec::dht_v4(data), || hex_of(DHT_V4), BAR),
    Target::new("hyperdht", hyperdht::datagrams, hyperdht::samples, 20_000),
    Target::new("mdns", |_, data| codec::mdns(data), || hex_of(MDNS), BAR),
    Target::new("noise", |_, data| crypto::noise(data), crypto::samples, 2_000),
    Target::new("secure_payload", |_, data| crypto::secure_payload(data), || hex_of(SECURE_PAYLOAD), BAR),
    Target::new(
        "secret_stream_opening",
        |_, data| secret_stream::opening(data),
        secret_stream::opening_samples,
        2_000,
    ),
    Target::new("secret_stream", |_, data| secret_stream::stream(data), secret_stream::samples, BAR),
    Target::new(
        "secret_stream_unordered",
        |_, data| secret_stream::unordered(data),
        secret_stream::samples,
        BAR,
    ),
    Target::new("udx_packets", |_, data| udx::packets(data), || hex_of(UDX), BAR),
    Target::new("udx_injected", udx::injected, || udx::injected_samples(&hex_of(UDX)), 20_000),
    Target::new("protomux_frames", |_, data| mux::frames(data), || hex_of(PROTOMUX), BAR),
    Target::new("protomux_operations", mux_operations, operation_lists, 4_000),
    Target::new("udx_operations", udx_operations, operation_lists, 100),
];

impl Target {
    /// A target of these parts.
    pub const fn new(
        name: &'static str,
        run: fn(Instant, &[u8]) -> bool,
        samples: fn() -> Vec<Vec<u8>>,
        executions: u64,
    ) -> Self {
        Self { name, run, samples, executions }
    }
}

/// One of the samples, changed in a few places: bits, bytes, cuts, repetitions, pieces of other samples, and bytes
/// that matter to decoders.
pub fn mutate(rng: &mut StdRng, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pick(rng, samples).cloned().unwrap_or_default();
    // Often a single change: more than half of heavily changed inputs do not get past the first check.
    for _ in 0..*pick(rng, &[1, 1, 2, 4]).unwrap_or(&1) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..8) {
            0 => bytes.truncate(at),
            1 | 2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = if rng.random() { rng.random() } else { *byte ^ 1 << rng.random_range(0..8) };
                }
            }
            3 => {
                let end = (at + rng.random_range(0..40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let piece = bytes.iter().copied().skip(at).take(rng.random_range(0..40)).collect::<Vec<_>>();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => {
                let other = pick(rng, samples).map_or(&[][..], Vec::as_slice);
                let from = rng.random_range(0..=other.len());
                bytes.splice(at..at, other.iter().copied().skip(from).take(200).collect::<Vec<_>>());
            }
            6 => {
                let text = pick(rng, TEXTS).copied().unwrap_or_default();
                bytes.splice(at..at, text.bytes());
            }
            _ => {
                let number = pick(rng, &[0, 1, 0x7f, 0x80, 0xfc, 0xfd, 0xfe, 0xff]).copied().unwrap_or(0);
                bytes.insert(at, number);
            }
        }
    }
    bytes
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> Option<&'a T> {
    from.get(rng.random_range(0..from.len().max(1)))
}

/// Pieces that matter to readers of JSON.
const TEXTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "\\udc00",
    ":",
    ",",
    "#",
    "0",
    "-",
    "1e400",
    "1.5",
    "null",
    "true",
    "\"__proto__\"",
    "\"0\"",
    "\"type\"",
    "\"requestId\"",
    "\"fileKey\"",
    "\"sha1\"",
    "\u{2028}",
    "\u{1f600}",
    "\n",
    " ",
    "{\"a\":1,\"a\":2}",
    "99999999999999999999",
];

macro_rules! vectors {
    ($file:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/", $file))
    };
}

const COMPACT: &[&str] = &[vectors!("v4/compact-encoding.json")];
const PROTOBUF: &[&str] = &[vectors!("v2/protobuf.json"), vectors!("v2/dht_session.json")];
const DHT_V4: &[&str] = &[
    vectors!("v4/dht-rpc.json"),
    vectors!("v4/hyperdht-messages.json"),
    vectors!("v4/signatures.json"),
    vectors!("v4/connect-trace.json"),
];
const SECURE_PAYLOAD: &[&str] = &[vectors!("v4/secure-payload.json")];
const MDNS: &[&str] = &[vectors!("v2/mdns.json")];
const UDX: &[&str] = &[vectors!("v4/udx-packets.json")];
const PROTOMUX: &[&str] = &[vectors!("v4/protomux.json")];

/// All byte strings in hexadecimal of these JSON files.
pub fn hex_of(files: &[&str]) -> Vec<Vec<u8>> {
    let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).ok();
    strings_of(files).iter().filter_map(|text| hex(text)).filter(|bytes| bytes.len() > 1).collect()
}

/// All strings of these JSON files.
pub fn strings_of(files: &[&str]) -> Vec<String> {
    let mut strings = Vec::new();
    for file in files {
        collect(&serde_json::from_str(file).unwrap_or(Value::Null), &mut strings);
    }
    strings
}

fn collect(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, out)),
        _ => {}
    }
}

/// Operations are bytes, so any bytes will do.
fn operation_lists() -> Vec<Vec<u8>> {
    use rand::SeedableRng;
    let mut rng = StdRng::seed_from_u64(0);
    let list = |length| {
        let mut bytes = vec![0; length];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    [20, 50, 100, 200, 400, 800].map(list).to_vec()
}

fn mux_operations(_: Instant, data: &[u8]) -> bool {
    mux::operations(data);
    true
}

fn udx_operations(now: Instant, data: &[u8]) -> bool {
    udx::operations(now, data);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_decoder_panics_or_hangs_on_mutated_input() {
        try_all(TARGETS);
    }

    #[test]
    fn samples_are_written_where_a_fuzzer_wants_them() {
        write_samples(TARGETS);
    }
}
