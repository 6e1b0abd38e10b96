use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Error;
use super::state::{Connection, State};
use crate::mux::{ChannelId, CloseReason, SendError};

/// A message of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The number of its type.
    pub kind: u64,
    /// As the peer encoded it.
    pub body: Bytes,
}

/// Why a channel is closed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Closed {
    /// We have closed it.
    #[error("closed by this side")]
    Here,
    /// The peer has closed it.
    #[error("closed by the peer")]
    Remote,
    /// The peer did not want it.
    #[error("rejected by the peer")]
    Rejected,
    /// The connection ended.
    #[error("the connection ended")]
    Ended,
    /// The connection was destroyed.
    #[error("the connection was destroyed: {0}")]
    Destroyed(Arc<Error>),
}

/// A channel: both halves. Closed when dropped.
#[derive(Debug)]
pub struct Channel {
    sender: ChannelSender,
    receiver: ChannelReceiver,
}

/// The half of a channel that sends. The channel is closed when all halves are dropped.
#[derive(Clone, Debug)]
pub struct ChannelSender {
    handle: Arc<Handle>,
}

/// The half of a channel that receives. The channel is closed when all halves are dropped; when this one is, what
/// the peer sends is thrown away.
#[derive(Debug)]
pub struct ChannelReceiver {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    connection: Arc<Connection>,
    channel: ChannelId,
}

impl Channel {
    pub(super) fn new(connection: &Arc<Connection>, state: &mut State, channel: ChannelId) -> Self {
        state.add_inbox(channel);
        let handle = Arc::new(Handle { connection: Arc::clone(connection), channel });
        Self { sender: ChannelSender { handle: Arc::clone(&handle) }, receiver: ChannelReceiver { handle } }
    }

    /// See [`ChannelReceiver::opened`].
    pub async fn opened(&mut self) -> Result<Bytes, Closed> {
        self.receiver.opened().await
    }

    /// See [`ChannelSender::send`].
    pub async fn send(&self, kind: u64, body: Bytes) -> Result<(), SendError> {
        self.sender.send(kind, body).await
    }

    /// See [`ChannelSender::send_all`].
    pub async fn send_all(&self, messages: &[Message]) -> Result<(), SendError> {
        self.sender.send_all(messages).await
    }

    /// See [`ChannelReceiver::next`].
    pub async fn next(&mut self) -> Option<Message> {
        self.receiver.next().await
    }

    /// See [`ChannelSender::close`].
    pub fn close(&self) {
        self.sender.close();
    }

    /// See [`ChannelSender::destroy`].
    pub fn destroy(&self, reason: &str) {
        self.sender.destroy(reason);
    }

    /// See [`ChannelSender::closed`].
    pub fn closed(&self) -> Option<Closed> {
        self.sender.closed()
    }

    /// Both halves, for two tasks.
    pub fn split(self) -> (ChannelSender, ChannelReceiver) {
        (self.sender, self.receiver)
    }
}

impl ChannelSender {
    /// Sends a message of type `kind`, when there is room for it.
    pub async fn send(&self, kind: u64, body: Bytes) -> Result<(), SendError> {
        self.send_all(&[Message { kind, body }]).await
    }

    /// Sends several messages, as one batch if they are more than one, when there is room for the first.
    pub async fn send_all(&self, messages: &[Message]) -> Result<(), SendError> {
        let shared = &self.handle.connection.0;
        loop {
            let room = shared.room.notified();
            if let Some(result) = shared.with(|state| self.try_send(state, messages)) {
                return result;
            }
            room.await;
        }
    }

    /// None without room.
    fn try_send(&self, state: &mut State, messages: &[Message]) -> Option<Result<(), SendError>> {
        let channel = self.handle.channel;
        if state.mux.is_open(channel) && !state.mux.has_room() {
            state.crowded = true;
            return None;
        }
        if messages.len() > 1 {
            state.mux.cork();
        }
        let sent = messages.iter().try_for_each(|message| {
            let more = state.mux.send(channel, message.kind, &message.body);
            more.map(drop)
        });
        if messages.len() > 1 {
            state.mux.uncork();
        }
        Some(sent)
    }

    /// Closes the channel; the peer is told after what has been sent. What has come in can still be read.
    pub fn close(&self) {
        self.handle.connection.0.with(|state| state.close(self.handle.channel));
        self.handle.connection.0.make_room();
    }

    /// Destroys the whole connection, because what came in on this channel makes no sense.
    pub fn destroy(&self, reason: &str) {
        self.handle.connection.0.with(|state| state.mux.destroy(self.handle.channel, reason));
    }

    /// Why the channel is closed, if it is.
    pub fn closed(&self) -> Option<Closed> {
        self.handle.connection.0.quietly(|state| self.handle.closed(state))
    }
}

impl ChannelReceiver {
    /// Waits until the peer has opened the channel too, and gives the handshake it has sent with that.
    pub async fn opened(&mut self) -> Result<Bytes, Closed> {
        std::future::poll_fn(|context| {
            self.handle.connection.0.quietly(|state| {
                if let Some(handshake) =
                    state.inbox(self.handle.channel).and_then(|inbox| inbox.handshake.clone())
                {
                    return Poll::Ready(Ok(handshake));
                }
                self.handle.wait(state, context).map(Err)
            })
        })
        .await
    }

    /// The next message; none when the channel is closed and all that came before has been taken.
    pub async fn next(&mut self) -> Option<Message> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// See [`next`](Self::next).
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Message>> {
        let shared = &self.handle.connection.0;
        let taken = shared.quietly(|state| match state.take_message(self.handle.channel) {
            Some(taken) => Poll::Ready(Some(taken)),
            None => self.handle.wait(state, context).map(|_| None),
        });
        taken.map(|taken| {
            let (message, go_on) = taken?;
            if go_on {
                shared.with(|_| {});
            }
            Some(message)
        })
    }

    /// Why the channel is closed, if it is.
    pub fn closed(&self) -> Option<Closed> {
        self.handle.connection.0.quietly(|state| self.handle.closed(state))
    }
}

impl Drop for ChannelReceiver {
    fn drop(&mut self) {
        self.handle.connection.0.with(|state| state.stop_reading(self.handle.channel));
    }
}

impl Handle {
    fn closed(&self, state: &mut State) -> Option<Closed> {
        let inbox = state.inbox(self.channel)?;
        match inbox.closed {
            Some(CloseReason::Remote) => Some(Closed::Remote),
            Some(CloseReason::Rejected) => Some(Closed::Rejected),
            Some(CloseReason::Connection) => Some(match state.outcome() {
                Some(Err(error)) => Closed::Destroyed(Arc::clone(error)),
                _ => Closed::Ended,
            }),
            None => inbox.closed_here.then_some(Closed::Here),
        }
    }

    /// Waits for the driver to bring something; ready when the channel is closed.
    fn wait(&self, state: &mut State, context: &Context<'_>) -> Poll<Closed> {
        if let Some(closed) = self.closed(state) {
            return Poll::Ready(closed);
        }
        state.wait(self.channel, context.waker());
        Poll::Pending
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.connection.0.with(|state| {
            state.close(self.channel);
            state.remove_inbox(self.channel);
        });
    }
}
