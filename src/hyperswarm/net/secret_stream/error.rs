use std::io;
use std::time::Duration;

use crate::crypto::PublicKey;
use crate::secret_stream::{Error, MessageTooLong, SealError};

/// Why a secret stream cannot go on, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There was no stream yet.
    #[error("secret stream did not open: {0}")]
    Opening(Error),
    /// The peer, or somebody between, broke the protocol; the stream is destroyed.
    #[error("secret stream with {peer}: {error}")]
    Protocol {
        /// Who it was with.
        peer: PublicKey,
        /// What was wrong.
        error: Error,
    },
    /// Nothing was received for the time set in the options ("Stream timed out"), or the handshake took longer; the
    /// stream is destroyed.
    #[error("secret stream: timed out after {0:?}")]
    TimedOut(Duration),
    /// What is below failed.
    #[error("secret stream: {0}")]
    Transport(#[from] io::Error),
    /// The message was not sent; the stream goes on.
    #[error(transparent)]
    MessageTooLong(#[from] MessageTooLong),
    /// Sending after the own end.
    #[error("secret stream: already finished")]
    Finished,
    /// This side destroyed it.
    #[error("secret stream: destroyed")]
    Destroyed,
    /// No further unordered message can be sealed; the stream is destroyed, as upstream.
    #[error("secret stream: {0}")]
    Unordered(#[from] SealError),
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match &error {
            StreamError::Transport(inner) => inner.kind(),
            StreamError::TimedOut(_) => io::ErrorKind::TimedOut,
            StreamError::Finished => io::ErrorKind::BrokenPipe,
            StreamError::Destroyed => io::ErrorKind::NotConnected,
            StreamError::MessageTooLong(_) => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
