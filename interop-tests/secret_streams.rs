//! Secret streams between ours and npm's @hyperswarm/secret-stream, over TCP and over UDX, in both roles.
//! `node/secret_stream_peer.js` is the other end.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hyperswarm::crypto::KeyPair;
use hyperswarm::net::secret_stream::{ByteStream, Options, SecretStream, StreamError, Transport, Unordered};
use hyperswarm::net::udx::{BindOptions, UdxSocket, UdxStream};
use hyperswarm::udx::StreamOptions;
use serde_json::Value;
use sha1::{Digest, Sha1};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::lab::{LONG, SOON, can_run, js};
use crate::process::Process;
use crate::stream_peers::{event, pattern, port, sha1};

const OUR_ID: u32 = 4712;
const THEIR_ID: u32 = 816;
/// 100 MiB.
const LARGE: usize = 100 << 20;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Who begins the handshake, and whether it knows the other's key.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Role {
    WeBegin,
    TheyBegin,
    WeDial,
    TheyDial,
}

const ROLES: [Role; 4] = [Role::WeBegin, Role::TheyBegin, Role::WeDial, Role::TheyDial];

fn our_keys() -> KeyPair {
    KeyPair::from_seed(&[1; 32])
}

fn their_keys() -> KeyPair {
    KeyPair::from_seed(&[2; 32])
}

fn start(transport: &str, port: u16, role: Role, arguments: &[&str]) -> Process {
    let mut command = js("secret_stream_peer.js");
    command.args(["--transport", transport, "--port", &port.to_string()]);
    command.args(["--id", &THEIR_ID.to_string(), "--remote-id", &OUR_ID.to_string()]);
    match role {
        Role::WeBegin => {}
        Role::TheyBegin => drop(command.arg("--initiator")),
        Role::WeDial => drop(command.arg("--ik")),
        Role::TheyDial => {
            command.args(["--ik", "--initiator", "--remote-key", &our_keys().public().to_string()]);
        }
    }
    Process::start("secret-stream", command.args(arguments))
}

async fn open<T: Transport>(transport: T, role: Role, options: Options) -> SecretStream<T> {
    let (ours, theirs) = (our_keys(), their_keys().public());
    let opening = async {
        match role {
            Role::WeBegin => SecretStream::initiate(transport, &ours, options).await,
            Role::TheyBegin => SecretStream::accept(transport, &ours, options).await,
            Role::WeDial => SecretStream::initiate_to(transport, &ours, &theirs, options).await,
            Role::TheyDial => SecretStream::accept_by_key(transport, &ours, options).await,
        }
    };
    let stream = timeout(SOON, opening).await.expect("in time").expect("opens");
    assert_eq!(stream.remote(), theirs, "{role:?}");
    stream
}

async fn over_tcp(
    role: Role,
    options: Options,
    arguments: &[&str],
) -> (SecretStream<ByteStream<TcpStream>>, Process) {
    let listener = TcpListener::bind(LOOPBACK).await.expect("bind");
    let process = start("tcp", listener.local_addr().expect("an address").port(), role, arguments);
    let (socket, _) = timeout(SOON, listener.accept()).await.expect("in time").expect("accept");
    (open(ByteStream::new(socket), role, options).await, process)
}

async fn over_udx(role: Role, options: Options, arguments: &[&str]) -> (SecretStream<UdxStream>, Process) {
    let socket = UdxSocket::bind(LOOPBACK, BindOptions::default()).expect("bind");
    let stream = socket
        .open(StreamOptions { id: Some(OUR_ID), framed: true, ..StreamOptions::default() })
        .expect("open");
    let process = start("udx", socket.local_address().port(), role, arguments);
    stream.connect(THEIR_ID, (Ipv4Addr::LOCALHOST, port(&process)).into()).expect("connect");
    (open(stream, role, options).await, process)
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

async fn next<T: Transport>(stream: &mut SecretStream<T>) -> Option<Result<bytes::Bytes, StreamError>> {
    timeout(SOON, stream.next()).await.expect("in time")
}

/// Small messages there and back, and a graceful end.
async fn echo<T: Transport>((mut stream, process): (SecretStream<T>, Process), role: Role) {
    let open = event(&process, "open");
    assert_eq!(open["remote"], our_keys().public().to_string(), "{role:?}");
    assert_eq!(open["hash"], hex(stream.handshake_hash()), "{role:?}");
    for message in [&b"hello"[..], &[7; 1], &[8; 1000], b"", &[9; 200_000]] {
        stream.send(message).await.expect("send");
        assert_eq!(next(&mut stream).await.expect("a message").expect("authentic"), message, "{role:?}");
    }
    timeout(SOON, stream.finish()).await.expect("in time").expect("finish");
    assert!(next(&mut stream).await.is_none(), "{role:?}");
    assert_eq!(event(&process, "close")["error"], Value::Null, "{role:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_echoed_over_tcp_in_every_role() {
    if !can_run() {
        return;
    }
    for role in ROLES {
        echo(over_tcp(role, Options::default(), &["--action", "echo"]).await, role).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_echoed_over_udx_in_every_role() {
    if !can_run() {
        return;
    }
    for role in ROLES {
        echo(over_udx(role, Options::default(), &["--action", "echo"]).await, role).await;
    }
}

/// 100 MiB each way at once, compared by hash.
async fn bulk<T: Transport>(name: &str, (stream, process): (SecretStream<T>, Process)) {
    let begin = Instant::now();
    let bytes = pattern(LARGE);
    let sha1 = sha1(&bytes);
    let (mut sender, mut receiver) = stream.split();
    let writing = tokio::spawn(async move {
        sender.write_all(&bytes).await.expect("write");
        sender.finish().await.expect("finish");
        sender
    });
    let reading = async {
        let (mut hash, mut length) = (Sha1::new(), 0);
        while let Some(message) = receiver.next().await {
            let message = message.expect("authentic");
            hash.update(&message);
            length += message.len();
        }
        (length, hex(&hash.finalize()))
    };
    assert_eq!(timeout(LONG, reading).await.expect("in time"), (LARGE, sha1.clone()));
    drop(timeout(LONG, writing).await.expect("in time").expect("no panic"));
    let theirs = event(&process, "received");
    assert_eq!((theirs["bytes"].as_u64(), theirs["sha1"].as_str()), (Some(LARGE as u64), Some(&*sha1)));
    println!("{name}: 100 MiB each way at once in {:.1?}", begin.elapsed());
}

fn large() -> [String; 4] {
    ["--action", "both", "--bytes", &LARGE.to_string()].map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_mib_go_both_ways_over_tcp() {
    if can_run() {
        let arguments = large();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        bulk("over tcp", over_tcp(Role::WeBegin, Options::default(), &arguments).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_mib_go_both_ways_over_udx() {
    if can_run() {
        let arguments = large();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        bulk("over udx", over_udx(Role::TheyBegin, Options::default(), &arguments).await).await;
    }
}

/// Sends until an answer comes: datagrams may get lost.
async fn datagram_echo<T: Unordered>(stream: &SecretStream<T>, message: &[u8]) {
    let mut messages = stream.messages();
    let attempts = async {
        loop {
            messages.send(message).expect("send");
            if let Ok(answer) = timeout(Duration::from_millis(500), messages.receive()).await {
                return answer.expect("receive");
            }
        }
    };
    assert_eq!(timeout(SOON, attempts).await.expect("in time"), message);
}

#[tokio::test(flavor = "multi_thread")]
async fn unordered_messages_are_echoed_over_udx_in_both_roles() {
    if !can_run() {
        return;
    }
    for role in [Role::WeBegin, Role::TheyBegin] {
        let (mut stream, process) = over_udx(role, Options::default(), &["--action", "echo"]).await;
        event(&process, "open");
        for message in [&b"datagram"[..], &[5; 1000]] {
            datagram_echo(&stream, message).await;
        }
        timeout(SOON, stream.finish()).await.expect("in time").expect("finish");
        assert!(next(&mut stream).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keep_alives_go_both_ways_unseen() {
    if !can_run() {
        return;
    }
    let options = Options { keep_alive: Some(Duration::from_millis(100)), ..Options::default() };
    let arguments = ["--action", "hold", "--keep-alive", "100"];
    let (mut stream, process) = over_udx(Role::WeBegin, options, &arguments).await;
    // Both sides must have heard from each other often although nobody said anything.
    let silent = timeout(Duration::from_secs(2), stream.next()).await;
    assert!(silent.is_err(), "no message");
    let counters = stream.counters();
    assert!(counters.frames_sent >= 5 && counters.frames_received >= 5, "{counters:?}");
    timeout(SOON, stream.finish()).await.expect("in time").expect("finish");
    let message = next(&mut stream).await;
    assert!(message.is_none(), "a message: {message:?}");
    let close = event(&process, "close");
    assert!(close["bytes"].as_u64() >= Some(5 * 17), "{close}");
    assert!(!process.has_printed(|line| line.contains("\"message\"")), "nobody sees keep-alives");
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_destroying_ends_our_stream_with_a_reset_over_udx_and_an_end_over_tcp() {
    if !can_run() {
        return;
    }
    let (mut stream, _process) = over_udx(Role::WeBegin, Options::default(), &["--action", "destroy"]).await;
    stream.send(b"destroy").await.expect("send");
    let error = next(&mut stream).await.expect("an error").expect_err("reset");
    assert!(
        matches!(&error, StreamError::Transport(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
    let (mut stream, _process) = over_tcp(Role::WeBegin, Options::default(), &["--action", "destroy"]).await;
    stream.send(b"destroy").await.expect("send");
    assert!(!matches!(next(&mut stream).await, Some(Ok(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn our_destroying_resets_the_stream_of_javascript() {
    if !can_run() {
        return;
    }
    let (mut stream, process) = over_udx(Role::WeBegin, Options::default(), &["--action", "echo"]).await;
    stream.send(b"hello").await.expect("send");
    next(&mut stream).await.expect("a message").expect("authentic");
    stream.destroy();
    assert_eq!(event(&process, "close")["error"], "ECONNRESET");
}

/// Reads until it ends, while the process dies; what it ends with.
async fn killed<T: Transport>((mut stream, process): (SecretStream<T>, Process)) -> Option<StreamError> {
    stream.next().await.expect("a message").expect("authentic");
    let mut process = Some(process);
    let reading = async {
        let mut messages = 0;
        loop {
            match stream.next().await {
                Some(Ok(_)) => messages += 1,
                Some(Err(error)) => return Some(error),
                None => return None,
            }
            if messages == 20 {
                process.take();
            }
        }
    };
    timeout(LONG, reading).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_dies_in_the_middle_of_a_transfer_is_an_error() {
    if !can_run() {
        return;
    }
    let arguments = ["--action", "send", "--bytes", "1000000000"];
    // The kernel tells us, inside a frame.
    let error = killed(over_tcp(Role::WeBegin, Options::default(), &arguments).await).await;
    assert!(matches!(error, Some(StreamError::Protocol { .. } | StreamError::Transport(_))), "{error:?}");
    // Nobody tells us, and we have nothing to send that would be missed: that is what the timeout is for.
    let options = Options { timeout: Some(Duration::from_secs(2)), ..Options::default() };
    let error = killed(over_udx(Role::WeBegin, options, &arguments).await).await;
    assert!(matches!(error, Some(StreamError::TimedOut(_))), "{error:?}");
}

#[test]
fn the_example_talks_to_its_javascript_peer() {
    if !can_run() {
        return;
    }
    let peer = Process::start("secret_stream_echo.js", js("secret_stream_echo.js").args(["2", "1"]));
    let (port, key) = peer.line("port and key", SOON, |line| {
        let (port, key) = line.split_once(' ')?;
        Some((port.to_owned(), key.to_owned()))
    });
    let mut command = std::process::Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.args(["run", "--quiet", "--example", "secret_stream", "--", "1", "2", &port, &key]);
    let mut example = Process::start("examples/secret_stream.rs", &mut command);
    assert!(example.end(LONG * 3).success(), "{example}");
    let expected =
        format!("connected to {key}\necho: hello\necho: from Rust\ndatagram: a datagram\nended in order");
    assert_eq!(example.stdout(), expected);
}
