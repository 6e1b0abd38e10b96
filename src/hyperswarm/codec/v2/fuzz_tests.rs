//! RELIABILITY 1: seeded mutations of real messages, through every decoder of this file. FUZZ_EXECUTIONS sets how
//! many.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use data_encoding::HEXLOWER;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const SEED: u64 = 20;
const EXECUTIONS: u64 = 200_000;

/// Every message and value of the vector files is a place to start from.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for name in ["protobuf.json", "dht_session.json"] {
        let path = format!("{}/interop-tests/vectors/v2/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("read vectors");
        for entry in text.split("\"hex\": \"").skip(1) {
            let hex = entry.split('"').next().expect("a string");
            corpus.push(HEXLOWER.decode(hex.as_bytes()).expect("hex"));
        }
    }
    assert!(corpus.len() > 130, "{}", corpus.len());
    corpus
}

fn mutate(rng: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = rng.random(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)]),
            4 if at < bytes.len() => drop(bytes.remove(at)),
            _ => {
                let other = &corpus[rng.random_range(0..corpus.len())];
                let from = rng.random_range(0..=other.len());
                let tail = bytes.split_off(at);
                bytes.extend(&other[from..]);
                bytes.extend(&tail[..tail.len().min(64)]);
            }
        }
    }
    bytes
}

/// What decodes is what its encoding decodes to.
fn round_trip<T: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Bytes,
) -> bool {
    let Ok(value) = decode(bytes) else { return false };
    assert_eq!(decode(&encode(&value)).as_ref(), Ok(&value));
    true
}

fn execute(bytes: &[u8]) -> bool {
    decode_nodes(bytes);
    decode_peers(bytes);
    decode_peers_with_length(bytes);
    decode_local_peers([10, 0], bytes);
    round_trip(bytes, Holepunch::decode, Holepunch::encode);
    round_trip(bytes, PeersInput::decode, PeersInput::encode);
    round_trip(bytes, PeersOutput::decode, PeersOutput::encode);
    round_trip(bytes, Mutable::decode, Mutable::encode);
    round_trip(bytes, Message::decode, Message::encode)
}

#[test]
fn mutated_messages_never_panic_or_hang() {
    let corpus = corpus();
    let (mut valid, mut slowest) = (0, std::time::Duration::ZERO);
    let executions = std::env::var("FUZZ_EXECUTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(EXECUTIONS);
    for n in 0..executions {
        let bytes = mutate(&mut StdRng::seed_from_u64(SEED << 32 | n), &corpus);
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| execute(&bytes)));
        slowest = slowest.max(begin.elapsed());
        match outcome {
            Ok(decoded) => valid += u64::from(decoded),
            Err(_) => panic!("seed {SEED}, execution {n}: {}", HEXLOWER.encode(&bytes)),
        }
    }
    println!(
        "check 1: measured {executions} executions of the v2 DHT decoders without panic ({valid} valid, slowest {slowest:?}), bar 200000, seed {SEED}"
    );
    assert!(valid > executions / 20, "mutations must not all be refused at once: {valid}");
    assert!(slowest.as_secs() < 1);
}
