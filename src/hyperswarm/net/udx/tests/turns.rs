//! A socket's task, one turn at a time: nobody can make a turn long.

use std::future::{Future, poll_fn};
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use super::super::instance::Instance;
use super::super::{BindOptions, UdxSocket, UdxStream};
use super::{LOOPBACK, assemble, instance, open, soon};
use crate::limits::{UDP_SEND_SLOTS, UDP_TRANSMIT_BATCHES, UDX_DIRECT_SEND_BYTES};
use crate::net::udp::Driver;
use crate::udx::{Header, StreamOptions, flag};

/// A socket whose task takes a turn when the test says so, ready to send.
async fn by_hand() -> (UdxSocket, Driver) {
    let (socket, driver) = assemble(&instance());
    soon(poll_fn(|context| socket.guard.poll_writable(context))).await.unwrap();
    (socket, driver)
}

/// A socket of which the runtime has yet to notice that the system takes its datagrams: as with a full buffer,
/// nothing can be sent until the test waits for something.
fn blocked(instance: &Arc<Instance>) -> (UdxSocket, Driver) {
    assemble(instance)
}

fn turn(driver: &mut Driver) {
    let polled = Pin::new(driver).poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(polled, Poll::Pending);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn peer() -> UdpSocket {
    let peer = UdpSocket::bind(LOOPBACK).unwrap();
    peer.set_nonblocking(true).unwrap();
    peer
}

/// Datagrams that wait at `peer`: on loopback they arrive with the send.
fn arrived(peer: &UdpSocket) -> usize {
    let mut buffer = [0; 65_536];
    std::iter::from_fn(|| peer.recv(&mut buffer).ok()).count()
}

fn connected(socket: &UdxSocket, peer: &UdpSocket) -> UdxStream {
    let stream = open(socket);
    stream.connect(1, peer.local_addr().unwrap()).unwrap();
    stream
}

#[tokio::test]
async fn a_turn_sends_a_bounded_number_of_batches() {
    let (socket, mut driver) = by_hand().await;
    let peer = peer();
    let most = UDP_TRANSMIT_BATCHES * UDP_SEND_SLOTS;
    let streams: Vec<UdxStream> = (0..=most).map(|_| connected(&socket, &peer)).collect();
    for stream in &streams {
        stream.write_chunk(Bytes::from_static(b"a batch of its own")).await.unwrap();
    }
    let mut before = 0;
    assert_eq!(arrived(&peer), 0, "small writes leave with the task's turn");
    for expected in [most, 1] {
        turn(&mut driver);
        assert_eq!(sent(&streams) - before, expected);
        before += expected;
    }
}

/// Packets that the streams have sent; a peer's socket might not hold so many.
fn sent(streams: &[UdxStream]) -> usize {
    streams.iter().map(|stream| stream.stats().packets_sent as usize).sum()
}

#[tokio::test]
async fn who_writes_a_full_batch_sends_it_without_the_task() {
    let (socket, _driver) = by_hand().await;
    let peer = peer();
    let stream = connected(&socket, &peer);
    stream.write_chunk(vec![0; UDX_DIRECT_SEND_BYTES - 1].into()).await.unwrap();
    assert_eq!(arrived(&peer), 0);
    stream.write_chunk(vec![0; 1].into()).await.unwrap();
    assert!(arrived(&peer) > 0);
}

#[tokio::test]
async fn a_flush_sends_what_is_there() {
    let (socket, _driver) = by_hand().await;
    let peer = peer();
    let stream = connected(&socket, &peer);
    stream.write_chunk(Bytes::from_static(b"little")).await.unwrap();
    assert_eq!(arrived(&peer), 0);
    stream.flush_now().unwrap();
    assert_eq!(arrived(&peer), 1);
}

/// Receives the next datagram at `peer`, whose runtime the test shares.
async fn next(peer: &tokio::net::UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let length = soon(peer.recv(&mut buffer)).await.unwrap();
    buffer.truncate(length);
    buffer
}

/// A peer that acknowledges nothing.
async fn silent_peer() -> (tokio::net::UdpSocket, std::net::SocketAddr) {
    let peer = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    let address = peer.local_addr().unwrap();
    (peer, address)
}

#[tokio::test]
async fn a_deadline_that_a_user_sets_is_kept_though_no_packet_comes() {
    let (peer, address) = silent_peer().await;
    let socket = super::socket();
    let keep_alive = Some(std::time::Duration::from_millis(20));
    let stream = socket.open(StreamOptions { keep_alive, ..StreamOptions::default() }).unwrap();
    stream.connect(1, address).unwrap();
    for _ in 0..3 {
        assert_eq!(next(&peer).await.get(2), Some(&flag::HEARTBEAT));
    }
}

#[tokio::test]
async fn an_end_that_is_lost_is_repeated() {
    let (peer, address) = silent_peer().await;
    let socket = super::socket();
    let stream = open(&socket);
    stream.connect(1, address).unwrap();
    let finishing = tokio::spawn(async move { stream.finish().await });
    for _ in 0..2 {
        assert_eq!(next(&peer).await.get(2), Some(&flag::END));
    }
    finishing.abort();
}

#[tokio::test]
async fn deadlines_are_kept_when_the_socket_that_kept_them_is_closed() {
    let (peer, address) = silent_peer().await;
    let first = super::socket();
    let second = first.bind_sibling(LOOPBACK, BindOptions::default()).unwrap();
    let keep_alive = Some(std::time::Duration::from_millis(20));
    let stream = second.open(StreamOptions { keep_alive, ..StreamOptions::default() }).unwrap();
    stream.connect(1, address).unwrap();
    next(&peer).await;
    drop(first);
    for _ in 0..3 {
        assert_eq!(next(&peer).await.get(2), Some(&flag::HEARTBEAT));
    }
}

#[tokio::test]
async fn a_task_whose_socket_takes_nothing_sleeps_until_it_does() {
    let (socket, mut driver) = blocked(&instance());
    let peer = peer();
    let stream = connected(&socket, &peer);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut turn = || assert!(Pin::new(&mut driver).poll(&mut Context::from_waker(&waker)).is_pending());
    turn();
    count.take();
    stream.write_chunk(Bytes::from_static(b"first")).await.unwrap();
    for _ in 0..10 {
        turn();
        // Writers that find the socket blocked leave it to the task, which knows.
        stream.flush_now().unwrap();
    }
    let wakes = count.take();
    println!("woken {wakes} times in 10 turns of a blocked socket");
    assert!(wakes <= 3, "{wakes}");
    assert_eq!(arrived(&peer), 0);
    soon(async {
        while arrived(&peer) == 0 {
            while count.take() == 0 {
                tokio::task::yield_now().await;
            }
            turn();
        }
    })
    .await;
}

#[tokio::test]
async fn a_socket_that_is_closed_leaves_nothing_behind() {
    let instance = instance();
    let (socket, mut driver) = blocked(&instance);
    let peer = peer();
    let streams = [connected(&socket, &peer), connected(&socket, &peer)];
    let id = socket.guard.id();
    drop((streams, socket));
    let wants = || instance.with(|core| core.endpoint.wants_transmit(id));
    assert!(wants(), "a reset that cannot leave");
    assert!(Pin::new(&mut driver).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    drop(driver);
    assert!(!wants());
}

#[tokio::test]
async fn what_was_sent_on_an_old_socket_is_repeated_there_though_its_user_dropped_it() {
    let (peer, address) = silent_peer().await;
    let old = super::socket();
    let new = old.bind_sibling(LOOPBACK, BindOptions::default()).unwrap();
    let (before, watched) = (old.local_address(), Arc::downgrade(&old.guard));
    let stream = open(&old);
    let id = stream.id();
    stream.connect(1, address).unwrap();
    stream.write_chunk(Bytes::from_static(b"lost")).await.unwrap();
    stream.flush_now().unwrap();
    let lost = next(&peer).await;
    drop(old);
    let moving =
        tokio::spawn(async move { stream.change_remote(&new, 1, address).await.map(|()| (stream, new)) });
    assert_eq!(next(&peer).await, lost);
    let acknowledgement = Header { flags: 0, data_offset: 0, stream: id, window: 1 << 20, seq: 0, ack: 1 };
    peer.send_to(&acknowledgement.encode(), before).await.unwrap();
    let _kept = soon(moving).await.unwrap().unwrap();
    assert!(watched.upgrade().is_none(), "closed with the last of its packets");
}

/// A packet of the peer for a stream, with this number.
fn data(stream: &UdxStream, seq: u32) -> Vec<u8> {
    let header =
        Header { flags: flag::DATA, data_offset: 0, stream: stream.id(), window: 1 << 20, seq, ack: 0 };
    [&header.encode()[..], b"question"].concat()
}

/// What arrived at the peer: flags and acknowledged number of each packet.
async fn heard(peer: &tokio::net::UdpSocket) -> (u8, u32) {
    let header = Header::decode(&next(peer).await).unwrap();
    (header.flags, header.ack)
}

#[tokio::test]
async fn an_answer_carries_the_acknowledgement_of_the_question() {
    let (peer, address) = silent_peer().await;
    let socket = super::socket();
    let stream = open(&socket);
    stream.connect(1, address).unwrap();
    // Several times: one that is acknowledged early, as the timer of an earlier one fires, shows nothing.
    let mut alone = 0;
    for seq in 0..10 {
        let question = stream.read_chunk();
        tokio::pin!(question);
        let polled = poll_fn(|context| Poll::Ready(question.as_mut().poll(context).is_pending())).await;
        assert!(polled, "the reader waits before the question is there");
        peer.send_to(&data(&stream, seq), socket.local_address()).await.unwrap();
        soon(question).await.unwrap();
        stream.write_chunk(Bytes::from_static(b"answer")).await.unwrap();
        stream.flush_now().unwrap();
        let first = heard(&peer).await;
        alone += u32::from(first == (flag::DATA, seq + 1));
        if first.0 == 0 {
            assert_eq!(heard(&peer).await.0, flag::DATA);
        }
    }
    assert!(alone >= 5, "{alone} of 10 answers were the first packet after their question");
}

#[tokio::test]
async fn a_question_without_an_answer_is_acknowledged_when_its_reader_waits_again_or_after_a_while() {
    let (peer, address) = silent_peer().await;
    let socket = super::socket();
    let stream = Arc::new(open(&socket));
    stream.connect(1, address).unwrap();
    let reader = tokio::spawn({
        let stream = Arc::clone(&stream);
        async move {
            stream.read_chunk().await.unwrap();
            let _ = stream.read_chunk().await;
            std::future::pending::<()>().await;
        }
    });
    tokio::task::yield_now().await;
    for seq in 0..2 {
        peer.send_to(&data(&stream, seq), socket.local_address()).await.unwrap();
        assert_eq!(heard(&peer).await, (0, seq + 1));
    }
    reader.abort();
}
