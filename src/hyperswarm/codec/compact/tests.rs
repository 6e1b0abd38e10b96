//! The cases of `compact-encoding.json` and limits.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::*;
use crate::codec::MAX_SAFE_INTEGER;
use crate::limits::MAX_ARRAY_ITEMS;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v4/compact-encoding.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("read vectors")).expect("parse vectors")
}

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("a string").as_bytes()).expect("hex")
}

fn hex(bytes: &[u8]) -> Value {
    json!(HEXLOWER.encode(bytes))
}

/// IPv6 as upstream writes it: all eight groups.
fn host6(address: Ipv6Addr) -> String {
    address.segments().map(|group| format!("{group:x}")).join(":")
}

fn host(address: std::net::IpAddr) -> (String, u8) {
    match address {
        std::net::IpAddr::V4(address) => (address.to_string(), 4),
        std::net::IpAddr::V6(address) => (host6(address), 6),
    }
}

/// Decodes one value of a type of the vectors into the form in which they write it.
fn decode(kind: &str, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    let field = "field";
    let address = |address: SocketAddr| {
        let (host, family) = host(address.ip());
        json!({ "host": host, "family": family, "port": address.port() })
    };
    Ok(match kind {
        "uint" => json!(reader.uint(field)?),
        "int" => json!(reader.int(field)?),
        "uint8" => json!(reader.uint8(field)?),
        "uint16" => json!(reader.uint16(field)?),
        "uint24" => json!(reader.uint24(field)?),
        "uint32" => json!(reader.uint32(field)?),
        "uint64" => json!(reader.uint64(field)?),
        "bool" => json!(reader.bool(field)?),
        "buffer" => hex(reader.buffer(field)?),
        "optionalBuffer" => reader.optional_buffer(field)?.map_or(Value::Null, hex),
        "string" => json!(reader.string(field)?),
        "fixed32" => hex(&reader.fixed::<32>(field)?),
        "fixed64" => hex(&reader.fixed::<64>(field)?),
        "raw" => hex(reader.raw()),
        "ipv4Address" => address(reader.ipv4_address(field)?.into()),
        "ipv6Address" => address(reader.ipv6_address(field)?.into()),
        "ipAddress" => address(reader.ip_address(field)?),
        "bitfield(7)" => hex(&[reader.bitfield(field)?]),
        array => {
            let item = array.strip_prefix("array<").and_then(|kind| kind.strip_suffix('>')).expect(array);
            json!(reader.array(field, |reader| decode(item, reader))?)
        }
    })
}

fn socket(value: &Value) -> SocketAddr {
    let port = value["port"].as_u64().expect("a port") as u16;
    SocketAddr::new(value["host"].as_str().expect("a host").parse().expect("an address"), port)
}

fn encode(kind: &str, value: &Value, writer: &mut Writer) {
    let number = || value.as_u64().expect("a number");
    match (kind, socket_of(value)) {
        ("ipv4Address", Some(SocketAddr::V4(address))) => writer.ipv4_address(address),
        ("ipv6Address", Some(SocketAddr::V6(address))) => writer.ipv6_address(address),
        ("ipAddress", Some(address)) => writer.ip_address(address),
        ("uint", _) => writer.uint(number()),
        ("int", _) => writer.int(value.as_i64().expect("a number")),
        ("uint8", _) => writer.uint8(number() as u8),
        ("uint16", _) => writer.uint16(number() as u16),
        ("uint24", _) => writer.uint24(number() as u32),
        ("uint32", _) => writer.uint32(number() as u32),
        ("uint64", _) => writer.uint64(number()),
        ("bool", _) => writer.bool(value.as_bool().expect("a boolean")),
        ("buffer", _) => writer.buffer(&bytes(value)),
        ("optionalBuffer", _) if value.is_null() => writer.optional_buffer(None),
        ("optionalBuffer", _) => writer.optional_buffer(Some(&bytes(value))),
        ("string", _) => writer.string(value.as_str().expect("a string")),
        ("fixed32" | "fixed64" | "raw", _) => writer.raw(&bytes(value)),
        ("bitfield(7)", _) => writer.bitfield(number() as u8),
        (array, _) => {
            let item = array.strip_prefix("array<").and_then(|kind| kind.strip_suffix('>')).expect(array);
            writer.array(value.as_array().expect("a list"), |writer, value| encode(item, value, writer))
        }
    };
}

fn socket_of(value: &Value) -> Option<SocketAddr> {
    value.get("host").map(|_| socket(value))
}

#[test]
fn values_are_written_and_read_as_by_the_original() {
    let vectors = vectors();
    let cases = vectors["cases"].as_array().expect("a list");
    assert!(cases.len() >= 70, "{}", cases.len());
    for case in cases {
        let kind = case["type"].as_str().expect("a type");
        let wire = bytes(&case["hex"]);
        let mut writer = Writer::new();
        encode(kind, &case["value"], &mut writer);
        assert_eq!(writer.finish(), wire, "{case}");
        let mut reader = Reader::new(&wire);
        assert_eq!(decode(kind, &mut reader).expect("decodes"), case["decoded"], "{case}");
        assert!(reader.is_empty(), "{case}");
    }
}

#[test]
fn every_proper_prefix_is_an_error() {
    let vectors = vectors();
    for case in vectors["cases"].as_array().expect("a list") {
        let kind = case["type"].as_str().expect("a type");
        let wire = bytes(&case["hex"]);
        if kind == "raw" {
            continue; // Any length is as good as another.
        }
        for length in 0..wire.len() {
            let error = decode(kind, &mut Reader::new(&wire[..length])).expect_err(kind);
            assert_eq!(error, DecodeError::Truncated("field"), "{case} cut to {length}");
        }
    }
}

#[test]
fn unusual_inputs_are_taken_and_refused_as_by_the_original() {
    let vectors = vectors();
    let cases = vectors["decode_cases"].as_array().expect("a list");
    assert!(cases.len() >= 17);
    for case in cases {
        let wire = bytes(&case["hex"]);
        let mut reader = Reader::new(&wire);
        let result = decode(case["type"].as_str().expect("a type"), &mut reader);
        match case["error"].as_str() {
            None => {
                assert_eq!(result.as_ref(), Ok(&case["decoded"]), "{case}");
                assert_eq!(wire.len() - reader.remaining(), case["consumed"].as_u64().unwrap() as usize);
            }
            Some("Out of bounds") => assert_eq!(result, Err(DecodeError::Truncated("field")), "{case}"),
            Some("Array is too big") => assert_eq!(result, Err(DecodeError::TooManyItems("field"))),
            Some(_) => assert_eq!(result, Err(DecodeError::TooLarge("field")), "{case}"),
        }
    }
}

#[test]
fn widths_without_vectors_survive_a_round_trip() {
    let mut writer = Writer::new();
    writer
        .uint40(0xff_0102_0304)
        .uint48(0xffee_0102_0304)
        .uint56(MAX_SAFE_INTEGER)
        .int(-(1 << 51))
        .uint56(1 << 53);
    let wire = writer.finish();
    assert_eq!(wire[..5], [4, 3, 2, 1, 0xff]);
    let mut reader = Reader::new(&wire);
    assert_eq!(reader.uint40("a"), Ok(0xff_0102_0304));
    assert_eq!(reader.uint48("b"), Ok(0xffee_0102_0304));
    assert_eq!(reader.uint56("c"), Ok(MAX_SAFE_INTEGER));
    assert_eq!(reader.int("d"), Ok(-(1 << 51)));
    assert_eq!(reader.uint56("e"), Err(DecodeError::TooLarge("e")));
}

#[test]
fn addresses_without_a_port_survive_a_round_trip() {
    let (four, six) = (Ipv4Addr::new(10, 1, 2, 3), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));
    let mut writer = Writer::new();
    writer.ip(four.into()).ip(six.into()).ipv4(four).ipv6(six);
    let wire = writer.finish();
    let mut reader = Reader::new(&wire);
    assert_eq!(reader.ip("a"), Ok(four.into()));
    assert_eq!(reader.ip("b"), Ok(six.into()));
    assert_eq!((reader.ipv4("c"), reader.ipv6("d")), (Ok(four), Ok(six)));
    assert_eq!(reader.ip("e"), Err(DecodeError::Truncated("e")));
}

#[test]
fn a_wide_bitfield_gives_its_first_eight_bits() {
    for wire in ["fd5a01", "fe5a010203", "ff5a01020304050607"] {
        let wire = HEXLOWER.decode(wire.as_bytes()).unwrap();
        let mut reader = Reader::new(&wire);
        assert_eq!(reader.bitfield("flags"), Ok(0x5a));
        assert!(reader.is_empty());
        assert!(Reader::new(&wire[..wire.len() - 1]).bitfield("flags").is_err());
    }
}

#[test]
fn a_frame_cannot_be_read_past_its_end_and_is_skipped_whole() {
    let mut writer = Writer::new();
    let body = |inside: &mut Writer| {
        inside.uint(7).buffer(b"ignored");
    };
    writer.frame(body).uint(9);
    let wire = writer.finish();
    let mut reader = Reader::new(&wire);
    let mut inside = reader.frame("outer").expect("a frame");
    assert_eq!(inside.uint("inner"), Ok(7));
    assert_eq!(inside.fixed::<9>("inner"), Err(DecodeError::Truncated("inner")));
    assert_eq!(reader.uint("after"), Ok(9));
    assert_eq!(
        Reader::new(&wire[..wire.len() - 2]).frame("outer").err(),
        Some(DecodeError::Truncated("outer"))
    );
}

#[test]
fn a_number_of_bytes_is_taken_without_a_length() {
    let mut reader = Reader::new(b"abcd");
    assert_eq!((reader.take(3, "item"), reader.remaining()), (Ok(&b"abc"[..]), 1));
    assert_eq!(reader.take(2, "item"), Err(DecodeError::Truncated("item")));
}

#[test]
fn errors_name_the_field() {
    assert_eq!(Reader::new(&[5, 1]).buffer("relay token").unwrap_err().to_string(), "truncated: relay token");
}

#[test]
fn an_array_has_at_most_1048576_items() {
    let array = |count: u64| {
        let mut writer = Writer::new();
        writer.uint(count);
        let mut wire = writer.finish().to_vec();
        wire.resize(wire.len() + count as usize, 1);
        Reader::new(&wire).array("list", |reader| reader.uint8("item")).map(|items| items.len() as u64)
    };
    assert_eq!(array(MAX_ARRAY_ITEMS), Ok(MAX_ARRAY_ITEMS));
    assert_eq!(array(MAX_ARRAY_ITEMS + 1), Err(DecodeError::TooManyItems("list")));
}

#[test]
fn a_count_without_items_reserves_nothing_and_reads_no_item() {
    let mut writer = Writer::new();
    writer.uint(MAX_ARRAY_ITEMS).raw(&[0; 100]);
    let wire = writer.finish();
    let mut items = 0;
    let result = Reader::new(&wire).array("list", |_| {
        items += 1;
        Ok([0u8; 1024])
    });
    assert_eq!((result.err(), items), (Some(DecodeError::Truncated("list")), 0));
}
