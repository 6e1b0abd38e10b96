//! The decoders of the product under mutated input: RELIABILITY 1. The bodies are in the `fuzz.rs` of their rooms, those
//! of the network in [`hyperswarm::testkit::fuzz`], which also says how they run.

use std::time::Instant;

use hyperswarm::crypto::KeyPair;
use hyperswarm::testkit::fuzz::{BAR, TARGETS as NETWORK, Target, hex_of, strings_of};

use crate::api::fuzz as api;
use crate::node::legacy::{NodeId, Style, fuzz as legacy};

/// The targets of this package.
pub const TARGETS: &[Target] = &[
    Target::new("kachery_frames", |_, data| legacy::frames(data), kachery_frames, BAR),
    Target::new("kachery_messages", |_, data| legacy::messages(data), kachery_texts, BAR),
    Target::new("kachery_envelopes", |_, data| legacy::envelopes(data), kachery_envelopes, BAR),
    Target::new("api_bodies", |_, data| api::bodies(data), api_bodies, BAR),
];

/// The body of one target of this package or the network's, for its cargo-fuzz program.
///
/// # Panics
/// If there is none of this name, or the body found something.
pub fn run(name: &str, now: Instant, data: &[u8]) {
    let target = TARGETS.iter().chain(NETWORK).find(|target| target.name == name);
    match target {
        Some(target) => drop((target.run)(now, data)),
        None => panic!("no fuzz target {name:?}"),
    }
}

macro_rules! vectors {
    ($file:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/vectors/", $file))
    };
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use hyperswarm::testkit::fuzz::{try_all, write_samples};

    use super::*;

    #[test]
    fn no_decoder_panics_or_hangs_on_mutated_input() {
        try_all(TARGETS);
    }

    #[test]
    fn samples_are_written_where_a_fuzzer_wants_them() {
        write_samples(TARGETS);
    }

    /// Each target is a program of the fuzz package, and the other way around.
    #[test]
    fn every_target_is_a_program_of_the_fuzz_package() {
        let package = concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/fuzz/Cargo.toml");
        let package = std::fs::read_to_string(package).expect("read the package");
        let names =
            package.lines().filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""));
        let programs: HashSet<&str> = names.collect();
        assert_eq!(programs, TARGETS.iter().chain(NETWORK).map(|target| target.name).collect());
    }
}
