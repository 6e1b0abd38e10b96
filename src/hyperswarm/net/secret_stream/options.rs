use std::time::Duration;

use crate::limits::{SECRET_DEFAULT_FRAME_BYTES, SECRET_HANDSHAKE_TIME};

/// How a stream is to behave.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Send an empty message when nothing else was sent for so long (5 s in hyperdht), and discard empty messages
    /// that come in. None by default.
    pub keep_alive: Option<Duration>,
    /// Destroy the stream when somebody has waited for a message for so long and not a byte came, or when the handshake
    /// as a whole takes so long. None by default.
    pub timeout: Option<Duration>,
    /// Give up the handshake when it takes so long as a whole, even without `timeout`; 30 s by default. `Duration::MAX`
    /// waits for ever.
    pub handshake_timeout: Duration,
    /// Discard empty messages even without keep-alive (`filterZeroByteMessages`).
    pub discard_empty: bool,
    /// Bytes of the longest frame taken: a message and 17 bytes. 1 MiB by default; a peer that sends a longer one
    /// breaks the stream. JavaScript's streams take and send up to 16,777,215
    /// ([`MAX_SECRET_FRAME_BYTES`](crate::limits::MAX_SECRET_FRAME_BYTES)), and hold as much for every peer that begins
    /// such a frame; set it where an application sends messages beyond 1 MiB, or protomux batches, which reach 8 MiB.
    pub max_frame_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keep_alive: None,
            timeout: None,
            handshake_timeout: SECRET_HANDSHAKE_TIME,
            discard_empty: false,
            max_frame_bytes: SECRET_DEFAULT_FRAME_BYTES,
        }
    }
}
