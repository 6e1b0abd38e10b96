//! RELIABILITY 20: clients that trickle bytes neither pile up nor keep a real client waiting.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{connect, get, post, send};
use crate::scripted::{Script, start};
use kachery_p2p::limits::MAX_API_CONNECTIONS;

/// Connections that have sent one byte of a request, or its head and one byte of its body.
async fn trickle(port: u16, count: usize) -> Vec<TcpStream> {
    let mut slow = Vec::new();
    for i in 0..count {
        let mut socket = connect(port).await;
        if i % 2 == 0 {
            socket.write_all(b"G").await.unwrap();
        } else {
            let head = "POST /joinChannel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
            socket.write_all(format!("{head}Content-Length: 50\r\n\r\n{{").as_bytes()).await.unwrap();
        }
        slow.push(socket);
    }
    slow
}

/// True if the server has closed it; waits for that if `expected`.
async fn is_closed(socket: &mut TcpStream, expected: bool) -> bool {
    let patience = Duration::from_millis(if expected { 5000 } else { 0 });
    let mut byte = [0; 1];
    matches!(tokio::time::timeout(patience, socket.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn five_hundred_slow_clients_do_not_hinder_a_real_one() {
    let api = start(Script::default()).await;
    let slow = 500;
    let mut sockets = trickle(api.port, slow).await;
    let mut worst = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        assert_eq!(send(api.port, get("/probe")).await.status, 200);
        assert_eq!(send(api.port, post("/joinChannel", r#"{"channelName":"a"}"#)).await.status, 200);
        worst = worst.max(begun.elapsed());
    }
    // All beyond the cap were closed, oldest first, so they hold neither descriptors nor memory.
    for socket in &mut sockets[..slow - MAX_API_CONNECTIONS] {
        assert!(is_closed(socket, true).await, "the oldest slow client is still connected");
    }
    println!("check 20: measured {} ms with {slow} slow clients, bar 1000 ms, seed none", worst.as_millis());
    assert!(worst < Duration::from_secs(1), "a real client took {worst:?}");
}

#[tokio::test]
async fn at_the_limit_nobody_is_closed_and_one_more_closes_the_oldest() {
    let api = start(Script::default()).await;
    let mut sockets = trickle(api.port, MAX_API_CONNECTIONS).await;
    // The last one is served, so all before it have been accepted.
    sockets
        .last_mut()
        .unwrap()
        .write_all(b"\"channelName\":\"a\"}                               ")
        .await
        .unwrap();
    let mut byte = [0; 1];
    sockets.last_mut().unwrap().read_exact(&mut byte).await.unwrap();
    for socket in &mut sockets[..MAX_API_CONNECTIONS - 1] {
        assert!(!is_closed(socket, false).await, "closed although the table was not over its limit");
    }
    let _one_more = connect(api.port).await;
    assert!(is_closed(&mut sockets[0], true).await, "the oldest stays although the table is full");
    assert!(!is_closed(&mut sockets[1], false).await, "more than the oldest was closed");
}
