//! What waits to be written to a connection, and how much of it may be relayed.
//!
//! A relay does not stop reading from the node whose answer fills a neighbour's queue: that connection also carries
//! everything else the node says, so one slow neighbour would hold up all. The asker controls the flow instead: it
//! asks for a bounded range and asks again when that is complete. The queue holds what an original asks for at once;
//! what does not fit is cut off as a whole ([`Cuts`]), and the end of the answer still passes, so that the asker
//! learns of the loss at once.

use std::collections::{BTreeMap, VecDeque};

use crate::limits;
use crate::node::legacy::outgoing::{Answer, AnswerPart};
use crate::node::legacy::{NodeId, OutgoingFrame, WireId};

/// Whose frame it is.
#[derive(Clone, Copy)]
enum Origin {
    Own,
    Relayed,
    /// Relayed, to this asker.
    Answer(NodeId),
}

/// Frames of one connection that were sent and not yet written, the oldest first.
#[derive(Default)]
pub(super) struct Queue {
    frames: VecDeque<(usize, Origin)>,
    own: usize,
    relayed: usize,
    answers: usize,
}

/// Bytes of relayed answers queued in the swarm, by asker.
#[derive(Default)]
pub(super) struct Answers {
    total: usize,
    askers: BTreeMap<NodeId, usize>,
}

/// Answers of which a neighbour missed a part: provider and request. Pieces have no offset, so no later one may follow.
#[derive(Default)]
pub(super) struct Cuts {
    cut: VecDeque<(NodeId, WireId)>,
}

impl Queue {
    /// True if there is room for data of ours.
    pub(super) fn has_room(&self) -> bool {
        self.own < limits::CONNECTION_QUEUE_ROOM
    }

    /// Takes a frame of ours; false: too much waits, the peer does not read.
    pub(super) fn push_own(&mut self, weight: usize) -> bool {
        let own = self.own.saturating_add(weight);
        if own > limits::CONNECTION_QUEUE_MAX {
            return false;
        }
        self.own = own;
        self.frames.push_back((weight, Origin::Own));
        true
    }

    /// Takes a relayed frame if there is room for it.
    pub(super) fn push_relayed(
        &mut self,
        frame: &OutgoingFrame,
        answers: &mut Answers,
        cuts: &mut Cuts,
    ) -> bool {
        let weight = frame.weight();
        let taken = match frame.answer() {
            None => self.has_place() && self.relayed.saturating_add(weight) <= limits::CONNECTION_QUEUE_RELAY,
            Some(answer) => self.takes_answer(&answer, weight, answers, cuts),
        };
        if !taken {
            return false;
        }
        match frame.answer() {
            None => {
                self.relayed += weight;
                self.frames.push_back((weight, Origin::Relayed));
            }
            Some(Answer { asker, .. }) => {
                self.answers += weight;
                answers.add(asker, weight);
                self.frames.push_back((weight, Origin::Answer(asker)));
            }
        }
        true
    }

    /// The end of an answer is small and says more than the data that it would displace, so it needs a place only.
    fn takes_answer(&self, answer: &Answer, weight: usize, answers: &Answers, cuts: &mut Cuts) -> bool {
        let small = answer.part != AnswerPart::Data && weight <= limits::RELAY_END_BYTES;
        let room = small
            || self.answers.saturating_add(weight) <= limits::CONNECTION_QUEUE_RELAY
            || answers.has_room(answer.asker, weight);
        match answer.part {
            AnswerPart::Data if cuts.contains(answer) => false,
            AnswerPart::Data if !(room && self.has_place()) => {
                cuts.add(answer);
                false
            }
            AnswerPart::Data => true,
            AnswerPart::Word => room && self.has_place(),
            AnswerPart::End => {
                cuts.forget(answer);
                room && self.frames.len() < limits::RELAY_FRAMES + limits::RELAY_CUTS
            }
        }
    }

    fn has_place(&self) -> bool {
        self.frames.len() < limits::RELAY_FRAMES
    }

    /// Takes the oldest frame off; its weight.
    pub(super) fn pop(&mut self, answers: &mut Answers) -> Option<usize> {
        let (weight, origin) = self.frames.pop_front()?;
        match origin {
            Origin::Own => self.own -= weight,
            Origin::Relayed => self.relayed -= weight,
            Origin::Answer(asker) => {
                self.answers -= weight;
                answers.remove(asker, weight);
            }
        }
        Some(weight)
    }

    /// The connection is gone, with everything that waited for it.
    pub(super) fn clear(&mut self, answers: &mut Answers) {
        while self.pop(answers).is_some() {}
    }
}

impl Answers {
    /// An asker may fill half of what it and the others leave free: one alone half of all, and one that comes later
    /// always finds something.
    fn has_room(&self, asker: NodeId, weight: usize) -> bool {
        let queued = self.askers.get(&asker).copied().unwrap_or(0);
        queued.saturating_add(weight) <= limits::RELAY_ANSWERS.saturating_sub(self.total)
    }

    fn add(&mut self, asker: NodeId, weight: usize) {
        self.total += weight;
        *self.askers.entry(asker).or_default() += weight;
    }

    fn remove(&mut self, asker: NodeId, weight: usize) {
        self.total -= weight;
        if let Some(queued) = self.askers.get_mut(&asker) {
            *queued -= weight;
            if *queued == 0 {
                self.askers.remove(&asker);
            }
        }
    }
}

impl Cuts {
    fn contains(&self, answer: &Answer) -> bool {
        self.cut.contains(&(answer.provider, answer.request))
    }

    fn add(&mut self, answer: &Answer) {
        if self.cut.len() >= limits::RELAY_CUTS {
            self.cut.pop_front();
        }
        self.cut.push_back((answer.provider, answer.request));
    }

    fn forget(&mut self, answer: &Answer) {
        self.cut.retain(|cut| *cut != (answer.provider, answer.request));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cut.len()
    }
}
