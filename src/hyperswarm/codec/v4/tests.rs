//! The vectors of the original, and limits.

mod bounds;
mod hyperdht;
mod recorded;
mod rpc;

use std::net::{SocketAddrV4, SocketAddrV6};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::*;
use crate::codec::compact::{DecodeError, Writer};

fn vectors(name: &str) -> Value {
    let path = format!("{}/vectors/v4/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("read vectors")).expect("parse vectors")
}

fn list<'v>(vectors: &'v Value, name: &str) -> &'v [Value] {
    vectors[name].as_array().expect("a list")
}

fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("a string").as_bytes()).expect("hex")
}

fn hex(bytes: &[u8]) -> Value {
    json!(HEXLOWER.encode(bytes))
}

fn optional_hex<const N: usize>(bytes: Option<[u8; N]>) -> Value {
    bytes.map_or(Value::Null, |bytes| hex(&bytes))
}

/// An address as the vectors write it.
fn address(address: SocketAddrV4) -> Value {
    json!({ "host": address.ip().to_string(), "port": address.port() })
}

fn optional_address(value: Option<SocketAddrV4>) -> Value {
    value.map_or(Value::Null, address)
}

fn addresses(list: List<'_, SocketAddrV4>) -> Value {
    list.iter().map(address).collect()
}

/// IPv6 as upstream writes it: all eight groups.
fn address6(address: SocketAddrV6) -> Value {
    let host = address.ip().segments().map(|group| format!("{group:x}")).join(":");
    json!({ "host": host, "port": address.port() })
}

fn read_address(value: &Value) -> SocketAddrV4 {
    let host = value["host"].as_str().expect("a host").parse().expect("an address");
    SocketAddrV4::new(host, value["port"].as_u64().expect("a port") as u16)
}

/// What `encode` appends.
fn encoded(encode: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    encode(&mut out);
    out.as_slice().to_vec()
}

fn uint(out: &mut Writer, value: u64) {
    out.uint(value);
}

/// Every proper prefix is an error.
fn prefixes_fail(bytes: &[u8], decodes: impl Fn(&[u8]) -> bool) {
    for length in 0..bytes.len() {
        assert!(!decodes(&bytes[..length]), "{length} of {}", HEXLOWER.encode(bytes));
    }
}
