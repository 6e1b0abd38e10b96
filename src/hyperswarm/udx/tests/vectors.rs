//! Packets captured between streams of udx-native.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::udx::{Extension, HEADER_BYTES, Header, Packet, PacketError, flag};

/// Every captured packet: bytes, what is known of it, and its length before it was cut for the file.
fn captured() -> Vec<(Vec<u8>, Value, Option<usize>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v4/udx-packets.json");
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let scenarios = file["scenarios"].as_array().unwrap();
    let packets = scenarios.iter().flat_map(|scenario| {
        ["packets", "hops"].iter().flat_map(|list| scenario[list].as_array().into_iter().flatten())
    });
    packets
        .map(|packet| {
            let bytes = data_encoding::HEXLOWER.decode(packet["hex"].as_str().unwrap().as_bytes()).unwrap();
            let whole = packet["truncated_from_bytes"].as_u64().map(|length| length as usize);
            (bytes, packet["parsed"].clone(), whole)
        })
        .collect()
}

fn flags(parsed: &Value) -> u8 {
    let names = parsed["flags"].as_array().unwrap().iter();
    names.fold(0, |flags, name| {
        flags
            | match name.as_str().unwrap() {
                "DATA" => flag::DATA,
                "END" => flag::END,
                "SACK" => flag::SACK,
                "MESSAGE" => flag::MESSAGE,
                "DESTROY" => flag::DESTROY,
                "HEARTBEAT" => flag::HEARTBEAT,
                other => panic!("unknown flag {other}"),
            }
    })
}

#[test]
fn captured_packets_are_understood_and_written_again() {
    let packets = captured();
    assert!(packets.len() > 150);
    for (bytes, parsed, whole) in packets {
        let packet = Packet::decode(&bytes).unwrap();
        let number = |name: &str| parsed[name].as_u64().unwrap();
        let header = Header {
            flags: flags(&parsed),
            data_offset: number("data_offset") as u8,
            stream: number("remote_id") as u32,
            window: number("rwnd") as u32,
            seq: number("seq") as u32,
            ack: number("ack") as u32,
        };
        assert_eq!(packet.header, header);
        assert_eq!(header.encode(), bytes[..HEADER_BYTES]);
        let cut = whole.map_or(0, |whole| whole - bytes.len());
        assert_eq!(packet.payload.len() + cut, number("payload_len") as usize);
        let blocks: Vec<_> = packet.sack_blocks().map(|(a, b)| serde_json::json!([a, b])).collect();
        let expected = parsed["sacks"].as_array().cloned().unwrap_or_default();
        assert_eq!(blocks, expected);
        assert_eq!(packet.extension(), None);
        for length in 0..HEADER_BYTES {
            assert_eq!(Packet::decode(&bytes[..length]), Err(PacketError::Truncated { length }));
        }
    }
}

#[test]
fn what_is_no_udx_packet_says_why() {
    let header = Header { flags: 0, data_offset: 0, stream: 1, window: 2, seq: 3, ack: 4 }.encode();
    let with = |at: usize, byte: u8| {
        let mut bytes = header.to_vec();
        bytes[at] = byte;
        Packet::decode(&bytes).unwrap_err().to_string()
    };
    assert_eq!(with(0, 0x13), "not a udx packet: magic byte 0x13");
    assert_eq!(with(1, 2), "unknown udx version 2");
    assert_eq!(with(3, 1), "udx data offset 1 exceeds the 0 bytes after the header");
}

#[test]
fn a_data_offset_up_to_the_end_is_valid_and_one_beyond_is_not() {
    let header = Header { flags: flag::DATA, data_offset: 4, stream: 1, window: 2, seq: 3, ack: 4 };
    let bytes = [header.encode().as_slice(), &[0; 4]].concat();
    assert_eq!(Packet::decode(&bytes).unwrap().payload, b"");
    assert_eq!(Packet::decode(&bytes[..23]), Err(PacketError::DataOffset { offset: 4, remaining: 3 }));
}

#[test]
fn sack_blocks_stand_before_the_data_or_fill_the_packet() {
    let block = [5u32.to_le_bytes(), 9u32.to_le_bytes()].concat();
    let mut header =
        Header { flags: flag::SACK | flag::DATA, data_offset: 8, stream: 1, window: 2, seq: 3, ack: 4 };
    let bytes = [&header.encode(), block.as_slice(), b"data"].concat();
    let packet = Packet::decode(&bytes).unwrap();
    assert_eq!(packet.payload, b"data");
    assert_eq!(packet.sack_blocks().collect::<Vec<_>>(), [(5, 9)]);
    header.data_offset = 0;
    let bytes = [&header.encode(), block.as_slice(), &block, b"cut off"].concat();
    assert_eq!(Packet::decode(&bytes).unwrap().sack_blocks().collect::<Vec<_>>(), [(5, 9), (5, 9)]);
}

#[test]
fn extension_blocks_are_read_back() {
    for extension in [Extension::Announce(65_507), Extension::Probe(9000), Extension::Reply(1)] {
        let block = extension.encode();
        assert_eq!(Extension::decode(&block), Some(extension));
        assert_eq!(Extension::decode(&block[..7]), None);
        let mut other = block;
        other[4] = 3;
        assert_eq!(Extension::decode(&other), None, "unknown kind");
        other = block;
        other[3] = 2;
        assert_eq!(Extension::decode(&other), None, "unknown version");
    }
    assert_eq!(Extension::decode(&[0; 255]), None, "padding of a probe");
}
