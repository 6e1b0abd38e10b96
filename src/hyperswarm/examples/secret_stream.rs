//! An encrypted stream to a JavaScript peer, from the socket up. Start the peer first, with two numbers:
//!
//! ```text
//! $ (cd interop-tests/node && npm ci)
//! $ node interop-tests/node/secret_stream_echo.js 2 1
//! 40123 5f0a..3c                                   its port and its public key
//! $ cargo run -p hyperswarm --example secret_stream -- 1 2 40123 5f0a..3c
//! ```
//!
//! What goes over the wire, from the bottom: UDP datagrams; UDX packets in them, which make a reliable stream; frames
//! of three bytes of length in that; a Noise XX handshake in the first three frames, and then one encrypted message per
//! frame.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use hyperswarm::crypto::KeyPair;
use hyperswarm::net::secret_stream::{Options, SecretStream};
use hyperswarm::net::udx::{BindOptions, UdxSocket};
use hyperswarm::udx::StreamOptions;
use rand::TryRng;
use rand::rngs::SysRng;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("missing argument: {what}"));
    let our_id: u32 = next("our stream id")?.parse()?;
    let their_id: u32 = next("their stream id")?.parse()?;
    let their_port: u16 = next("their port")?.parse()?;
    let their_key = next("their public key")?;

    // A UDP socket that many streams can share. Port 0 lets the system choose.
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let socket = UdxSocket::bind(loopback(0), BindOptions::default())?;

    // UDX has no handshake of its own: both sides learn each other's address and stream id by other means (here from
    // the command line, in Hyperswarm through the DHT). Connecting sends nothing yet.
    // A secret stream writes frames.
    let stream = socket.open(StreamOptions { id: Some(our_id), framed: true, ..StreamOptions::default() })?;
    stream.connect(their_id, loopback(their_port))?;

    // The handshake proves to each side that the other has the secret of its public key. A real program keeps its
    // key pair; whoever has the seed can be us.
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed)?;
    let key_pair = KeyPair::from_seed(&seed);
    let options = Options {
        keep_alive: Some(Duration::from_secs(5)), // what Hyperswarm does, so that routers remember us
        timeout: Some(Duration::from_secs(20)),
        ..Options::default()
    };
    let mut stream = SecretStream::initiate(stream, &key_pair, options).await?;

    // Anybody could have answered. This is the moment to check who did.
    ensure!(stream.remote().to_string() == their_key, "somebody else answered: {}", stream.remote());
    println!("connected to {}", stream.remote());

    // Messages arrive whole and in order. (For plain bytes the stream is also AsyncRead and AsyncWrite.)
    for message in ["hello", "from Rust"] {
        stream.send(message.as_bytes()).await?;
        let echo = stream.next().await.context("the peer ended")??;
        println!("echo: {}", String::from_utf8_lossy(&echo));
    }

    // Beside the stream there are datagrams that may get lost, encrypted as well.
    let mut datagrams = stream.messages();
    datagrams.send(b"a datagram")?;
    let echo = tokio::time::timeout(Duration::from_secs(5), datagrams.receive()).await??;
    println!("datagram: {}", String::from_utf8_lossy(&echo));

    // End our direction, then read until the peer has ended its own: nobody loses anything. Dropping the stream instead
    // would reset the connection.
    stream.finish().await?;
    while let Some(message) = stream.next().await {
        message?;
    }
    println!("ended in order");
    Ok(())
}
