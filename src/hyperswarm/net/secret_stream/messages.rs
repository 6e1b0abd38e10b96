use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;

use super::StreamError;
use super::shared::{Over, Shared};
use super::transport::Unordered;

/// Sends and receives messages beside the stream, unordered and unreliable. Their keys follow from the handshake hash,
/// which whoever recorded the handshake can compute: say nothing secret in them.
pub struct Messages<T> {
    pub(super) shared: Arc<Shared<T>>,
}

impl<T: Unordered> Messages<T> {
    /// Sends a message; it grows by 24 bytes and has to fit a datagram.
    pub fn send(&self, message: &[u8]) -> Result<(), StreamError> {
        // Bound on its own line: destroying while the lock is held would be one lock inside another.
        let envelope = self.shared.sealer.lock().seal(message);
        let envelope = envelope.inspect_err(|_| self.shared.destroy(Over::Destroyed))?;
        Ok(self.shared.transport.send_message(envelope)?)
    }

    /// The next message of the peer. What does not authenticate is ignored, as anybody can send it.
    pub async fn receive(&mut self) -> Result<Bytes, StreamError> {
        loop {
            let envelope = poll_fn(|context| self.shared.transport.poll_receive_message(context)).await?;
            if let Some(message) = self.shared.opener.open(&envelope) {
                return Ok(message);
            }
        }
    }
}
