//! RELIABILITY 2: no decoder of kachery's messages allocates more than 64 times its input and 4 KiB; a manifest of a
//! folder takes no more than three times its text and 4 MiB to look up.

#[path = "../src/hyperswarm/tests/counting/mod.rs"]
mod counting;

use counting::peak;
use data_encoding::HEXLOWER;
use hyperswarm::crypto::KeyPair;
use kachery_p2p::node::legacy::{ConnectionReader, Direction, Incoming, NodeId, Protocol, Style, json};

/// JSON texts that make a parser build as much as it can from as little as possible.
fn json_texts() -> Vec<String> {
    let units =
        ["1", "[]", "{}", "\"\"", "\"\\n\"", "[1]", "{\"\":1}", "{\"\":{}}", "[[[[]]]]", "{\"1\":1,\"0\":0}"];
    let repeated = |unit: &str, count: usize| vec![unit; count].join(",");
    let mut texts = Vec::new();
    for count in [1, 10, 1000, 4000, 100_000] {
        texts.extend(units.iter().map(|unit| format!("[{}]", repeated(unit, count))));
        let keys: Vec<_> = (0..count).map(|n| format!("\"{n}\":1")).collect();
        texts.push(format!("{{{}}}", keys.join(",")));
        texts.push(format!("{{{}}}", repeated("\"a\":1", count)));
        texts.push(format!("\"{}\"", "\\u0041".repeat(count)));
        texts.push("[".repeat(count));
        texts.push("{\"a\":".repeat(count));
    }
    texts
}

/// A connection whose other side, of this key, sent its `initial`.
fn connection(protocol: Protocol, neighbour: &KeyPair) -> ConnectionReader {
    let own = KeyPair::from_seed(&[9; 32]).public();
    let mut reader = ConnectionReader::new(protocol, own, Direction::Accepted);
    let (node, protocol) = (NodeId::new(neighbour.public(), Style::Spki), protocol.name());
    let initial = format!(
        "{{\"type\":\"initial\",\"from\":\"server\",\"nodeId\":\"{node}\",\"protocolVersion\":\"{protocol}\"}}"
    );
    reader.buffer().extend_from_slice(&frame(&initial));
    assert!(matches!(reader.next_message(), Ok(Some(Incoming::Initial(_)))));
    reader
}

fn frame(text: &str) -> Vec<u8> {
    format!("{}#{text}", text.len()).into_bytes()
}

/// What the neighbour signs: a broadcast of this message, with further fields.
fn signed_broadcast(neighbour: &KeyPair, message: &str, more: &str) -> Vec<u8> {
    let node = NodeId::new(neighbour.public(), Style::Spki);
    let body = format!(
        "{{\"type\":\"broadcast\",\"fromNodeId\":\"{node}\",\"body\":{{\"messageId\":\"m\",\"message\":{message}}},\"signature\":\"{}\"{more}}}",
        "0".repeat(128)
    );
    // Signed is what JavaScript would print.
    let mut canonical = Vec::new();
    match json::parse(body.as_bytes()) {
        Ok(value) => json::write_value(&value, &mut canonical),
        Err(_) => canonical.extend_from_slice(body.as_bytes()),
    }
    let signature = HEXLOWER.encode(&neighbour.sign(&canonical).0);
    frame(&format!("{{\"body\":{body},\"signature\":\"{signature}\"}}"))
}

/// Messages of which a reader keeps much, and fields beside them.
fn long_messages() -> Vec<(String, String)> {
    let own = NodeId::new(KeyPair::from_seed(&[9; 32]).public(), Style::Spki);
    let sha1 = "58ac22564e311f416069450ea36b2d08072753af";
    let to_node = |body: &str| {
        format!(
            "{{\"type\":\"messageToNode\",\"toNodeId\":\"{own}\",\"messageBody\":{{\"requestId\":\"r\",{body}}}}}"
        )
    };
    let mut all: Vec<_> = json_texts()
        .into_iter()
        .map(|text| (format!("{{\"type\":\"other\",\"x\":{text}}}"), String::new()))
        .collect();
    for length in [4, 4000, 400_000] {
        let data = "QUJD".repeat(length / 4);
        for body in [
            format!("\"type\":\"requestToNodeResponse\",\"responseBody\":{{\"data_b64\":\"{data}\"}}"),
            format!("\"type\":\"requestToNodeError\",\"errorString\":\"{data}\""),
        ] {
            all.push((to_node(&body), String::new()));
        }
        let excluded: Vec<_> = (0..length / 40).map(|n| format!("\"{n:064x}\":true")).collect();
        let seeking = format!("{{\"type\":\"seeking\",\"fileKey\":{{\"sha1\":\"{sha1}\"}}}}");
        all.push((seeking, format!(",\"excludeNodeIds\":{{{}}}", excluded.join(","))));
    }
    all.push((
        format!("{{\"type\":\"requestToNode\",\"toNodeId\":\"{own}\",\"requestId\":\"r\",\"requestBody\":{{\"type\":\"downloadFile\",\"fileKey\":{{\"sha1\":\"{sha1}\"}}}}}}"),
        String::new(),
    ));
    all
}

#[test]
fn frames_of_kachery_messages_allocate_in_proportion_to_their_input() {
    let neighbour = KeyPair::from_seed(&[7; 32]);
    let (mut worst, mut understood) = (0.0f64, 0);
    let mut check = |bytes: usize, input: &[u8]| {
        let bar = 64 * input.len() + 4096;
        let begin = String::from_utf8_lossy(&input[..input.len().min(400)]);
        assert!(bytes <= bar, "{bytes} bytes for {} of {begin}", input.len());
        worst = worst.max(bytes as f64 / bar as f64);
    };
    for text in json_texts() {
        let write_again = || {
            let mut out = Vec::new();
            if let Ok(value) = json::parse(text.as_bytes()) {
                json::write_value(&value, &mut out);
            }
        };
        check(peak(write_again), text.as_bytes());
    }
    for protocol in Protocol::ALL {
        for (message, more) in long_messages() {
            let frames = signed_broadcast(&neighbour, &message, &more);
            for frames in [frame(&message), frames] {
                let mut reader = connection(protocol, &neighbour);
                let bytes = peak(|| {
                    reader.buffer().extend_from_slice(&frames);
                    while let Ok(Some(incoming)) = reader.next_message() {
                        understood += usize::from(matches!(incoming, Incoming::Broadcast(_)));
                    }
                });
                check(bytes, &frames);
            }
        }
    }
    assert!(understood > 80, "only {understood} broadcasts were read");
    let mut reader = connection(Protocol::Daemon02, &neighbour);
    let announced = peak(|| {
        reader.buffer().extend_from_slice(b"1048576#{");
        assert!(matches!(reader.next_message(), Ok(None)));
    });
    assert!(announced <= 4096, "an announced length alone took {announced} bytes");
    println!("check 2: measured {worst:.3} of the bound (kachery frames), bar 1, seed none");
}

/// A manifest of `files` files, in one folder or with as many folders of ten.
fn manifest(files: usize, name: &str, nested: bool) -> String {
    let entry =
        |number: usize| format!("\"{name}{number}\": {{\"size\": {number}, \"sha1\": \"{number:040x}\"}}");
    if !nested {
        let entries: Vec<_> = (0..files).map(entry).collect();
        return format!("{{\"files\": {{{}}}, \"dirs\": {{}}}}", entries.join(", "));
    }
    let folder = |folder: usize| {
        let entries: Vec<_> = (10 * folder..10 * folder + 10).map(entry).collect();
        format!("\"{name}{folder}\": {{\"files\": {{{}}}, \"dirs\": {{}}}}", entries.join(", "))
    };
    let folders: Vec<_> = (0..files / 10).map(folder).collect();
    format!("{{\"files\": {{}}, \"dirs\": {{{}}}}}", folders.join(", "))
}

#[test]
fn a_manifest_takes_at_most_three_times_its_text() {
    use kachery_p2p::store::{Named, PutOptions, Store};
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(folder.path()).expect("store");
    let mut worst = 0.0f64;
    for (files, name, nested, path) in [
        (450_000, "recording_of_the_day_", false, ""),
        (45_000, "recording_of_the_day_", true, "recording_of_the_day_4499"),
        (39_001, "", false, ""),
        (45_000, "", true, ""),
    ] {
        let text = manifest(files, name, nested);
        let stored = store.put_reader(&mut text.as_bytes(), &PutOptions::default()).expect("stored");
        let uri = format!("sha1dir://{}/{path}", stored.hash).parse().expect("uri");
        let bytes = peak(|| match store.look_up(&uri) {
            Ok(Named::Directory(found)) => assert!(found.files.len() == files || nested),
            other => panic!("{other:?}"),
        });
        let bar = 3 * text.len() + (4 << 20);
        println!(
            "{files} files, {} bytes: {bytes} bytes, {:.2} times",
            text.len(),
            bytes as f64 / text.len() as f64
        );
        assert!(bytes <= bar, "{bytes} bytes for a manifest of {}", text.len());
        worst = worst.max(bytes as f64 / bar as f64);
    }
    println!("check 2: measured {worst:.3} of the bound (manifests), bar 1, seed none");
}
