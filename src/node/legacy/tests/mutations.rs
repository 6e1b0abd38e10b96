//! Check 1 of RELIABILITY for JSON frames and kachery messages: seeded mutations of real frames.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::frame::FrameDecoder;
use super::super::message::{Context, Message};
use super::super::swarm::{ConnectionId, ConnectionInfo, LegacySwarm, Output, SwarmConfig};
use super::super::{Purpose, Style, json};
use super::*;

const SEED: u64 = 0x6b61_6368;

/// Bytes that matter to a JSON parser, mixed in more often than chance would.
const TOKENS: &[&str] = &[
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

fn mutate(rng: &mut StdRng, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            3 => {
                let end = (at + rng.random_range(0..40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + rng.random_range(0..40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => {
                let token = TOKENS[rng.random_range(0..TOKENS.len())];
                bytes.splice(at..at, token.bytes());
            }
        }
    }
    bytes
}

/// Frames and their texts to begin from.
fn corpus() -> Vec<Vec<u8>> {
    let vectors = envelopes();
    let signed = vectors["vectors"].as_array().unwrap().iter().map(|v| unhex(&v["frame_hex"]));
    let canonical =
        vectors["canonical_json"].as_array().unwrap().iter().map(|v| v["wire"].as_str().unwrap().into());
    let node = NodeId::new(keys().public(), Style::Spki);
    let own = NodeId::new(KeyPair::from_seed(&[9; 32]).public(), Style::Spki);
    let sha1 = "58ac22564e311f416069450ea36b2d08072753af";
    let messages = [
        format!(
            "{{\"type\":\"providing\",\"fileKey\":{{\"sha1\":\"{sha1}\"}},\"primaryNodeId\":\"{node}\",\"swarmName\":\"{node}\",\"fileInfo\":{{\"size\":100,\"sha1\":\"{sha1}\"}}}}"
        ),
        format!(
            "{{\"type\":\"requestToNode\",\"toNodeId\":\"{own}\",\"requestId\":\"rQeDwYobuF\",\"requestBody\":{{\"type\":\"downloadFile\",\"fileKey\":{{\"sha1\":\"{sha1}\"}},\"startByte\":0,\"endByte\":100}}}}"
        ),
        format!(
            "{{\"type\":\"messageToNode\",\"toNodeId\":\"{own}\",\"messageBody\":{{\"type\":\"requestToNodeResponse\",\"requestId\":\"rQeDwYobuF\",\"responseBody\":{{\"data_b64\":\"QUJDRA==\"}}}}}}"
        ),
        format!(
            "{{\"type\":\"messageToNode\",\"toNodeId\":\"{own}\",\"messageBody\":{{\"type\":\"requestToNodeError\",\"requestId\":\"rQeDwYobuF\",\"errorString\":\"x\"}}}}"
        ),
    ];
    signed.chain(canonical).chain(messages.map(String::into_bytes)).collect()
}

#[test]
fn mutated_texts_neither_panic_nor_print_differently_twice() {
    let mut rng = StdRng::seed_from_u64(SEED);
    let corpus = corpus();
    let mut parsed = 0;
    for round in 0..120_000 {
        let text = mutate(&mut rng, &corpus[round % corpus.len()]);
        let Ok(value) = json::parse(&text) else { continue };
        parsed += 1;
        let mut once = Vec::new();
        json::write_value(&value, &mut once);
        let again = json::parse(&once).unwrap_or_else(|e| panic!("seed {SEED}, round {round}: {e}"));
        let mut twice = Vec::new();
        json::write_value(&again, &mut twice);
        assert_eq!(once, twice, "seed {SEED}, round {round}");
        let ascii = json::escape_non_ascii(once.clone());
        let mut third = Vec::new();
        json::write_value(&json::parse(&ascii).expect("ASCII form"), &mut third);
        assert_eq!(once, third, "seed {SEED}, round {round}");
        if let Some(object) = value.as_object() {
            let own = KeyPair::from_seed(&[9; 32]).public();
            let from = NodeId::new(keys().public(), Style::Spki);
            let _ = Message::parse(object, Context { protocol: Protocol::Daemon02, own, from });
        }
    }
    println!("check 1: measured 120000 JSON texts ({parsed} parsed), bar no panic, seed {SEED}");
    assert!(parsed > 1000, "only {parsed} mutants were JSON: the rest tests nothing");
}

#[test]
fn mutated_streams_in_random_chunks_never_panic() {
    let mut rng = StdRng::seed_from_u64(SEED);
    let corpus: Vec<_> = corpus().into_iter().filter(|frame| frame.contains(&b'#')).collect();
    let own = KeyPair::from_seed(&[9; 32]);
    let neighbour = NodeId::new(keys().public(), Style::Spki);
    for round in 0..60_000 {
        let stream = mutate(&mut rng, &corpus[round % corpus.len()]);
        let mut decoder = FrameDecoder::default();
        let mut reader = ConnectionReader::new(Protocol::Daemon02, own.public(), Direction::Accepted);
        if round % 8 == 0 {
            reader = reader_of(neighbour, Protocol::Daemon02, &own);
        }
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rng.random_range(1..=rest.len()));
            decoder.buffer().extend_from_slice(chunk);
            reader.buffer().extend_from_slice(chunk);
            while let Ok(Some(_)) = decoder.next_frame() {}
            while let Ok(Some(_)) = reader.next_message() {}
            rest = after;
        }
    }
    println!("check 1: measured 60000 frame streams, bar no panic, seed {SEED}");
}

/// A broadcast with this message text, properly signed twice by the neighbour.
fn signed_broadcast(style: Style, message: &str, round: usize) -> Vec<u8> {
    let node = NodeId::new(keys().public(), style);
    let hex = |text: &str| HEXLOWER.encode(&signer().sign(style, text.as_bytes()).expect("short text").0);
    let inner = format!("{{\"messageId\":\"m{round}\",\"message\":{message}}}");
    let outer = format!(
        "{{\"type\":\"broadcast\",\"fromNodeId\":\"{node}\",\"body\":{inner},\"signature\":\"{}\"}}",
        hex(&inner)
    );
    let frame = format!("{{\"body\":{outer},\"signature\":\"{}\"}}", hex(&outer));
    super::super::frame::encode(frame.as_bytes()).to_vec()
}

#[test]
fn mutated_messages_that_are_properly_signed_never_panic_the_machine() {
    let mut rng = StdRng::seed_from_u64(SEED);
    let own = KeyPair::from_seed(&[9; 32]);
    let neighbour = NodeId::new(keys().public(), Style::Spki);
    let corpus: Vec<_> = corpus().into_iter().filter(|text| text.starts_with(b"{\"type\"")).collect();
    let mut now = Instant::now();
    let config = SwarmConfig {
        protocol: Protocol::Daemon02,
        purpose: Purpose::Transfer(NodeId::new(own.public(), Style::Spki)),
        own: own.public(),
        rng: StdRng::seed_from_u64(SEED),
    };
    let mut swarm = LegacySwarm::new(config);
    let connection = ConnectionId(1);
    let remote = "192.0.2.1:1".parse().unwrap();
    swarm.handle_connected(
        now,
        connection,
        ConnectionInfo { direction: Direction::Accepted, utp: false, remote },
    );
    swarm.handle_incoming(now, connection, Incoming::Initial(neighbour));
    swarm.handle_incoming(now, connection, Incoming::Ready);
    let mut reader = reader_of(neighbour, Protocol::Daemon02, &own);
    let mut broadcasts = 0;
    for round in 0..20_000 {
        let text = mutate(&mut rng, &corpus[round % corpus.len()]);
        let canonical = match json::parse(&text) {
            Ok(value) => {
                let mut out = Vec::new();
                json::write_value(&value, &mut out);
                out
            }
            Err(_) => continue,
        };
        let Ok(message) = String::from_utf8(canonical) else { continue };
        reader.buffer().extend_from_slice(&signed_broadcast(Style::Spki, &message, round));
        let incoming = reader.next_message().unwrap_or_else(|e| panic!("seed {SEED}, round {round}: {e}"));
        let incoming = incoming.unwrap_or_else(|| panic!("seed {SEED}, round {round}: no frame"));
        broadcasts += usize::from(matches!(incoming, Incoming::Broadcast(_)));
        now += Duration::from_millis(1);
        swarm.handle_incoming(now, connection, incoming);
        swarm.handle_timeout(now);
        let mut outputs = 0;
        while let Some(output) = swarm.poll_output() {
            outputs += 1;
            if let Output::Send { connection, frame } = output {
                swarm.handle_written(now, connection, frame.weight());
            }
        }
        assert!(outputs <= 4, "seed {SEED}, round {round}: {outputs} outputs for one message");
    }
    println!("check 1: measured 20000 signed messages ({broadcasts} well-formed), bar no panic, seed {SEED}");
    assert!(broadcasts > 100, "only {broadcasts}");
    assert_eq!(swarm.peers().count(), 1, "none of it ended the connection");
}
