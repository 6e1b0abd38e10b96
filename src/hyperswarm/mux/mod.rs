//! Protomux: many message channels over one message stream, wire-compatible with npm protomux 3.12 (`index.js`).
//!
//! [`Mux`] is a machine over messages. Its owner
//!
//! 1. hands over one received message with [`Mux::handle_message`] when [`Mux::wants_message`] says so,
//! 2. takes events with [`Mux::poll_event`] until there is none, answering each before it takes the next,
//! 3. sends what [`Mux::poll_transmit`] gives, and starts again.
//!
//! ```text
//! input.rs    a received message, item by item: batches are taken apart one event at a time, so a batch of
//!             a million items never becomes a million events
//! receive.rs  what an item does: control frames, messages, pairing with what we opened
//! pairing.rs  who waits for whom: opens of both sides with the same protocol and id, first in first out
//! output.rs   what is to be sent, corked into batches or not
//! ```
//!
//! A channel is open when both sides have sent an open for the same protocol and id. Whoever is first waits; its
//! messages are buffered by the other side until that decides ([`Event::RemoteOpen`]).

#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
mod input;
mod machine;
mod output;
mod pairing;
mod receive;
#[cfg(test)]
mod tests;
mod types;

pub use machine::Mux;
pub use types::{ChannelId, ChannelOptions, CloseReason, Error, Event, IncomingId, OpenError, SendError};
