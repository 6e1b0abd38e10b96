//! The policy of hyperswarm 2.14, sans-io: whom to dial and when, how often to announce, what to say by mDNS.
//!
//! * [`Peers`]: the connections of one topic: candidates, dials, back-off, the limit of 24. It uses the queue, which
//!   has the priorities and waits of upstream's `lib/queue.js` and `lib/peer-info.js`.
//! * [`Announcer`]: when the next DHT announce of one topic is due.
//! * [`LocalDiscovery`]: the mDNS side of all topics of the process, which share one socket.
//!
//! The driver (`net`) feeds them and carries out what they say.

mod announcer;
mod local;
mod peers;
mod queue;

pub use announcer::Announcer;
pub use local::{LocalDiscovery, LocalPeer, Registration};
pub use peers::{Found, Peers, Slot, Source};
pub use queue::Candidate;
