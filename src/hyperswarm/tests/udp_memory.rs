//! What a bound socket costs: little, as a birthday round of hole punching opens 256.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

mod counting;

use std::net::{SocketAddr, UdpSocket};

use counting::in_use;
use hyperswarm::net::udx::{BindOptions, UdxSocket};

const SOCKETS: usize = 256;
const BAR: usize = 4096;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Bytes in use beyond `before`, for each of the sockets.
fn each(before: isize) -> usize {
    usize::try_from(in_use() - before).expect("sockets take memory") / SOCKETS
}

#[tokio::test]
async fn a_socket_costs_less_than_4_kib() {
    let first = UdxSocket::bind(loopback(), BindOptions::default()).expect("a socket");
    let stranger = UdpSocket::bind(loopback()).expect("a socket");
    let disturb = |socket: &UdxSocket| {
        stranger.send_to(b"for nobody", socket.local_address()).expect("loopback takes it");
    };
    // The buffers of the thread are there from the first datagram on.
    disturb(&first);
    turns().await;
    let before = in_use();
    let bind = |_| first.bind_sibling(loopback(), BindOptions::default()).expect("a socket");
    let sockets: Vec<UdxSocket> = (0..SOCKETS).map(bind).collect();
    turns().await;
    println!("check memory: measured {} bytes per socket, bar {BAR}, seed none", each(before));
    assert!(each(before) < BAR);
    sockets.iter().for_each(disturb);
    turns().await;
    println!("check memory: measured {} bytes per used socket, bar {BAR}, seed none", each(before));
    assert!(each(before) < BAR);
}

/// Lets the tasks of the sockets run, and the runtime ask the system what has arrived.
async fn turns() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}
