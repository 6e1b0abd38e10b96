//! Requests and operations as their users have them.

use std::future::{Future, poll_fn};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::Dht;
use super::instance::Instance;
pub use super::waiting::Found;
use crate::codec::v4::Command;
use crate::crypto::{KeyPair, PublicKey};
use crate::dht::hyperdht::{
    Answer, FoundPeer, FoundValue, Hyperdht, OperationId, Outcome, Plain, RequestId, Target,
};

/// A request got no answer: nobody is there, or the node was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer from {0}")]
pub struct NoAnswer(pub SocketAddrV4);

/// An operation that is under way; dropping it ends it.
pub struct Operation {
    instance: Arc<Instance>,
    id: OperationId,
}

impl Operation {
    /// The next thing found; None when that is all.
    pub async fn next(&mut self) -> Option<Found> {
        self.step().await.ok()
    }

    /// Lets the operation end; what it has found and nobody took is dropped.
    pub async fn outcome(mut self) -> Outcome {
        loop {
            if let Err(outcome) = self.step().await {
                return outcome;
            }
        }
    }

    /// All peers that are found, and how the operation ended.
    pub async fn peers(mut self) -> (Vec<FoundPeer>, Outcome) {
        let mut peers = Vec::new();
        loop {
            match self.step().await {
                Ok(Found::Peer(peer)) => peers.push(peer),
                Ok(Found::Value(_)) => {}
                Err(outcome) => return (peers, outcome),
            }
        }
    }

    /// The value that is found, if there is one.
    pub async fn value(mut self) -> Option<FoundValue> {
        loop {
            match self.step().await {
                Ok(Found::Value(value)) => return Some(value),
                Ok(Found::Peer(_)) => {}
                Err(_) => return None,
            }
        }
    }

    async fn step(&mut self) -> Result<Found, Outcome> {
        poll_fn(|context| {
            let polled = self.instance.waiting(|waiting| waiting.poll_operation(self.id, context));
            polled.unwrap_or(Poll::Ready(Err(Outcome::default())))
        })
        .await
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        self.instance.try_with(|machine, waiting, now| {
            if waiting.forget_operation(self.id) {
                machine.cancel(now, self.id);
            }
        });
    }
}

/// Forgets a request whose user waits no more.
struct Asking<'a> {
    instance: &'a Instance,
    id: RequestId,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.instance.waiting(|waiting| waiting.forget_request(self.id));
    }
}

impl Dht {
    /// Asks one node.
    pub fn request(&self, plain: Plain) -> impl Future<Output = Result<Answer, NoAnswer>> + '_ {
        let (to, instance) = (plain.to, &*self.inner.instance);
        let id = instance.with(|machine, waiting, now| {
            let id = machine.request(now, plain);
            waiting.add_request(id);
            id
        });
        let asking = Asking { instance, id };
        async move {
            let answer = poll_fn(|context| {
                let polled = instance.waiting(|waiting| waiting.poll_request(id, context));
                polled.unwrap_or(Poll::Ready(None))
            });
            let answer = answer.await.ok_or(NoAnswer(to));
            drop(asking);
            answer
        }
    }

    /// Asks a node if it is there.
    pub fn ping(&self, node: SocketAddrV4) -> impl Future<Output = Result<Answer, NoAnswer>> + '_ {
        self.request(Plain::new(node, Command::PING))
    }

    /// Starts an operation of the machine.
    pub fn operation(&self, start: impl FnOnce(&mut Hyperdht, Instant) -> OperationId) -> Operation {
        let instance = Arc::clone(&self.inner.instance);
        let id = instance.with(|machine, waiting, now| {
            let id = start(machine, now);
            waiting.add_operation(id);
            id
        });
        Operation { id, instance }
    }

    /// See [`Hyperdht::lookup`].
    pub fn lookup(&self, topic: Target) -> Operation {
        self.operation(|machine, now| machine.lookup(now, topic))
    }

    /// See [`Hyperdht::find_peer`].
    pub fn find_peer(&self, target: Target) -> Operation {
        self.operation(|machine, now| machine.find_peer(now, target, &[]))
    }

    /// See [`Hyperdht::announce`].
    pub fn announce(&self, topic: Target, keys: &KeyPair, relay_addresses: &[SocketAddrV4]) -> Operation {
        self.operation(|machine, now| machine.announce(now, topic, keys, relay_addresses, false))
    }

    /// See [`Hyperdht::unannounce`].
    pub fn unannounce(&self, topic: Target, keys: &KeyPair) -> Operation {
        self.operation(|machine, now| machine.unannounce(now, topic, keys))
    }

    /// See [`Hyperdht::mutable_put`].
    pub fn mutable_put(&self, keys: &KeyPair, seq: u64, value: &[u8]) -> Operation {
        self.operation(|machine, now| machine.mutable_put(now, keys, seq, value))
    }

    /// The newest value stored for this key: see [`Hyperdht::mutable_get`].
    pub fn mutable_get(&self, key: PublicKey, minimum: u64) -> Operation {
        self.operation(|machine, now| machine.mutable_get(now, key, minimum, true))
    }

    /// See [`Hyperdht::immutable_put`].
    pub fn immutable_put(&self, value: &[u8]) -> Operation {
        self.operation(|machine, now| machine.immutable_put(now, value))
    }

    /// See [`Hyperdht::immutable_get`].
    pub fn immutable_get(&self, hash: Target) -> Operation {
        self.operation(|machine, now| machine.immutable_get(now, hash))
    }
}
