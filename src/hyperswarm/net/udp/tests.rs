//! Sockets with protocols of the test's own.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::*;
use crate::limits::{UDP_RECEIVE_CALLS, UDP_RECEIVE_SLOTS, UDP_SMALL_RECEIVE_SLOTS};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("in time")
}

/// Takes what begins with its letter.
#[derive(Default)]
struct Letter {
    letter: u8,
    taken: Mutex<Vec<Vec<u8>>>,
    shown: AtomicUsize,
    calls: AtomicUsize,
    to_send: Mutex<VecDeque<(SocketAddr, Vec<u8>, Way)>>,
    deadline: Mutex<Option<Instant>>,
    armed: AtomicBool,
    fired: AtomicUsize,
    closed: Mutex<Vec<bool>>,
}

impl Letter {
    fn new(letter: u8) -> Arc<Self> {
        Arc::new(Self { letter, ..Self::default() })
    }

    fn taken(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.taken.lock())
    }

    fn send(&self, to: SocketAddr, datagram: &[u8], way: Way) {
        self.to_send.lock().push_back((to, datagram.to_vec(), way));
    }
}

impl Protocol for Letter {
    fn receive(&self, _now: Instant, _socket: SocketId, batch: &mut Batch<'_>) -> Haste {
        self.calls.fetch_add(1, Ordering::SeqCst);
        batch.offer(|_, datagram| {
            self.shown.fetch_add(1, Ordering::SeqCst);
            let its_own = datagram.first() == Some(&self.letter);
            if its_own {
                self.taken.lock().push(datagram.to_vec());
            }
            its_own
        });
        Haste::Now
    }

    fn poll_transmit(&self, _now: Instant, _socket: SocketId, out: &mut Outgoing) {
        let mut to_send = self.to_send.lock();
        while !out.is_full()
            && let Some((to, datagram, way)) = to_send.pop_front()
        {
            out.push(to, &datagram, way);
        }
    }

    fn turn(&self, now: Instant, _socket: SocketId) -> bool {
        let due = self.deadline.lock().take_if(|deadline| *deadline <= now).is_some();
        self.fired.fetch_add(usize::from(due), Ordering::SeqCst);
        due
    }

    fn arm(&self) -> Option<Instant> {
        let deadline = *self.deadline.lock();
        deadline.filter(|_| !self.armed.swap(true, Ordering::SeqCst))
    }

    fn disarm(&self, _at: Instant) {
        self.armed.store(false, Ordering::SeqCst);
    }

    fn closed(&self, _socket: SocketId, died: bool) {
        self.closed.lock().push(died);
    }
}

/// A socket with these protocols, whose task takes a turn when the test says so, ready to send.
async fn by_hand(letters: &[Arc<Letter>]) -> (Arc<Handle>, Driver) {
    let protocols: Protocols = letters.iter().map(|letter| Arc::clone(letter) as _).collect();
    let (socket, driver) = Handle::bind(LOOPBACK, Offload::default(), protocols).unwrap();
    soon(poll_fn(|context| socket.poll_writable(context))).await.unwrap();
    (socket, driver)
}

async fn turn(socket: &Handle, driver: &mut Driver) {
    // The runtime has to notice that the socket is readable.
    soon(poll_fn(|context| socket.datagrams.poll_readable(context))).await.unwrap();
    let _ = Pin::new(driver).poll(&mut Context::from_waker(Waker::noop()));
}

fn peer() -> (UdpSocket, SocketAddr) {
    let peer = UdpSocket::bind(LOOPBACK).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let address = peer.local_addr().unwrap();
    (peer, address)
}

fn next(peer: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = peer.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[tokio::test]
async fn what_arrives_is_for_the_first_protocol_that_takes_it() {
    let letters = [Letter::new(b'a'), Letter::new(b'b'), Letter::new(b'b')];
    let (socket, mut driver) = by_hand(&letters).await;
    let (peer, _) = peer();
    for datagram in [&b"a1"[..], b"b1", b"", b"c1", b"a2"] {
        peer.send_to(datagram, socket.local_address()).unwrap();
    }
    turn(&socket, &mut driver).await;
    assert_eq!(letters[0].taken(), [b"a1", b"a2"]);
    assert_eq!(letters[1].taken(), [b"b1"]);
    assert!(letters[2].taken().is_empty());
    let shown = letters.map(|letter| letter.shown.load(Ordering::SeqCst));
    assert_eq!(shown, [5, 3, 2], "nobody is shown what another one took");
}

#[tokio::test]
async fn a_protocol_is_called_once_per_batch_and_not_at_all_if_nothing_is_left() {
    let letters = [Letter::new(b'a'), Letter::new(b'b')];
    let (socket, mut driver) = by_hand(&letters).await;
    let (peer, _) = peer();
    for _ in 0..UDP_RECEIVE_SLOTS {
        peer.send_to(b"a", socket.local_address()).unwrap();
    }
    turn(&socket, &mut driver).await;
    let calls = letters.map(|letter| letter.calls.load(Ordering::SeqCst));
    assert_eq!(calls, [1, 0]);
}

#[tokio::test]
async fn a_turn_takes_a_bounded_number_of_datagrams() {
    let letter = Letter::new(b'?');
    let (socket, mut driver) = by_hand(&[Arc::clone(&letter)]).await;
    let (peer, _) = peer();
    // The first call is for coalesced datagrams, the others for small ones.
    let most = UDP_RECEIVE_SLOTS + (UDP_RECEIVE_CALLS - 1) * UDP_SMALL_RECEIVE_SLOTS;
    for _ in 0..=most {
        peer.send_to(b"?", socket.local_address()).unwrap();
    }
    for expected in [most, 1] {
        turn(&socket, &mut driver).await;
        assert_eq!(letter.taken().len(), expected);
    }
}

#[tokio::test]
async fn no_protocol_keeps_another_one_from_sending() {
    let letters = [Letter::new(b'a'), Letter::new(b'b')];
    let (socket, _driver) = by_hand(&letters).await;
    let (peer, address) = peer();
    for _ in 0..100 {
        letters[0].send(address, &[b'a'; 10], Way::Plain);
    }
    letters[1].send(address, b"b", Way::Plain);
    socket.transmit();
    let order: Vec<u8> = (0..101).map(|_| next(&peer)[0]).collect();
    let place = order.iter().position(|letter| *letter == b'b').unwrap();
    assert!(place < 100, "the second protocol waited for all of the first one");
}

#[tokio::test]
async fn probes_leave_in_order_with_the_datagrams_around_them() {
    let letter = Letter::new(b'a');
    let (socket, _driver) = by_hand(&[Arc::clone(&letter)]).await;
    let (peer, address) = peer();
    for (datagram, way) in
        [(&b"before"[..], Way::Plain), (b"", Way::Ttl(5)), (b"\0", Way::Ttl(64)), (b"after", Way::Plain)]
    {
        letter.send(address, datagram, way);
    }
    socket.transmit();
    let arrived: Vec<Vec<u8>> = (0..4).map(|_| next(&peer)).collect();
    assert_eq!(arrived, [&b"before"[..], b"", b"\0", b"after"]);
}

#[tokio::test]
async fn the_deadline_of_each_protocol_is_kept() {
    let letters = [Letter::new(b'a'), Letter::new(b'b')];
    let now = Instant::now();
    *letters[0].deadline.lock() = Some(now + Duration::from_millis(40));
    *letters[1].deadline.lock() = Some(now + Duration::from_millis(20));
    let (_socket, mut driver) = by_hand(&letters).await;
    let all = || letters.iter().all(|letter| letter.fired.load(Ordering::SeqCst) == 1);
    soon(poll_fn(|context| {
        let _ = Pin::new(&mut driver).poll(context);
        if all() { Poll::Ready(()) } else { Poll::Pending }
    }))
    .await;
    assert!(Instant::now() >= now + Duration::from_millis(40));
}

#[tokio::test]
async fn protocols_hear_how_a_sockets_task_ended() {
    let letter = Letter::new(b'a');
    let (socket, mut driver) = by_hand(&[Arc::clone(&letter)]).await;
    drop(socket);
    assert_eq!(Pin::new(&mut driver).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
    drop(driver);
    let (_socket, driver) = by_hand(&[Arc::clone(&letter)]).await;
    drop(driver);
    assert_eq!(*letter.closed.lock(), [false, true]);
}
