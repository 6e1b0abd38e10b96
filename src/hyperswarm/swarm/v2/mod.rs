//! The policy of hyperswarm 2.14, sans-io: whom to dial and when, how often to announce, what to say by mDNS.
//!
//! * [`Peers`]: the connections of one topic: candidates, dials, back-off, the limit of 24. It uses the queue, which
//!   has the priorities and waits of upstream's `lib/queue.js` and `lib/peer-info.js`, and the places, which go by fair
//!   shares when all are taken. The application says by a [`Standing`] what a connection is worth.
//! * [`Announcer`]: when the next DHT announce of one topic is due.
//! * [`LocalDiscovery`]: the mDNS side of all topics of the process, which share one socket.
//!
//! The driver (`net`) feeds them and carries out what they say.

mod announcer;
mod dials;
mod local;
mod pace;
mod peers;
mod places;
mod queue;
mod standing;
#[cfg(test)]
mod tests;

pub use announcer::Announcer;
pub use local::{LocalDiscovery, LocalPeer, Registration};
pub use peers::{Found, Peers, Source};
pub use places::Slot;
pub use queue::Candidate;
pub use standing::Standing;
