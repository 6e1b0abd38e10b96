use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::coop::poll_proceed;
use tokio::time::{Instant, Sleep, sleep};

use super::StreamError;
use super::options::Options;
use super::shared::{Over, Shared};
use super::transport::Transport;
use crate::limits::SECRET_READ_BYTES;
use crate::secret_stream::{Error, Receiver};

/// The half of a stream that receives.
pub struct SecretReceiver<T> {
    pub(super) shared: Arc<Shared<T>>,
    receiver: Receiver,
    discard_empty: bool,
    idle: Option<Idle>,
    over: bool,
    /// What a reader of bytes has not taken of a message.
    pub(super) rest: Bytes,
}

impl<T: Transport> SecretReceiver<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, receiver: Receiver, options: &Options) -> Self {
        let discard_empty = options.discard_empty || options.keep_alive.is_some();
        let idle = options.timeout.map(Idle::new);
        Self { shared, receiver, discard_empty, idle, over: false, rest: Bytes::new() }
    }

    /// The next message; `None` when the peer has ended. An error is the last thing there is, and has destroyed the
    /// stream.
    pub async fn next(&mut self) -> Option<Result<Bytes, StreamError>> {
        poll_fn(|context| self.poll_message(context)).await
    }

    /// See [`next`](Self::next).
    pub fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StreamError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let message = ready!(self.poll_open(context)).transpose();
        self.over = !matches!(message, Some(Ok(_)));
        Poll::Ready(message)
    }

    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        loop {
            // Counts every message, or a flood of empty ones, which cost a peer little, would never let go of the
            // thread.
            let coop = ready!(poll_proceed(context));
            let message = self.receiver.next_message().map_err(|error| self.broken(error))?;
            self.shared.received_frames(self.receiver.frames());
            if let Some(message) = message {
                coop.made_progress();
                if message.is_empty() && self.discard_empty {
                    continue;
                }
                return Poll::Ready(Ok(Some(message)));
            }
            drop(coop);
            match self.shared.transport.poll_read_chunk(context, SECRET_READ_BYTES) {
                Poll::Ready(chunk) => match chunk.map_err(|error| self.failed(error))? {
                    Some(chunk) => {
                        self.idle.as_mut().map(Idle::received);
                        self.shared.received_bytes(chunk.len());
                        self.receiver.receive(chunk);
                    }
                    None => {
                        self.receiver.end().map_err(|error| self.broken(error))?;
                        return Poll::Ready(Ok(None));
                    }
                },
                Poll::Pending => {
                    let Some(idle) = &mut self.idle else { return Poll::Pending };
                    ready!(idle.poll(context));
                    let timeout = idle.timeout;
                    self.shared.destroy(Over::TimedOut(timeout));
                    return Poll::Ready(Err(StreamError::TimedOut(timeout)));
                }
            }
        }
    }

    /// The peer broke the protocol.
    fn broken(&self, error: Error) -> StreamError {
        self.shared.destroy(Over::Protocol(error));
        StreamError::Protocol { peer: self.shared.peer, error }
    }

    /// The transport failed, possibly because this side destroyed it.
    fn failed(&self, error: std::io::Error) -> StreamError {
        let own = self.shared.destroyed();
        self.shared.destroy(Over::Failed(error.kind()));
        own.unwrap_or(StreamError::Transport(error))
    }
}

/// Measures how long the reader has been waiting for bytes.
struct Idle {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Idle {
    fn new(timeout: Duration) -> Self {
        Self { timeout, sleep: Box::pin(sleep(timeout)), waiting: false }
    }

    fn received(&mut self) {
        self.waiting = false;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.waiting, true) {
            self.sleep.as_mut().reset(Instant::now() + self.timeout);
        }
        self.sleep.as_mut().poll(context)
    }
}
