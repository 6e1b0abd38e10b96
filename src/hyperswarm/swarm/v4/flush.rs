//! Who waits until everybody that was found has been tried (hyperswarm `flush`).

use std::collections::BTreeSet;

use crate::crypto::PublicKey;
use crate::topic::Topic;

/// One who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlushId(pub(super) u64);

struct Flush {
    id: FlushId,
    /// Topics whose walk is to end.
    topics: BTreeSet<Topic>,
    /// Peers that are to be tried.
    peers: BTreeSet<PublicKey>,
}

#[derive(Default)]
pub(super) struct Flushes(Vec<Flush>);

impl Flushes {
    pub(super) fn add(&mut self, id: FlushId, topics: BTreeSet<Topic>, peers: BTreeSet<PublicKey>) {
        self.0.push(Flush { id, topics, peers });
    }

    /// The walk for a topic has ended; `pending` are the peers to be tried now.
    pub(super) fn walked(&mut self, topic: Topic, pending: impl Iterator<Item = PublicKey> + Clone) {
        for flush in &mut self.0 {
            if flush.topics.remove(&topic) {
                flush.peers.extend(pending.clone());
            }
        }
    }

    pub(super) fn tried(&mut self, peer: &PublicKey) {
        for flush in &mut self.0 {
            flush.peers.remove(peer);
        }
    }

    /// Nobody can be tried any more.
    pub(super) fn end_all(&mut self) {
        for flush in &mut self.0 {
            flush.peers.clear();
        }
    }

    pub(super) fn take_done(&mut self) -> impl Iterator<Item = FlushId> {
        self.0.extract_if(.., |flush| flush.topics.is_empty() && flush.peers.is_empty()).map(|flush| flush.id)
    }
}
