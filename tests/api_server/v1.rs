//! The endpoints of our own command line.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http::{connect, finish, get, post, send};
use crate::scripted::{HASH, LoadScript, NODE_ID, Running, Script, found, start};
use kachery_p2p::limits::MAX_API_LOADS;
use kachery_p2p::node::{ChannelStatus, LoadError, Loaded};

fn sha1_body() -> String {
    json!({"sha1": HASH}).to_string()
}

#[tokio::test]
async fn node_info_and_status_say_who_runs_where() {
    let api = start(Script {
        channels: vec![ChannelStatus { name: "neuro".into(), peers: 2 }],
        ..Script::default()
    })
    .await;
    let info = send(api.port, get("/api/v1/node-info")).await.json();
    assert_eq!(info["pid"], 42);
    assert_eq!(info["api_port"], api.port);
    assert_eq!(info["node_id"], NODE_ID);
    assert_eq!(info["config_dir"], "/config");
    let status = send(api.port, get("/api/v1/status")).await.json();
    assert_eq!(status["version"], "1.2.3");
    assert_eq!(status["channels"], json!([{"name": "neuro", "peers": 2}]));
    assert_eq!(status["bytes_downloaded"], 7);
}

#[tokio::test]
async fn joining_and_leaving_answer_the_channels_there_are_now() {
    let api = start(Script::default()).await;
    let join = send(api.port, post("/api/v1/channels/join", r#"{"channel": "a"}"#)).await;
    assert_eq!((join.status, join.json()), (200, json!({"channels": [{"name": "a", "peers": 0}]})));
    let leave = send(api.port, post("/api/v1/channels/leave", r#"{"channel": "a"}"#)).await;
    assert_eq!(leave.json(), json!({"channels": []}));
    assert_eq!(send(api.port, get("/api/v1/channels")).await.json(), json!({"channels": []}));
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let api = start(Script::default()).await;
    let cases = [
        ("channels/join", "{}", "channel: expected a string"),
        ("channels/join", r#"{"channel": ""}"#, "channel name: must not be empty"),
        ("channels/leave", "[]", "the body is not a JSON object"),
        ("find", "{}", "sha1: expected a string"),
        ("load", r#"{"sha1": "xyz"}"#, "sha1: not a SHA-1"),
        (
            "load",
            &format!(r#"{{"sha1": "{HASH}", "timeout_ms": -1}}"#),
            "timeout_ms: expected a whole number",
        ),
        ("cancel", "{}", "load: expected the number"),
    ];
    for (path, body, message) in cases {
        let reply = send(api.port, post(&format!("/api/v1/{path}"), body)).await;
        assert_eq!(reply.status, 400, "{path} {body}");
        let error = &reply.json()["error"];
        assert_eq!(error["code"], "usage");
        assert!(error["message"].as_str().unwrap().starts_with(message), "{error}");
    }
}

#[tokio::test]
async fn find_tells_peers_finds_and_a_result() {
    let api = start(Script { found: vec![found(5)], ..Script::default() }).await;
    let body = json!({"sha1": HASH, "timeout_ms": 20}).to_string();
    let lines = send(api.port, post("/api/v1/find", &body)).await.lines();
    let expected = [
        json!({"type": "searching", "channels": 0, "peers": 2}),
        json!({"type": "found", "primaryNodeId": NODE_ID, "swarmName": NODE_ID, "fileKey": {"sha1": HASH},
            "fileInfo": {"size": 5, "sha1": HASH}, "channel": "neuro", "protocol": "kachery-p2p-3"}),
        json!({"type": "result", "found": 1, "channels": 0, "peers": 2}),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn load_tells_its_number_progress_and_the_result() {
    let loaded = Loaded { path: "/store/x".into(), size: 10, downloaded: 3 };
    let api = start(Script { load: Some(LoadScript::Done(loaded)), ..Script::default() }).await;
    let reply = send(api.port, post("/api/v1/load", &sha1_body())).await;
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let lines = reply.lines();
    assert_eq!(lines.first(), Some(&json!({"type": "started", "load": 1})));
    let end = json!({"type": "result", "path": "/store/x", "size": 10, "downloaded": 3});
    assert_eq!(lines.last(), Some(&end));
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_code() {
    let timeout = std::time::Duration::from_secs(60);
    let api = start(Script::default()).await;
    let failures = [
        (LoadError::NoChannel, "no_channel"),
        (LoadError::NoPeers { channels: "a".into() }, "no_peers"),
        (LoadError::NotFound { asked: 3, within: timeout }, "not_found"),
        (LoadError::Transfer { reasons: vec![("n".into(), "silent".into())] }, "transfer"),
        (LoadError::Verification { liars: vec!["n".into()] }, "verification"),
        (LoadError::Timeout(timeout), "timeout"),
        (LoadError::NotAsked { providers: vec!["n".into()], size: 1000 }, "not_asked"),
        (LoadError::StoreFull("full".into()), "disk"),
        (LoadError::StoreUnwritable("no".into()), "disk"),
        (LoadError::TooManyOpenFiles("EMFILE".into()), "open_files"),
        (LoadError::Fault("bug".into()), "other"),
        (LoadError::Cancelled, "cancelled"),
        (LoadError::Stopped, "no_daemon"),
    ];
    for (error, code) in failures {
        let message = error.to_string();
        api.node.script.lock().unwrap().load = Some(LoadScript::Fail(error));
        let lines = send(api.port, post("/api/v1/load", &sha1_body())).await.lines();
        assert_eq!(lines.last(), Some(&json!({"type": "error", "code": code, "message": message})));
    }
}

/// Starts a load and reads its first line, the number.
async fn begin(api: &Running) -> (tokio::net::TcpStream, u64) {
    let mut socket = connect(api.port).await;
    socket.write_all(post("/api/v1/load", &sha1_body()).as_bytes()).await.unwrap();
    let mut seen = String::new();
    loop {
        let mut bytes = [0; 1000];
        let count = socket.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "ended before its number: {seen}");
        seen.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        if let Some(line) = seen.lines().find(|line| line.contains("started")) {
            let line: Value = serde_json::from_str(line).unwrap();
            return (socket, line["load"].as_u64().unwrap());
        }
    }
}

#[tokio::test]
async fn a_load_is_cancelled_by_its_number() {
    let mut api = start(Script { load: Some(LoadScript::Hang), ..Script::default() }).await;
    let (mut socket, number) = begin(&api).await;
    let other = post("/api/v1/cancel", &json!({"load": number + 1}).to_string());
    assert_eq!(send(api.port, other).await.json(), json!({"cancelled": false}));
    let own = post("/api/v1/cancel", &json!({"load": number}).to_string());
    assert_eq!(send(api.port, &own).await.json(), json!({"cancelled": true}));
    assert_eq!(api.dropped.recv().await, Some("load"));
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains(r#"{"type":"error","code":"cancelled","message":"cancelled"}"#), "{rest}");
    assert_eq!(send(api.port, &own).await.json(), json!({"cancelled": false}), "its number is forgotten");
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_its_load() {
    let mut api = start(Script { load: Some(LoadScript::Hang), ..Script::default() }).await;
    let (socket, _) = begin(&api).await;
    drop(socket);
    assert_eq!(api.dropped.recv().await, Some("load"));
}

#[tokio::test]
async fn one_load_too_many_is_refused_until_another_ends() {
    let mut api = start(Script { load: Some(LoadScript::Hang), ..Script::default() }).await;
    let mut running = Vec::new();
    for _ in 0..MAX_API_LOADS {
        running.push(begin(&api).await);
    }
    let mut refused = connect(api.port).await;
    refused.write_all(post("/api/v1/load", &sha1_body()).as_bytes()).await.unwrap();
    let reply = finish(&mut refused).await;
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!("busy")));
    running.pop();
    assert_eq!(api.dropped.recv().await, Some("load"));
    begin(&api).await;
}
