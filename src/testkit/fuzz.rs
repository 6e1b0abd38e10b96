//! Every decoder under mutated input: RELIABILITY 1. The bodies are in the `fuzz.rs` of their rooms. They run here
//! as seeded mutations in `cargo test`, and as cargo-fuzz targets in `interop-tests/fuzz`, from the same samples.

#[cfg(test)]
mod tests;

use std::time::Instant;

use data_encoding::HEXLOWER;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use serde_json::Value;

use crate::api::fuzz as api;
use crate::hyperswarm::codec::fuzz as codec;
use crate::hyperswarm::crypto::KeyPair;
use crate::hyperswarm::crypto::fuzz as crypto;
use crate::hyperswarm::mux::fuzz as mux;
use crate::hyperswarm::secret_stream::fuzz as secret_stream;
use crate::hyperswarm::udx::fuzz as udx;
use crate::node::legacy::{NodeId, Style, fuzz as legacy};

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

/// All of them.
pub const TARGETS: &[Target] = &[
    target("compact", |_, data| codec::compact(data), || hex_of(COMPACT), BAR),
    target("dht_v2", |_, data| codec::dht_v2(data), || hex_of(PROTOBUF), BAR),
    target("mdns", |_, data| codec::mdns(data), || hex_of(MDNS), BAR),
    target("kachery_frames", |_, data| legacy::frames(data), kachery_frames, BAR),
    target("kachery_messages", |_, data| legacy::messages(data), kachery_texts, BAR),
    target("kachery_envelopes", |_, data| legacy::envelopes(data), kachery_envelopes, BAR),
    target("api_bodies", |_, data| api::bodies(data), api_bodies, BAR),
    target("noise", |_, data| crypto::noise(data), crypto::samples, 2_000),
    target(
        "secret_stream_opening",
        |_, data| secret_stream::opening(data),
        secret_stream::opening_samples,
        2_000,
    ),
    target("secret_stream", |_, data| secret_stream::stream(data), secret_stream::samples, BAR),
    target("secret_stream_unordered", |_, data| secret_stream::unordered(data), secret_stream::samples, BAR),
    target("udx_packets", |_, data| udx::packets(data), || hex_of(UDX), BAR),
    target("udx_injected", udx::injected, || udx::injected_samples(&hex_of(UDX)), 20_000),
    target("protomux_frames", |_, data| mux::frames(data), || hex_of(PROTOMUX), BAR),
    target("protomux_operations", mux_operations, operation_lists, 4_000),
    target("udx_operations", udx_operations, operation_lists, 100),
];

const fn target(
    name: &'static str,
    run: fn(Instant, &[u8]) -> bool,
    samples: fn() -> Vec<Vec<u8>>,
    executions: u64,
) -> Target {
    Target { name, run, samples, executions }
}

/// The body of one target, for its cargo-fuzz program.
///
/// # Panics
/// If there is none of this name, or the body found something.
pub fn run(name: &str, now: Instant, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    match target {
        Some(target) => drop((target.run)(now, data)),
        None => panic!("no fuzz target {name:?}"),
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
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/vectors/", $file))
    };
}

const COMPACT: &[&str] = &[vectors!("v4/compact-encoding.json")];
const PROTOBUF: &[&str] = &[vectors!("v2/protobuf.json"), vectors!("v2/dht_session.json")];
const MDNS: &[&str] = &[vectors!("v2/mdns.json")];
const UDX: &[&str] = &[vectors!("v4/udx-packets.json")];
const PROTOMUX: &[&str] = &[vectors!("v4/protomux.json")];

/// All byte strings in hexadecimal of these files.
fn hex_of(files: &[&str]) -> Vec<Vec<u8>> {
    let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).ok();
    strings_of(files).iter().filter_map(|text| hex(text)).filter(|bytes| bytes.len() > 1).collect()
}

fn strings_of(files: &[&str]) -> Vec<String> {
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

/// Frames, with the byte before them that cuts them into chunks and chooses the connection.
fn kachery_frames() -> Vec<Vec<u8>> {
    let frames = hex_of(&[vectors!("v2/envelopes.json"), vectors!("v2/json_socket.json")]);
    let texts =
        kachery_texts().into_iter().map(|text| [text.len().to_string().as_bytes(), b"#", &text].concat());
    frames
        .into_iter()
        .filter(|frame| frame.contains(&b'#'))
        .chain(texts)
        .flat_map(|frame| legacy::on_every_connection(&frame))
        .collect()
}

/// Bodies of envelopes around the messages.
fn kachery_envelopes() -> Vec<Vec<u8>> {
    let messages: Vec<_> =
        kachery_texts().into_iter().filter(|text| text.starts_with(b"{\"type\"")).collect();
    legacy::envelope_samples(&messages)
}

/// Texts of messages, and texts that JSON parsers disagree about.
pub fn kachery_texts() -> Vec<Vec<u8>> {
    const SHA1: &str = "58ac22564e311f416069450ea36b2d08072753af";
    let own = NodeId::new(KeyPair::from_seed(&[9; 32]).public(), Style::Spki);
    let node = NodeId::new(KeyPair::from_seed(&[7; 32]).public(), Style::Spki);
    let to_own = format!("\"toNodeId\":\"{own}\"");
    let messages = [
        format!(
            "{{\"type\":\"providing\",\"fileKey\":{{\"sha1\":\"{SHA1}\"}},\"primaryNodeId\":\"{node}\",\"swarmName\":\"{node}\",\"fileInfo\":{{\"size\":100,\"sha1\":\"{SHA1}\"}}}}"
        ),
        format!(
            "{{\"type\":\"requestToNode\",{to_own},\"requestId\":\"rQeDwYobuF\",\"requestBody\":{{\"type\":\"downloadFile\",\"fileKey\":{{\"sha1\":\"{SHA1}\"}},\"startByte\":0,\"endByte\":100}}}}"
        ),
        format!(
            "{{\"type\":\"messageToNode\",{to_own},\"messageBody\":{{\"type\":\"requestToNodeResponse\",\"requestId\":\"rQeDwYobuF\",\"responseBody\":{{\"data_b64\":\"QUJDRA==\"}}}}}}"
        ),
        format!(
            "{{\"type\":\"messageToNode\",{to_own},\"messageBody\":{{\"type\":\"requestToNodeError\",\"requestId\":\"rQeDwYobuF\",\"errorString\":\"x\"}}}}"
        ),
    ];
    let written = strings_of(&[vectors!("v2/envelopes.json")]);
    let texts = written.into_iter().filter(|text| text.starts_with(['{', '[', '"']));
    messages.into_iter().chain(texts).map(String::into_bytes).collect()
}

fn api_bodies() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"channelName":"neuro"}"#,
        r#"{"channel":"neuro"}"#,
        r#"{"fileKey":{"sha1":"58ac22564e311f416069450ea36b2d08072753af"},"timeoutMsec":1000.5}"#,
        r#"{"sha1":"58ac22564e311f416069450ea36b2d08072753af","timeout_ms":1000}"#,
        r#"{"load":7}"#,
        "[]",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
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
