//! Our protomux on our secret streams and npm's on npm's, over TCP and over UDX: channels opened by either side,
//! handshakes, batches, rejects, closes, aliases, much data, and frames that nobody may send.
//! `node/protomux_peer.js` is the other end.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use hyperswarm::crypto::KeyPair;
use hyperswarm::mux::ChannelOptions;
use hyperswarm::net::mux::{Channel, Closed, Message, Mux};
use hyperswarm::net::secret_stream::{ByteStream, Options, SecretStream};
use hyperswarm::net::udx::{BindOptions, UdxSocket, UdxStream};
use hyperswarm::udx::StreamOptions;
use sha1::{Digest, Sha1};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::lab::{LONG, SOON, can_run, js};
use crate::process::Process;
use crate::stream_peers::{event, event_that, port};

/// 16 MiB.
const LARGE: usize = 16 << 20;

/// Starts npm's peer. None, loudly, where Node.js or its packages are missing.
fn peer(arguments: &[&str]) -> Option<(Process, SocketAddr)> {
    if !can_run() {
        return None;
    }
    let process = Process::start("protomux", js("protomux_peer.js").args(arguments));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port(&process)));
    Some((process, address))
}

/// A secret stream to npm's peer; it begins the handshake if it was started with `--initiator`.
async fn stream(arguments: &[&str]) -> Option<(Process, SecretStream<ByteStream<TcpStream>>)> {
    let (process, address) = peer(arguments)?;
    let socket = TcpStream::connect(address).await.expect("connect");
    socket.set_nodelay(true).expect("no delay");
    let (transport, own) = (ByteStream::new(socket), KeyPair::from_seed(&[1; 32]));
    let opened = match arguments.contains(&"--initiator") {
        true => timeout(SOON, SecretStream::accept(transport, &own, Options::default())).await,
        false => timeout(SOON, SecretStream::initiate(transport, &own, Options::default())).await,
    };
    Some((process, opened.expect("in time").expect("a secret stream")))
}

async fn mux(arguments: &[&str]) -> Option<(Process, Mux)> {
    let (process, stream) = stream(arguments).await?;
    Some((process, Mux::new(stream)))
}

fn options(handshake: impl AsRef<[u8]>) -> ChannelOptions {
    ChannelOptions {
        message_types: 2,
        unique: false,
        handshake: Bytes::copy_from_slice(handshake.as_ref()),
        ..ChannelOptions::default()
    }
}

async fn next(channel: &mut Channel) -> Message {
    timeout(LONG, channel.next()).await.expect("in time").expect("a message")
}

async fn send(channel: &Channel, kind: u64, body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    timeout(LONG, channel.send(kind, body)).await.expect("in time").expect("sent");
}

fn message(kind: u64, body: &'static [u8]) -> Message {
    Message { kind, body: Bytes::from_static(body) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_we_open_to_npm_protomux_carry_handshakes_and_messages() {
    for role in [&[][..], &["--initiator"]] {
        let Some((process, mux)) = mux(role).await else { return };
        let mut channels = Vec::new();
        for n in 0..20u8 {
            let mut channel = mux.open("echo", &[n; 32], options("from us")).expect("open");
            // Pipelined: the peer has not answered yet.
            send(&channel, u64::from(n % 2), &[n; 100]).await;
            assert_eq!(
                &*timeout(SOON, channel.opened()).await.expect("in time").expect("opened"),
                b"from protomux"
            );
            channels.push(channel);
        }
        for (n, channel) in channels.iter_mut().enumerate() {
            let echoed = next(channel).await;
            assert_eq!((echoed.kind, &*echoed.body), (n as u64 % 2, &[n as u8; 100][..]));
        }
        let seen = event_that(&process, "echo", |echo| echo["id"] == "13".repeat(32));
        assert_eq!(seen["handshake"], "from us");
        channels[3].close();
        event_that(&process, "closed", |closed| closed["isRemote"] == true);
        let mut again = mux.open("echo", &[3; 32], options("again")).expect("open");
        send(&again, 0, b"the number is used again").await;
        assert_eq!(&*next(&mut again).await.body, b"the number is used again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_sent_ahead_wait_until_npm_protomux_has_decided() {
    let Some((_process, mux)) = mux(&[]).await else { return };
    let mut late = mux.open("late", b"", options("")).expect("open");
    // More than the 32,768 bytes after which the original stops reading.
    for n in 0..40u8 {
        send(&late, 0, &[n; 2000]).await;
    }
    for n in 0..40u8 {
        assert_eq!(&*next(&mut late).await.body, [n; 2000]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_understood_both_ways() {
    let Some((_process, mux)) = mux(&[]).await else { return };
    let mut echo = mux.open("echo", b"", options("")).expect("open");
    echo.send_all(&[message(0, b"a"), message(1, b"b"), message(0, b"c")]).await.expect("sent");
    for expected in [message(0, b"a"), message(1, b"b"), message(0, b"c")] {
        assert_eq!(next(&mut echo).await, expected);
    }
    let mut burst = mux.open("burst", b"", options("")).expect("open");
    send(&burst, 2, &[0xfd, 0xe8, 3]).await;
    for n in 0..1000 {
        let text = n.to_string();
        assert_eq!(&next(&mut burst).await.body[1..], text.as_bytes());
    }
    assert_eq!(next(&mut burst).await, message(1, b"\x04done"));
}

/// 2 MiB, twice what our inboxes hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_npm_protomux_larger_than_our_inboxes_can_be_answered() {
    let Some((_process, mux)) = mux(&[]).await else { return };
    let mut echo = mux.open("echo", b"", options("")).expect("open");
    let batch: Vec<_> = (0..32u8).map(|n| Message { kind: 0, body: Bytes::from(vec![n; 65_536]) }).collect();
    echo.send_all(&batch).await.expect("sent");
    for expected in &batch {
        let echoed = next(&mut echo).await;
        assert!(echoed == *expected);
        send(&echo, 1, &echoed.body).await;
    }
    for expected in &batch {
        assert!(next(&mut echo).await.body == expected.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_npm_protomux_opens_are_accepted_or_rejected() {
    let Some((process, stream)) = stream(&["--initiator", "--open", "dialled"]).await else { return };
    let (_mux, mut acceptor) = Mux::prepared(stream, |mux| mux.accept("dialled", b""));
    let incoming = timeout(SOON, acceptor.next()).await.expect("in time").expect("a channel");
    assert_eq!(&**incoming.handshake(), b"open dialled");
    let mut channel = incoming.accept(options("from us")).expect("accept");
    for text in ["hello", "from", "protomux"] {
        assert_eq!(&next(&mut channel).await.body[1..], text.as_bytes());
    }
    assert_eq!(event(&process, "opened")["handshake"], "from us");
    event_that(&process, "closed", |closed| closed["protocol"] == "unwanted");
    send(&channel, 0, b"\x04back").await;
    assert_eq!(event(&process, "heard")["text"], "back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_on_either_side_pairs_the_channel() {
    let Some((process, stream)) = stream(&["--open", "dialled"]).await else { return };
    let aliases = vec!["new-name".to_owned()];
    let options = ChannelOptions { aliases, ..options("us") };
    let (_mux, channel) = Mux::prepared(stream, |mux| mux.open("old-name", b"", options));
    let mut channel = channel.expect("open");
    assert_eq!(&*timeout(SOON, channel.opened()).await.expect("in time").expect("opened"), b"open new-name");
    event_that(&process, "opened", |opened| opened["protocol"] == "new-name");
    send(&channel, 0, b"\x07aliased").await;
    assert_eq!(event(&process, "heard")["text"], "aliased");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejects_and_closes_of_npm_protomux_reach_the_channel() {
    let Some((_process, mux)) = mux(&[]).await else { return };
    let mut unknown = mux.open("unknown", b"", options("")).expect("open");
    let refused = timeout(SOON, unknown.opened()).await.expect("in time");
    assert!(matches!(refused, Err(Closed::Rejected)), "{refused:?}");
    let mut closer = mux.open("closer", b"", options("")).expect("open");
    send(&closer, 0, b"close").await;
    assert!(timeout(SOON, closer.next()).await.expect("in time").is_none());
    assert!(matches!(closer.closed(), Some(Closed::Remote)));
    let mut echo = mux.open("echo", b"", options("")).expect("open");
    send(&echo, 0, b"others go on").await;
    assert_eq!(&*next(&mut echo).await.body, b"others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_of_ours_destroy_the_connection_of_npm_protomux() {
    let invalid_open = "Invalid open message";
    for (frame, error) in [
        (&b"\0\x01\x02\x04echo\0"[..], invalid_open),
        (b"\0\x02\x09", "Invalid reject message"),
        (b"\x01", "Out of bounds"),
    ] {
        let Some((process, mut stream)) = stream(&[]).await else { return };
        SinkExt::send(&mut stream, Bytes::copy_from_slice(frame)).await.expect("sent");
        let destroyed = event(&process, "destroyed");
        assert_eq!(destroyed["error"], error);
        let last = timeout(SOON, StreamExt::next(&mut stream)).await.expect("in time");
        assert!(!matches!(last, Some(Ok(_))), "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_of_npm_protomux_destroy_our_connection_and_name_the_reason() {
    for (frame, error) in [
        (
            &b"\0\x01\x09\x04echo\0"[..],
            "protomux: the peer opened \"echo\" as channel 9, which is 0, in use or out of order",
        ),
        (b"\0\x02\x09", "protomux: the peer rejected channel 9, which was not waiting for an answer"),
        (b"\x01", "protomux: truncated: message type"),
    ] {
        let Some((process, mux)) = mux(&[]).await else { return };
        let mut echo = mux.open("echo", b"", options("")).expect("open");
        send(&echo, 2, frame).await;
        assert!(timeout(SOON, echo.next()).await.expect("in time").is_none());
        let ended = timeout(SOON, mux.closed()).await.expect("in time");
        assert_eq!(ended.expect_err("destroyed").to_string(), error);
        event(&process, "destroyed");
    }
}

/// 16 MiB each way through two channels at the same time, compared by hash.
async fn much_data(mux: &Mux, what: &str) {
    let begin = std::time::Instant::now();
    let mut source = mux.open("source", b"", options([0xfe, 0, 0, 0, 1])).expect("open");
    let mut sink = mux.open("sink", b"", options("")).expect("open");
    let sending = async {
        let mut hash = Sha1::new();
        for n in 0..LARGE / 65_536 {
            let piece = Bytes::from(vec![n as u8; 65_536]);
            hash.update(&piece);
            sink.send(0, piece).await.expect("sent");
        }
        sink.send(1, Bytes::new()).await.expect("sent");
        let ours = data_encoding::HEXLOWER.encode(&hash.finalize());
        assert_eq!(next(&mut sink).await.body, ours);
    };
    let receiving = async {
        let (mut hash, mut length) = (Sha1::new(), 0);
        let theirs = loop {
            let message = next(&mut source).await;
            if message.kind == 1 {
                break message.body;
            }
            length += message.body.len();
            hash.update(&message.body);
        };
        assert_eq!((length, theirs), (LARGE, data_encoding::HEXLOWER.encode(&hash.finalize()).into()));
    };
    tokio::join!(sending, receiving);
    println!(
        "check 22: measured 2 x 16 MiB with npm protomux over {what} in {:?}, bar equal hashes",
        begin.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_mebibytes_each_way_arrive_over_tcp() {
    let Some((_process, mux)) = mux(&[]).await else { return };
    much_data(&mux, "tcp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_mebibytes_each_way_arrive_over_udx() {
    let Some((_process, address)) = peer(&["--udx", "--id", "815", "--remote-id", "4711"]) else { return };
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = UdxSocket::bind(loopback, BindOptions::default()).expect("bind");
    let transport: UdxStream = socket
        .open(StreamOptions { id: Some(4711), framed: true, ..StreamOptions::default() })
        .expect("open");
    transport.connect(815, address).expect("connect");
    let own = KeyPair::from_seed(&[1; 32]);
    let opened = timeout(SOON, SecretStream::initiate(transport, &own, Options::default())).await;
    let mux = Mux::new(opened.expect("in time").expect("a secret stream"));
    much_data(&mux, "udx").await;
    mux.close();
    timeout(SOON, mux.closed()).await.expect("in time").expect("npm has acknowledged everything");
}
