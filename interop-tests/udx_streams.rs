//! Raw UDX streams between ours and npm's udx-native, both roles: transfers compared by hash, the ways to end, lost
//! packets, processes that die. `node/udx_peer.js` is the other end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyperswarm::net::udx::{BindOptions, StreamError, UdxSocket, UdxStream};
use hyperswarm::udx::{CloseReason, Closed, StreamOptions};
use serde_json::Value;
use sha1::{Digest, Sha1};
use tokio::time::timeout;

use crate::lab::{LONG, SOON, can_run, js};
use crate::process::Process;
use crate::stream_peers::{event, pattern, port, sha1};
use crate::udx_weather::{Proxy, Weather};

const OUR_ID: u32 = 4711;
const THEIR_ID: u32 = 815;
/// 100 MiB.
const LARGE: usize = 100 << 20;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Our end and theirs.
struct Pair {
    stream: UdxStream,
    process: Process,
    /// Kept for its life, and for what it saw.
    proxy: Option<Proxy>,
    _socket: UdxSocket,
}

/// Who sends the first packet.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Us,
    Them,
}

impl Pair {
    /// None, loudly, where Node.js or its packages are missing.
    async fn new(first: First, action: &str, bytes: usize, weather: Option<Weather>) -> Option<Self> {
        Self::with(first, &["--action", action, "--bytes", &bytes.to_string()], weather).await
    }

    async fn with(first: First, arguments: &[&str], weather: Option<Weather>) -> Option<Self> {
        if !can_run() {
            return None;
        }
        let socket = UdxSocket::bind(LOOPBACK, BindOptions::default()).expect("bind");
        let framed = arguments.contains(&"--framed");
        let options = StreamOptions { id: Some(OUR_ID), framed, ..StreamOptions::default() };
        let stream = socket.open(options).expect("open");
        let mut command = js("udx_peer.js");
        command.args(["--id", &THEIR_ID.to_string(), "--remote-id", &OUR_ID.to_string()]).args(arguments);
        if first == First::Them {
            command.args(["--port", &socket.local_address().port().to_string()]);
        }
        let process = Process::start("udx-native", &mut command);
        let mut theirs = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&process)));
        let proxy = match weather {
            Some(weather) => Some(Proxy::start(socket.local_address(), theirs, weather).await),
            None => None,
        };
        if let Some(proxy) = &proxy {
            theirs = proxy.address();
        }
        if first == First::Them {
            let contact = timeout(SOON, stream.first_contact()).await.expect("in time").expect("contact");
            assert_eq!(contact.from, theirs);
        }
        stream.connect(THEIR_ID, theirs).expect("connect");
        Some(Self { stream, process, proxy, _socket: socket })
    }

    async fn write(&self, bytes: &'static [u8]) {
        self.stream.write_chunk(Bytes::from_static(bytes)).await.expect("write");
    }

    fn event(&self, name: &str) -> Value {
        event(&self.process, name)
    }

    /// The error of the first read or write that fails.
    async fn failure(&self) -> StreamError {
        let error = timeout(SOON, self.stream.closed()).await.expect("in time").expect_err("not in order");
        *error.get_ref().and_then(|inner| inner.downcast_ref()).expect("a typed error")
    }
}

async fn send(stream: &UdxStream, mut bytes: Bytes) {
    while !bytes.is_empty() {
        let chunk = bytes.split_to(bytes.len().min(64 * 1024));
        stream.write_chunk(chunk).await.expect("write");
    }
    stream.finish().await.expect("finish");
}

/// As [`send`], where the last acknowledgement can be lost: udx-native forgets a stream that has ended on both sides
/// and then repeats nothing, so that our end stays unacknowledged. What arrived is for the other side to say.
async fn send_over_losses(stream: &UdxStream, mut bytes: Bytes) {
    while !bytes.is_empty() {
        let chunk = bytes.split_to(bytes.len().min(64 * 1024));
        stream.write_chunk(chunk).await.expect("write");
    }
    if let Err(error) = stream.finish().await {
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
    }
}

/// Reads to the end; the bytes' number and hash.
async fn receive(stream: &UdxStream) -> (usize, String) {
    let (mut hash, mut bytes) = (Sha1::new(), 0);
    while let Some(chunk) = stream.read_chunk().await.expect("read") {
        hash.update(&chunk);
        bytes += chunk.len();
    }
    (bytes, data_encoding::HEXLOWER.encode(&hash.finalize()))
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_receives_100_mib() {
    let Some(pair) = Pair::new(First::Us, "receive", 0, None).await else { return };
    let bytes = pattern(LARGE);
    timeout(LONG, send(&pair.stream, bytes.clone())).await.expect("in time");
    let received = pair.event("received");
    assert_eq!((&received["bytes"], &received["sha1"]), (&LARGE.into(), &sha1(&bytes).into()));
    timeout(SOON, pair.stream.close()).await.expect("in time").expect("close");
    assert_eq!(event(&pair.process, "close")["code"], Value::Null);
}

/// udx-native falls back to a call of JavaScript for every packet, here 6500 of them, as soon as a packet holds parts
/// of two frames. As it is it makes one or two for each frame: its buffers are no multiple of the frames.
#[tokio::test(flavor = "multi_thread")]
async fn javascript_receives_frames_whole() {
    const FRAMES: usize = 200;
    let arguments = ["--framed", "--action", "receive"];
    let Some(pair) = Pair::with(First::Us, &arguments, None).await else { return };
    let frame = [&40_000_u32.to_le_bytes()[..3], &pattern(40_000)[..]].concat();
    timeout(LONG, send(&pair.stream, frame.repeat(FRAMES).into())).await.expect("in time");
    let received = pair.event("received");
    assert_eq!(received["bytes"], FRAMES * 40_003);
    let pieces = received["pieces"].as_u64().expect("a number");
    assert!(pieces <= 3 * FRAMES as u64, "{pieces} pieces");
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_sends_100_mib() {
    let Some(pair) = Pair::new(First::Them, "send", LARGE, None).await else { return };
    let received = timeout(LONG, receive(&pair.stream)).await.expect("in time");
    assert_eq!(received, (LARGE, sha1(&pattern(LARGE))));
    assert_eq!(pair.event("sent")["sha1"], received.1);
    timeout(SOON, pair.stream.close()).await.expect("in time").expect("close");
    assert_eq!(event(&pair.process, "close")["code"], Value::Null);
}

/// Sends and receives at once through a proxy; returns what the proxy saw.
async fn both_ways_through(weather: Weather, bytes: usize) -> Option<Proxy> {
    let mut pair = Pair::new(First::Us, "both", bytes, Some(weather)).await?;
    let content = pattern(bytes);
    let sending = async {
        match weather.lost > 0.0 {
            true => send_over_losses(&pair.stream, content.clone()).await,
            false => send(&pair.stream, content.clone()).await,
        }
    };
    let both = async { tokio::join!(receive(&pair.stream), sending) };
    let (received, ()) = timeout(LONG, both).await.expect("in time");
    assert_eq!(received, (bytes, sha1(&content)), "{weather:?}");
    let theirs = pair.event("received");
    assert_eq!((&theirs["bytes"], &theirs["sha1"]), (&bytes.into(), &sha1(&content).into()), "{weather:?}");
    pair.proxy.take()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_over_a_line_that_loses_reorders_and_duplicates() {
    for seed in 1..=3 {
        let weather = Weather { seed, lost: 0.02, late: 0.02, twice: 0.01 };
        let Some(proxy) = both_ways_through(weather, 2 << 20).await else { return };
        assert!(proxy.seen().lost > 0, "{weather:?}: nothing was lost");
    }
}

/// JavaScript cuts datagrams at 2048 bytes without noticing: that would corrupt a stream.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_longer_than_an_ethernet_frame_goes_to_javascript() {
    let Some(proxy) = both_ways_through(Weather::calm(), 16 << 20).await else { return };
    let longest = proxy.seen().longest_to_them;
    println!("longest datagram to JavaScript: {longest} bytes");
    assert!(longest + 28 <= 1500, "{longest}");
    assert!(longest > 1200, "the search for the path's MTU did not get beyond its start: {longest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_come_back_and_both_sides_end() {
    let Some(pair) = Pair::new(First::Us, "echo", 0, None).await else { return };
    pair.write(b"there and back").await;
    let back = timeout(SOON, pair.stream.read_chunk()).await.expect("in time").expect("read");
    assert_eq!(back.as_deref(), Some(&b"there and back"[..]));
    timeout(SOON, pair.stream.close()).await.expect("in time").expect("close");
    assert_eq!(event(&pair.process, "close")["code"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_destroyed_by_javascript_is_reset_here() {
    let Some(pair) = Pair::new(First::Us, "destroy", 0, None).await else { return };
    pair.write(b"enough").await;
    let closed = Closed { stream: pair_id(), reason: CloseReason::Reset };
    assert_eq!(pair.failure().await, StreamError::Closed(closed));
}

fn pair_id() -> hyperswarm::udx::StreamId {
    hyperswarm::udx::StreamId(OUR_ID)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_dropped_here_is_reset_in_javascript() {
    let Some(pair) = Pair::new(First::Us, "echo", 0, None).await else { return };
    pair.write(b"there and back").await;
    timeout(SOON, pair.stream.read_chunk()).await.expect("in time").expect("read");
    drop(pair.stream);
    assert_eq!(event(&pair.process, "error")["code"], "ECONNRESET");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_dropped_here_in_the_middle_of_a_transfer_is_reset_in_javascript() {
    let Some(pair) = Pair::new(First::Them, "send", LARGE, None).await else { return };
    let mut received = 0;
    while received < 1 << 20 {
        let chunk = timeout(SOON, pair.stream.read_chunk()).await.expect("in time").expect("read");
        received += chunk.expect("more than a mebibyte").len();
    }
    drop(pair.stream);
    assert_eq!(event(&pair.process, "error")["code"], "ECONNRESET");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_back() {
    let Some(pair) = Pair::new(First::Us, "messages", 0, None).await else { return };
    // The first one is also the packet that tells JavaScript where we are.
    let longest = vec![5; 1100];
    for message in [&b"one"[..], b"two", &longest] {
        pair.stream.send_message(Bytes::copy_from_slice(message)).expect("send");
        let back = timeout(SOON, pair.stream.receive_message()).await.expect("in time").expect("message");
        assert_eq!(back, message);
    }
    timeout(SOON, pair.stream.close()).await.expect("in time").expect("close");
}

/// libudx gives up at the eighth expiry of the timer, 13 s after the first transmission; so do we.
#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_process_that_is_killed_is_noticed() {
    let Some(mut pair) = Pair::new(First::Us, "receive", 0, None).await else { return };
    let bytes = pattern(1 << 20);
    let sending = async {
        loop {
            if let Err(error) = pair.stream.write_chunk(bytes.clone()).await {
                return error;
            }
            if pair.stream.stats().packets_sent > 2000 && pair.process.is_running() {
                pair.process.kill();
            }
        }
    };
    let start = Instant::now();
    let error = timeout(LONG, sending).await.expect("noticed");
    println!("noticed after {:?}: {error}", start.elapsed());
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}
