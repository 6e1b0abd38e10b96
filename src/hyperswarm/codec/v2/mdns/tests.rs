use std::path::Path;

use super::*;

/// The datagrams captured between two original daemons.
fn vectors() -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v2/mdns.json");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let packets = json["packets"].as_array().unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    packets.iter().map(|p| (text(&p["kind"]), HEXLOWER.decode(text(&p["hex"]).as_bytes()).unwrap())).collect()
}

fn name(byte: u8) -> TopicName {
    TopicName([byte; 20])
}

fn service(byte: u8) -> Service {
    Service { name: name(byte), port: 4000, target: Ipv4Addr::UNSPECIFIED, id: Some(InstanceId([byte; 32])) }
}

#[test]
fn every_captured_packet_decodes_and_encodes_to_the_same_bytes() {
    let vectors = vectors();
    assert!(vectors.len() > 10);
    for (kind, bytes) in vectors {
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(matches!(message, Message::Query(_)), kind == "query");
        assert_eq!(HEXLOWER.encode(&message.encode()), HEXLOWER.encode(&bytes));
    }
}

#[test]
fn every_proper_prefix_of_a_captured_packet_is_an_error() {
    for (_, bytes) in vectors() {
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length]).is_err(), "prefix of {length} bytes");
        }
    }
}

#[test]
fn a_captured_answer_has_the_port_and_the_id_of_its_sender() {
    let (_, bytes) = vectors().into_iter().find(|(kind, _)| kind == "response").unwrap();
    let Message::Response(response) = Message::decode(&bytes).unwrap() else { panic!("a query") };
    let [service] = response.services[..] else { panic!("{response:?}") };
    assert_eq!(service.port, 0x9913);
    assert_eq!(service.target, Ipv4Addr::UNSPECIFIED);
    assert_eq!(service.id.unwrap().0[..4], [0x27, 0xc0, 0xc5, 0xb7]);
    assert_eq!(response.asker, None);
}

#[test]
fn claimed_counts_cost_nothing() {
    let mut bytes = vec![0; 4];
    bytes.extend([0xff; 8]);
    assert_eq!(Message::decode(&bytes), Err(DecodeError::Truncated("question name")));
}

#[test]
fn a_compressed_name_is_followed() {
    let plain = Message::Query(Query { questions: vec![name(1), name(1)], known: vec![] }).encode();
    let mut bytes = plain[..12 + 59 + 4].to_vec();
    bytes.extend([0xc0, 12, 0, 33, 0, 1]);
    assert_eq!(Message::decode(&bytes), Message::decode(&plain));
}

#[test]
fn a_name_that_points_at_itself_or_forward_is_refused() {
    for target in [12, 13, 14, 200] {
        let bytes = [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, target, 0, 33, 0, 1];
        assert_eq!(Message::decode(&bytes), Err(DecodeError::Name("question name")), "target {target}");
    }
}

/// A query for the root by a chain of `jumps` pointers.
fn chain(jumps: usize) -> Vec<u8> {
    // The chain lies in the data of a TXT answer; an additional record's name enters it at its end.
    let mut bytes = vec![0, 0, 0x84, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 16, 0, 1, 0, 0, 0, 0];
    let length = 1 + 2 * (jumps - 1);
    bytes.extend((length as u16).to_be_bytes());
    let mut last = bytes.len();
    bytes.push(0);
    for _ in 1..jumps {
        let next = bytes.len();
        bytes.extend([0xc0, last as u8]);
        last = next;
    }
    bytes.extend([0xc0, last as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes
}

#[test]
fn a_name_may_jump_as_often_as_the_limit_says_and_no_more() {
    assert!(Message::decode(&chain(MDNS_NAME_JUMPS)).is_ok());
    assert_eq!(Message::decode(&chain(MDNS_NAME_JUMPS + 1)), Err(DecodeError::Name("record name")));
}

#[test]
fn a_name_longer_than_255_bytes_is_refused() {
    let query = |labels: usize, last: u8| {
        let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for length in std::iter::repeat_n(63, labels).chain([last]) {
            bytes.push(length);
            bytes.extend(std::iter::repeat_n(b'a', usize::from(length)));
        }
        bytes.extend([0, 0, 33, 0, 1]);
        bytes
    };
    // Text: three labels of 63 with their dots, then the last.
    assert!(Message::decode(&query(3, 63)).is_ok());
    assert_eq!(Message::decode(&query(4, 1)), Err(DecodeError::Name("question name")));
}

#[test]
fn a_packet_keeps_as_many_records_as_the_limit_says_and_no_more() {
    let query =
        |count: usize| Message::Query(Query { questions: vec![name(7); count], known: vec![] }).encode();
    assert!(Message::decode(&query(MDNS_RECORDS_KEPT)).is_ok());
    assert_eq!(Message::decode(&query(MDNS_RECORDS_KEPT + 1)), Err(DecodeError::TooManyRecords));
}

#[test]
fn record_data_cannot_be_read_past_its_own_length() {
    let mut bytes = Message::Response(Response { services: vec![service(1)], asker: None }).encode();
    // Shorten the SRV record's claimed length, so that its target would have to be read from the next record.
    let at = 12 + 59 + 8;
    assert_eq!(bytes[at..at + 2], [0, 15]);
    bytes[at + 1] = 8;
    assert_eq!(Message::decode(&bytes), Err(DecodeError::Truncated("SRV target")));
}

#[test]
fn records_of_others_are_skipped() {
    let mut out = Vec::new();
    write_header(&mut out, FLAGS_ANSWER, 0, 2);
    write_record(&mut out, "printer.local", TYPE_A, &[10, 0, 0, 1]);
    write_service(&mut out, &Service { id: None, ..service(1) });
    let expected = Response { services: vec![Service { id: None, ..service(1) }], asker: None };
    assert_eq!(Message::decode(&out), Ok(Message::Response(expected)));
}

#[test]
fn two_instances_of_one_topic_keep_their_own_ids() {
    let services = vec![service(1), Service { id: Some(InstanceId([9; 32])), port: 5, ..service(1) }];
    let message = Message::Response(Response { services, asker: Some(Ipv4Addr::LOCALHOST) });
    assert_eq!(Message::decode(&message.encode()), Ok(message));
}

#[test]
fn an_empty_or_foreign_txt_record_is_no_id() {
    for data in [&[][..], &[0], &[3, b'i', b'd', b'='], &[4, b'n', b'o', b'p', b'e']] {
        let mut out = Vec::new();
        write_header(&mut out, FLAGS_ANSWER, 0, 1);
        write_record(&mut out, &name(1).text(), TYPE_TXT, data);
        assert_eq!(Message::decode(&out), Ok(Message::Response(Response::default())));
    }
}
