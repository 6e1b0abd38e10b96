//! Against what @hyperswarm/secret-stream 6.9.2 wrote.

use super::*;

fn vectors() -> Value {
    crate::crypto::vectors("secret-stream.json")
}

const SIDES: [(&str, bool); 2] = [("initiator", true), ("responder", false)];

/// What one side wrote: header, then frames.
fn wire(side: &Value) -> Vec<u8> {
    let mut wire = hex(&side["header_message"]);
    for frame in side["frames"].as_array().expect("a list") {
        wire.extend(hex(&frame["frame"]));
    }
    wire
}

fn plaintexts(side: &Value) -> Vec<Bytes> {
    side["frames"].as_array().expect("a list").iter().map(|frame| hex(&frame["plaintext"]).into()).collect()
}

#[test]
fn headers_and_frames_are_those_of_the_original() {
    let vectors = vectors();
    for (name, initiator) in SIDES {
        let side = &vectors[name];
        let header = hex(&side["secretstream_header"]).try_into().expect("24 bytes");
        let (mut sender, first) = Sender::new(&keys(initiator), &header);
        assert_eq!(first, hex(&side["header_message"]), "{name}");
        assert_eq!(stream_id(&keys(initiator), initiator).to_vec(), hex(&side["stream_id"]), "{name}");
        for frame in side["frames"].as_array().expect("a list") {
            let mut sealed = Vec::new();
            sender.seal(&hex(&frame["plaintext"]), &mut sealed).expect("short enough");
            assert_eq!(sealed, hex(&frame["frame"]), "{name}");
        }
    }
}

#[test]
fn recorded_streams_are_read_however_they_are_cut() {
    let vectors = vectors();
    for (name, initiator) in SIDES {
        let wire = Bytes::from(wire(&vectors[name]));
        for size in (1..200).chain([wire.len()]) {
            let mut receiver = Receiver::new(&keys(!initiator), MAX_SECRET_FRAME_BYTES);
            let mut messages = Vec::new();
            for at in (0..wire.len()).step_by(size) {
                receiver.receive(wire.slice(at..wire.len().min(at + size)));
                messages.extend(drain(&mut receiver).expect("authentic"));
            }
            assert_eq!(messages, plaintexts(&vectors[name]), "{name} in pieces of {size}");
            assert_eq!(receiver.end(), Ok(()));
        }
    }
}

#[test]
fn unordered_messages_are_those_of_the_original() {
    let vectors = vectors();
    for (name, initiator) in SIDES {
        let messages = vectors["unordered"][name].as_array().expect("a list");
        assert!(messages.len() >= 2);
        let counter = hex(&messages[0]["counter"]).try_into().expect("8 bytes");
        let mut sealer = MessageSealer::new(&keys(initiator), u64::from_le_bytes(counter).wrapping_sub(1));
        let opener = MessageOpener::new(&keys(!initiator));
        for message in messages {
            let envelope = hex(&message["envelope"]);
            assert_eq!(sealer.seal(&hex(&message["plaintext"])).expect("a counter"), envelope);
            assert_eq!(opener.open(&envelope).expect("authentic"), hex(&message["plaintext"]));
        }
    }
}

#[test]
fn stream_ids_belong_to_the_handshake_hash_of_a_recorded_session() {
    let session = &vectors()["inband_XX"];
    let mut keys = keys(true);
    keys.handshake_hash = hex(&session["handshake_hash"]).try_into().expect("64 bytes");
    for (name, initiator) in SIDES {
        let writes = session[format!("{name}_writes")].as_array().expect("a list");
        let header = writes.iter().map(hex).find(|frame| frame[0] == 0x38).expect("a header");
        assert_eq!(header[3..35], stream_id(&keys, initiator));
    }
}
