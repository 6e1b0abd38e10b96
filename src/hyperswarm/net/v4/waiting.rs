//! What the users of a node wait for.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddrV4;
use std::task::{Context, Poll, Waker};

use tokio::sync::{mpsc, watch};

use crate::dht::hyperdht::{Answer, Event, FoundPeer, FoundValue, Hyperdht, OperationId, Outcome, RequestId};
use crate::dht::id::NodeId;
use crate::dht::v4::health;
use crate::limits::MAX_DHT_EVENTS;

/// How a node fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// It has entered the network, or has found nobody.
    pub ready: bool,
    /// Its id, while others may keep it in their tables.
    pub id: Option<NodeId>,
    /// Its own address, if strangers can reach it there.
    pub address: Option<SocketAddrV4>,
    /// True as long as nothing has shown that strangers can reach it.
    pub firewalled: bool,
    /// What the network is like.
    pub network: health::State,
}

/// What an operation has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A peer; one that several nodes know is told several times.
    Peer(FoundPeer),
    /// A value.
    Value(FoundValue),
}

/// An operation whose user has yet to take its results.
#[derive(Default)]
struct Results {
    /// When full, further ones are dropped: so many are of one operation only if somebody invents them.
    found: VecDeque<Found>,
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

/// A request whose user waits for the answer.
#[derive(Default)]
struct Reply {
    answer: Option<Option<Answer>>,
    waker: Option<Waker>,
}

/// All of them.
pub(super) struct Waiting {
    operations: HashMap<OperationId, Results>,
    requests: HashMap<RequestId, Reply>,
    events: Option<mpsc::Sender<Event>>,
    status: watch::Sender<Status>,
    ready: bool,
    network: health::State,
    /// Something has happened that may show in the status.
    changed: bool,
}

impl Waiting {
    pub(super) fn new(status: watch::Sender<Status>) -> Self {
        Self {
            operations: HashMap::new(),
            requests: HashMap::new(),
            events: None,
            status,
            ready: false,
            network: health::State::default(),
            changed: false,
        }
    }

    pub(super) fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        if self.events.is_some() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(MAX_DHT_EVENTS);
        self.events = Some(sender);
        Some(receiver)
    }

    pub(super) fn add_operation(&mut self, id: OperationId) {
        self.operations.insert(id, Results::default());
    }

    pub(super) fn add_request(&mut self, id: RequestId) {
        self.requests.insert(id, Reply::default());
    }

    /// The user has gone. True if it had not seen the end.
    pub(super) fn forget_operation(&mut self, id: OperationId) -> bool {
        self.operations.remove(&id).is_some_and(|results| results.outcome.is_none())
    }

    pub(super) fn forget_request(&mut self, id: RequestId) {
        self.requests.remove(&id);
    }

    /// Operations and requests.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.operations.len() + self.requests.len()
    }

    /// The next thing found; how the operation ended, once that is all.
    pub(super) fn poll_operation(
        &mut self,
        id: OperationId,
        context: &Context<'_>,
    ) -> Poll<Result<Found, Outcome>> {
        let Some(results) = self.operations.get_mut(&id) else {
            return Poll::Ready(Err(Outcome::default()));
        };
        if let Some(found) = results.found.pop_front() {
            return Poll::Ready(Ok(found));
        }
        match &results.outcome {
            Some(outcome) => Poll::Ready(Err(outcome.clone())),
            None => {
                results.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The answer to a request; None: there will be none.
    pub(super) fn poll_request(&mut self, id: RequestId, context: &Context<'_>) -> Poll<Option<Answer>> {
        let Some(reply) = self.requests.get_mut(&id) else { return Poll::Ready(None) };
        match reply.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                reply.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Hands out what the machine tells, and collects whom to wake.
    pub(super) fn tell(&mut self, event: Event, awake: &mut Vec<Waker>) {
        match event {
            Event::Peer(id, peer) => self.found(id, Found::Peer(peer), awake),
            Event::Value(id, value) => self.found(id, Found::Value(value), awake),
            Event::Done(id, outcome) => {
                if let Some(results) = self.operations.get_mut(&id) {
                    results.outcome = Some(outcome);
                    awake.extend(results.waker.take());
                }
            }
            Event::Answered(id, answer) => self.answered(id, Some(answer), awake),
            Event::Unanswered(id) => self.answered(id, None, awake),
            event => {
                self.changed = true;
                self.ready |= event == Event::Ready;
                if let Event::Network(state) = event {
                    self.network = state;
                }
                // Full, or nobody listens: the event is dropped.
                if let Some(events) = &self.events {
                    drop(events.try_send(event));
                }
            }
        }
    }

    pub(super) fn publish_if_changed(&mut self, machine: &Hyperdht) {
        if std::mem::take(&mut self.changed) {
            self.publish(machine);
        }
    }

    pub(super) fn publish(&self, machine: &Hyperdht) {
        let node = machine.node();
        let new = Status {
            ready: self.ready,
            id: node.id(),
            address: node.remote_address(),
            firewalled: node.is_firewalled(),
            network: self.network,
        };
        self.status.send_if_modified(|status| std::mem::replace(status, new) != new);
    }

    fn found(&mut self, id: OperationId, found: Found, awake: &mut Vec<Waker>) {
        if let Some(results) = self.operations.get_mut(&id)
            && results.found.len() < MAX_DHT_EVENTS
        {
            results.found.push_back(found);
            awake.extend(results.waker.take());
        }
    }

    fn answered(&mut self, id: RequestId, answer: Option<Answer>, awake: &mut Vec<Waker>) {
        if let Some(reply) = self.requests.get_mut(&id) {
            reply.answer = Some(answer);
            awake.extend(reply.waker.take());
        }
    }
}
