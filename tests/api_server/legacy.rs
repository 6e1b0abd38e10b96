//! Every endpoint of the daemons 0.1.2 and 0.2.1, byte by byte, as both generations of the Python client call them.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{Reply, connect, get, parse, post, send};
use crate::scripted::{HASH, LoadScript, NODE_ID, Script, found, start};
use kachery_p2p::limits::{
    MAX_API_BODY_BYTES, MAX_API_DISCARDED_BYTES, MAX_API_FIND_TIMEOUT, MAX_API_HEADER_BYTES,
};
use kachery_p2p::node::{ChannelStatus, LoadError, Loaded};

const SUCCESS: &str = "{\n    \"success\": true\n}";

fn assert_json(reply: &Reply, body: &str) {
    assert_eq!((reply.status, reply.text()), (200, body));
    assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(reply.header("content-length"), Some(body.len().to_string().as_str()));
    assert!(reply.header("access-control-allow-origin").is_none(), "the originals have no CORS");
}

/// 200 without a type, in chunks.
fn assert_raw(reply: &Reply, body: &[u8]) {
    assert_eq!((reply.status, reply.body.as_slice()), (200, body));
    assert_eq!(reply.header("content-type"), None);
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
}

fn frame(size: u64) -> String {
    let json = format!(
        r#"{{"primaryNodeId":"{NODE_ID}","swarmName":"{NODE_ID}","fileKey":{{"sha1":"{HASH}"}},"fileInfo":{{"size":{size},"sha1":"{HASH}"}}}}"#
    );
    format!("{}#{json}", json.len())
}

#[tokio::test]
async fn probe_answers_success() {
    let api = start(Script::default()).await;
    assert_json(&send(api.port, get("/probe")).await, SUCCESS);
}

#[tokio::test]
async fn localhost_by_ipv6_is_served_where_the_machine_has_it() {
    let api = start(Script::default()).await;
    let Ok(mut socket) = tokio::net::TcpStream::connect(("::1", api.port)).await else {
        // Without IPv6 the client falls back to 127.0.0.1.
        assert!(
            std::net::TcpListener::bind(("::1", 0)).is_err(),
            "IPv6 works here, but the API is not on it"
        );
        return;
    };
    socket.write_all(get("/probe").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_json(&parse(&answer), SUCCESS);
}

#[tokio::test]
async fn halt_answers_success_and_stops_the_daemon() {
    let api = start(Script::default()).await;
    assert_json(&send(api.port, get("/halt")).await, SUCCESS);
    assert!(api.halt.is_cancelled());
}

#[tokio::test]
async fn get_state_lists_channels_in_join_order() {
    let api = start(Script::default()).await;
    let none = "{\n    \"success\": true,\n    \"state\": {\n        \"channels\": []\n    }\n}";
    assert_json(&send(api.port, post("/getState", "{}")).await, none);
    api.node.script.lock().unwrap().channels = vec![
        ChannelStatus { name: "zebra".into(), peers: 3 },
        ChannelStatus { name: "a \"quoted\" \u{e9}".into(), peers: 0 },
    ];
    let two = "{\n    \"success\": true,\n    \"state\": {\n        \"channels\": [\n            {\n                \
               \"name\": \"zebra\",\n                \"numPeers\": 3\n            },\n            {\n                \
               \"name\": \"a \\\"quoted\\\" \u{e9}\",\n                \"numPeers\": 0\n            }\n        ]\n    }\n}";
    assert_json(&send(api.port, post("/getState", "{}")).await, two);
    // The body is ignored, whatever it is.
    assert_json(&send(api.port, post("/getState", "[1]")).await, two);
    assert_json(&send(api.port, post("/getState", "")).await, two);
}

#[tokio::test]
async fn channels_are_joined_and_left_also_twice() {
    let api = start(Script::default()).await;
    let name = r#"{"channelName": "a b/c"}"#;
    for path in ["/joinChannel", "/joinChannel", "/leaveChannel", "/leaveChannel"] {
        assert_json(&send(api.port, post(path, name)).await, SUCCESS);
    }
    assert_eq!(api.calls(), ["join a b/c", "join a b/c", "leave a b/c", "leave a b/c"]);
}

#[tokio::test]
async fn a_channel_without_a_usable_name_is_an_error_the_client_raises() {
    let api = start(Script::default()).await;
    let cases = [
        ("{}", "channelName: missing"),
        (r#"{"channelName": 7}"#, "channelName: expected a string"),
        (r#"{"channelName": ""}"#, "channel name: must not be empty"),
    ];
    for (body, error) in cases {
        for path in ["/joinChannel", "/leaveChannel"] {
            let expected = format!("{{\n    \"success\": false,\n    \"error\": \"{error}\"\n}}");
            assert_json(&send(api.port, post(path, body)).await, &expected);
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_get_expresss_404_page() {
    let api = start(Script::default()).await;
    let cases = [
        (get("/nothing"), "Cannot GET /nothing"),
        (get("/"), "Cannot GET /"),
        (get("/joinChannel?x=1"), "Cannot GET /joinChannel"),
        (post("/probe", "{}"), "Cannot POST /probe"),
        (get("/a&b"), "Cannot GET /a&amp;b"),
        (get("/probe/"), "Cannot GET /probe/"),
    ];
    for (request, message) in cases {
        let reply = send(api.port, request).await;
        assert_eq!(reply.status, 404, "{message}");
        assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(reply.text().starts_with("<!DOCTYPE html>\n<html lang=\"en\">\n"), "{}", reply.text());
        assert!(reply.text().contains(&format!("<pre>{message}</pre>")), "{}", reply.text());
    }
}

#[tokio::test]
async fn malformed_json_gets_a_400_page() {
    let api = start(Script::default()).await;
    for body in ["{", "nonsense", "\"text\"", "7", "null", "{\"a\":1}x", "{\"channelName\":\"\\ud800\"}"] {
        let reply = send(api.port, post("/joinChannel", body)).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (400, Some("text/html; charset=utf-8")),
            "{body}"
        );
        assert!(reply.text().contains("<pre>SyntaxError: "), "{}", reply.text());
    }
    assert_eq!(api.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_of_100_kb_passes_and_one_byte_more_is_413() {
    let api = start(Script::default()).await;
    let padded = |length: usize| {
        let body = r#"{"channelName": "a"}"#;
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    assert_json(&send(api.port, post("/joinChannel", &padded(MAX_API_BODY_BYTES))).await, SUCCESS);
    let reply = send(api.port, post("/joinChannel", &padded(MAX_API_BODY_BYTES + 1))).await;
    assert_eq!((reply.status, reply.header("content-type")), (413, Some("text/html; charset=utf-8")));
    // Read to its end so that the client sees the answer, but not without end.
    let reply = send(api.port, post("/joinChannel", &padded(MAX_API_DISCARDED_BYTES))).await;
    assert_eq!(reply.status, 413);
    let endless = "POST /joinChannel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let mut socket = connect(api.port).await;
    let head = format!("{endless}Content-Length: {}\r\n\r\n", 100 * MAX_API_DISCARDED_BYTES);
    socket.write_all(head.as_bytes()).await.unwrap();
    let sent = socket.write_all(&vec![b' '; 100 * MAX_API_DISCARDED_BYTES]).await;
    assert!(sent.is_err(), "all of an endless body was read");
    assert_eq!(api.calls(), ["join a"]);
}

#[tokio::test]
async fn a_head_over_its_limit_is_refused() {
    let api = start(Script::default()).await;
    let with_head = |length: usize| {
        let start = "GET /probe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    assert_eq!(send(api.port, with_head(MAX_API_HEADER_BYTES - 1)).await.status, 200);
    assert_eq!(send(api.port, with_head(MAX_API_HEADER_BYTES + 1)).await.status, 431);
}

#[tokio::test]
async fn find_file_streams_frames_until_the_time_out() {
    let api =
        start(Script { found: vec![found(123), found(9_007_199_254_740_991)], ..Script::default() }).await;
    let request = format!(r#"{{"fileKey": {{"sha1": "{HASH}"}}, "timeoutMsec": 50}}"#);
    let reply = send(api.port, post("/findFile", &request)).await;
    assert_raw(&reply, format!("{}{}", frame(123), frame(9_007_199_254_740_991)).as_bytes());
    assert_eq!(api.calls(), [format!("find {HASH} 50 ms")]);
}

#[tokio::test]
async fn find_file_tells_each_find_at_once_and_ends_when_the_client_hangs_up() {
    let mut api = start(Script { found: vec![found(123)], ..Script::default() }).await;
    let mut socket = connect(api.port).await;
    // As the Python client: no timeoutMsec.
    let request = post("/findFile", &format!(r#"{{"fileKey": {{"sha1": "{HASH}"}}}}"#));
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(format!("{}\r\n", frame(123)).as_bytes()) {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0, "ended before the find");
    }
    assert_eq!(api.calls(), [format!("find {HASH} 4000 ms")]);
    drop(socket);
    assert_eq!(api.dropped.recv().await, Some("find"));
}

#[tokio::test]
async fn find_file_sends_its_headers_before_anything_is_found() {
    let api = start(Script::default()).await;
    let mut socket = connect(api.port).await;
    let request =
        post("/findFile", &format!(r#"{{"fileKey": {{"sha1": "{HASH}"}}, "timeoutMsec": 600000}}"#));
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    assert!(seen.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[tokio::test]
async fn find_file_is_200_and_empty_when_the_hash_is_unusable() {
    let api = start(Script { found: vec![found(1)], ..Script::default() }).await;
    for key in [
        "{}",
        "7",
        r#"{"sha1": 7}"#,
        r#"{"sha1": "../etc"}"#,
        r#"{"sha1": "8843D7F92416211DE9EBB963FF4CE28125932878"}"#,
    ] {
        let reply = send(api.port, post("/findFile", &format!(r#"{{"fileKey": {key}}}"#))).await;
        assert_raw(&reply, b"");
    }
    assert_raw(&send(api.port, post("/findFile", "{}")).await, b"");
    assert_eq!(api.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn the_longest_search_is_bounded() {
    let api = start(Script::default()).await;
    let longest = MAX_API_FIND_TIMEOUT.as_millis() as u64;
    for (wanted, granted) in
        [(json!(longest), longest), (json!(longest + 1), longest), (json!(1e300), longest), (json!(-5), 0)]
    {
        let mut socket = connect(api.port).await;
        let body = json!({"fileKey": {"sha1": HASH}, "timeoutMsec": wanted}).to_string();
        socket.write_all(post("/findFile", &body).as_bytes()).await.unwrap();
        socket.read_u8().await.unwrap();
        assert_eq!(api.calls().last(), Some(&format!("find {HASH} {granted} ms")), "{wanted}");
    }
}

#[tokio::test]
async fn download_file_sends_the_verified_content() {
    let api = start(Script::default()).await;
    let content: Vec<u8> = (0..700_000_u32).map(|i| (i % 251) as u8).collect();
    let path = api.root.join("content");
    std::fs::write(&path, &content).unwrap();
    let loaded = Loaded { path, size: content.len() as u64, downloaded: 5 };
    api.node.script.lock().unwrap().load = Some(LoadScript::Done(loaded));
    // 0.2.1 sends the size, 0.1.2 does not; unknown fields are ignored.
    let new = format!(
        r#"{{"primaryNodeId": "{NODE_ID}", "swarmName": "{NODE_ID}", "fileKey": {{"sha1": "{HASH}"}}, "fileSize": 700000}}"#
    );
    let old = format!(
        r#"{{"primaryNodeId": "{NODE_ID}", "swarmName": "{NODE_ID}", "fileKey": {{"sha1": "{HASH}"}}, "opts": {{}}}}"#
    );
    assert_raw(&send(api.port, post("/downloadFile", &new)).await, &content);
    assert_raw(&send(api.port, post("/downloadFile", &old)).await, &content);
    let calls = [
        format!("load {HASH} Some((\"{NODE_ID}\", Some(700000))) 30 s"),
        format!("load {HASH} Some((\"{NODE_ID}\", None)) 30 s"),
    ];
    assert_eq!(api.calls(), calls);
}

#[tokio::test]
async fn a_failed_download_is_200_and_empty_so_that_the_client_tries_the_next_provider() {
    let api = start(Script::default()).await;
    let request = post(
        "/downloadFile",
        &format!(r#"{{"primaryNodeId": "{NODE_ID}", "fileKey": {{"sha1": "{HASH}"}}}}"#),
    );
    let failures = [
        LoadScript::Fail(LoadError::Verification { liars: vec![NODE_ID.into()] }),
        LoadScript::Fail(LoadError::NotFound { asked: 1, within: Duration::from_secs(1) }),
        LoadScript::Done(Loaded { path: "/does/not/exist".into(), size: 1, downloaded: 1 }),
    ];
    for failure in failures {
        api.node.script.lock().unwrap().load = Some(failure);
        assert_raw(&send(api.port, &request).await, b"");
    }
    assert_raw(&send(api.port, post("/downloadFile", "{}")).await, b"");
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_its_download() {
    let mut api = start(Script { load: Some(LoadScript::Hang), ..Script::default() }).await;
    let mut socket = connect(api.port).await;
    let request = post(
        "/downloadFile",
        &format!(r#"{{"primaryNodeId": "{NODE_ID}", "fileKey": {{"sha1": "{HASH}"}}}}"#),
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.read_u8().await.unwrap();
    drop(socket);
    assert_eq!(api.dropped.recv().await, Some("load"));
}
