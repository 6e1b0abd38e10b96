//! Protomux on any stream of messages, such as a secret stream: channels whose messages are futures.
//!
//! One task per connection, the `driver`, owns the stream and moves messages between it and the machine
//! `mux::Mux`. Machine, inboxes and acceptors are behind one lock (`state`), which
//! is held for moments and never across an await. Handles ([`Mux`], [`Channel`], [`Acceptor`]) take the lock, do
//! what they have to do at once, and wake the driver. There are no queues of commands. What is queued:
//!
//! * messages received and not taken, over all channels: at [`MUX_INBOX_BYTES`](crate::limits::MUX_INBOX_BYTES) the
//!   stream is no longer read, so that one slow reader holds the connection up, as with the original;
//! * messages to be sent: at [`MUX_SEND_BYTES`](crate::limits::MUX_SEND_BYTES) senders wait;
//! * incoming channels nobody has decided about: the machine bounds and rejects them.
//!
//! The connection ends when the peer ends it, when [`Mux::close`] is called, when all handles are dropped, or with
//! an error, which every channel then knows.

mod acceptor;
mod channel;
mod driver;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use futures::{Sink, Stream};

use crate::limits::MUX_SENDING_TIME;
use crate::mux::{self, ChannelOptions, OpenError};

pub use acceptor::{Acceptor, Incoming};
pub use channel::{Channel, ChannelReceiver, ChannelSender, Closed, Message};

use state::{Connection, Shared};

/// Why a connection was destroyed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer broke the rules of protomux, or one of our channels gave up on it.
    #[error(transparent)]
    Protocol(#[from] mux::Error),
    /// The stream below failed.
    #[error("stream: {0}")]
    Stream(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection was closed, and what was left to send may not have reached the peer.
    #[error("the peer did not take what was left to send within {} s", MUX_SENDING_TIME.as_secs())]
    TimedOut,
}

/// The channels of one connection. Clones are handles to the same.
#[derive(Clone, Debug)]
pub struct Mux {
    connection: Arc<Connection>,
}

impl Mux {
    /// Starts protomux on a stream of messages; its task runs on the current tokio runtime. What the peer opens at once
    /// may be rejected before [`accept`](Self::accept) can be called: see [`prepared`](Self::prepared).
    pub fn new<T, E>(stream: T) -> Self
    where
        T: Stream<Item = Result<Bytes, E>> + Sink<Bytes, Error = E> + Send + Unpin + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        Self::prepared(stream, |_| ()).0
    }

    /// As [`new`](Self::new), but `prepare` accepts and opens channels before the first message is read, so that no
    /// open of the peer comes too early.
    pub fn prepared<T, E, R>(stream: T, prepare: impl FnOnce(&Self) -> R) -> (Self, R)
    where
        T: Stream<Item = Result<Bytes, E>> + Sink<Bytes, Error = E> + Send + Unpin + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared::default());
        let mux = Self { connection: Arc::new(Connection(Arc::clone(&shared))) };
        let prepared = prepare(&mux);
        tokio::spawn(driver::run(stream, shared));
        (mux, prepared)
    }

    /// Opens a channel. It can be used at once; messages are lost if the peer rejects it, see [`Channel::opened`].
    /// An empty id is none.
    pub fn open(&self, protocol: &str, id: &[u8], options: ChannelOptions) -> Result<Channel, OpenError> {
        self.connection.0.with(|state| {
            let channel = state.mux.open(protocol, id, options)?;
            Ok(Channel::new(&self.connection, state, channel))
        })
    }

    /// Takes care of what the peer opens under this protocol and id (any id, if empty). A later call for the same
    /// replaces the earlier.
    pub fn accept(&self, protocol: &str, id: &[u8]) -> Acceptor {
        Acceptor::new(&self.connection, protocol, id)
    }

    /// Closes all channels and, when everything is sent, the stream.
    pub fn close(&self) {
        self.connection.0.with(|state| state.closing = true);
    }

    /// Waits for the end of the connection. Without an error, the stream has taken everything we sent and our end.
    pub async fn closed(&self) -> Result<(), Arc<Error>> {
        self.connection.0.ended().await
    }
}
