//! Secret streams as streams and sinks of messages, as protomux takes them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Sink, Stream};

use super::StreamError;
use super::receiver::SecretReceiver;
use super::sender::SecretSender;
use super::stream::SecretStream;
use super::transport::Transport;

impl<T: Transport> Stream for SecretReceiver<T> {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(context)
    }
}

/// Flushing lets everything leave; closing ends the own direction.
impl<T: Transport> Sink<Bytes> for SecretSender<T> {
    type Error = StreamError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.shared.poll_drained(context)
    }

    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<(), StreamError> {
        self.shared.seal(|sender, out| sender.seal(&message, out))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.shared.poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.shared.poll_finish(context)
    }
}

impl<T: Transport> Stream for SecretStream<T> {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.halves().1.poll_message(context)
    }
}

impl<T: Transport> Sink<Bytes> for SecretStream<T> {
    type Error = StreamError;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Pin::new(self.halves().0).poll_ready(context)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), StreamError> {
        Pin::new(self.halves().0).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Sink::poll_flush(Pin::new(self.halves().0), context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        Pin::new(self.halves().0).poll_close(context)
    }
}
