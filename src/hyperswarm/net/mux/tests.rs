//! Two connections joined by bounded channels instead of a secret stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::{Sink, SinkExt, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::*;
use crate::limits::{
    MUX_CLOSING_TIME, MUX_INBOX_BYTES, MUX_PENDING_OVERHEAD, MUX_SEND_BYTES, MUX_SENDING_TIME,
    MUX_TURN_MESSAGES,
};
use crate::mux::SendError;

/// One end of a stream of messages; counts the bytes it has received. Like a secret stream it takes a while to end,
/// and takes nothing more from then on.
struct Pipe {
    sender: mpsc::Sender<Bytes>,
    ending: bool,
    receiver: mpsc::Receiver<Bytes>,
    received: Arc<AtomicUsize>,
    /// Done when the next message has been taken, before it is handed over.
    interlude: Interlude,
}

type Interlude = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

fn pipe() -> (Pipe, Pipe) {
    let ((to_b, from_a), (to_a, from_b)) = (mpsc::channel(1), mpsc::channel(1));
    let end = |sender, receiver| Pipe {
        sender,
        ending: false,
        receiver,
        received: Arc::default(),
        interlude: Arc::default(),
    };
    (end(to_b, from_b), end(to_a, from_a))
}

impl Stream for Pipe {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_next_unpin(context).map(|message| {
            let message = message?;
            self.received.fetch_add(message.len(), Ordering::Relaxed);
            let interlude = self.interlude.lock().take();
            interlude.into_iter().for_each(|interlude| interlude());
            Some(Ok(message))
        })
    }
}

impl Sink<Bytes> for Pipe {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending {
            return Poll::Ready(Err(io::Error::other("ended")));
        }
        self.sender.poll_ready_unpin(context).map_err(io::Error::other)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> io::Result<()> {
        self.sender.start_send_unpin(message).map_err(io::Error::other)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.poll_flush_unpin(context).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.ending, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.sender.poll_close_unpin(context).map_err(io::Error::other)
    }
}

fn joined() -> (Mux, Mux) {
    let (a, b) = pipe();
    (Mux::new(a), Mux::new(b))
}

/// A channel open on both sides.
async fn channel() -> (Mux, Channel, Mux, Channel) {
    let (a, b) = joined();
    let (of_a, of_b) = (a.open("test", b"", options()).unwrap(), b.open("test", b"", options()).unwrap());
    (a, of_a, b, of_b)
}

fn options() -> ChannelOptions {
    ChannelOptions { message_types: 2, ..ChannelOptions::default() }
}

async fn soon<F: Future>(what: F) -> F::Output {
    timeout(Duration::from_secs(60), what).await.expect("in time")
}

#[tokio::test]
async fn messages_go_both_ways_with_their_types() {
    let (_a, mut of_a, _b, mut of_b) = channel().await;
    of_a.send(0, Bytes::from_static(b"hello")).await.unwrap();
    of_b.send(1, Bytes::from_static(b"world")).await.unwrap();
    assert_eq!(soon(of_b.next()).await.unwrap(), Message { kind: 0, body: Bytes::from_static(b"hello") });
    assert_eq!(soon(of_a.next()).await.unwrap(), Message { kind: 1, body: Bytes::from_static(b"world") });
}

#[tokio::test]
async fn an_incoming_channel_is_accepted_with_the_handshakes_of_both() {
    let (a, b) = joined();
    let mut acceptor = b.accept("test", b"");
    let with = |handshake| ChannelOptions { handshake: Bytes::from_static(handshake), ..options() };
    let mut of_a = a.open("test", b"id", with(b"from a")).unwrap();
    of_a.send(0, Bytes::from_static(b"early")).await.unwrap();
    let incoming = soon(acceptor.next()).await.unwrap();
    assert_eq!(
        (incoming.protocol(), incoming.id(), &**incoming.handshake()),
        ("test", &b"id"[..], &b"from a"[..])
    );
    let mut of_b = incoming.accept(with(b"from b")).unwrap();
    assert_eq!(&*soon(of_a.opened()).await.unwrap(), b"from b");
    assert_eq!(&*soon(of_b.opened()).await.unwrap(), b"from a");
    assert_eq!(&*soon(of_b.next()).await.unwrap().body, b"early");
}

#[tokio::test]
async fn no_message_is_lost_that_comes_while_a_channel_is_accepted() {
    let (a, b) = pipe();
    let interlude = Arc::clone(&b.interlude);
    let (a, (_b, mut acceptor)) = (Mux::new(a), Mux::prepared(b, |b| b.accept("test", b"")));
    let of_a = a.open("test", b"", options()).unwrap();
    let incoming = soon(acceptor.next()).await.unwrap();
    let (accepted, channel) = futures::channel::oneshot::channel();
    *interlude.lock() = Some(Box::new(move || accepted.send(incoming.accept(options()).unwrap()).unwrap()));
    of_a.send(0, Bytes::from_static(b"meanwhile")).await.unwrap();
    let mut of_b = soon(channel).await.unwrap();
    assert_eq!(&*soon(of_b.next()).await.unwrap().body, b"meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_peer_opens_first_is_not_read_before_acceptors_are_prepared() {
    let (a, b) = pipe();
    let (a, received) = (Mux::new(a), Arc::clone(&b.received));
    let mut of_a = a.open("test", b"", options()).unwrap();
    let (_b, mut acceptor) = Mux::prepared(b, |b| {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(50) {
            assert_eq!(received.load(Ordering::Relaxed), 0);
            std::thread::yield_now();
        }
        b.accept("test", b"")
    });
    let _of_b = soon(acceptor.next()).await.unwrap().accept(options()).unwrap();
    soon(of_a.opened()).await.unwrap();
}

#[tokio::test]
async fn a_channel_nobody_accepts_is_rejected() {
    let (a, b) = joined();
    let mut unknown = a.open("unknown", b"", options()).unwrap();
    assert!(matches!(soon(unknown.opened()).await, Err(Closed::Rejected)));
    let mut acceptor = b.accept("test", b"");
    let mut refused = a.open("test", b"", options()).unwrap();
    drop(soon(acceptor.next()).await.unwrap());
    assert!(matches!(soon(refused.opened()).await, Err(Closed::Rejected)));
    drop(acceptor);
    let mut late = a.open("test", b"", options()).unwrap();
    assert_eq!(soon(late.next()).await, None);
    assert!(matches!(late.closed(), Some(Closed::Rejected)));
}

#[tokio::test]
async fn an_acceptor_that_is_replaced_ends_and_its_channels_are_rejected() {
    let (a, b) = joined();
    let mut first = b.accept("test", b"");
    let mut channel = a.open("test", b"", options()).unwrap();
    while soon(async { b.connection.0.quietly(|state| state.acceptors.values().all(|x| x.queue.is_empty())) })
        .await
    {
        tokio::task::yield_now().await;
    }
    let _second = b.accept("test", b"");
    assert!(soon(first.next()).await.is_none());
    assert!(matches!(soon(channel.opened()).await, Err(Closed::Rejected)));
}

#[tokio::test]
async fn a_close_reaches_the_peer_after_the_messages_before_it() {
    let (_a, of_a, _b, mut of_b) = channel().await;
    for n in 0..100u8 {
        of_a.send(0, Bytes::copy_from_slice(&[n])).await.unwrap();
    }
    of_a.close();
    assert_eq!(of_a.send(0, Bytes::new()).await, Err(SendError::Closed));
    for n in 0..100u8 {
        assert_eq!(&*soon(of_b.next()).await.unwrap().body, [n]);
    }
    assert_eq!(soon(of_b.next()).await, None);
    assert!(matches!(of_b.closed(), Some(Closed::Remote)));
    assert!(matches!(of_a.closed(), Some(Closed::Here)));
}

#[tokio::test]
async fn a_dropped_channel_is_closed() {
    let (_a, mut of_a, _b, of_b) = channel().await;
    soon(of_a.opened()).await.unwrap();
    let (sender, receiver) = of_b.split();
    drop(receiver);
    sender.send(0, Bytes::from_static(b"still open")).await.unwrap();
    assert!(soon(of_a.next()).await.is_some());
    drop(sender);
    assert_eq!(soon(of_a.next()).await, None);
}

#[tokio::test]
async fn closing_a_channel_wakes_its_own_reader() {
    let (_a, of_a, _b, _of_b) = channel().await;
    let (sender, mut receiver) = of_a.split();
    let reader = tokio::spawn(async move { receiver.next().await });
    tokio::task::yield_now().await;
    sender.close();
    assert_eq!(soon(reader).await.unwrap(), None);
}

#[tokio::test]
async fn several_messages_are_one_batch() {
    let (end, mut raw) = pipe();
    let mux = Mux::new(end);
    let channel = mux.open("test", b"", options()).unwrap();
    let message = |body| Message { kind: 1, body: Bytes::from_static(body) };
    channel.send_all(&[message(b"a"), message(b"b")]).await.unwrap();
    assert_eq!(&*soon(raw.next()).await.unwrap().unwrap(), b"\0\x01\x01\x04test\0");
    assert_eq!(&*soon(raw.next()).await.unwrap().unwrap(), b"\0\0\x01\x02\x01a\x02\x01b");
}

/// 32 messages of 64 KiB.
fn batch_larger_than_the_inboxes() -> Vec<Message> {
    let batch = vec![Message { kind: 0, body: Bytes::from(vec![7; 65_536]) }; 32];
    assert!(batch.len() * 65_536 > MUX_INBOX_BYTES);
    batch
}

#[tokio::test]
async fn an_echo_answers_all_of_a_batch_larger_than_the_inboxes() {
    let (_a, mut of_a, _b, mut of_b) = channel().await;
    let batch = batch_larger_than_the_inboxes();
    of_a.send_all(&batch).await.unwrap();
    let echo = tokio::spawn(async move {
        while let Some(message) = of_b.next().await {
            of_b.send(message.kind, message.body).await.unwrap();
        }
    });
    for message in batch {
        assert!(soon(of_a.next()).await == Some(message));
    }
    drop(of_a);
    soon(echo).await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_in_the_middle_of_a_batch_does_not_hold_up_what_is_sent() {
    let (a, of_a, b, _of_b) = channel().await;
    let mut to_a = a.open("other", b"", options()).unwrap();
    let from_b = b.open("other", b"", options()).unwrap();
    of_a.send_all(&batch_larger_than_the_inboxes()).await.unwrap();
    while !b.connection.0.quietly(|state| !state.has_room()) {
        tokio::task::yield_now().await;
    }
    from_b.send(0, Bytes::from_static(b"meanwhile")).await.unwrap();
    assert_eq!(&*soon(to_a.next()).await.unwrap().body, b"meanwhile");
}

#[tokio::test]
async fn a_sender_waits_while_the_stream_takes_nothing() {
    let (end, mut raw) = pipe();
    let mux = Mux::new(end);
    let channel = mux.open("test", b"", options()).unwrap();
    let body = Bytes::from(vec![0; 10_000]);
    let mut sent = 0;
    // Paused time would not help: what is waited for is that nothing happens.
    while let Ok(result) = timeout(Duration::from_millis(200), channel.send(0, body.clone())).await {
        result.unwrap();
        sent += body.len();
    }
    let most = MUX_SEND_BYTES + 4 * body.len();
    assert!((MUX_SEND_BYTES..most).contains(&sent), "{sent}");
    let waiting = tokio::spawn(async move { channel.send(0, body).await });
    while !waiting.is_finished() {
        soon(raw.next()).await.unwrap().unwrap();
    }
    waiting.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_holds_the_connection_up_with_bounded_memory() {
    let (a, b) = pipe();
    let received = Arc::clone(&b.received);
    let (a, b) = (Mux::new(a), Mux::new(b));
    let of_a = a.open("slow", b"", options()).unwrap();
    let mut of_b = b.open("slow", b"", options()).unwrap();
    let body = Bytes::from(vec![5; 50_000]);
    let messages = 4 * MUX_INBOX_BYTES / body.len();
    let sender = tokio::spawn(async move {
        for _ in 0..messages {
            of_a.send(0, body.clone()).await.unwrap();
        }
        of_a
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    let taken = received.load(Ordering::Relaxed);
    println!(
        "check 21: measured {taken} bytes taken while the reader slept, bar {}",
        MUX_INBOX_BYTES + 50_100
    );
    assert!((MUX_INBOX_BYTES - 50_000..=MUX_INBOX_BYTES + 50_100).contains(&taken), "{taken}");
    for _ in 0..messages {
        assert_eq!(soon(of_b.next()).await.unwrap().body.len(), 50_000);
    }
    sender.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn messages_without_content_fill_an_inbox_too() {
    let (a, b) = pipe();
    let received = Arc::clone(&b.received);
    let (a, b) = (Mux::new(a), Mux::new(b));
    let of_a = a.open("slow", b"", options()).unwrap();
    let _of_b = b.open("slow", b"", options()).unwrap();
    let sender = tokio::spawn(async move {
        loop {
            of_a.send(0, Bytes::new()).await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    let messages = received.load(Ordering::Relaxed) / 2;
    let most = MUX_INBOX_BYTES / MUX_PENDING_OVERHEAD;
    assert!((most..most + 16).contains(&messages), "{messages}");
    sender.abort();
}

#[tokio::test]
async fn a_malformed_frame_destroys_the_connection_and_every_channel_knows_why() {
    let (end, mut raw) = pipe();
    let mux = Mux::new(end);
    let mut channel = mux.open("test", b"", options()).unwrap();
    raw.send(Bytes::from_static(&[0, 2, 9])).await.unwrap();
    assert_eq!(soon(channel.next()).await, None);
    let why = "protomux: the peer rejected channel 9, which was not waiting for an answer";
    let closed = channel.closed().expect("closed").to_string();
    assert_eq!(closed, format!("the connection was destroyed: {why}"));
    assert_eq!(soon(mux.closed()).await.unwrap_err().to_string(), why);
    soon(async { while raw.next().await.is_some() {} }).await;
}

#[tokio::test]
async fn a_channel_can_destroy_the_connection() {
    let (a, of_a, b, _of_b) = channel().await;
    of_a.destroy("not a number");
    let why = soon(a.closed()).await.unwrap_err().to_string();
    assert_eq!(why, "protomux: channel 1 (\"test\"): not a number");
    // Whether it saw an end or a failure depends on what it was doing.
    let _ = soon(b.closed()).await;
}

#[tokio::test]
async fn a_sender_that_waits_learns_of_the_end() {
    let (end, raw) = pipe();
    let mux = Mux::new(end);
    let channel = mux.open("test", b"", options()).unwrap();
    let waiting =
        tokio::spawn(async move { while channel.send(0, Bytes::from(vec![0; 10_000])).await.is_ok() {} });
    tokio::task::yield_now().await;
    drop(raw);
    soon(waiting).await.unwrap();
}

#[tokio::test]
async fn dropping_all_handles_sends_what_is_left_and_ends_the_stream() {
    let (a, of_a, b, mut of_b) = channel().await;
    for _ in 0..50 {
        of_a.send(0, Bytes::from(vec![1; 5000])).await.unwrap();
    }
    drop((a, of_a));
    for _ in 0..50 {
        assert_eq!(soon(of_b.next()).await.unwrap().body.len(), 5000);
    }
    assert_eq!(soon(of_b.next()).await, None);
    soon(b.closed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_ends_its_side_is_left_after_five_seconds() {
    let (end, mut raw) = pipe();
    let mux = Mux::new(end);
    mux.close();
    let begin = tokio::time::Instant::now();
    soon(mux.closed()).await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), MUX_CLOSING_TIME.as_secs());
    assert!(raw.next().await.is_none());
}

/// It has 20 messages yet to send, which are more than the pipe takes at once.
async fn closing_with_much_left(end: Pipe) -> (Mux, Channel) {
    let mux = Mux::new(end);
    let channel = mux.open("test", b"", options()).unwrap();
    for _ in 0..20 {
        channel.send(0, Bytes::from(vec![1; 5000])).await.unwrap();
    }
    mux.close();
    (mux, channel)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_what_is_left_slowly_gets_all_of_it() {
    let (end, mut raw) = pipe();
    let (mux, _channel) = closing_with_much_left(end).await;
    let begin = tokio::time::Instant::now();
    let mut messages = 0;
    while raw.next().await.is_some() {
        messages += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(messages, 21, "the open and what followed");
    assert!(begin.elapsed() > MUX_CLOSING_TIME);
    drop(raw);
    soon(mux.closed()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_take_what_is_left_is_given_up_after_five_minutes_with_an_error() {
    let (end, _raw) = pipe();
    let (mux, _channel) = closing_with_much_left(end).await;
    let begin = tokio::time::Instant::now();
    let error = mux.closed().await.unwrap_err();
    assert!(matches!(*error, Error::TimedOut), "{error}");
    assert_eq!(begin.elapsed().as_secs(), MUX_SENDING_TIME.as_secs());
}

#[tokio::test(start_paused = true)]
async fn two_sides_that_close_with_much_left_to_send_do_not_wait_for_each_other() {
    let (a, of_a, b, of_b) = channel().await;
    for _ in 0..20 {
        of_a.send(0, Bytes::from(vec![1; 5000])).await.unwrap();
        of_b.send(0, Bytes::from(vec![2; 5000])).await.unwrap();
    }
    a.close();
    b.close();
    let begin = tokio::time::Instant::now();
    a.closed().await.unwrap();
    b.closed().await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn an_open_channel_keeps_the_connection_when_the_mux_is_dropped() {
    let (a, of_a, b, mut of_b) = channel().await;
    drop((a, b));
    of_a.send(0, Bytes::from_static(b"works")).await.unwrap();
    assert!(soon(of_b.next()).await.is_some());
}

/// Always has another message, which means nothing, and room for more.
struct Firehose;

impl Stream for Firehose {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        READ.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Bytes::from_static(&[0, 7]))))
    }
}

impl Sink<Bytes> for Firehose {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Bytes) -> io::Result<()> {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

static READ: AtomicUsize = AtomicUsize::new(0);
static TAKEN: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_connection_that_never_pauses_lets_others_have_a_turn_after_64_messages_each_way() {
    let shared = Arc::new(Shared::default());
    shared.with(|state| {
        let channel = state.mux.open("test", b"", options()).unwrap();
        for _ in 0..4 * MUX_TURN_MESSAGES {
            state.mux.send(channel, 0, b"").unwrap();
        }
    });
    let mut driver = Box::pin(driver::run(Firehose, shared));
    let mut context = Context::from_waker(std::task::Waker::noop());
    for turn in 1..=3 {
        assert!(driver.as_mut().poll(&mut context).is_pending());
        assert_eq!(READ.load(Ordering::Relaxed), turn * MUX_TURN_MESSAGES);
        assert_eq!(TAKEN.load(Ordering::Relaxed), turn * MUX_TURN_MESSAGES);
    }
}
