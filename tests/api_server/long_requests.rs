//! Requests that run for long keep nobody from the short ones: the owner of the daemon always sees and stops it.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{connect, get, post, send};
use crate::scripted::{HASH, LoadScript, Running, Script, start};
use kachery_p2p::limits::{MAX_API_CONNECTIONS, MAX_API_LONG_REQUESTS};

fn search() -> String {
    post("/api/v1/find", &json!({"sha1": HASH, "timeout_ms": 600_000}).to_string())
}

/// Searches that have begun.
async fn searches(api: &Running, count: usize) -> Vec<TcpStream> {
    let mut running = Vec::new();
    for _ in 0..count {
        let mut socket = connect(api.port).await;
        socket.write_all(search().as_bytes()).await.unwrap();
        let mut answer = [0; 15];
        socket.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        running.push(socket);
    }
    running
}

#[tokio::test]
async fn searches_in_every_place_leave_the_owner_status_and_stop() {
    let api = start(Script::default()).await;
    let _running = searches(&api, MAX_API_LONG_REQUESTS).await;
    // More of them than there are connections.
    for _ in MAX_API_LONG_REQUESTS..=MAX_API_CONNECTIONS {
        let reply = send(api.port, search()).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (503, &json!("busy")));
    }
    assert_eq!(send(api.port, get("/api/v1/status")).await.status, 200);
    let join = post("/api/v1/channels/join", r#"{"channel": "a"}"#);
    assert_eq!(send(api.port, join).await.status, 200);
    assert_eq!(send(api.port, get("/halt")).await.status, 200);
    api.halt.cancelled().await;
}

#[tokio::test]
async fn every_request_that_can_take_long_needs_a_place() {
    let api = start(Script { load: Some(LoadScript::Hang), ..Script::default() }).await;
    let _running = searches(&api, MAX_API_LONG_REQUESTS).await;
    let file = json!({"fileKey": {"sha1": HASH}}).to_string();
    for path in ["/findFile", "/downloadFile"] {
        let reply = send(api.port, post(path, &file)).await;
        assert_eq!((reply.status, reply.text()), (200, ""), "{path}: the Python client tries again");
    }
    assert_eq!(send(api.port, get(&format!("/sha1/{HASH}"))).await.status, 503);
    assert_eq!(send(api.port, post("/api/v1/load", &json!({"sha1": HASH}).to_string())).await.status, 503);
    let asked = api.calls().iter().filter(|call| !call.starts_with("find ")).count();
    assert_eq!(asked, 0, "the node was asked although there was no place");
}

#[tokio::test]
async fn a_client_that_hangs_up_gives_its_place_back() {
    let mut api = start(Script::default()).await;
    let mut running = searches(&api, MAX_API_LONG_REQUESTS).await;
    running.pop();
    assert_eq!(api.dropped.recv().await, Some("find"));
    searches(&api, 1).await;
}

/// So that a client can tell a load that takes long from a daemon that hangs.
#[tokio::test(start_paused = true)]
async fn a_load_in_which_nothing_happens_gives_a_sign_of_life_every_five_seconds() {
    let api = start(Script { load: Some(LoadScript::Hang), ..Script::default() }).await;
    let mut socket = connect(api.port).await;
    let load = post("/api/v1/load", &json!({"sha1": HASH}).to_string());
    socket.write_all(load.as_bytes()).await.unwrap();
    let (began, mut answer) = (tokio::time::Instant::now(), String::new());
    while answer.matches("\"progress\"").count() < 4 {
        let mut part = [0; 1000];
        let length = socket.read(&mut part).await.unwrap();
        assert_ne!(length, 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&part[..length]));
    }
    let taken = began.elapsed().as_secs();
    assert!((15..20).contains(&taken), "{taken} s");
}
