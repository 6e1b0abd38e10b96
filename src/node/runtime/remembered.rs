//! Who answered searches lately, and how: for clients that find first and name the provider afterwards.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;

use crate::limits;
use crate::node::legacy::{Dialect, NodeId, Style};
use crate::node::peer::{PeerKey, Via};
use crate::node::transfer::Offer;
use crate::store::Sha1;

/// The latest answers to searches.
#[derive(Default)]
pub(super) struct Remembered(Mutex<VecDeque<Answer>>);

#[derive(Clone, Copy)]
struct Answer {
    sha1: Sha1,
    offer: Offer,
}

impl Remembered {
    /// Notes an answer. A later one of the same peer in the same protocol takes the place of the earlier; beyond the
    /// limit the oldest is forgotten.
    pub(super) fn add(&self, sha1: Sha1, offer: Offer) {
        let mut answers = self.answers();
        let same =
            |other: &Answer| (other.sha1, other.offer.peer, other.offer.via) == (sha1, offer.peer, offer.via);
        answers.retain(|other| !same(other));
        if answers.len() >= limits::REMEMBERED_OFFERS {
            answers.pop_front();
        }
        answers.push_back(Answer { sha1, offer });
    }

    /// The size that a node named by a client said a file has, as clients of 2020 do not repeat it.
    pub(super) fn size(&self, node: NodeId, sha1: Sha1) -> Option<u64> {
        let answers = self.answers();
        let told = |answer: &&Answer| answer.offer.peer == PeerKey(node.key) && answer.sha1 == sha1;
        answers.iter().rev().find(told).map(|answer| answer.offer.size)
    }

    /// How a node named by a client can be asked.
    pub(super) fn as_offers(&self, node: NodeId, size: u64) -> Vec<Offer> {
        let peer = PeerKey(node.key);
        let seen: Vec<Via> = self
            .answers()
            .iter()
            .filter(|answer| answer.offer.peer == peer)
            .map(|answer| answer.offer.via)
            .collect();
        let offer = |dialect| Offer { peer, via: Via::Legacy(dialect), size };
        dialects_of(node, &seen).into_iter().map(offer).collect()
    }

    fn answers(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        self.0.lock()
    }
}

/// The ways to ask a node of which only the ID is known: the dialects in which it answered lately, else those that
/// its ID allows.
fn dialects_of(node: NodeId, seen: &[Via]) -> Vec<Dialect> {
    let seen = |dialect| seen.contains(&Via::Legacy(dialect));
    if seen(Dialect::V021) {
        return vec![Dialect::V021];
    }
    match node.style {
        Style::Hypersign => vec![Dialect::V012],
        Style::Spki if seen(Dialect::V016) => vec![Dialect::V016],
        Style::Spki => vec![Dialect::V021, Dialect::V016],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperswarm::crypto::PublicKey;

    fn offer(number: usize, dialect: Dialect) -> Offer {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        Offer { peer: PeerKey(PublicKey(key)), via: Via::Legacy(dialect), size: 1000 }
    }

    fn node(offer: &Offer) -> NodeId {
        let Via::Legacy(dialect) = offer.via;
        NodeId::new(offer.peer.0, dialect.style())
    }

    fn dialects(remembered: &Remembered, offer: &Offer) -> Vec<Dialect> {
        let offers = remembered.as_offers(node(offer), 1000);
        offers.into_iter().map(|Offer { via: Via::Legacy(dialect), .. }| dialect).collect()
    }

    #[test]
    fn a_node_is_asked_in_the_dialect_in_which_it_answered() {
        let remembered = Remembered::default();
        let answered = offer(1, Dialect::V016);
        assert_eq!(dialects(&remembered, &answered), [Dialect::V021, Dialect::V016], "nothing is known");
        remembered.add(Sha1([1; 20]), answered);
        assert_eq!(dialects(&remembered, &answered), [Dialect::V016]);
        remembered.add(Sha1([2; 20]), offer(1, Dialect::V021));
        assert_eq!(dialects(&remembered, &answered), [Dialect::V021]);
    }

    #[test]
    fn the_oldest_answer_is_forgotten_beyond_the_limit() {
        let remembered = Remembered::default();
        let first = offer(0, Dialect::V016);
        for number in 0..limits::REMEMBERED_OFFERS {
            remembered.add(Sha1([1; 20]), offer(number, Dialect::V016));
        }
        // Known already: takes no place.
        remembered.add(Sha1([1; 20]), offer(5, Dialect::V016));
        assert_eq!(dialects(&remembered, &first), [Dialect::V016], "at the limit");
        remembered.add(Sha1([1; 20]), offer(limits::REMEMBERED_OFFERS, Dialect::V016));
        assert_eq!(dialects(&remembered, &first), [Dialect::V021, Dialect::V016], "one beyond");
        assert_eq!(dialects(&remembered, &offer(1, Dialect::V016)), [Dialect::V016], "only the oldest");
        assert_eq!(remembered.answers().len(), limits::REMEMBERED_OFFERS);
    }

    #[test]
    fn the_size_is_the_one_the_node_told_last_for_this_file() {
        let remembered = Remembered::default();
        let (first, file) = (offer(1, Dialect::V021), Sha1([1; 20]));
        assert_eq!(remembered.size(node(&first), file), None);
        remembered.add(file, Offer { size: 7, ..first });
        remembered.add(file, first);
        remembered.add(file, Offer { size: 8, ..offer(2, Dialect::V021) });
        remembered.add(Sha1([2; 20]), Offer { size: 9, ..first });
        assert_eq!(remembered.size(node(&first), file), Some(1000));
        assert_eq!(remembered.answers().len(), 3);
        assert_eq!(
            remembered.size(NodeId::new(first.peer.0, Style::Hypersign), file),
            Some(1000),
            "its old ID"
        );
    }
}
