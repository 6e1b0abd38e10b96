//! Against golden data of the original daemons, and against what no daemon would send.

mod conversations;
mod mutations;
mod vectors;

use data_encoding::HEXLOWER;
use serde_json::Value;

use super::reader::{ConnectionReader, Direction, Incoming};
use super::{NodeId, Protocol, Signer};
use hyperswarm::crypto::KeyPair;

fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("hex text").as_bytes()).expect("hex")
}

fn envelopes() -> Value {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/vectors/v2/envelopes.json"));
    serde_json::from_str(file).unwrap()
}

fn json_socket() -> Value {
    let file =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/vectors/v2/json_socket.json"));
    serde_json::from_str(file).unwrap()
}

/// The key of all vectors.
fn keys() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

/// A reader that has already seen the initial of this neighbour.
fn reader_of(neighbour: NodeId, protocol: Protocol, own: &KeyPair) -> ConnectionReader {
    let mut reader = ConnectionReader::new(protocol, own.public(), Direction::Accepted);
    let text = format!(
        "{{\"type\":\"initial\",\"from\":\"server\",\"nodeId\":\"{neighbour}\",\"protocolVersion\":\"{}\"}}",
        protocol.name()
    );
    reader.buffer().extend_from_slice(&super::frame::encode(text.as_bytes()));
    assert!(matches!(reader.next_message(), Ok(Some(Incoming::Initial(node))) if node == neighbour));
    reader
}

fn signer() -> Signer {
    Signer::new(keys())
}
