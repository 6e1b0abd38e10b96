//! A pipe between two machines, found by public key, through the NATs in front of them. The first end prints its public key
//! and waits; the second one dials it. Then what is typed here comes out there.
//!
//! ```text
//! $ kachery-p2p dht-node --network v4 --listen 127.0.0.1:49737        a private network on this machine
//! $ cargo run -p hyperswarm --example connect -- --bootstrap 127.0.0.1:49737
//! public key: 5f0a..3c
//! $ cargo run -p hyperswarm --example connect -- --bootstrap 127.0.0.1:49737 5f0a..3c
//! ```
//!
//! Without `--bootstrap` both ends use the public network. `--seed`, 64 hexadecimal digits, keeps the same public key.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use data_encoding::HEXLOWER;
use hyperswarm::crypto::{KeyPair, PublicKey};
use hyperswarm::holepunch::{DialOptions, ListenOptions};
use hyperswarm::net::v4::{Dht, DhtOptions, PUBLIC_BOOTSTRAP};
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional, join};

#[tokio::main]
async fn main() {
    let ended =
        run(std::env::args().skip(1), tokio::io::stdin(), tokio::io::stdout(), |line| eprintln!("{line}"));
    let ended = ended.await;
    if let Err(error) = &ended {
        eprintln!("{error:#}");
    }
    // Returning would wait for the thread that reads from the terminal.
    std::process::exit(i32::from(ended.is_err()));
}

/// Pipes `input` to the peer, and what the peer sends to `output`. `tell` is given what the user should know.
pub(crate) async fn run(
    arguments: impl Iterator<Item = String>,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    tell: impl Fn(String),
) -> anyhow::Result<()> {
    let Arguments { bootstrap, seed, peer } = Arguments::read(arguments)?;
    let keys = KeyPair::from_seed(&seed);

    // A node of the DHT on two UDP sockets. A network on this machine needs its loopback interface only.
    let on_loopback = bootstrap.iter().all(|node| node.ip().is_loopback());
    let host = if on_loopback { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let dht = Dht::bind(DhtOptions { host, ..DhtOptions::new(bootstrap) })?;
    dht.until(|status| status.ready).await;

    let connection = match peer {
        // Nodes of the DHT that are close to the hash of the peer's key know how to reach it.
        Some(peer) => dht.connect(&Arc::new(keys), peer, DialOptions::default()).await?,
        None => {
            let mut server = dht.serve(keys, ListenOptions::default())?;
            // Until it is announced, nobody finds it.
            server.listening().await;
            tell(format!("public key: {}", server.public_key()));
            server.accept().await.context("the node was closed")?
        }
    };
    tell(format!("connected to {} at {}", connection.remote(), connection.remote_address()));

    // A connection carries messages; it is also AsyncRead and AsyncWrite. This ends when both ends have finished.
    copy_bidirectional(&mut connection.into_stream(), &mut join(input, output)).await?;
    Ok(())
}

struct Arguments {
    bootstrap: Vec<SocketAddrV4>,
    seed: [u8; 32],
    /// The key to dial.
    peer: Option<PublicKey>,
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut seed = [0; 32];
        SysRng.try_fill_bytes(&mut seed)?;
        let mut arguments = Self { bootstrap: PUBLIC_BOOTSTRAP.to_vec(), seed, peer: None };
        while let Some(word) = words.next() {
            match &*word {
                "--bootstrap" => {
                    arguments.bootstrap = vec![words.next().context("--bootstrap ADDRESS:PORT")?.parse()?];
                }
                "--seed" => arguments.seed = digits(&words.next().context("--seed DIGITS")?)?,
                key => arguments.peer = Some(PublicKey(digits(key)?)),
            }
        }
        Ok(arguments)
    }
}

/// 64 hexadecimal digits.
fn digits(text: &str) -> anyhow::Result<[u8; 32]> {
    let bytes = HEXLOWER.decode(text.as_bytes()).with_context(|| format!("{text}: not hexadecimal"))?;
    bytes.try_into().map_err(|_| anyhow!("{text}: not 64 digits"))
}
