//! Keep-alives, timeouts, ends and hostile peers.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::limits::{SECRET_DEFAULT_FRAME_BYTES, SECRET_HANDSHAKE_TIME};

fn keep_alive(after: Duration) -> Options {
    Options { keep_alive: Some(after), ..Options::default() }
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_sends_a_keep_alive_every_interval_which_nobody_sees() {
    let (one, mut other) = pair_with(4096, keep_alive(seconds(5))).await;
    assert!(timeout(seconds(26), other.next()).await.is_err(), "no message");
    assert_eq!(one.counters().frames_sent, 5);
    assert_eq!(other.counters().frames_received, 5);
}

#[tokio::test(start_paused = true)]
async fn a_busy_stream_sends_no_keep_alives() {
    let (mut one, mut other) = pair_with(4096, keep_alive(seconds(5))).await;
    for _ in 0..10 {
        sleep(seconds(4)).await;
        one.send(b"busy").await.expect("send");
        other.next().await.expect("a message").expect("authentic");
    }
    assert_eq!(one.counters().frames_sent, 10);
}

#[tokio::test(start_paused = true)]
async fn without_keep_alive_empty_messages_are_messages() {
    let (mut one, mut other) = pair().await;
    one.send(b"").await.expect("send");
    assert!(other.next().await.expect("a message").expect("authentic").is_empty());
    sleep(seconds(100)).await;
    assert_eq!(one.counters().frames_sent, 1);
}

#[tokio::test(start_paused = true)]
async fn no_keep_alive_follows_the_end() {
    let (mut one, mut other) = pair_with(4096, keep_alive(seconds(5))).await;
    one.finish().await.expect("end");
    assert!(other.next().await.is_none());
    sleep(seconds(100)).await;
    assert_eq!(one.counters().frames_sent, 0);
    assert!(matches!(one.send(b"late").await, Err(StreamError::Finished)));
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_hears_nothing_gives_up_after_the_timeout() {
    let options = Options { timeout: Some(seconds(10)), ..Options::default() };
    let (mut one, mut other) = pair_with(4096, options).await;
    sleep(seconds(60)).await;
    let begin = Instant::now();
    one.send(b"still here").await.expect("send");
    other.next().await.expect("a message").expect("authentic");
    let result = other.next().await.expect("an error");
    assert!(matches!(result, Err(StreamError::TimedOut(after)) if after == seconds(10)), "{result:?}");
    assert_eq!(begin.elapsed(), seconds(10));
    assert!(other.next().await.is_none());
    assert!(matches!(other.send(b"late").await, Err(StreamError::TimedOut(_))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_shakes_hands_is_given_up() {
    let (one, _silent) = pipe(4096);
    let options = Options { timeout: Some(seconds(10)), ..Options::default() };
    let result = SecretStream::initiate(one, &key_pair(1), options).await;
    assert!(matches!(result.err(), Some(StreamError::TimedOut(_))));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_shakes_hands_is_given_up_even_if_nobody_set_a_timeout() {
    let (one, _silent) = pipe(4096);
    let begin = Instant::now();
    let result = SecretStream::accept(one, &key_pair(1), Options::default()).await;
    assert!(matches!(result.err(), Some(StreamError::TimedOut(SECRET_HANDSHAKE_TIME))));
    assert_eq!(begin.elapsed(), SECRET_HANDSHAKE_TIME);
    let (one, _silent) = pipe(4096);
    let patient = Options { handshake_timeout: Duration::MAX, ..Options::default() };
    let own = key_pair(1);
    let opening = timeout(100 * SECRET_HANDSHAKE_TIME, SecretStream::accept(one, &own, patient));
    assert!(opening.await.is_err(), "it still waits");
}

#[tokio::test(start_paused = true)]
async fn a_frame_longer_than_a_mebibyte_is_taken_only_by_a_stream_that_asked_for_it() {
    let longest = SECRET_DEFAULT_FRAME_BYTES - 17;
    let larger = Options { max_frame_bytes: SECRET_DEFAULT_FRAME_BYTES + 1, ..Options::default() };
    for (options, length, taken) in [
        (Options::default(), longest, true),
        (Options::default(), longest + 1, false),
        (larger, longest + 1, true),
    ] {
        let (mut one, mut other) = pair_with(4 << 20, options).await;
        one.send(&vec![7; length]).await.expect("send");
        let result = other.next().await.expect("a message or an error");
        assert_eq!(result.is_ok(), taken, "{length} bytes: {:?}", result.err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_shakes_hands_byte_by_byte_is_given_up() {
    let (one, mut slow) = tokio::io::duplex(4096);
    let options = Options { timeout: Some(seconds(10)), ..Options::default() };
    let begin = Instant::now();
    let sending = tokio::spawn(async move {
        for byte in [32, 0, 0].into_iter().chain([7; 32]) {
            sleep(seconds(9)).await;
            slow.write_all(&[byte]).await?;
        }
        std::io::Result::Ok(())
    });
    let result = SecretStream::accept(ByteStream::new(one), &key_pair(1), options).await;
    assert!(matches!(result.err(), Some(StreamError::TimedOut(after)) if after == seconds(10)));
    assert_eq!(begin.elapsed(), seconds(10));
    sending.await.expect("no panic").expect_err("the transport is closed");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_byte_of_the_handshake_is_given_up() {
    let (one, _full) = pipe(1);
    let options = Options { timeout: Some(seconds(10)), ..Options::default() };
    let result = timeout(seconds(60), SecretStream::initiate(one, &key_pair(1), options)).await;
    assert!(matches!(result.expect("in time").err(), Some(StreamError::TimedOut(_))));
}

#[tokio::test]
async fn keep_alives_of_a_peer_reset_the_timeout() {
    tokio::time::pause();
    let (one, other) = pipe(4096);
    let (ours, theirs) = (key_pair(1), key_pair(2));
    let impatient = Options { timeout: Some(seconds(6)), ..Options::default() };
    let (one, other) = tokio::join!(
        SecretStream::initiate(one, &ours, keep_alive(seconds(5))),
        SecretStream::accept(other, &theirs, Options { discard_empty: true, ..impatient })
    );
    let (_one, mut other) = (one.expect("initiator"), other.expect("responder"));
    assert!(timeout(seconds(60), other.next()).await.is_err(), "it still waits");
}

#[tokio::test]
async fn a_destroyed_stream_ends_at_both_sides() {
    let (mut one, mut other) = pair().await;
    one.destroy();
    assert!(matches!(one.send(b"late").await, Err(StreamError::Destroyed)));
    assert!(matches!(one.next().await, Some(Err(StreamError::Destroyed))));
    assert!(one.next().await.is_none());
    // A pipe in memory cannot tell this from an end.
    assert!(other.next().await.is_none());
    while other.send(b"to nobody").await.is_ok() {}
}

#[tokio::test]
async fn destroying_wakes_a_reader_that_waits() {
    let (one, _other) = pair().await;
    let (mut sender, mut receiver) = one.split();
    let reader = tokio::spawn(async move { receiver.next().await });
    tokio::task::yield_now().await;
    sender.destroy();
    assert!(matches!(reader.await.expect("no panic"), Some(Err(StreamError::Destroyed))));
}

#[tokio::test]
async fn dropping_both_halves_closes_the_transport_although_a_keeper_runs() {
    let (one, mut other) = pair_with(4096, keep_alive(seconds(5))).await;
    let (sender, receiver) = one.split();
    drop(sender);
    drop(receiver);
    assert!(other.next().await.is_none());
}

/// A stream, and its peer's end of the pipe after the handshake, for sending what no stream would.
async fn raw_pair() -> (Stream, tokio::io::DuplexStream) {
    let (keys, _) = crate::crypto::noise::test_keys();
    let (one, other) = tokio::io::duplex(1 << 20);
    (SecretStream::with_keys(ByteStream::new(one), &keys, Options::default()).expect("random"), other)
}

#[tokio::test]
async fn garbage_from_the_peer_destroys_the_stream_and_says_whose_it_was() {
    let (mut stream, mut peer) = raw_pair().await;
    peer.write_all(&[56, 0, 0]).await.expect("write");
    peer.write_all(&[0; 56]).await.expect("write");
    let error = stream.next().await.expect("an error").expect_err("garbage");
    assert_eq!(
        error.to_string(),
        format!("secret stream with {}: header of another stream", stream.remote())
    );
    assert!(matches!(stream.send(b"late").await, Err(StreamError::Protocol { .. })));
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).await.expect("closed");
    assert_eq!(rest.len(), 59, "our header, and then nothing");
}

#[tokio::test]
async fn a_peer_that_goes_away_inside_a_frame_is_an_error_and_not_an_end() {
    let (mut stream, mut peer) = raw_pair().await;
    peer.write_all(&[56, 0, 0, 1, 2]).await.expect("write");
    drop(peer);
    let error = stream.next().await.expect("an error").expect_err("cut");
    assert!(error.to_string().ends_with("the stream ended inside a frame"), "{error}");
}

#[tokio::test]
async fn the_header_leaves_without_waiting_for_the_peer() {
    let (_stream, mut peer) = raw_pair().await;
    let mut header = [0; 59];
    peer.read_exact(&mut header).await.expect("a header");
    assert_eq!(header[..3], [56, 0, 0]);
}

/// A stream to which a thousand empty messages are on their way, and its peer's end of the pipe.
async fn flooded(options: Options) -> (Stream, tokio::io::DuplexStream) {
    let (keys, other_keys) = crate::crypto::noise::test_keys();
    let (one, mut other) = tokio::io::duplex(1 << 20);
    let stream = SecretStream::with_keys(ByteStream::new(one), &keys, options).expect("random");
    let (mut sender, header) = crate::secret_stream::Sender::new(&other_keys, &[9; 24]);
    let mut flood = header.to_vec();
    for _ in 0..1000 {
        sender.seal(b"", &mut flood).expect("short");
    }
    other.write_all(&flood).await.expect("room");
    // A turn of its own for what comes next.
    tokio::task::yield_now().await;
    (stream, other)
}

#[tokio::test]
async fn a_flood_of_keep_alives_lets_other_tasks_run() {
    let (mut stream, _peer) = flooded(Options { discard_empty: true, ..Options::default() }).await;
    let mut turns = 0;
    while stream.counters().frames_received < 1000 {
        let before = stream.counters().frames_received;
        assert!(poll_fn(|context| Poll::Ready(stream.poll_next_unpin(context).is_pending())).await);
        turns += 1;
        let opened = stream.counters().frames_received - before;
        assert!(opened <= 128, "{opened} in one turn");
        tokio::task::yield_now().await;
    }
    println!("1000 empty messages took {turns} turns");
}

#[tokio::test]
async fn a_flood_of_empty_messages_to_a_reader_of_bytes_lets_other_tasks_run() {
    let (mut stream, _peer) = flooded(Options::default()).await;
    let mut buffer = [0; 8];
    while stream.counters().frames_received < 1000 {
        let before = stream.counters().frames_received;
        let pending = poll_fn(|context| {
            let read = Pin::new(&mut stream).poll_read(context, &mut ReadBuf::new(&mut buffer));
            Poll::Ready(read.is_pending())
        });
        assert!(pending.await);
        let opened = stream.counters().frames_received - before;
        assert!(opened <= 128, "{opened} in one turn");
        tokio::task::yield_now().await;
    }
}
