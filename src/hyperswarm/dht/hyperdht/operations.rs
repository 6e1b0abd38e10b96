//! Lookups, announcements, puts and gets of our own (hyperdht `index.js`): a walk towards the target, then perhaps a
//! request to each of the nodes found closest.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::announcement::{self, At};
use super::router::is_credible;
use super::storage::verify_mutable;
use super::{Event, FoundPeer, FoundValue, Hyperdht, OperationId, Outcome, Target, Task, Walk};
use crate::codec::MAX_SAFE_INTEGER;
use crate::codec::compact::Writer;
use crate::codec::v4::{Command, ErrorCode, LookupReply, MutablePut, MutableValue, Peer};
use crate::crypto::{KeyPair, PublicKey, blake2b_256};
use crate::dht::id::NodeId;
use crate::dht::v4::{self, Answer, Plain, QueryId};
use crate::limits::v4::MAX_PEERS_PER_REPLY;

/// An operation under way.
pub(super) struct Operation {
    target: Target,
    what: What,
    /// The walk, until it has ended.
    walk: Option<QueryId>,
    /// The nodes found closest, once the walk has ended and until they are asked.
    closest: Vec<v4::Closest>,
    /// Requests under way that have to end first.
    pending: usize,
    outcome: Outcome,
}

/// What an operation is for.
enum What {
    Lookup,
    FindPeer,
    Announce {
        keys: KeyPair,
        relays: Vec<SocketAddrV4>,
        bump: u64,
        clear: bool,
    },
    Unannounce {
        keys: KeyPair,
    },
    MutableGet {
        key: PublicKey,
        minimum: u64,
        latest: bool,
        best: Option<FoundValue>,
    },
    ImmutableGet,
    /// An encoded [`MutablePut`].
    MutablePut(Bytes),
    ImmutablePut(Bytes),
}

/// A request that changes something at one node.
#[derive(Clone, Copy)]
pub(super) struct Commit {
    node: NodeId,
    to: SocketAddrV4,
    /// Remove an announcement, instead of storing something.
    remove: bool,
    /// The first token had expired.
    again: bool,
}

impl Hyperdht {
    /// Who announced this topic: [`Event::Peer`] for each peer that a node names.
    pub fn lookup(&mut self, now: Instant, topic: Target) -> OperationId {
        self.begin(now, topic, What::Lookup, &[])
    }

    /// Where the server whose public key has this hash can be reached: [`Event::Peer`] for each node that knows. The walk
    /// starts from `nodes` too, such as the relays it had before.
    pub fn find_peer(&mut self, now: Instant, target: Target, nodes: &[SocketAddrV4]) -> OperationId {
        self.begin(now, target, What::FindPeer, nodes)
    }

    /// Announces a topic at the nodes closest to it. Peers that find it there send handshakes through
    /// `relay_addresses`, of which nodes keep three, as in [`Self::relay_addresses`]. `clear`: remove what this key has
    /// announced before, wherever it is found.
    pub fn announce(
        &mut self,
        now: Instant,
        topic: Target,
        keys: &KeyPair,
        relay_addresses: &[SocketAddrV4],
        clear: bool,
    ) -> OperationId {
        self.announce_and_bump(now, topic, keys, relay_addresses, clear, 0)
    }

    /// The same, with a time in milliseconds since 1970 that is handed out together with the topic's peers.
    pub fn announce_and_bump(
        &mut self,
        now: Instant,
        topic: Target,
        keys: &KeyPair,
        relay_addresses: &[SocketAddrV4],
        clear: bool,
        bump: u64,
    ) -> OperationId {
        if clear {
            self.remove_stored(now, &topic, keys);
        }
        let (keys, relays, bump) = (keys.clone(), relay_addresses.to_vec(), bump.min(MAX_SAFE_INTEGER));
        self.begin(now, topic, What::Announce { keys, relays, bump, clear }, &[])
    }

    /// Removes what this key announced under the topic from all nodes at which it is found. [`Outcome::stored`] is how
    /// many confirmed that.
    pub fn unannounce(&mut self, now: Instant, topic: Target, keys: &KeyPair) -> OperationId {
        self.remove_stored(now, &topic, keys);
        self.begin(now, topic, What::Unannounce { keys: keys.clone() }, &[])
    }

    /// Stores a value under the hash of the public key. One with a higher `seq`, below 2^53, replaces it; keep it below
    /// 1,000 bytes.
    pub fn mutable_put(&mut self, now: Instant, keys: &KeyPair, seq: u64, value: &[u8]) -> OperationId {
        let target = blake2b_256(&[&keys.public().0]);
        let value = announcement::put_mutable(keys, seq.min(MAX_SAFE_INTEGER), value);
        self.begin(now, target, What::MutablePut(value), &[])
    }

    /// Stores a value again that its owner has signed before, so that it is not forgotten.
    pub fn mutable_put_again(&mut self, now: Instant, key: PublicKey, found: &FoundValue) -> OperationId {
        let FoundValue { value, seq, signature, .. } = found;
        let stored = MutableValue { seq: *seq, value, signature: signature.unwrap_or([0; 64]) };
        let mut out = Writer::new();
        MutablePut { public_key: key.0, stored }.encode(&mut out);
        self.begin(now, blake2b_256(&[&key.0]), What::MutablePut(out.finish()), &[])
    }

    /// The value stored for this key, with a `seq` of at least `minimum`: [`Event::Value`] at the end, if there is one.
    /// `latest`: the newest that is found; if false, the operation ends with the first.
    pub fn mutable_get(&mut self, now: Instant, key: PublicKey, minimum: u64, latest: bool) -> OperationId {
        let minimum = minimum.min(MAX_SAFE_INTEGER);
        let what = What::MutableGet { key, minimum, latest, best: None };
        self.begin(now, blake2b_256(&[&key.0]), what, &[])
    }

    /// Stores a value under its hash. Keep it below 1,000 bytes.
    pub fn immutable_put(&mut self, now: Instant, value: &[u8]) -> OperationId {
        self.begin(now, blake2b_256(&[value]), What::ImmutablePut(Bytes::copy_from_slice(value)), &[])
    }

    /// The value with this hash: [`Event::Value`] as soon as it is found.
    pub fn immutable_get(&mut self, now: Instant, hash: Target) -> OperationId {
        self.begin(now, hash, What::ImmutableGet, &[])
    }

    /// Ends an operation in silence.
    pub fn cancel(&mut self, now: Instant, id: OperationId) {
        let Some(operation) = self.operations.remove(&id) else { return };
        if let Some(walk) = operation.walk {
            self.walks.remove(&walk);
            self.node.cancel(now, walk);
        }
        let of_it = |task: &Task| matches!(task, Task::Operation(of, _) if *of == id);
        let requests = self.tasks.iter().filter(|(_, task)| of_it(task)).map(|(request, _)| *request);
        for request in requests.collect::<Vec<_>>() {
            self.tasks.remove(&request);
            self.node.forget(now, request);
        }
        self.run(now);
    }

    /// Removes what is stored here.
    fn remove_stored(&mut self, now: Instant, topic: &Target, keys: &KeyPair) {
        if let Some(storage) = &mut self.storage {
            storage.remove(now, topic, &keys.public().0);
        }
    }

    fn begin(&mut self, now: Instant, target: Target, what: What, nodes: &[SocketAddrV4]) -> OperationId {
        self.next_operation += 1;
        let id = OperationId(self.next_operation);
        let (command, value) = what.query();
        let walk = self.node.query_from(now, target, command, value, nodes);
        self.walks.insert(walk, Walk::Operation(id));
        let (closest, outcome) = (Vec::new(), Outcome::default());
        let operation = Operation { target, what, walk: Some(walk), closest, pending: 0, outcome };
        self.operations.insert(id, Box::new(operation));
        self.ask_ourselves(now, id);
        self.run(now);
        id
    }

    /// What is stored here is found too: in a small network nobody else may have it. Our own server is not told of.
    fn ask_ourselves(&mut self, now: Instant, id: OperationId) {
        let (Some(storage), Some(own)) = (&mut self.storage, self.node.remote_address()) else { return };
        let Some(Operation { target, what, .. }) = self.operations.get(&id).map(|operation| &**operation)
        else {
            return;
        };
        let value = match what {
            What::Lookup => storage.lookup(now, target, None, self.node.rng()),
            What::MutableGet { .. } => storage.get_mutable(target, &[0]).flatten(),
            What::ImmutableGet => storage.get_immutable(target),
            _ => None,
        };
        let (token, error, elapsed) = (None, ErrorCode::NONE, Duration::ZERO);
        let answer = Answer { from: own, id: None, to: own, token, error, value, elapsed };
        self.operation_answered(now, id, &answer);
    }

    /// A node answered the walk of an operation.
    pub(super) fn operation_answered(&mut self, now: Instant, id: OperationId, answer: &Answer) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let Some(value) = &answer.value else { return };
        match &mut operation.what {
            What::Lookup => {
                if let Ok(found) = LookupReply::decode(value) {
                    for peer in found.peers.iter() {
                        self.emit(Event::Peer(id, found_peer(&peer, found.bump, answer)));
                    }
                }
            }
            What::FindPeer => {
                if let Ok(peer) = Peer::decode(value)
                    && blake2b_256(&[&peer.public_key]) == operation.target
                {
                    self.emit(Event::Peer(id, found_peer(&peer, 0, answer)));
                }
            }
            What::Announce { clear: false, .. } | What::MutablePut(_) | What::ImmutablePut(_) => {}
            What::Announce { keys, .. } | What::Unannounce { keys } => {
                if let Some(node) = answer.id.filter(|_| may_know(value, keys.public())) {
                    let commit = Commit { node, to: answer.from, remove: true, again: false };
                    self.commit(now, id, commit, answer.token);
                }
            }
            What::MutableGet { key, minimum, latest, best } => {
                let best_seq = best.as_ref().map(|best| best.seq);
                let wanted = |found: &MutableValue<'_>| {
                    found.seq >= *minimum
                        && best_seq.is_none_or(|best| found.seq > best)
                        && verify_mutable(key, found)
                };
                if let Some(found) = MutableValue::decode(value).ok().filter(wanted) {
                    *best = Some(FoundValue {
                        value: Bytes::copy_from_slice(found.value),
                        seq: found.seq,
                        signature: Some(found.signature),
                        from: answer.from,
                    });
                    if !*latest {
                        self.found_enough(now, id);
                    }
                }
            }
            What::ImmutableGet => {
                if blake2b_256(&[value]) == operation.target {
                    let (value, from) = (value.clone(), answer.from);
                    self.emit(Event::Value(id, FoundValue { value, seq: 0, signature: None, from }));
                    self.found_enough(now, id);
                }
            }
        }
    }

    /// What was looked for is found: the walk need not go on.
    fn found_enough(&mut self, now: Instant, id: OperationId) {
        if let Some(operation) = self.operations.get_mut(&id) {
            operation.outcome.answered = 1;
            if let Some(walk) = operation.walk.take() {
                self.walks.remove(&walk);
                self.node.cancel(now, walk);
            }
            self.proceed(now, id);
        }
    }

    /// The walk of an operation has ended.
    pub(super) fn walk_ended(&mut self, now: Instant, id: OperationId, ended: v4::Outcome) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.walk = None;
        operation.outcome.answered = ended.answered;
        operation.outcome.closest = ended.closest.iter().map(|closest| closest.addr).collect();
        if operation.what.stores() {
            operation.closest = ended.closest;
        }
        self.proceed(now, id);
    }

    /// Asks the closest nodes once everything before that has ended; ends the operation when nothing is left.
    fn proceed(&mut self, now: Instant, id: OperationId) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        if operation.walk.is_some() || operation.pending > 0 {
            return;
        }
        let closest = std::mem::take(&mut operation.closest);
        if !closest.is_empty() {
            // What was removed before does not count as stored.
            (operation.outcome.asked, operation.outcome.stored) = (0, 0);
            (operation.outcome.refused, operation.outcome.error) = (0, ErrorCode::NONE);
        }
        for v4::Closest { id: node, addr: to, token } in closest {
            self.commit(now, id, Commit { node, to, remove: false, again: false }, token);
        }
        if self.operations.get(&id).is_some_and(|operation| operation.pending == 0)
            && let Some(operation) = self.operations.remove(&id)
        {
            let Operation { what, outcome, .. } = *operation;
            if let What::MutableGet { best: Some(best), .. } = what {
                self.emit(Event::Value(id, best));
            }
            self.emit(Event::Done(id, outcome));
        }
    }

    /// Asks a node that gave us this token to store or remove something.
    fn commit(&mut self, now: Instant, id: OperationId, commit: Commit, token: Option<[u8; 32]>) {
        let (Some(operation), Some(token)) = (self.operations.get_mut(&id), token) else { return };
        let at = At { target: operation.target, node: commit.node, token };
        let Some((command, value)) = operation.what.update(&at, commit.remove) else { return };
        operation.pending += 1;
        operation.outcome.asked += usize::from(!commit.again);
        let (target, token) = (Some(at.target), Some(token));
        let plain = Plain { target, token, value: Some(value), ..Plain::new(commit.to, command) };
        let request = self.node.request(now, plain);
        self.tasks.insert(request, Task::Operation(id, commit));
    }

    /// A node confirmed, refused or did not answer. If its token had expired, it gave us another.
    pub(super) fn commit_ended(
        &mut self,
        now: Instant,
        id: OperationId,
        commit: Commit,
        answer: Option<&Answer>,
    ) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.pending -= 1;
        match answer.map(|answer| (answer.error, answer.token)) {
            Some((ErrorCode::NONE, _)) => operation.outcome.stored += 1,
            Some((ErrorCode::INVALID_TOKEN, Some(token))) if !commit.again => {
                self.commit(now, id, Commit { again: true, ..commit }, Some(token));
            }
            Some((error, _)) => {
                operation.outcome.refused += 1;
                operation.outcome.error = error;
            }
            None => {}
        }
        self.proceed(now, id);
    }
}

impl What {
    /// The command of the walk, and its value.
    fn query(&self) -> (Command, Option<Bytes>) {
        let minimum = |seq: u64| {
            let mut out = Writer::new();
            out.uint(seq);
            Some(out.finish())
        };
        match self {
            Self::Lookup | Self::Announce { .. } | Self::Unannounce { .. } => (Command::LOOKUP, None),
            Self::FindPeer => (Command::FIND_PEER, None),
            Self::MutableGet { minimum: seq, .. } => (Command::MUTABLE_GET, minimum(*seq)),
            Self::MutablePut(_) => (Command::MUTABLE_GET, minimum(0)),
            Self::ImmutableGet | Self::ImmutablePut(_) => (Command::IMMUTABLE_GET, None),
        }
    }

    fn stores(&self) -> bool {
        matches!(self, Self::Announce { .. } | Self::MutablePut(_) | Self::ImmutablePut(_))
    }

    /// The command that changes something at a node, and its value.
    fn update(&self, at: &At, remove: bool) -> Option<(Command, Bytes)> {
        match self {
            Self::Announce { keys, .. } | Self::Unannounce { keys } if remove => {
                Some((Command::UNANNOUNCE, announcement::unannounce(keys, at)))
            }
            Self::Announce { keys, relays, bump, .. } => {
                Some((Command::ANNOUNCE, announcement::announce(keys, at, relays, *bump)))
            }
            Self::MutablePut(value) => Some((Command::MUTABLE_PUT, value.clone())),
            Self::ImmutablePut(value) => Some((Command::IMMUTABLE_PUT, value.clone())),
            _ => None,
        }
    }
}

/// A peer without the relays that nothing must be sent to.
fn found_peer(peer: &Peer<'_>, bump: u64, answer: &Answer) -> FoundPeer {
    let relays = peer.trimmed().relay_addresses.iter();
    FoundPeer {
        public_key: PublicKey(peer.public_key),
        relay_addresses: relays.filter(|relay| is_credible(*relay, answer.from)).collect(),
        bump,
        from: answer.from,
        to: answer.to,
    }
}

/// True if a node names this key for a topic, or so many that it may know more.
fn may_know(value: &[u8], key: PublicKey) -> bool {
    LookupReply::decode(value).is_ok_and(|found| {
        found.peers.len() >= MAX_PEERS_PER_REPLY || found.peers.iter().any(|peer| peer.public_key == key.0)
    })
}
