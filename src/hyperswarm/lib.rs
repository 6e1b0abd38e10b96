//! The Hyperswarm network in Rust, wire-compatible with the npm packages: peers find each other by topic in a
//! distributed hash table and connect, encrypted.
//!
//! Two generations live side by side. What belongs to one generation says so in its path:
//!
//! | | what there is |
//! | --- | --- |
//! | v2 (hyperswarm 2.14) | [`net::v2`]: join a topic, get connections; DHT client, server and bootstrap node; multicast DNS |
//! | v4 (hyperswarm 4) | [`net::v4`]: a node of the DHT, ephemeral or persistent; hyperdht's operations (announce, look up, find a peer, store); connections by public key, through NATs; join a topic, get connections. The streams by themselves: [`net::udx`], [`net::secret_stream`], [`net::mux`] |
//!
//! Not there yet, of v4: blind relays, and connections that survive a change of network.
//!
//! ## The rooms, and who may use whom
//!
//! ```text
//! codec, crypto -> udx, secret_stream, mux, dht -> holepunch -> swarm -> net
//! ```
//!
//! An arrow points from what is used to who uses it; nothing goes the other way.
//!
//! * [`codec`]: bytes to values and back.
//! * [`crypto`]: key pairs, hashes, signatures, Noise handshakes, secretstream.
//! * [`udx`], [`secret_stream`], [`mux`]: a reliable stream over UDP, its encryption, and channels inside it.
//! * [`dht`]: the distributed hash table; see there for the shape of a machine.
//! * [`holepunch`]: connections by public key, through NATs and firewalls.
//! * [`swarm`]: whom to dial, and when to try again.
//! * [`net`]: the only room with sockets, tasks and a clock. It drives the machines of the other rooms, which are
//!   *sans-io*: they take `now`, datagrams and a seeded random source, and return what to send, the next deadline and
//!   events.
//! * [`limits`]: every cap a stranger could push against, with its unit and reason.
//! * `testkit` (feature of that name): the simulated network on which the machines are tested, and the fuzz targets.
//!
//! ## Join a topic (v2)
//!
//! ```no_run
//! use hyperswarm::Topic;
//! use hyperswarm::net::v2::{Network, NetworkConfig};
//! use tokio::io::AsyncWriteExt;
//!
//! # async fn example() -> std::io::Result<()> {
//! let config = NetworkConfig { bootstrap: vec!["192.0.2.7:49737".to_owned()], mdns: true };
//! let mut swarm = Network::start(config).await?.join(Topic([7; 32])).await?;
//! while let Some(mut connection) = swarm.next().await {
//!     connection.stream.write_all(b"hello").await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ## Announce a topic and look it up (v4)
//!
//! ```no_run
//! use hyperswarm::crypto::KeyPair;
//! use hyperswarm::net::v4::{Dht, DhtOptions, PUBLIC_BOOTSTRAP};
//!
//! # async fn example() -> std::io::Result<()> {
//! let dht = Dht::bind(DhtOptions::new(PUBLIC_BOOTSTRAP))?;
//! dht.until(|status| status.ready).await;
//! let (topic, keys) = ([7; 32], KeyPair::from_seed(&[1; 32]));
//! let stored = dht.announce(topic, &keys, &[]).outcome().await.stored;
//! let (peers, _) = dht.lookup(topic).peers().await;
//! println!("{stored} nodes keep it; {} peers", peers.len());
//! # Ok(())
//! # }
//! ```
//!
//! ## Connect by public key (v4)
//!
//! The peer runs [`net::v4::Dht::serve`]; `examples/connect.rs` has both ends.
//!
//! ```no_run
//! use std::sync::Arc;
//! use hyperswarm::crypto::{KeyPair, PublicKey};
//! use hyperswarm::holepunch::DialOptions;
//! use hyperswarm::net::v4::{Dht, DhtOptions, PUBLIC_BOOTSTRAP};
//!
//! # async fn example(peer: PublicKey) -> Result<(), Box<dyn std::error::Error>> {
//! let dht = Dht::bind(DhtOptions::new(PUBLIC_BOOTSTRAP))?;
//! let keys = Arc::new(KeyPair::from_seed(&[1; 32]));
//! let mut connection = dht.connect(&keys, peer, DialOptions::default()).await?;
//! connection.send(b"hello").await?;
//! if let Some(answer) = connection.next().await {
//!     println!("{} says {:?}", connection.remote(), answer?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ## An encrypted stream (v4)
//!
//! ```
//! use hyperswarm::crypto::KeyPair;
//! use hyperswarm::net::secret_stream::{ByteStream, Options, SecretStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Any transport will do: a UDX stream, TCP, or a pipe in memory as here.
//! let (left, right) = tokio::io::duplex(1 << 16);
//! let (alice, bob) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
//! let (mut to_bob, mut to_alice) = tokio::try_join!(
//!     SecretStream::initiate(ByteStream::new(left), &alice, Options::default()),
//!     SecretStream::accept(ByteStream::new(right), &bob, Options::default()),
//! )?;
//! assert_eq!(to_alice.remote(), alice.public());
//! to_bob.send(b"hello").await?;
//! assert_eq!(to_alice.next().await.ok_or("ended")??.as_ref(), b"hello");
//! # Ok(())
//! # }
//! ```

pub mod codec;
pub mod crypto;
pub mod dht;
pub mod holepunch;
pub mod limits;
pub mod mux;
pub mod net;
pub mod secret_stream;
pub mod swarm;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod topic;
pub mod udx;

pub use topic::Topic;

/// What README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct Readme;
