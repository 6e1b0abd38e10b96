//! RELIABILITY 19: no web page drives the daemon.

use crate::http::send;
use crate::scripted::{HASH, Script, start};

/// Requests that browsers can be made to send, each forged in its own way.
fn forged() -> Vec<String> {
    let json =
        format!(r#"{{"channelName":"evil","channel":"evil","sha1":"{HASH}","fileKey":{{"sha1":"{HASH}"}}}}"#);
    let paths = [
        "/joinChannel",
        "/leaveChannel",
        "/findFile",
        "/downloadFile",
        "/api/v1/channels/join",
        "/api/v1/channels/leave",
        "/api/v1/load",
        "/api/v1/find",
        "/api/v1/cancel",
    ];
    let heads = [
        "Host: evil.example\r\nContent-Type: application/json\r\n",
        "Content-Type: application/json\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\nContent-Type: application/json\r\n",
        "Host: localhost\r\nOrigin: null\r\nContent-Type: application/json\r\n",
        "Host: localhost\r\nReferer: http://evil.example/\r\nContent-Type: application/json\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nContent-Type: application/json\r\n",
        "Host: localhost\r\nContent-Type: text/plain\r\n",
        "Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        "Host: localhost\r\n",
    ];
    let mut requests = Vec::new();
    for path in paths {
        for head in heads {
            let length = json.len();
            requests.push(format!(
                "POST {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{json}"
            ));
        }
    }
    for head in [
        "Host: evil.example\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nReferer: http://evil.example/\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "Host: localhost\r\nSec-Fetch-Site: none\r\n",
        "Host: localhost\r\nUser-Agent: Mozilla/5.0\r\n",
    ] {
        requests.push(format!("GET /halt HTTP/1.1\r\n{head}Connection: close\r\n\r\n"));
    }
    for path in [format!("/sha1/{HASH}"), "/api/v1/status".into(), "/getState".into(), "/nothing".into()] {
        requests.push(format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"));
    }
    requests
}

#[tokio::test]
async fn forged_requests_get_403_and_change_nothing() {
    let api = start(Script::default()).await;
    let requests = forged();
    let mut refused = 0;
    for request in &requests {
        let reply = send(api.port, request).await;
        assert_eq!(reply.status, 403, "{request}");
        assert!(reply.header("access-control-allow-origin").is_none());
        refused += 1;
    }
    assert_eq!(api.calls(), Vec::<String>::new(), "the node was asked for something");
    assert!(!api.halt.is_cancelled(), "the daemon was stopped");
    println!("check 19: measured {refused} of {} refused without effect, bar all, seed none", requests.len());
}
