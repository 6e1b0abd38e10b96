use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::StreamError;
use super::keeper;
use super::messages::Messages;
use super::monitor::Monitor;
use super::options::Options;
use super::receiver::SecretReceiver;
use super::sender::SecretSender;
use super::shared::{Counters, Shared};
use super::transport::{Transport, Unordered};
use crate::crypto::noise::{Handshake, Keys};
use crate::crypto::{KeyPair, PublicKey};
use crate::limits::SECRET_READ_BYTES;
use crate::net::random;
use crate::secret_stream::{MessageSealer, Opening, Receiver, Sender};

/// An authenticated and encrypted stream of messages, or of bytes, over a transport (npm @hyperswarm/secret-stream).
///
/// It is open as soon as its keys are there; it does not wait for the peer's header. Dropping it, or all of the parts
/// it was split into, destroys it. To end in order, finish and read to the end.
///
/// It is a [`Stream`](futures::Stream) and a [`Sink`](futures::Sink) of messages, for protomux. As
/// [`AsyncRead`](tokio::io::AsyncRead) and [`AsyncWrite`](tokio::io::AsyncWrite) it does not keep what was written
/// at once together; do not mix that with messages.
pub struct SecretStream<T> {
    sender: SecretSender<T>,
    receiver: SecretReceiver<T>,
}

impl<T: Transport> SecretStream<T> {
    /// Opens a stream as the side that begins, without knowing the peer's key (Noise XX).
    pub async fn initiate(transport: T, own: &KeyPair, options: Options) -> Result<Self, StreamError> {
        let handshake = Handshake::xx(true, own, &[], ephemeral()?);
        Self::open(transport, handshake, options).await
    }

    /// Opens a stream as the side that waits for [`initiate`](Self::initiate).
    pub async fn accept(transport: T, own: &KeyPair, options: Options) -> Result<Self, StreamError> {
        let handshake = Handshake::xx(false, own, &[], ephemeral()?);
        Self::open(transport, handshake, options).await
    }

    /// Opens a stream as the side that begins, to the owner of a known key and nobody else (Noise IK).
    pub async fn initiate_to(
        transport: T,
        own: &KeyPair,
        remote: &PublicKey,
        options: Options,
    ) -> Result<Self, StreamError> {
        let handshake = Handshake::ik_initiator(own, remote, &[], ephemeral()?);
        Self::open(transport, handshake, options).await
    }

    /// Opens a stream as the side that waits for [`initiate_to`](Self::initiate_to).
    pub async fn accept_by_key(transport: T, own: &KeyPair, options: Options) -> Result<Self, StreamError> {
        let handshake = Handshake::ik_responder(own, &[], ephemeral()?);
        Self::open(transport, handshake, options).await
    }

    /// A stream whose keys were agreed elsewhere, as through the DHT. Must be called in a tokio runtime.
    pub fn with_keys(transport: T, keys: &Keys, options: Options) -> Result<Self, StreamError> {
        Self::start(transport, keys, Bytes::new(), options)
    }

    async fn open(transport: T, handshake: Handshake, options: Options) -> Result<Self, StreamError> {
        let exchanged = exchange(&transport, handshake);
        let limit = options.timeout.unwrap_or(Duration::MAX).min(options.handshake_timeout);
        let exchanged =
            tokio::time::timeout(limit, exchanged).await.unwrap_or(Err(StreamError::TimedOut(limit)));
        match exchanged {
            Ok((keys, rest)) => Self::start(transport, &keys, rest, options),
            Err(error) => {
                transport.destroy();
                Err(error)
            }
        }
    }

    fn start(transport: T, keys: &Keys, rest: Bytes, options: Options) -> Result<Self, StreamError> {
        let (header, counter) = header_and_counter()?;
        let mut receiver = Receiver::new(keys, options.max_frame_bytes);
        receiver.receive(rest);
        let sealer = MessageSealer::new(keys, counter);
        let shared = Shared::new(transport, keys, Sender::new(keys, &header), sealer, options.keep_alive);
        keeper::start(&shared);
        // The header leaves without waiting for anybody; if the transport has no room, the keeper sends the rest.
        let _ = shared.poll_drained(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        let receiver = SecretReceiver::new(shared.clone(), receiver, &options);
        Ok(Self { sender: SecretSender { shared }, receiver })
    }

    /// Sends one message; see [`SecretSender::send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<(), StreamError> {
        self.sender.send(message).await
    }

    /// The next message; see [`SecretReceiver::next`].
    pub async fn next(&mut self) -> Option<Result<Bytes, StreamError>> {
        self.receiver.next().await
    }

    /// Lets what was sent leave at once.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        self.sender.flush().await
    }

    /// Ends the own direction; the other one goes on.
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        self.sender.finish().await
    }

    /// Ends both directions at once.
    pub fn destroy(&mut self) {
        self.sender.destroy();
    }

    /// The halves, for two tasks.
    pub fn split(self) -> (SecretSender<T>, SecretReceiver<T>) {
        (self.sender, self.receiver)
    }

    pub(super) fn halves(&mut self) -> (&mut SecretSender<T>, &mut SecretReceiver<T>) {
        (&mut self.sender, &mut self.receiver)
    }

    /// The key the peer proved to have.
    pub fn remote(&self) -> PublicKey {
        self.sender.shared.peer
    }

    /// True if this side began the handshake.
    pub fn is_initiator(&self) -> bool {
        self.sender.shared.initiator
    }

    /// Unique to this stream and the same on both sides: what other proofs can be bound to. Not a secret.
    pub fn handshake_hash(&self) -> &[u8; 64] {
        &self.sender.shared.handshake_hash
    }

    /// How much went over it.
    pub fn counters(&self) -> Counters {
        self.sender.shared.counters()
    }

    /// Looks after the stream from elsewhere.
    pub fn monitor(&self) -> Monitor<T> {
        Monitor { shared: Arc::downgrade(&self.sender.shared) }
    }

    /// What it runs on.
    pub fn transport(&self) -> &T {
        &self.sender.shared.transport
    }
}

impl<T: Unordered> SecretStream<T> {
    /// The messages beside the stream. Only the task that waited for one last is woken.
    pub fn messages(&self) -> Messages<T> {
        Messages { shared: self.sender.shared.clone() }
    }
}

/// Plays the handshake through.
async fn exchange<T: Transport>(transport: &T, handshake: Handshake) -> Result<(Keys, Bytes), StreamError> {
    let (mut opening, mut answer) = Opening::new(handshake).map_err(StreamError::Opening)?;
    loop {
        if let Some(mut message) = answer.take() {
            while !message.is_empty() {
                poll_fn(|context| transport.poll_write_chunk(context, &mut message)).await?;
            }
            poll_fn(|context| transport.poll_flush(context)).await?;
        }
        if opening.is_finished() {
            return opening.finish().map_err(StreamError::Opening);
        }
        let chunk = poll_fn(|context| transport.poll_read_chunk(context, SECRET_READ_BYTES)).await?;
        let chunk = chunk.ok_or(StreamError::Opening(crate::secret_stream::Error::Cut))?;
        answer = opening.receive(chunk).map_err(StreamError::Opening)?;
    }
}

fn ephemeral() -> Result<Zeroizing<[u8; 32]>, StreamError> {
    Ok(Zeroizing::new(random::seed()?))
}

/// The two random values every stream begins with.
fn header_and_counter() -> Result<([u8; 24], u64), StreamError> {
    let random = random::seed()?;
    let (mut header, mut counter) = ([0; 24], [0; 8]);
    for (out, byte) in header.iter_mut().chain(&mut counter).zip(random) {
        *out = byte;
    }
    Ok((header, u64::from_le_bytes(counter)))
}
