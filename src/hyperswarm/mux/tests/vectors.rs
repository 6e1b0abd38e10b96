//! `protomux.json`: what the original sends and does.

use serde_json::Value;

use super::*;
use crate::codec::compact::{Reader, Writer};

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v4/protomux.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("read vectors")).expect("parse vectors")
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|item| item.as_str().expect("a string")).collect()
}

/// Runs the script of one scenario.
fn play(name: &str, a: &mut Side, b: &mut Side) {
    match name {
        "open both, message both ways, close" => {
            let (of_a, of_b) = (a.open("test"), b.open("test"));
            settle(a, b);
            a.send(of_a, 0, b"\x05hello");
            b.send(of_b, 0, b"\x05world");
            settle(a, b);
            a.mux.close(of_a);
        }
        "open with 32-byte id and uint handshake" => {
            for (side, handshake) in [(&mut *a, [42].as_slice()), (b, &[0xfd, 0x2c, 1])] {
                let options = ChannelOptions { handshake: Bytes::copy_from_slice(handshake), ..options() };
                side.mux.open("test", &[0xaa; 32], options).expect("opens");
            }
        }
        "rejected open" => drop(a.open("nobody")),
        "two channels, corked batch" => {
            let of_a = [a.open("one"), a.open("two")];
            b.open("one");
            b.open("two");
            settle(a, b);
            a.mux.cork();
            a.send(of_a[0], 0, b"\x01a");
            a.send(of_a[0], 1, &[0xfd, 0xe8, 3]);
            a.send(of_a[1], 0, b"\x01b");
            a.mux.uncork();
        }
        "corked open and message" => {
            b.open("test");
            a.mux.cork();
            let of_a = a.open("test");
            a.send(of_a, 0, b"\x09pipelined");
            a.mux.uncork();
        }
        "pipelined message before remote pairs" => {
            b.mux.pair("late", b"");
            let of_a = a.open("late");
            a.send(of_a, 0, b"\x05early");
            settle(a, b);
            assert_eq!(b.bodies(), [], "B has not decided");
            let incoming = b.incoming(0);
            b.mux.accept(incoming, options()).expect("accepts");
            b.poll(|_, _| {});
        }
        other => panic!("unknown scenario {other}"),
    }
    settle(a, b);
}

/// The events of one side as the vectors write them; a local close is written there as well.
fn written_events(side: &Side) -> Vec<(String, Value)> {
    let text = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        match bytes.len() {
            0 => Value::Null,
            length if bytes[0] as usize == length - 1 && length > 1 => {
                reader.string("value").expect("a string").into_owned().into()
            }
            _ => reader.uint("value").expect("a number").into(),
        }
    };
    let of = |event: &Event| match event {
        Event::Opened { handshake, .. } => Some(("open".to_owned(), text(handshake))),
        Event::Message { kind, body, .. } => Some((format!("message{kind}"), text(body))),
        Event::Closed { .. } => Some(("close".to_owned(), Value::Null)),
        _ => None,
    };
    side.events.iter().filter_map(of).collect()
}

#[test]
fn scenarios_give_the_bytes_and_events_of_the_original_on_both_sides() {
    let vectors = vectors();
    let scenarios = vectors["scenarios"].as_array().expect("a list");
    assert_eq!(scenarios.len(), 6);
    for scenario in scenarios {
        let name = scenario["name"].as_str().expect("a name");
        let (mut a, mut b) = (Side::new(), Side::new());
        play(name, &mut a, &mut b);
        for (side, label) in [(&a, "A"), (&b, "B")] {
            let written: Vec<_> = side.written.iter().map(|message| HEXLOWER.encode(message)).collect();
            assert_eq!(written, strings(&scenario[format!("{label}_writes")]), "{name}: {label}");
            let closed_itself = label == "A" && name.ends_with("close");
            let expected: Vec<_> = scenario["events"]
                .as_array()
                .expect("a list")
                .iter()
                .filter(|event| event["side"] == label && !(closed_itself && event["event"] == "close"))
                .map(|event| (event["event"].as_str().expect("a name").to_owned(), event["value"].clone()))
                .collect();
            assert_eq!(written_events(side), expected, "{name}: {label}");
        }
    }
}

#[test]
fn unusual_input_is_ignored_or_destroys_the_connection_as_with_the_original() {
    let vectors = vectors();
    let cases = vectors["raw_input"].as_array().expect("a list");
    assert_eq!(cases.len(), 13);
    for case in cases {
        let mut side = Side::new();
        side.open("test");
        side.replies();
        for message in strings(&case["fed"]) {
            side.feed(message);
        }
        let expected = case["events"].as_array().expect("a list").iter();
        let expected: Vec<_> =
            expected.map(|event| event["event"].as_str().expect("a name").to_owned()).collect();
        let events: Vec<_> = written_events(&side).into_iter().map(|(name, _)| name).collect();
        assert_eq!(events, expected, "{case}");
        assert_eq!(side.replies(), strings(&case["replies"]), "{case}");
        assert_eq!(side.error().is_some(), case["destroyed"] == true, "{case}");
    }
}

#[test]
fn messages_of_the_blind_relay_are_framed_as_by_the_original() {
    let vectors = vectors();
    let session = &vectors["blind_relay"][3];
    let client = strings(&session["client_writes"]);
    let mut side = Side::new();
    let channel = side.mux.open("blind-relay", &[0xcc; 32], options()).expect("opens");
    for frame in &client[1..] {
        let frame = bytes(frame);
        side.send(channel, frame[1].into(), &frame[2..]);
    }
    assert_eq!(side.replies(), client);
    let pair = &vectors["blind_relay"][0];
    let mut body = Writer::new();
    body.bool(true).raw(&bytes(pair["value"]["token"].as_str().expect("hex"))).uint(5).uint(0);
    let mut relay = Side::new();
    relay.mux.open("blind-relay", &[0xcc; 32], options()).expect("opens");
    relay.feed(client[0]);
    relay.feed(&format!("0100{}", pair["hex"].as_str().expect("hex")));
    assert_eq!(relay.bodies(), [(0, &*body.finish())]);
}

#[test]
fn every_proper_prefix_of_a_control_frame_destroys_the_connection() {
    for (whole, handshake) in [("000101047465737400", 0), ("0000011f000568656c6c6f", 8), ("000301", 0)] {
        for length in 1..bytes(whole).len() - handshake {
            let mut side = Side::new();
            side.feed_bytes(&bytes(whole)[..length]);
            assert!(side.error().is_some(), "{whole} cut to {length} bytes");
        }
    }
}
