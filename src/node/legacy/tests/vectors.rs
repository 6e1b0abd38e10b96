use super::super::frame::{FrameDecoder, FrameError, encode};
use super::super::json;
use super::super::message::{Context, Message};
use super::super::outgoing::Content;
use super::super::reader::ReadError;
use super::super::{OutgoingFrame, Style, WireId};
use super::*;
use crate::limits;

/// The frames of the vectors: style, neighbour, vector.
fn signed_frames() -> Vec<(Style, NodeId, Value)> {
    let vectors = envelopes()["vectors"].as_array().unwrap().clone();
    assert!(vectors.len() >= 8);
    let style = |v: &Value| if v["style"] == "hypersign" { Style::Hypersign } else { Style::Spki };
    vectors.into_iter().map(|v| (style(&v), v["nodeId"].as_str().unwrap().parse().unwrap(), v)).collect()
}

/// The protocol on which such a frame appears: only 0.2.1 has excludeNodeIds.
fn protocol_of(vector: &Value) -> Protocol {
    match String::from_utf8(unhex(&vector["frame_hex"])).unwrap().contains("excludeNodeIds") {
        true => Protocol::Daemon02,
        false => Protocol::KacheryP2p3,
    }
}

#[test]
fn signed_frames_of_the_originals_verify() {
    for (_, node, vector) in signed_frames() {
        let mut reader = reader_of(node, protocol_of(&vector), &KeyPair::from_seed(&[9; 32]));
        reader.buffer().extend_from_slice(&unhex(&vector["frame_hex"]));
        let incoming = reader.next_message().unwrap().unwrap();
        match (vector.get("inner_signed_text_hex"), incoming) {
            (Some(text), Incoming::Broadcast(broadcast)) => {
                assert_eq!(broadcast.text, unhex(text));
                assert_eq!(broadcast.signature.0.to_vec(), unhex(&vector["inner_signature"]));
                assert!(broadcast.is_verified());
            }
            (None, incoming) => assert!(matches!(incoming, Incoming::Ready | Incoming::KeepAlive)),
            (Some(_), incoming) => panic!("{incoming:?}"),
        }
    }
}

#[test]
fn our_frames_are_byte_for_byte_those_of_the_originals() {
    let mut compared = 0;
    for (style, node, vector) in signed_frames() {
        let frame = unhex(&vector["frame_hex"]);
        let text = String::from_utf8(unhex(&vector["signed_text_hex"])).unwrap();
        let body = json::parse(text.as_bytes()).unwrap();
        let content = match body.as_object().unwrap().string("type").unwrap() {
            b"ready" => Content::Ready(style),
            b"keepAlive" => Content::KeepAlive(style),
            _ => {
                let body = body.as_object().unwrap();
                let inner = body.object("body").unwrap();
                let context = Context { protocol: protocol_of(&vector), own: node.key, from: node };
                let message = Message::parse(inner.object("message").unwrap(), context).unwrap();
                if message == Message::Unknown {
                    continue;
                }
                let id = WireId::from_bytes(inner.string("messageId").unwrap()).unwrap();
                let exclude = body.object("excludeNodeIds").map(|list| {
                    list.entries().iter().map(|(id, _)| NodeId::from_bytes(id).unwrap()).collect()
                });
                Content::Own { from: node, id, message, exclude }
            }
        };
        let ours = OutgoingFrame::new(content).prepare(&signer()).unwrap();
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&frame));
        compared += 1;
    }
    assert!(compared >= 6, "{compared}");
}

#[test]
fn a_relayed_message_keeps_its_text_and_goes_out_in_ascii() {
    for (_, node, vector) in signed_frames() {
        let protocol = protocol_of(&vector);
        let own = KeyPair::from_seed(&[9; 32]);
        let mut reader = reader_of(node, protocol, &own);
        reader.buffer().extend_from_slice(&unhex(&vector["frame_hex"]));
        let Ok(Some(Incoming::Broadcast(broadcast))) = reader.next_message() else { continue };
        let text = broadcast.text.clone();
        let relay = OutgoingFrame::new(Content::Relay { broadcast, exclude: None });
        let frame = relay.prepare(&Signer::new(own.clone())).unwrap();
        assert!(frame.is_ascii());
        assert!(frame.len() <= relay.weight());
        let mut next = reader_of(NodeId::new(own.public(), node.style), protocol, &keys());
        next.buffer().extend_from_slice(&frame);
        match next.next_message().unwrap().unwrap() {
            Incoming::Broadcast(relayed) => {
                assert_eq!((relayed.from, &relayed.text), (node, &text));
                assert!(relayed.is_verified());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_changed_bit_of_a_signed_body_is_noticed() {
    for (_, node, vector) in signed_frames() {
        let frame = unhex(&vector["frame_hex"]);
        let start = frame.iter().position(|b| *b == b'{').unwrap() + "{\"body\":".len();
        let end = start + unhex(&vector["signed_text_hex"]).len();
        for at in start..end {
            let mut changed = frame.clone();
            changed[at] ^= 1;
            let mut reader = reader_of(node, protocol_of(&vector), &KeyPair::from_seed(&[9; 32]));
            reader.buffer().extend_from_slice(&changed);
            match reader.next_message() {
                Err(ReadError::Signature | ReadError::Json(_) | ReadError::Envelope(_)) => {}
                other => panic!("byte {at}: {other:?}"),
            }
        }
    }
}

#[test]
fn frames_are_encoded_and_decoded_as_by_the_originals() {
    for vector in json_socket()["frames"].as_array().unwrap() {
        let frame = unhex(&vector["frame_hex"]);
        let text = vector["message_json"].as_str().unwrap().as_bytes();
        assert_eq!(encode(text), frame);
        let mut decoder = FrameDecoder::default();
        for at in 0..frame.len() {
            assert_eq!(decoder.next_frame(), Ok(None), "a proper prefix of {at} bytes is no frame");
            decoder.buffer().extend_from_slice(&frame[at..=at]);
        }
        assert_eq!(decoder.next_frame().unwrap().unwrap(), text);
        assert_eq!(decoder.next_frame(), Ok(None));
    }
}

#[test]
fn odd_streams_are_read_as_the_original_reader_meant_to() {
    // Where the original loses messages by counting UTF-16 units, ours reads on.
    for case in json_socket()["original_reader"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let mut decoder = FrameDecoder::default();
        let mut texts = Vec::new();
        let mut failed = false;
        for chunk in case["chunks_hex"].as_array().unwrap() {
            decoder.buffer().extend_from_slice(&unhex(chunk));
            while !failed {
                match decoder.next_frame() {
                    Ok(Some(frame)) if json::parse(&frame).is_ok() => texts.push(frame),
                    Ok(None) => break,
                    _ => failed = true,
                }
            }
        }
        let broken = ["bad length", "bad json", "zero length then frame", "negative length"].contains(&name);
        assert_eq!(failed, broken, "{name}");
        if name.contains("ORIGINAL BUG") {
            assert_eq!(texts.len(), 3, "{name}");
        } else if !broken {
            assert_eq!(texts.len(), case["messages_json"].as_array().unwrap().len(), "{name}");
        }
    }
}

#[test]
fn frames_are_taken_to_their_limit_and_not_beyond() {
    let read = |head: String| {
        let mut decoder = FrameDecoder::default();
        decoder.buffer().extend_from_slice(head.as_bytes());
        decoder.next_frame()
    };
    assert_eq!(read(format!("{}#", limits::FRAME_MAX)), Ok(None));
    assert_eq!(read(format!("{}#", limits::FRAME_MAX + 1)), Err(FrameError::TooLong));
    assert_eq!(read(format!("{}#", u128::MAX % 10_000_000_000_000_000)), Err(FrameError::TooLong));
    let junk = |length: usize| format!("2{}#{{}}", "x".repeat(length - 1));
    assert!(matches!(read(junk(limits::FRAME_MAX_LENGTH_DIGITS)), Ok(Some(_))));
    assert_eq!(read(junk(limits::FRAME_MAX_LENGTH_DIGITS + 1)), Err(FrameError::Length));
    assert_eq!(read("1".repeat(limits::FRAME_MAX_LENGTH_DIGITS)), Ok(None));
    assert_eq!(read("1".repeat(limits::FRAME_MAX_LENGTH_DIGITS + 1)), Err(FrameError::Length));
    assert_eq!(read("#{}".to_owned()), Err(FrameError::Length));
    let mut decoder = FrameDecoder::default();
    decoder.buffer().extend_from_slice(&encode(&vec![b' '; limits::FRAME_MAX]));
    assert_eq!(decoder.next_frame().unwrap().unwrap().len(), limits::FRAME_MAX);
}

#[test]
fn message_ids_are_taken_to_their_limit_and_not_beyond() {
    let id = |length: usize| WireId::from_bytes("a".repeat(length).as_bytes());
    assert_eq!(id(limits::WIRE_ID_MAX).unwrap().to_string().len(), limits::WIRE_ID_MAX);
    assert_eq!(id(limits::WIRE_ID_MAX + 1), None);
    for text in ["", "a b", "a\"", "ä", "a-b"] {
        assert_eq!(WireId::from_bytes(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn data_for_an_original_0_1_2_fits_a_signature_exactly() {
    use super::super::message::NodeMessage;
    let from = NodeId::new(keys().public(), Style::Hypersign);
    let to = NodeId::new(KeyPair::from_seed(&[9; 32]).public(), Style::Hypersign);
    let id = WireId::from_bytes(b"AbCdEfGhIj").unwrap();
    let frame = |size: usize| {
        let data = Some(vec![0xff; size].into());
        let message = Message::ToNode { to, message: NodeMessage::Response { request: id, data } };
        OutgoingFrame::new(Content::Own { from, id, message, exclude: None }).prepare(&signer())
    };
    let size = usize::try_from(limits::V012_MAX_FILE).unwrap();
    assert!(frame(size).is_some());
    assert!(frame(size + 1).is_none(), "one byte more cannot be signed");
}

#[test]
fn an_error_text_is_cut_and_cleaned() {
    let text = |length: usize| format!("{}\u{1b}[31m", "x".repeat(length));
    for (length, kept) in
        [(10, 14), (limits::PEER_ERROR_MAX - 4, limits::PEER_ERROR_MAX), (5000, limits::PEER_ERROR_MAX)]
    {
        let error = super::super::message::printable(text(length).as_bytes());
        assert_eq!(error.len(), kept);
        assert!(!error.contains('\u{1b}'));
    }
}

#[test]
fn excluded_nodes_are_read_to_their_limit() {
    for (count, read) in [
        (limits::EXCLUDED_NODES_MAX, limits::EXCLUDED_NODES_MAX),
        (limits::EXCLUDED_NODES_MAX + 1, limits::EXCLUDED_NODES_MAX),
    ] {
        let from = NodeId::new(keys().public(), Style::Spki);
        let node = |n: usize| {
            let mut key = [0; 32];
            key[..2].copy_from_slice(&(n as u16).to_be_bytes());
            NodeId::new(hyperswarm::crypto::PublicKey(key), Style::Spki)
        };
        let exclude = Some((0..count).map(node).collect());
        let id = WireId::from_bytes(b"a").unwrap();
        let message = Message::Seeking { sha1: crate::store::Sha1([1; 20]) };
        let frame =
            OutgoingFrame::new(Content::Own { from, id, message, exclude }).prepare(&signer()).unwrap();
        let mut reader = reader_of(from, Protocol::Daemon02, &KeyPair::from_seed(&[9; 32]));
        reader.buffer().extend_from_slice(&frame);
        match reader.next_message() {
            Ok(Some(Incoming::Broadcast(broadcast))) => assert_eq!(broadcast.exclude.len(), read),
            other => panic!("{other:?}"),
        }
    }
}
