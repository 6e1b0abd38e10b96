//! Streams over UDX on loopback, in real time.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use ::bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::crypto::noise::test_keys;
use crate::net::udx::{BindOptions, UdxSocket, UdxStream};
use crate::udx::StreamOptions;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(seconds(60), work).await.expect("in time")
}

/// Two connected streams on two sockets.
fn udx_pair() -> (UdxStream, UdxStream) {
    let socket = || UdxSocket::bind(LOOPBACK, BindOptions::default()).expect("bind");
    let (left, right) = (socket(), socket());
    let open = |socket: &UdxSocket| socket.open(StreamOptions::default()).expect("open");
    let (one, other) = (open(&left), open(&right));
    one.connect(other.id(), right.local_address()).expect("connect");
    other.connect(one.id(), left.local_address()).expect("connect");
    (one, other)
}

/// A secret stream with keys from elsewhere, as after a handshake through the DHT.
fn secret_pair() -> (SecretStream<UdxStream>, SecretStream<UdxStream>) {
    let (one, other) = udx_pair();
    let (keys_one, keys_other) = test_keys();
    let stream =
        |transport, keys| SecretStream::with_keys(transport, keys, Options::default()).expect("random");
    (stream(one, &keys_one), stream(other, &keys_other))
}

#[tokio::test]
async fn messages_arrive_over_udx_after_a_handshake_inside_it() {
    let (one, other) = udx_pair();
    let (ours, theirs) = (key_pair(1), key_pair(2));
    let (one, other) = soon(async {
        tokio::join!(
            SecretStream::initiate(one, &ours, Options::default()),
            SecretStream::accept(other, &theirs, Options::default())
        )
    })
    .await;
    let (mut one, mut other) = (one.expect("initiator"), other.expect("responder"));
    one.send(b"hello").await.expect("send");
    assert_eq!(soon(other.next()).await.expect("a message").expect("authentic"), "hello");
    other.send(b"and back").await.expect("send");
    assert_eq!(soon(one.next()).await.expect("a message").expect("authentic"), "and back");
    soon(async { tokio::join!(one.finish(), other.finish()) }).await.0.expect("end");
    assert!(soon(one.next()).await.is_none());
    assert!(soon(other.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_go_both_ways_at_once_and_arrive_whole() {
    let (one, other) = secret_pair();
    let bytes: Vec<u8> = (0..8 << 20).map(|n: u32| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    let exchange = |stream: SecretStream<UdxStream>, bytes: Vec<u8>| async move {
        let (mut sender, mut receiver) = stream.split();
        let copy = bytes.clone();
        let writer = tokio::spawn(async move {
            sender.write_all(&copy).await.expect("write");
            sender.shutdown().await.expect("end");
            sender
        });
        let mut read = Vec::new();
        receiver.read_to_end(&mut read).await.expect("read");
        writer.await.expect("no panic");
        assert!(read == bytes);
    };
    let (left, right) =
        soon(async { tokio::join!(tokio::spawn(exchange(one, bytes.clone())), exchange(other, bytes)) })
            .await;
    left.expect("no panic");
    right
}

#[tokio::test]
async fn unordered_messages_go_beside_the_stream_and_forged_ones_are_ignored() {
    let (one, other) = secret_pair();
    other
        .transport()
        .send_message(Bytes::from_static(b"not an envelope of 24 bytes and a bit"))
        .expect("send");
    other.messages().send(b"datagram").expect("send");
    assert_eq!(soon(one.messages().receive()).await.expect("a message"), "datagram");
    one.messages().send(b"").expect("send");
    assert!(soon(other.messages().receive()).await.expect("a message").is_empty());
}

#[tokio::test]
async fn an_unordered_message_that_fits_no_datagram_is_refused_and_the_stream_goes_on() {
    let (mut one, mut other) = secret_pair();
    assert!(matches!(one.messages().send(&[0; 70_000]), Err(StreamError::Transport(_))));
    one.send(b"still here").await.expect("send");
    assert_eq!(soon(other.next()).await.expect("a message").expect("authentic"), "still here");
}

#[tokio::test]
async fn destroying_one_side_resets_the_other() {
    let (mut one, mut other) = secret_pair();
    one.send(b"hello").await.expect("send");
    soon(other.next()).await.expect("a message").expect("authentic");
    one.destroy();
    let error = soon(other.next()).await.expect("an error").expect_err("reset");
    assert!(matches!(&error, StreamError::Transport(_)), "{error}");
    assert!(soon(other.next()).await.is_none());
}

#[tokio::test]
async fn dropping_one_side_resets_the_other() {
    let (mut one, mut other) = secret_pair();
    one.send(b"hello").await.expect("send");
    soon(other.next()).await.expect("a message").expect("authentic");
    drop(one);
    assert!(soon(other.next()).await.expect("an error").is_err());
}

#[tokio::test]
async fn a_sender_hears_why_the_transport_failed_though_the_receiver_noticed_first() {
    let (one, mut other) = secret_pair();
    let (mut sender, mut receiver) = one.split();
    sender.send(b"hello").await.expect("send");
    soon(other.next()).await.expect("a message").expect("authentic");
    other.destroy();
    soon(receiver.next()).await.expect("an error").expect_err("reset");
    let error = soon(sender.send(b"more")).await.expect_err("reset");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::ConnectionReset);
}
