//! Streams as bytes, and back-pressure.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::*;
use crate::limits::{SECRET_READ_BYTES, SECRET_WRITE_BYTES};

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 256 + n) as u8).collect()
}

#[tokio::test]
async fn bytes_arrive_in_order_and_end_where_they_were_ended() {
    let (mut one, mut other) = pair_with(10_000, Options::default()).await;
    let bytes = sample(1_000_000);
    let expected = bytes.clone();
    let writer = tokio::spawn(async move {
        one.write_all(&bytes).await.expect("write");
        one.shutdown().await.expect("end");
        one
    });
    let mut read = Vec::new();
    other.read_to_end(&mut read).await.expect("read");
    assert!(read == expected);
    let mut one = writer.await.expect("no panic");
    other.write_all(b"the other way goes on").await.expect("write");
    other.shutdown().await.expect("end");
    let mut text = String::new();
    one.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "the other way goes on");
}

/// Writes until the stream takes no more.
async fn fill(stream: &mut Stream) -> usize {
    let chunk = vec![0; 1 << 20];
    let mut written = 0;
    loop {
        let poll = poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll_write(context, &chunk))).await;
        match poll {
            Poll::Ready(taken) => written += taken.expect("write"),
            Poll::Pending => return written,
        }
    }
}

#[tokio::test]
async fn a_writer_waits_when_the_peer_does_not_read_and_goes_on_when_it_does() {
    let (mut one, mut other) = pair_with(10_000, Options::default()).await;
    let written = fill(&mut one).await;
    assert!(written <= SECRET_WRITE_BYTES, "{written} bytes went into a pipe of 10000");
    let mut read = vec![0; written];
    other.read_exact(&mut read).await.expect("read");
    assert!(fill(&mut one).await > 0);
}

#[tokio::test]
async fn one_write_takes_at_most_256_kib() {
    let (mut one, _other) = pair_with(4 << 20, Options::default()).await;
    let chunk = vec![0; SECRET_WRITE_BYTES + 1];
    assert_eq!(one.write(&chunk[..SECRET_WRITE_BYTES]).await.expect("write"), SECRET_WRITE_BYTES);
    assert_eq!(one.write(&chunk).await.expect("write"), SECRET_WRITE_BYTES);
}

#[tokio::test]
async fn a_reader_that_pauses_holds_at_most_one_chunk_of_256_kib() {
    let (mut one, mut other) = pair_with(4 << 20, Options::default()).await;
    for _ in 0..3000 {
        one.send(&[1; 1000]).await.expect("send");
    }
    let sent = one.counters().bytes_sent as usize;
    let (mut last, mut most) = (other.counters().bytes_received as usize, 0);
    for _ in 0..3000 {
        other.next().await.expect("a message").expect("authentic");
        let received = other.counters().bytes_received as usize;
        most = most.max(received - last);
        last = received;
    }
    // The header may have come with the handshake.
    assert!(last == sent || last == sent - 59, "{last} of {sent}");
    assert!(most <= SECRET_READ_BYTES && most > SECRET_READ_BYTES / 4, "{most}");
}

#[tokio::test]
async fn what_a_cancelled_send_left_behind_is_sent_without_it() {
    let (mut one, mut other) = pair_with(100, Options::default()).await;
    let message = vec![7; 50_000];
    tokio::select! {
        biased;
        result = one.send(&message) => panic!("no room in the pipe: {result:?}"),
        () = tokio::task::yield_now() => {}
    }
    let (mut one, mut other_message) = (one, None);
    while other_message.is_none() {
        other_message = other.next().await;
    }
    assert_eq!(other_message.expect("a message").expect("authentic"), message);
    one.send(b"next").await.expect("send");
    assert_eq!(other.next().await.expect("a message").expect("authentic"), "next");
}
