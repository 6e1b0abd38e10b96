//! The task of one connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Sink, Stream};
use tokio::time::timeout;

use super::Error;
use super::state::Shared;
use crate::limits::{MUX_CLOSING_TIME, MUX_SENDING_TIME, MUX_TURN_MESSAGES};

/// Carries messages until the connection is over.
pub(super) async fn run<T, E>(stream: T, shared: Arc<Shared>)
where
    T: Stream<Item = Result<Bytes, E>> + Sink<Bytes, Error = E> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut driver = Driver { stream, shared: &shared, refused: None, unflushed: false, heard_end: false };
    let carried = poll_fn(|context| driver.poll_carry(context)).await;
    match carried {
        Ok(()) => {
            shared.close_channels();
            shared.finish(driver.close().await.err());
        }
        Err(error) => {
            tracing::debug!(%error, "protomux connection destroyed");
            drop(driver);
            shared.finish(Some(error));
        }
    }
}

struct Driver<'a, T> {
    stream: T,
    shared: &'a Shared,
    /// Received, but not wanted at that moment: it is next.
    refused: Option<Bytes>,
    /// Something has been sent and not flushed.
    unflushed: bool,
    /// The peer sends no more.
    heard_end: bool,
}

impl<T, E> Driver<'_, T>
where
    T: Stream<Item = Result<Bytes, E>> + Sink<Bytes, Error = E> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    /// Carries messages both ways until one side wants to end.
    fn poll_carry(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Arc<Error>>> {
        // Before looking at anything, so that no change is missed.
        self.shared.quietly(|state| state.driver = Some(context.waker().clone()));
        let mut left = MUX_TURN_MESSAGES;
        for _ in 0..MUX_TURN_MESSAGES {
            let received = self.receive(context)?;
            let sent = self.send(context, &mut left)?;
            if self.heard_end || self.shared.quietly(|state| state.closing) {
                return Poll::Ready(Ok(()));
            }
            if !received && !sent {
                if left > 0 {
                    return Poll::Pending;
                }
                break;
            }
        }
        // Others have to get a turn, too.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what is left, ends our side, and waits for the peer's end: a stream closed with bytes unread may lose
    /// those on their way to the peer. A peer that never ends its side is left after a while; it is an error if it
    /// does not take what is left.
    async fn close(&mut self) -> Result<(), Arc<Error>> {
        let sent = timeout(MUX_SENDING_TIME, poll_fn(|context| self.poll_say_end(context))).await;
        sent.map_err(|_| Error::TimedOut)??;
        let _ = timeout(MUX_CLOSING_TIME, poll_fn(|context| self.poll_hear_end(context))).await;
        Ok(())
    }

    /// Sends and flushes what is left, and ends our side. Reads meanwhile: the peer may be waiting for room to do the
    /// same.
    fn poll_say_end(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Arc<Error>>> {
        let _ = self.poll_hear_end(context);
        let mut left = MUX_TURN_MESSAGES;
        // Only while something is left: a stream that is ending refuses to be asked for room.
        while self.shared.quietly(|state| state.mux.pending_bytes()) > 0 {
            if !self.send(context, &mut left)? {
                if left == 0 {
                    context.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.stream).poll_close(context).map_err(failed)
    }

    /// Waits for the peer's end, and throws away what comes before it.
    fn poll_hear_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..MUX_TURN_MESSAGES {
            if self.heard_end {
                return Poll::Ready(());
            }
            match Pin::new(&mut self.stream).poll_next(context) {
                Poll::Pending => return Poll::Pending,
                // How the peer hangs up does not matter; whether it has everything, the sending tells.
                Poll::Ready(None | Some(Err(_))) => self.heard_end = true,
                Poll::Ready(Some(Ok(_))) => {}
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Brings what has come in to the channels, then takes the next message if they have room. Whether there was one.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<bool, Arc<Error>> {
        if !self.bring()? {
            return Ok(false);
        }
        let message = match self.refused.take() {
            Some(message) => message,
            None => match Pin::new(&mut self.stream).poll_next(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(None) => {
                    self.heard_end = true;
                    return Ok(true);
                }
                Poll::Ready(Some(message)) => message.map_err(failed)?,
            },
        };
        // The machine wanted one before, but a handle may have given it something else to do meanwhile.
        self.refused = self.shared.quietly(|state| state.mux.handle_message(message)).err();
        self.bring()?;
        Ok(true)
    }

    /// Brings events to the channels. Whether the next message may come.
    fn bring(&mut self) -> Result<bool, Arc<Error>> {
        let wants = self.shared.quietly(|state| {
            state.take_events();
            match state.outcome() {
                Some(Err(error)) => Err(Arc::clone(error)),
                _ => Ok(state.mux.wants_message() && state.has_room()),
            }
        });
        self.shared.make_room();
        wants
    }

    /// Sends as many messages as the stream takes, at most `left`. Whether any.
    fn send(&mut self, context: &mut Context<'_>, left: &mut usize) -> Result<bool, Arc<Error>> {
        let mut any = false;
        while *left > 0 {
            if Pin::new(&mut self.stream).poll_ready(context).map_err(failed)?.is_pending() {
                break;
            }
            let Some(message) = self.shared.quietly(|state| state.mux.poll_transmit()) else { break };
            Pin::new(&mut self.stream).start_send(message).map_err(failed)?;
            self.unflushed = true;
            any = true;
            *left -= 1;
            self.shared.make_room();
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(context).map_err(failed)?.is_ready() {
            self.unflushed = false;
        }
        Ok(any)
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Arc<Error> {
    Arc::new(Error::Stream(Box::new(error)))
}
