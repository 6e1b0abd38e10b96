//! Secret streams on the machines of [`crate::secret_stream`]: over anything that is read and written
//! ([`ByteStream`]), and over UDX, where unordered messages come with them.
//!
//! ```text
//!  SecretSender   --seal---> Mutex<Writing>: frames the transport had no room for ---> Transport --> peer
//!                                 ^ keep-alives, and what a cancelled send left behind
//!                               keeper (one task per stream)
//!  SecretReceiver <--open--- frames that have begun <---------------------------------- Transport <-- peer
//!  Messages       <--------> unordered messages <-------------------------------------> Transport (UDX)
//! ```
//!
//! Tasks: sealing and opening happen on the tasks of the users of the two halves. One small task per stream, the
//! keeper, sends keep-alives; it ends with the stream's last handle.
//!
//! Locks: `Writing` is held while frames are sealed and given to the transport, and never while anything is waited
//! for. Who wants to send registers itself beside the keeper, and the transport wakes both: neither can take the
//! other's wake-up away.
//!
//! Back-pressure: at most one message, or 256 KiB of bytes, waits for a transport without room, and its sender with it.
//! A reader who pauses stops reading the transport; at most one chunk of 256 KiB and one unfinished frame are held.
//!
//! Cancelling: a `send` that is dropped before its message was sealed has sent nothing; afterwards the message is sent
//! by the keeper. A `next` that is dropped has taken nothing.

mod bytes_io;
mod error;
mod futures_io;
mod keeper;
mod messages;
mod monitor;
mod options;
mod receiver;
mod sender;
mod shared;
mod stream;
#[cfg(test)]
mod tests;
mod transport;
mod udx;

pub use error::StreamError;
pub use messages::Messages;
pub use monitor::Monitor;
pub use options::Options;
pub use receiver::SecretReceiver;
pub use sender::SecretSender;
pub use shared::Counters;
pub use stream::SecretStream;
pub use transport::{ByteStream, Transport, Unordered};
