use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::StreamError;
use super::shared::{Over, Shared};
use super::transport::Transport;

/// The half of a stream that sends.
pub struct SecretSender<T> {
    pub(super) shared: Arc<Shared<T>>,
}

impl<T: Transport> SecretSender<T> {
    /// Sends one message; completes when the transport has taken it. An empty message is a keep-alive, which the peer
    /// may discard.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), StreamError> {
        poll_fn(|context| self.shared.poll_seal(context, |sender, out| sender.seal(message, out))).await?;
        poll_fn(|context| self.shared.poll_drained(context)).await
    }

    /// As [`send`](Self::send), but completes as soon as the message was sealed; the transport may not have room for
    /// it yet. The next call waits for that.
    pub fn poll_send(&mut self, context: &mut Context<'_>, message: &[u8]) -> Poll<Result<(), StreamError>> {
        self.shared.poll_seal(context, |sender, out| sender.seal(message, out))
    }

    /// Lets what was sent leave at once, where the transport would wait for more.
    pub async fn flush(&mut self) -> Result<(), StreamError> {
        poll_fn(|context| self.shared.poll_flush(context)).await
    }

    /// Ends the own direction after what was sent; the other one goes on. Over UDX it completes when the peer has
    /// everything.
    pub async fn finish(&mut self) -> Result<(), StreamError> {
        poll_fn(|context| self.shared.poll_finish(context)).await
    }

    /// Ends both directions at once.
    pub fn destroy(&mut self) {
        self.shared.destroy(Over::Destroyed);
    }
}
