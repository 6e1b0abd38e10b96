//! Bodies of the fuzz targets of this room.

use std::sync::LazyLock;

use super::frame::FrameDecoder;
use super::message::{Context, Message};
use super::{ConnectionReader, Direction, NodeId, Protocol, Style, json};
use crate::hyperswarm::crypto::{KeyPair, PublicKey};

/// We, and who sends.
static KEYS: LazyLock<[PublicKey; 2]> =
    LazyLock::new(|| [9, 7].map(|seed| KeyPair::from_seed(&[seed; 32]).public()));

/// `data` is a JSON text: what parses prints the same the second time, also with everything but ASCII escaped. An
/// object is then read as a message. Whether it parsed.
pub fn messages(data: &[u8]) -> bool {
    let Ok(value) = json::parse(data) else { return false };
    let mut once = Vec::new();
    json::write_value(&value, &mut once);
    assert_eq!(printed(&once).as_ref(), Some(&once));
    assert_eq!(printed(&json::escape_non_ascii(once.clone())).as_ref(), Some(&once));
    if let Some(object) = value.as_object() {
        let [own, from] = *KEYS;
        let from = NodeId::new(from, Style::Spki);
        for protocol in [Protocol::Daemon02, Protocol::KacheryP2p3] {
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

/// `data` is what a connection brings, in chunks of the size that its first byte says. Whether a frame came out.
pub fn frames(data: &[u8]) -> bool {
    let Some((cut, data)) = data.split_first() else { return false };
    let [own, _] = *KEYS;
    let mut decoder = FrameDecoder::default();
    let mut reader = ConnectionReader::new(Protocol::Daemon02, own, Direction::Accepted);
    let mut frames = 0;
    for chunk in data.chunks(usize::from(*cut) + 1) {
        decoder.buffer().extend_from_slice(chunk);
        reader.buffer().extend_from_slice(chunk);
        while let Ok(Some(_)) = decoder.next_frame() {
            frames += 1;
        }
        while let Ok(Some(_)) = reader.next_message() {}
    }
    frames > 0
}
