//! What the two sides tell each other.

use ::bytes::Bytes;
use futures::future::join;

use super::*;
use crate::secret_stream::MAX_MESSAGE_BYTES;

#[tokio::test]
async fn both_sides_know_each_other_and_the_same_handshake() {
    let (one, other) = pair().await;
    assert_eq!((one.remote(), other.remote()), (key_pair(2).public(), key_pair(1).public()));
    assert_eq!(one.handshake_hash(), other.handshake_hash());
    assert!(one.is_initiator() && !other.is_initiator());
}

#[tokio::test]
async fn messages_arrive_as_they_were_sent_in_both_directions() {
    let (mut one, mut other) = pair().await;
    for message in [&b"hello"[..], b"", b"again"] {
        one.send(message).await.expect("send");
        assert_eq!(other.next().await.expect("a message").expect("authentic"), message);
        other.send(message).await.expect("send");
        assert_eq!(one.next().await.expect("a message").expect("authentic"), message);
    }
}

#[tokio::test]
async fn a_peer_can_be_dialled_by_its_key() {
    let (one, other) = pipe(4096);
    let (ours, theirs) = (key_pair(1), key_pair(2));
    let their_key = theirs.public();
    let (initiator, responder) = tokio::join!(
        SecretStream::initiate_to(one, &ours, &their_key, Options::default()),
        SecretStream::accept_by_key(other, &theirs, Options::default())
    );
    let (mut initiator, mut responder) = (initiator.expect("initiator"), responder.expect("responder"));
    initiator.send(b"early").await.expect("send");
    assert_eq!(responder.next().await.expect("a message").expect("authentic"), "early");
    assert_eq!(responder.remote(), ours.public());
}

#[tokio::test]
async fn a_peer_with_another_key_than_was_dialled_does_not_get_a_stream() {
    let (one, other) = pipe(4096);
    let (ours, theirs, somebody) = (key_pair(1), key_pair(2), key_pair(3).public());
    let (initiator, responder) = tokio::join!(
        SecretStream::initiate_to(one, &ours, &somebody, Options::default()),
        SecretStream::accept_by_key(other, &theirs, Options::default())
    );
    let refused = responder.err().expect("refused").to_string();
    assert_eq!(
        refused,
        "secret stream did not open: handshake: handshake message does not decrypt: wrong key, prologue or order"
    );
    assert!(initiator.is_err());
}

#[tokio::test]
async fn keys_from_elsewhere_make_a_stream_without_a_handshake() {
    let (one, other) = pair().await;
    let (keys_one, keys_other) = crate::crypto::noise::test_keys();
    drop((one, other));
    let (one, other) = pipe(4096);
    let mut one = SecretStream::with_keys(one, &keys_one, Options::default()).expect("random");
    let mut other = SecretStream::with_keys(other, &keys_other, Options::default()).expect("random");
    one.send(b"one").await.expect("send");
    other.send(b"other").await.expect("send");
    assert_eq!(other.next().await.expect("a message").expect("authentic"), "one");
    assert_eq!(one.next().await.expect("a message").expect("authentic"), "other");
}

#[tokio::test]
async fn the_halves_work_on_two_tasks_through_a_pipe_smaller_than_a_frame() {
    let (one, other) = pair_with(100, Options::default()).await;
    let ((mut send_one, mut receive_one), (mut send_other, mut receive_other)) = (one.split(), other.split());
    let big = vec![5; 300_000];
    let expected = Bytes::from(big.clone());
    let reading = tokio::spawn(async move {
        for _ in 0..3 {
            let message = receive_other.next().await.expect("a message").expect("authentic");
            assert_eq!(message, expected);
            send_other.send(&message).await.expect("send");
        }
    });
    let sending = async {
        for _ in 0..3 {
            send_one.send(&big).await.expect("send");
        }
    };
    let receiving = async {
        for _ in 0..3 {
            assert_eq!(receive_one.next().await.expect("a message").expect("authentic"), big);
        }
    };
    join(sending, receiving).await;
    reading.await.expect("no panic");
}

#[tokio::test]
async fn counters_count_frames_after_the_header() {
    let (mut one, mut other) = pair().await;
    assert_eq!((one.counters().frames_sent, one.counters().frames_received), (0, 0));
    one.send(b"hello").await.expect("send");
    other.next().await.expect("a message").expect("authentic");
    assert_eq!(one.counters().frames_sent, 1);
    assert_eq!(one.counters().bytes_sent, 59 + 3 + 17 + 5);
    assert_eq!((other.counters().frames_received, other.counters().frames_sent), (1, 0));
}

#[tokio::test]
async fn a_message_too_long_is_refused_and_the_stream_goes_on() {
    let (mut one, mut other) = pair().await;
    let longer = vec![0; MAX_MESSAGE_BYTES + 1];
    assert!(matches!(one.send(&longer).await, Err(StreamError::MessageTooLong(_))));
    one.send(b"short").await.expect("send");
    assert_eq!(other.next().await.expect("a message").expect("authentic"), "short");
}

#[tokio::test]
async fn a_stream_is_a_stream_and_sink_of_messages() {
    use futures::{SinkExt, StreamExt};
    let (mut one, other) = pair_with(100, Options::default()).await;
    let receiving = tokio::spawn(other.map(|message| message.expect("authentic").len()).collect::<Vec<_>>());
    for length in [10, 10_000, 0] {
        SinkExt::send(&mut one, vec![1; length].into()).await.expect("send");
    }
    SinkExt::close(&mut one).await.expect("end");
    assert_eq!(receiving.await.expect("no panic"), [10, 10_000, 0]);
}

#[tokio::test]
async fn channels_run_on_secret_streams() {
    use crate::mux::ChannelOptions;
    use crate::net::mux::Mux;
    let (one, other) = pair_with(1000, Options { keep_alive: Some(seconds(5)), ..Options::default() }).await;
    let (one, other) = (Mux::new(one), Mux::new(other));
    let mut ours = one.open("test", b"", ChannelOptions::default()).expect("open");
    let mut theirs = other.open("test", b"", ChannelOptions::default()).expect("open");
    ours.send(0, Bytes::from_static(b"hello")).await.expect("send");
    assert_eq!(theirs.next().await.expect("a message").body, "hello");
    theirs.send(0, Bytes::from_static(b"back")).await.expect("send");
    assert_eq!(ours.next().await.expect("a message").body, "back");
}
