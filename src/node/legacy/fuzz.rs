//! Bodies of the fuzz targets of this room.

use std::sync::LazyLock;

use super::frame::FrameDecoder;
use super::message::{Context, Message};
use super::{ConnectionReader, Dialect, Direction, Incoming, NodeId, Protocol, Signer, Style};
use super::{json, outgoing};
use crate::limits::EXCLUDED_NODES_MAX;
use hyperswarm::crypto::KeyPair;

/// We, and who sends.
static SIDES: LazyLock<[Signer; 2]> =
    LazyLock::new(|| [9, 7].map(|seed| Signer::new(KeyPair::from_seed(&[seed; 32]))));
/// First bytes of inputs for each kind of connection.
const KINDS: [u8; 6] = [80, 81, 82, 84, 85, 86];

/// `data` is a JSON text: what parses prints the same the second time, also with everything but ASCII escaped. An
/// object is then read as a message. Whether it parsed.
pub fn messages(data: &[u8]) -> bool {
    let Ok(value) = json::parse(data) else { return false };
    let mut once = Vec::new();
    json::write_value(&value, &mut once);
    assert_eq!(printed(&once).as_ref(), Some(&once));
    assert_eq!(printed(&json::escape_non_ascii(once.clone())).as_ref(), Some(&once));
    if let Some(object) = value.as_object() {
        let [own, from] = SIDES.each_ref().map(Signer::public);
        let from = NodeId::new(from, Style::Spki);
        for protocol in Protocol::ALL {
            let _ = Message::parse(object, Context { protocol, own, from });
        }
    }
    true
}

fn printed(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    json::write_value(&json::parse(text).ok()?, &mut out);
    Some(out)
}

/// `data` is what a connection brings, before and after `initial`, in chunks of the size that its first byte says,
/// whose bits also choose the kind of connection. Whether a frame came out.
pub fn frames(data: &[u8]) -> bool {
    let Some((first, data)) = data.split_first() else { return false };
    let mut decoder = FrameDecoder::default();
    let mut readers = [connection(*first).0, begun(*first).0];
    let mut frames = 0;
    for chunk in data.chunks(usize::from(*first) + 1) {
        decoder.buffer().extend_from_slice(chunk);
        while let Ok(Some(_)) = decoder.next_frame() {
            frames += 1;
        }
        for reader in &mut readers {
            reader.buffer().extend_from_slice(chunk);
            while let Ok(Some(_)) = reader.next_message() {}
        }
    }
    frames > 0
}

/// `data` is what a neighbour signs, as JSON text, after the byte that chooses the kind of connection. Whether it
/// was a good broadcast; it never ends the connection.
pub fn envelopes(data: &[u8]) -> bool {
    let Some((first, text)) = data.split_first() else { return false };
    let Ok(value) = json::parse(text) else { return false };
    let Some(body) = value.as_object() else { return false };
    let (mut reader, node) = begun(*first);
    let [_, neighbour] = &*SIDES;
    let frame = outgoing::signed(neighbour, node.style, text.len(), |out| {
        out.extend_from_slice(&body.canonical_text());
        Ok(())
    });
    // Version 0.1.2 signs no long texts.
    let Ok(frame) = frame else { return false };
    reader.buffer().extend_from_slice(&frame);
    match reader.next_message() {
        Ok(Some(Incoming::Broadcast(broadcast))) => {
            assert!(broadcast.exclude.len() <= EXCLUDED_NODES_MAX);
            true
        }
        Ok(Some(_)) => false,
        other => panic!("a signed envelope ends the connection: {other:?}"),
    }
}

/// The same bytes on each kind of connection.
pub fn on_every_connection(data: &[u8]) -> [Vec<u8>; 6] {
    KINDS.map(|kind| [&[kind], data].concat())
}

/// Broadcasts of these messages and of too many excluded nodes, and the other kinds of envelopes.
pub fn envelope_samples(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let excluded: Vec<_> = (0..=EXCLUDED_NODES_MAX).map(|n| format!("\"{n:064x}\":true")).collect();
    let excluded = format!("\"excludeNodeIds\":{{{}}}", excluded.join(","));
    let mut samples = Vec::new();
    for kind in KINDS {
        let node = connection(kind).1;
        let broadcast = |message: &[u8], excluded: &str| {
            let head = format!(
                "{{\"type\":\"broadcast\",\"fromNodeId\":\"{node}\",\"body\":{{\"messageId\":\"m\",\"message\":"
            );
            let tail = format!("}},\"signature\":\"{}\",{excluded}}}", "0".repeat(128));
            [&[kind], head.as_bytes(), message, tail.as_bytes()].concat()
        };
        samples.extend(messages.iter().map(|message| broadcast(message, "\"excludeNodeIds\":{}")));
        samples.push(broadcast(b"{\"type\":\"other\"}", &excluded));
        for other in ["ready", "keepAlive"] {
            samples.push([&[kind], format!("{{\"type\":\"{other}\"}}").as_bytes()].concat());
        }
    }
    samples
}

/// A new connection of the kind that bits of a byte choose, who is at its other end, and their right `initial`.
fn connection(kind: u8) -> (ConnectionReader, NodeId, bytes::Bytes) {
    let [own, neighbour] = SIDES.each_ref().map(Signer::public);
    let dialect = match kind & 3 {
        0 => Dialect::V012,
        1 => Dialect::V016,
        _ => Dialect::V021,
    };
    let (ours, theirs) = match kind & 4 {
        0 => (Direction::Accepted, Direction::Dialled),
        _ => (Direction::Dialled, Direction::Accepted),
    };
    let node = NodeId::new(neighbour, dialect.style());
    let initial = outgoing::initial(dialect.protocol(), node, theirs);
    (ConnectionReader::new(dialect.protocol(), own, ours), node, initial)
}

/// A connection on which `initial` was received.
fn begun(kind: u8) -> (ConnectionReader, NodeId) {
    let (mut reader, node, initial) = connection(kind);
    reader.buffer().extend_from_slice(&initial);
    let read = reader.next_message();
    assert!(matches!(read, Ok(Some(Incoming::Initial(from))) if from == node), "{read:?}");
    (reader, node)
}
