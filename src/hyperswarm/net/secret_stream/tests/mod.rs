//! Streams over pipes in memory, in virtual time.

mod bytes;
mod life;
mod messages;
mod udx;

use std::time::Duration;

use tokio::io::DuplexStream;

use super::*;
use crate::crypto::KeyPair;

type Stream = SecretStream<ByteStream<DuplexStream>>;

fn key_pair(byte: u8) -> KeyPair {
    KeyPair::from_seed(&[byte; 32])
}

/// Two ends of a pipe that holds `room` bytes each way.
fn pipe(room: usize) -> (ByteStream<DuplexStream>, ByteStream<DuplexStream>) {
    let (one, other) = tokio::io::duplex(room);
    (ByteStream::new(one), ByteStream::new(other))
}

/// An initiator and a responder over a pipe.
async fn pair_with(room: usize, options: Options) -> (Stream, Stream) {
    let (one, other) = pipe(room);
    let (ours, theirs) = (key_pair(1), key_pair(2));
    let (initiator, responder) = tokio::join!(
        SecretStream::initiate(one, &ours, options),
        SecretStream::accept(other, &theirs, options)
    );
    (initiator.expect("initiator"), responder.expect("responder"))
}

async fn pair() -> (Stream, Stream) {
    pair_with(1 << 20, Options::default()).await
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
