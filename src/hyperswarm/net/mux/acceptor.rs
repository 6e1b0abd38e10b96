use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Channel;
use super::state::{Connection, Waiting};
use crate::mux::{ChannelOptions, OpenError};

/// Waits for channels the peer opens under one protocol. Dropped, it rejects those that wait, and all that follow.
#[derive(Debug)]
pub struct Acceptor {
    connection: Arc<Connection>,
    key: (String, Bytes),
    serial: u64,
}

/// A channel opened by the peer. Dropped without being accepted, it is rejected.
#[derive(Debug)]
pub struct Incoming {
    connection: Arc<Connection>,
    waiting: Waiting,
}

impl Acceptor {
    pub(super) fn new(connection: &Arc<Connection>, protocol: &str, id: &[u8]) -> Self {
        let key = (protocol.to_owned(), Bytes::copy_from_slice(id));
        let serial = connection.0.with(|state| state.add_acceptor(key.clone()));
        Self { connection: Arc::clone(connection), key, serial }
    }

    /// The next channel the peer has opened; none at the end of the connection.
    pub async fn next(&mut self) -> Option<Incoming> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.connection.0.quietly(|state| {
            let over = state.mux.is_closed();
            let Some(acceptances) =
                state.acceptors.get_mut(&self.key).filter(|own| own.serial == self.serial)
            else {
                return Poll::Ready(None);
            };
            if let Some(waiting) = acceptances.queue.pop_front() {
                return Poll::Ready(Some(Incoming { connection: Arc::clone(&self.connection), waiting }));
            }
            if over {
                return Poll::Ready(None);
            }
            acceptances.acceptor = Some(context.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.connection.0.with(|state| {
            if state.acceptors.get(&self.key).is_some_and(|own| own.serial == self.serial) {
                state.mux.unpair(&self.key.0, &self.key.1);
                if let Some(acceptances) = state.acceptors.remove(&self.key) {
                    state.reject_all(acceptances);
                }
            }
        });
    }
}

impl Incoming {
    /// The name of the protocol that the peer has used.
    pub fn protocol(&self) -> &str {
        &self.waiting.protocol
    }

    /// The id; empty if there is none.
    pub fn id(&self) -> &[u8] {
        &self.waiting.id
    }

    /// As the peer encoded it.
    pub fn handshake(&self) -> &Bytes {
        &self.waiting.handshake
    }

    /// Opens the channel on our side. Several incoming channels with the same protocol and id have to be accepted
    /// in the order in which they came.
    pub fn accept(&self, options: ChannelOptions) -> Result<Channel, OpenError> {
        self.connection.0.with(|state| {
            let channel = state.mux.accept(self.waiting.incoming, options)?;
            Ok(Channel::new(&self.connection, state, channel))
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Nothing if it was accepted or withdrawn.
        self.connection.0.with(|state| state.mux.reject(self.waiting.incoming));
    }
}
