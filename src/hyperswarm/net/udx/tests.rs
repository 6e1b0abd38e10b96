//! Streams between sockets on loopback. What needs lost packets or time is tested on the machine, in virtual time.

mod turns;

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::instance::Instance;
use super::{BindOptions, Offload, StreamError, UdxSocket, UdxStream};
use crate::limits::{UDX_RECEIVE_BUDGET_BYTES, UDX_WINDOW_MAX_BYTES};
use crate::net::udp::Driver;
use crate::udx::{
    CloseReason, Closed, Firewall, Header, OpenError, StateError, StreamId, StreamOptions, flag,
};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const MIB: usize = 1 << 20;

/// Everything here takes milliseconds to seconds.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("in time")
}

fn socket() -> UdxSocket {
    UdxSocket::bind(LOOPBACK, BindOptions::default()).unwrap()
}

fn instance() -> Arc<Instance> {
    Arc::new(Instance::new([3; 32], UDX_RECEIVE_BUDGET_BYTES))
}

/// A socket for the streams of an instance, whose task has yet to be started.
fn assemble(instance: &Arc<Instance>) -> (UdxSocket, Driver) {
    let protocols = Arc::new([Arc::clone(instance) as _]);
    UdxSocket::assemble(Arc::clone(instance), protocols, LOOPBACK, BindOptions::default()).unwrap()
}

/// Connected streams on two sockets.
fn streams(a: &UdxSocket, b: &UdxSocket) -> (UdxStream, UdxStream) {
    let (left, right) = (open(a), open(b));
    left.connect(right.id(), b.local_address()).unwrap();
    right.connect(left.id(), a.local_address()).unwrap();
    (left, right)
}

fn open(socket: &UdxSocket) -> UdxStream {
    socket.open(StreamOptions::default()).unwrap()
}

fn random_bytes(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

async fn send(stream: &UdxStream, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.write_chunk(bytes.split_to(bytes.len().min(64 * 1024))).await.unwrap();
    }
    stream.finish().await.unwrap();
}

async fn read_to_end(stream: &UdxStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.read_chunk().await.unwrap() {
        all.extend_from_slice(&chunk);
    }
    all
}

fn inner(error: &std::io::Error) -> StreamError {
    *error.get_ref().and_then(|inner| inner.downcast_ref()).expect("a typed error")
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_arrive_in_both_directions_and_both_sides_end() {
    let (a, b) = (socket(), socket());
    let (left, right) = streams(&a, &b);
    let (there, back) = (random_bytes(1, 20 * MIB), random_bytes(2, 10 * MIB));
    let ((), (), at_left, at_right) = soon(async {
        tokio::join!(
            send(&left, there.clone()),
            send(&right, back.clone()),
            read_to_end(&left),
            read_to_end(&right)
        )
    })
    .await;
    assert!(at_right == there && at_left == back);
    soon(async { tokio::join!(left.closed(), right.closed()) }).await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_arrive_where_the_system_does_not_cut_what_is_sent() {
    let options = BindOptions { offload: Offload::Off, ..BindOptions::default() };
    let bind = || UdxSocket::bind(LOOPBACK, options).unwrap();
    let (a, b) = (bind(), bind());
    let (left, right) = streams(&a, &b);
    let there = random_bytes(3, 5 * MIB);
    let ((), arrived) = soon(async { tokio::join!(send(&left, there.clone()), read_to_end(&right)) }).await;
    assert!(arrived == there);
}

#[tokio::test]
async fn a_single_thread_is_enough() {
    let (a, b) = (socket(), socket());
    let (left, right) = streams(&a, &b);
    let there = random_bytes(4, 5 * MIB);
    let ((), arrived) = soon(async { tokio::join!(send(&left, there.clone()), read_to_end(&right)) }).await;
    assert!(arrived == there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_can_be_used_as_tokios_byte_stream() {
    let (a, b) = (socket(), socket());
    let (mut left, mut right) = streams(&a, &b);
    soon(async {
        left.write_all(b"question").await.unwrap();
        let mut question = [0; 8];
        right.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");
        right.write_all(b"answer").await.unwrap();
        right.flush().await.unwrap();
        let ((), answer) = tokio::join!(async { right.shutdown().await.unwrap() }, async {
            let mut answer = String::new();
            left.read_to_string(&mut answer).await.unwrap();
            answer
        });
        assert_eq!(answer, "answer");
        assert_eq!(right.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    })
    .await;
}

// How evenly streams share is measured in virtual time (udx/tests/weather/fairness.rs): here the scheduler has a say.
#[tokio::test(flavor = "multi_thread")]
async fn of_streams_on_one_socket_that_never_pause_none_is_left_behind() {
    const ENOUGH: usize = 16 * MIB;
    let (a, b) = (socket(), socket());
    let counts: [Arc<AtomicUsize>; 8] = Default::default();
    let (tell, mut told) = tokio::sync::mpsc::channel(counts.len());
    for count in &counts {
        let (left, right) = streams(&a, &b);
        tokio::spawn(async move {
            let chunk = Bytes::from(vec![0; 64 * 1024]);
            while left.write_chunk(chunk.clone()).await.is_ok() {}
        });
        let (tell, count) = (tell.clone(), Arc::clone(count));
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = right.read_chunk().await {
                let before = count.fetch_add(chunk.len(), Ordering::Relaxed);
                if (before..before + chunk.len()).contains(&ENOUGH) {
                    tell.send(()).await.ok();
                }
            }
        });
    }
    for _ in &counts {
        soon(told.recv()).await.unwrap();
    }
    println!("MiB of each when all had 16: {:?}", counts.map(|count| count.load(Ordering::Relaxed) / MIB));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_holds_at_most_its_window_and_disturbs_no_other_stream() {
    let (a, b) = (socket(), socket());
    let (stalled, unread) = streams(&a, &b);
    let stalled = Arc::new(stalled);
    let all = random_bytes(5, 4 * UDX_WINDOW_MAX_BYTES);
    let writer = tokio::spawn({
        let (stalled, all) = (Arc::clone(&stalled), all.clone());
        async move { send(&stalled, all).await }
    });
    let (left, right) = streams(&a, &b);
    let there = random_bytes(6, 30 * MIB);
    let ((), arrived) = soon(async { tokio::join!(send(&left, there.clone()), read_to_end(&right)) }).await;
    assert!(arrived == there);
    let held = unread.stats().buffered;
    println!("a stalled reader holds {held} bytes");
    assert!(held <= UDX_WINDOW_MAX_BYTES, "{held}");
    assert!(!writer.is_finished(), "the writer was not held back");
    let arrived = soon(read_to_end(&unread)).await;
    soon(writer).await.unwrap();
    assert!(arrived == all, "nothing was lost by waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_foreign_packets_disturb_no_stream() {
    let seed = 7;
    let (a, b) = (socket(), socket());
    let (left, right) = streams(&a, &b);
    let stranger = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let there = random_bytes(seed, 20 * MIB);
    let (target, known) = (b.local_address(), right.id());
    let stop = Arc::new(AtomicBool::new(false));
    let flood = tokio::task::spawn_blocking({
        let stop = Arc::clone(&stop);
        move || {
            let mut random = StdRng::seed_from_u64(seed);
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let mut datagram = vec![0; random.random_range(0..1500)];
                random.fill_bytes(&mut datagram);
                match random.random_range(0..3) {
                    // Noise, or a UDX header of no stream here.
                    0 => {}
                    1 => datagram.iter_mut().zip([0xff, 1]).for_each(|(byte, magic)| *byte = magic),
                    // Cut within the header of a stream that exists.
                    _ => {
                        datagram.truncate(19);
                        let header = [&[0xff, 1, 1, 0][..], &known.to_le_bytes()].concat();
                        datagram.iter_mut().zip(header).for_each(|(byte, wanted)| *byte = wanted);
                    }
                }
                sent += usize::from(stranger.send_to(&datagram, target).is_ok());
            }
            sent
        }
    });
    let ((), arrived) = soon(async { tokio::join!(send(&left, there.clone()), read_to_end(&right)) }).await;
    stop.store(true, Ordering::Relaxed);
    let strange = flood.await.unwrap();
    println!("{strange} datagrams of a stranger meanwhile, seed {seed}");
    assert!(strange > 0);
    assert!(arrived == there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_direction_leaves_the_other_open() {
    let (a, b) = (socket(), socket());
    let (left, right) = streams(&a, &b);
    soon(async {
        left.write_chunk(Bytes::from_static(b"last words")).await.unwrap();
        left.finish().await.unwrap();
        assert_eq!(read_to_end(&right).await, b"last words");
        right.write_chunk(Bytes::from_static(b"still here")).await.unwrap();
        assert_eq!(left.read_chunk().await.unwrap().unwrap(), &b"still here"[..]);
        assert_eq!(
            inner(&left.write_chunk(Bytes::from_static(b"more")).await.unwrap_err()),
            StreamError::Finished(StreamId(left.id()))
        );
        let (one, other) = tokio::join!(right.close(), left.close());
        one.and(other).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_is_reset_at_the_peer_even_with_its_socket() {
    let (a, b) = (socket(), socket());
    let (left, right) = streams(&a, &b);
    soon(async {
        left.write_chunk(Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(right.read_chunk().await.unwrap().unwrap(), &b"hello"[..]);
        drop((left, a));
        let error = right.read_chunk().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let closed = Closed { stream: StreamId(right.id()), reason: CloseReason::Reset };
        assert_eq!(inner(&error), StreamError::Closed(closed));
        assert!(error.to_string().contains(&right.id().to_string()), "{error}");
        assert_eq!(
            right.write_chunk(Bytes::from_static(b"?")).await.unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_connected_to_whoever_contacts_it_first() {
    let (a, b) = (socket(), socket());
    let (left, right) = (open(&a), open(&b));
    soon(async {
        left.connect(right.id(), b.local_address()).unwrap();
        left.write_chunk(Bytes::from_static(b"knock")).await.unwrap();
        let contact = right.first_contact().await.unwrap();
        assert_eq!((contact.from, contact.socket.local_address()), (a.local_address(), b.local_address()));
        assert_eq!(right.read_chunk().await.unwrap().unwrap(), &b"knock"[..], "bytes can be read before");
        right.connect_on(&contact.socket, left.id(), contact.from).unwrap();
        left.finish().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_moves_to_another_socket_in_the_middle_of_a_transfer() {
    let (a, b) = (socket(), socket());
    let sibling = a.bind_sibling(LOOPBACK, BindOptions::default()).unwrap();
    let (left, right) = streams(&a, &b);
    let there = random_bytes(8, 10 * MIB);
    soon(async {
        let moving = async {
            left.write_chunk(there.slice(..MIB)).await.unwrap();
            left.change_remote(&sibling, right.id(), b.local_address()).await.unwrap();
            send(&left, there.slice(MIB..)).await;
        };
        let ((), arrived) = tokio::join!(moving, read_to_end(&right));
        assert!(arrived == there);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_travel_beside_the_bytes() {
    let (a, b) = (socket(), socket());
    let (left, right) = streams(&a, &b);
    soon(async {
        left.send_message(Bytes::from_static(b"psst")).unwrap();
        assert_eq!(right.receive_message().await.unwrap(), &b"psst"[..]);
        right.send_message(Bytes::from_static(b"yes?")).unwrap();
        assert_eq!(left.receive_message().await.unwrap(), &b"yes?"[..]);
        let error = left.send_message(vec![0; 70_000].into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        drop(right);
        assert_eq!(left.receive_message().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_cannot_do_yet_is_an_error_that_names_it() {
    let a = socket();
    let stream = a.open(StreamOptions { id: Some(77), ..StreamOptions::default() }).unwrap();
    let error = stream.send_message(Bytes::from_static(b"?")).unwrap_err();
    assert_eq!(inner(&error), StreamError::Message(StateError::NotConnected(StreamId(77)).into()));
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    let error = a.open(StreamOptions { id: Some(77), ..StreamOptions::default() }).unwrap_err();
    assert_eq!(inner(&error), StreamError::Open(OpenError::InUse(StreamId(77))));
    drop(stream);
    a.open(StreamOptions { id: Some(77), ..StreamOptions::default() }).unwrap();
}

/// How often `take` is ready in one turn of a task.
async fn ready_in_a_turn<T>(mut take: impl FnMut(&mut Context<'_>) -> Poll<T>) -> usize {
    tokio::task::yield_now().await;
    poll_fn(|context| {
        let mut count = 0;
        while take(context).is_ready() {
            count += 1;
        }
        Poll::Ready(count)
    })
    .await
}

#[tokio::test]
async fn whoever_reads_all_that_is_there_lets_other_tasks_run() {
    let (a, b) = (socket(), socket());
    let (left, right) = streams(&a, &b);
    soon(async {
        for _ in 0..200 {
            left.send_message(Bytes::from_static(b"message")).unwrap();
        }
        left.write_chunk(vec![0; 200].into()).await.unwrap();
        // The bytes come after the messages.
        poll_fn(|context| right.poll_read_chunk(context, 1)).await.unwrap().unwrap();
        let (mut bytes, mut messages) = (1, 0);
        while bytes < 200 || messages < 200 {
            let now = ready_in_a_turn(|context| right.poll_read_chunk(context, 1)).await;
            assert!(now <= 128, "{now} reads in one turn");
            bytes += now;
            let now = ready_in_a_turn(|context| right.poll_receive_message(context)).await;
            assert!(now <= 128, "{now} messages in one turn");
            messages += now;
        }
        assert_eq!((bytes, messages), (200, 200));
    })
    .await;
}

#[tokio::test]
async fn a_stream_refuses_sockets_and_streams_of_another_instance() {
    let (a, b) = (socket(), socket());
    let (left, right) = streams(&a, &b);
    let refused = StreamError::OtherInstance(StreamId(left.id()));
    let address = b.local_address();
    assert_eq!(inner(&left.relay_to(&right).unwrap_err()), refused);
    assert_eq!(inner(&soon(left.change_remote(&b, right.id(), address)).await.unwrap_err()), refused);
    let new = open(&a);
    let error = new.connect_on(&b, right.id(), address).unwrap_err();
    assert_eq!(inner(&error), StreamError::OtherInstance(StreamId(new.id())));
    let sibling = b.bind_sibling(LOOPBACK, BindOptions::default()).unwrap();
    open(&b).connect_on(&sibling, 1, address).unwrap();
}

#[tokio::test]
async fn streams_of_a_socket_whose_task_panics_are_closed_with_an_error() {
    let (a, driver) = assemble(&instance());
    let stream = open(&a);
    stream.connect(1, LOOPBACK).unwrap();
    let task = tokio::spawn(async move {
        let _driver = driver;
        tokio::task::yield_now().await;
        panic!("as a fault in the socket's task would");
    });
    let closed =
        StreamError::Closed(Closed { stream: StreamId(stream.id()), reason: CloseReason::SocketClosed });
    let (read, message, ended) =
        soon(async { tokio::join!(stream.read_chunk(), stream.receive_message(), stream.closed()) }).await;
    assert!(task.await.unwrap_err().is_panic());
    for error in [read.unwrap_err(), message.unwrap_err(), ended.unwrap_err()] {
        assert_eq!(inner(&error), closed);
    }
    let error = soon(stream.write_chunk(Bytes::from_static(b"x"))).await.unwrap_err();
    assert_eq!(inner(&error), closed);
    assert_eq!(inner(&a.open(StreamOptions::default()).unwrap_err()), StreamError::SocketClosed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_is_changed_by_whoever_hears_of_a_contact() {
    let (a, b) = (socket(), socket());
    let options = StreamOptions { firewall: Firewall::Reject, ..StreamOptions::default() };
    let (left, right) = (open(&a), b.open(options).unwrap());
    left.connect(right.id(), b.local_address()).unwrap();
    left.write_chunk(Bytes::from_static(b"x")).await.unwrap();
    // A function in the firewall would have hung here: it ran under the lock that this takes.
    right.set_firewall(Firewall::Only([a.local_address()].into())).unwrap();
    let contact = soon(right.first_contact()).await.unwrap();
    right.connect(left.id(), contact.from).unwrap();
    assert_eq!(soon(right.read_chunk()).await.unwrap().unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_hears_of_a_peer_that_speaks_from_another_socket() {
    let (a, b) = (socket(), socket());
    let sibling = a.bind_sibling(LOOPBACK, BindOptions::default()).unwrap();
    let (left, right) = streams(&a, &b);
    soon(async {
        left.write_chunk(Bytes::from_static(b"here")).await.unwrap();
        assert_eq!(right.read_chunk().await.unwrap().unwrap(), "here");
        let waiting = right.other_path();
        tokio::pin!(waiting);
        let early = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context).is_ready())).await;
        assert!(!early, "told of its own path");
        left.change_remote(&sibling, right.id(), b.local_address()).await.unwrap();
        left.write_chunk(Bytes::from_static(b"there")).await.unwrap();
        let contact = waiting.await.unwrap();
        assert_eq!(contact.from, sibling.local_address());
        assert_eq!(contact.socket.local_address(), b.local_address());
        right.change_remote(&contact.socket, left.id(), contact.from).await.unwrap();
        assert_eq!(right.read_chunk().await.unwrap().unwrap(), "there");
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_missed_the_last_acknowledgement_gets_it_though_the_socket_was_dropped() {
    let peer = tokio::net::UdpSocket::bind(LOOPBACK).await.unwrap();
    let own = socket();
    let (at, stream) = (own.local_address(), open(&own));
    stream.connect(7, peer.local_addr().unwrap()).unwrap();
    let id = stream.id();
    let packet =
        |flags, seq, ack| Header { flags, data_offset: 0, stream: id, window: 1 << 20, seq, ack }.encode();
    let mut buffer = [0; 100];
    soon(async {
        peer.send_to(&packet(flag::END, 0, 0), at).await.unwrap();
        let finishing = async {
            stream.finish().await.unwrap();
            assert!(stream.read_chunk().await.unwrap().is_none());
        };
        let acknowledging = async {
            loop {
                let length = peer.recv(&mut buffer).await.unwrap();
                if Header::decode(&buffer[..length]).unwrap().has(flag::END) {
                    peer.send_to(&packet(0, 1, 1), at).await.unwrap();
                    break;
                }
            }
        };
        tokio::join!(finishing, acknowledging);
        stream.closed().await.unwrap();
        drop((stream, own));
        // What was on its way when the socket was dropped; then the end again, as if no acknowledgement had come.
        while tokio::time::timeout(Duration::from_millis(200), peer.recv(&mut buffer)).await.is_ok() {}
        peer.send_to(&packet(flag::END, 0, 1), at).await.unwrap();
        let length = peer.recv(&mut buffer).await.unwrap();
        assert_eq!(Header::decode(&buffer[..length]).unwrap().ack, 1);
    })
    .await;
}
