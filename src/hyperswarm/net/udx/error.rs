//! Why a stream does not do what was asked, as an [`io::Error`].

use std::io;

use crate::udx::{CloseReason, Closed, MessageError, OpenError, StateError, StreamId};

/// The inner error of every [`io::Error`] that a [`super::UdxStream`] gives; names the stream by its local id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It is over.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// It has no peer yet, or one already.
    #[error(transparent)]
    State(#[from] StateError),
    /// A message that cannot be sent.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its sending side was finished.
    #[error("udx stream {0}: write after finish")]
    Finished(StreamId),
    /// The socket, or the other stream, does not share this stream's instance: see
    /// [`UdxSocket::bind_sibling`](super::UdxSocket::bind_sibling).
    #[error("udx stream {0}: socket or stream of another instance")]
    OtherInstance(StreamId),
    /// The socket's task has ended: it panicked, or its runtime shut down.
    #[error("udx socket closed: its task has ended")]
    SocketClosed,
}

impl StreamError {
    fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind::{
            AddrInUse, AlreadyExists, BrokenPipe, ConnectionAborted, ConnectionReset, InvalidInput,
            NotConnected, QuotaExceeded, TimedOut, WouldBlock,
        };
        match self {
            Self::Closed(Closed { reason, .. }) => match reason {
                CloseReason::Ended => BrokenPipe,
                CloseReason::Destroyed | CloseReason::RelayClosed(_) => ConnectionAborted,
                CloseReason::Reset => ConnectionReset,
                CloseReason::TimedOut { .. } => TimedOut,
                CloseReason::SocketClosed => ConnectionAborted,
            },
            Self::State(error) | Self::Message(MessageError::State(error)) => match error {
                StateError::Connected(_) => AlreadyExists,
                StateError::NotConnected(_) => NotConnected,
                StateError::Closed(_) => BrokenPipe,
            },
            Self::Message(MessageError::TooLong { .. }) => InvalidInput,
            Self::Message(MessageError::Full { .. }) => WouldBlock,
            Self::Open(OpenError::InUse(_)) => AddrInUse,
            Self::Open(OpenError::TooMany(_)) => QuotaExceeded,
            Self::Finished(_) => BrokenPipe,
            Self::OtherInstance(_) => InvalidInput,
            Self::SocketClosed => NotConnected,
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        io::Error::new(error.kind(), error)
    }
}
