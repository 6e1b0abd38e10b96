//! Servers of our own (hyperdht `lib/announcer.js`). A server is announced at the three nodes closest to the hash of its key:
//! its relays, which pass handshakes on to it. A cycle finds these nodes and announces it there; pings in between keep the
//! way from them to us open, and show when one is gone or when our own address has changed.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::announcement::{self, At};
use super::{Event, Hyperdht, Target, Task, Walk};
use crate::codec::v4::{Command, ErrorCode, RelayInfo};
use crate::crypto::{KeyPair, PublicKey, blake2b_256};
use crate::dht::id::NodeId;
use crate::dht::v4::{Answer, Closest, Outcome, Plain, QueryId};

/// Relays of a server.
const RELAYS: usize = 3;
/// Nodes that are asked to be relays in one cycle, if the first ones are gone or refuse.
const MAX_ASKED: usize = 8;
/// Cycles whose relays are remembered.
const REMEMBERED: usize = 3;
/// From one cycle to the next, more or less a tenth, if nothing happens.
const CYCLE: Duration = Duration::from_secs(300);
/// From one cycle to the next while there are too few relays: in seconds, the last one for ever.
const RETRIES: [u64; 5] = [1, 2, 4, 8, 15];
/// From the ping of one relay to that of the next. Each NAT keeps a mapping for three of these.
const PING: Duration = Duration::from_secs(5);

/// Why a server cannot listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// A server with this key listens, or its announcements are still being removed.
    #[error("already listening with this key pair")]
    AlreadyListening,
}

/// A server.
pub(super) struct Listener {
    keys: KeyPair,
    relays: Vec<Relay>,
    /// Relays of the last cycles, the latest first.
    remembered: VecDeque<Vec<SocketAddrV4>>,
    cycle: Option<Cycle>,
    /// The closest nodes of the last cycle, from which the next one starts.
    closest: Vec<SocketAddrV4>,
    /// Cycles in a row with too few relays.
    retries: usize,
    next_cycle: Instant,
    next_ping: Instant,
    /// Which relay is pinged next.
    turn: usize,
    /// The owner knows about the first cycle.
    told: bool,
    /// It ends when so many removals under way have.
    leaving: Option<usize>,
}

/// A relay that confirmed.
#[derive(Clone, Copy)]
struct Relay {
    info: RelayInfo,
    /// It sees us at another address than before, and is told so.
    renewing: bool,
}

/// A cycle under way.
struct Cycle {
    walk: Option<QueryId>,
    /// Nodes that can be asked, nearest first, and how many may still be.
    candidates: VecDeque<Closest>,
    may_ask: usize,
    pending: usize,
    found: Vec<Relay>,
    /// Something happened that a new cycle has to look at.
    again: bool,
}

/// What a request to a relay is for.
#[derive(Clone, Copy)]
pub(super) enum RelayTask {
    /// Announce, in a cycle. `again`: the first token had expired.
    Announce { node: NodeId, to: SocketAddrV4, again: bool },
    /// Does it live, and where does it see us?
    Ping { to: SocketAddrV4 },
    /// A token, to announce once more or to remove.
    Token { to: SocketAddrV4, remove: bool },
    /// Announce once more, because our address has changed.
    Renew { to: SocketAddrV4 },
    /// Remove, because it is no relay any more.
    Remove,
}

impl Listener {
    pub(super) fn public_key(&self) -> PublicKey {
        self.keys.public()
    }

    /// True until it is to end.
    pub(super) fn is_serving(&self) -> bool {
        self.leaving.is_none()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let cycle = self.cycle.is_none().then_some(self.next_cycle);
        let ping = (!self.relays.is_empty()).then_some(self.next_ping);
        [cycle, ping].into_iter().flatten().min().filter(|_| self.is_serving())
    }

    fn relay_mut(&mut self, at: SocketAddrV4) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|relay| relay.info.relay_address == at)
    }

    fn is_relay(&self, at: SocketAddrV4) -> bool {
        self.relays.iter().any(|relay| relay.info.relay_address == at)
    }
}

impl Hyperdht {
    /// Announces a server with this key pair and keeps it announced, until [`Self::unlisten`]. Its handshakes come as
    /// [`Event::Handshake`]. [`Event::Listening`] tells when it was tried for the first time.
    pub fn listen(&mut self, now: Instant, keys: KeyPair) -> Result<Target, ListenError> {
        let target = blake2b_256(&[&keys.public().0]);
        if self.listeners.contains_key(&target) {
            return Err(ListenError::AlreadyListening);
        }
        let listener = Listener {
            keys,
            relays: Vec::new(),
            remembered: VecDeque::new(),
            cycle: None,
            closest: Vec::new(),
            retries: 0,
            next_cycle: now,
            next_ping: now,
            turn: 0,
            told: false,
            leaving: None,
        };
        self.listeners.insert(target, listener);
        self.start_cycle(now, target);
        self.run(now);
        Ok(target)
    }

    /// Ends a server: no message for it is handed up any more, and it is removed from its relays. Then
    /// [`Event::Unlistened`].
    pub fn unlisten(&mut self, now: Instant, target: Target) {
        let Some(listener) = self.listeners.get_mut(&target).filter(|listener| listener.is_serving()) else {
            return;
        };
        let mut relays: Vec<_> = listener.relays.iter().map(|relay| relay.info.relay_address).collect();
        if let Some(cycle) = listener.cycle.take() {
            // Nodes that are being asked may have announced us already.
            relays.extend(cycle.found.iter().map(|relay| relay.info.relay_address));
            if let Some(walk) = cycle.walk {
                self.walks.remove(&walk);
                self.node.cancel(now, walk);
            }
        }
        let under_way = self.tasks.iter().filter_map(|(request, task)| match task {
            Task::Listener(of, RelayTask::Announce { to, .. } | RelayTask::Renew { to }) if *of == target => {
                Some((*request, *to))
            }
            _ => None,
        });
        for (request, relay) in under_way.collect::<Vec<_>>() {
            self.tasks.remove(&request);
            self.node.forget(now, request);
            relays.push(relay);
        }
        relays.sort_unstable();
        relays.dedup();
        listener.leaving = Some(relays.len());
        relays.into_iter().for_each(|relay| self.ask_token(now, target, relay, true));
        self.removal_ended(target, 0);
        self.run(now);
    }

    /// The network may have changed: every server is announced anew at once, and all of its relays are pinged.
    pub fn refresh(&mut self, now: Instant) {
        let targets: Vec<Target> = self.listeners.keys().copied().collect();
        for target in targets {
            let Some(listener) = self.listeners.get_mut(&target) else { continue };
            listener.retries = 0;
            let relays: Vec<_> = listener.relays.iter().map(|relay| relay.info.relay_address).collect();
            relays.into_iter().for_each(|relay| self.ping_relay(now, target, relay));
            self.start_cycle(now, target);
        }
        self.run(now);
    }

    /// The relays of a server of ours, in the order in which they confirmed, and how they see us.
    pub fn relays(&self, target: &Target) -> Vec<RelayInfo> {
        let relays = self.listeners.get(target).map(|listener| listener.relays.as_slice());
        relays.unwrap_or_default().iter().map(|relay| relay.info).collect()
    }

    /// Where handshakes reach a server of ours, to be announced with its topics: our own address, if strangers can reach
    /// us, and relays; three at most.
    pub fn relay_addresses(&self, target: &Target) -> Vec<SocketAddrV4> {
        let relays = self.listeners.get(target).map(|listener| listener.relays.as_slice());
        let relays = relays.unwrap_or_default().iter().map(|relay| relay.info.relay_address);
        self.node.remote_address().into_iter().chain(relays).take(RELAYS).collect()
    }

    /// True if this address is a relay of a server of ours, or was one in its last three cycles.
    pub fn is_server_relay(&self, target: &Target, address: SocketAddrV4) -> bool {
        self.listeners.get(target).is_some_and(|listener| {
            listener.is_relay(address) || listener.remembered.iter().flatten().any(|relay| *relay == address)
        })
    }

    /// True if the target belongs to a server of ours.
    pub(super) fn is_serving(&self, target: &Target) -> bool {
        self.listeners.get(target).is_some_and(Listener::is_serving)
    }

    /// Starts the cycles and pings that are due.
    pub(super) fn keep_listening(&mut self, now: Instant) {
        let due = self
            .listeners
            .iter()
            .filter(|(_, listener)| listener.poll_timeout().is_some_and(|due| due <= now));
        for target in due.map(|(target, _)| *target).collect::<Vec<_>>() {
            let Some(listener) = self.listeners.get_mut(&target) else { continue };
            let cycle = listener.cycle.is_none() && listener.next_cycle <= now;
            if listener.next_ping <= now && !listener.relays.is_empty() {
                listener.next_ping = now + PING;
                listener.turn = (listener.turn + 1) % listener.relays.len();
                let relay = listener.relays.get(listener.turn).map(|relay| relay.info.relay_address);
                relay.into_iter().for_each(|relay| self.ping_relay(now, target, relay));
            }
            if cycle {
                self.start_cycle(now, target);
            }
        }
    }

    fn start_cycle(&mut self, now: Instant, target: Target) {
        let Some(listener) = self.listeners.get_mut(&target).filter(|listener| listener.is_serving()) else {
            return;
        };
        if let Some(cycle) = &mut listener.cycle {
            cycle.again = true;
            return;
        }
        let walk = self.node.query_from(now, target, Command::FIND_PEER, None, &listener.closest);
        self.walks.insert(walk, Walk::Listener(target));
        listener.cycle = Some(Cycle {
            walk: Some(walk),
            candidates: VecDeque::new(),
            may_ask: MAX_ASKED,
            pending: 0,
            found: Vec::new(),
            again: false,
        });
    }

    /// The walk of a cycle has ended.
    pub(super) fn relays_found(&mut self, now: Instant, target: Target, outcome: Outcome) {
        let Some(listener) = self.listeners.get_mut(&target) else { return };
        let Some(cycle) = &mut listener.cycle else { return };
        cycle.walk = None;
        if !outcome.closest.is_empty() {
            listener.closest = outcome.closest.iter().map(|closest| closest.addr).collect();
        }
        cycle.candidates = outcome.closest.into();
        self.proceed_cycle(now, target);
    }

    /// Asks as many nodes as relays are missing; ends the cycle when nobody is left to ask.
    fn proceed_cycle(&mut self, now: Instant, target: Target) {
        loop {
            let Some(listener) = self.listeners.get_mut(&target) else { return };
            let Some(cycle) = &mut listener.cycle else { return };
            let enough = cycle.found.len() + cycle.pending >= RELAYS || cycle.may_ask == 0;
            match cycle.candidates.pop_front().filter(|_| !enough) {
                Some(Closest { id: node, addr: to, token }) => {
                    let Some(token) = token else { continue };
                    cycle.may_ask -= 1;
                    cycle.pending += 1;
                    self.announce_at(
                        now,
                        target,
                        node,
                        token,
                        to,
                        RelayTask::Announce { node, to, again: false },
                    );
                }
                None if cycle.pending > 0 => return,
                None => return self.end_cycle(now, target),
            }
        }
    }

    fn end_cycle(&mut self, now: Instant, target: Target) {
        let spread = self.node.rng().random_range(0.9..1.1);
        let Some(listener) = self.listeners.get_mut(&target) else { return };
        let Some(Cycle { found, again, .. }) = listener.cycle.take() else { return };
        let enough = found.len() >= RELAYS;
        let wait = match RETRIES.get(listener.retries.min(RETRIES.len() - 1)) {
            _ if again => Duration::ZERO,
            Some(seconds) if !enough => Duration::from_secs(*seconds),
            _ => CYCLE.mul_f64(spread),
        };
        listener.retries = if enough { 0 } else { listener.retries + 1 };
        listener.next_cycle = now + wait;
        let mut lost = Vec::new();
        // While nobody answers, the relays may still be there, and have us for twenty minutes.
        if !found.is_empty() {
            let before = std::mem::replace(&mut listener.relays, found);
            lost.extend(before.iter().map(|relay| relay.info.relay_address));
            lost.retain(|relay| !listener.is_relay(*relay));
            let relays = listener.relays.iter().map(|relay| relay.info.relay_address).collect();
            listener.remembered.push_front(relays);
            listener.remembered.truncate(REMEMBERED);
            listener.next_ping = now + PING;
        }
        if !std::mem::replace(&mut listener.told, true) {
            self.emit(Event::Listening(target));
        }
        lost.into_iter().for_each(|relay| self.ask_token(now, target, relay, true));
    }

    /// A request to a relay was answered, or was not.
    pub(super) fn relay_task_ended(
        &mut self,
        now: Instant,
        target: Target,
        task: RelayTask,
        answer: Option<&Answer>,
    ) {
        let confirmed = answer.is_some_and(|answer| answer.error == ErrorCode::NONE);
        match task {
            RelayTask::Announce { node, to, again } => {
                self.announce_ended(now, target, RelayTask::Announce { node, to, again }, answer);
            }
            RelayTask::Ping { to } => self.relay_pinged(now, target, to, answer.map(|answer| answer.to)),
            RelayTask::Token { to, remove } => self.token_given(now, target, to, remove, answer),
            RelayTask::Renew { to } => {
                let Some(listener) = self.listeners.get_mut(&target) else { return };
                let Some(relay) = listener.relay_mut(to) else { return };
                relay.renewing = false;
                match answer {
                    Some(answer) if confirmed => relay.info.peer_address = answer.to,
                    _ => self.start_cycle(now, target),
                }
            }
            RelayTask::Remove => self.removal_ended(target, 1),
        }
    }

    fn announce_ended(&mut self, now: Instant, target: Target, task: RelayTask, answer: Option<&Answer>) {
        let RelayTask::Announce { node, to, again } = task else { return };
        let Some(cycle) = self.listeners.get_mut(&target).and_then(|listener| listener.cycle.as_mut()) else {
            return;
        };
        match answer {
            Some(Answer { error: ErrorCode::INVALID_TOKEN, token: Some(token), .. }) if !again => {
                let task = RelayTask::Announce { node, to, again: true };
                return self.announce_at(now, target, node, *token, to, task);
            }
            Some(answer) if answer.error == ErrorCode::NONE => {
                let info = RelayInfo { relay_address: to, peer_address: answer.to };
                cycle.found.push(Relay { info, renewing: false });
            }
            _ => {}
        }
        cycle.pending -= 1;
        self.proceed_cycle(now, target);
    }

    /// A relay answered a ping and sees us at an address, or did not answer.
    fn relay_pinged(&mut self, now: Instant, target: Target, to: SocketAddrV4, seen: Option<SocketAddrV4>) {
        let Some(listener) = self.listeners.get_mut(&target).filter(|listener| listener.is_serving()) else {
            return;
        };
        let Some(relay) = listener.relay_mut(to) else { return };
        let Some(seen) = seen else { return self.start_cycle(now, target) };
        if relay.info.peer_address == seen || std::mem::replace(&mut relay.renewing, true) {
            return;
        }
        // What it passes on goes to the old address. The others may see the new one too.
        let others: Vec<SocketAddrV4> = listener
            .relays
            .iter()
            .filter(|relay| !relay.renewing)
            .map(|relay| relay.info.relay_address)
            .collect();
        self.ask_token(now, target, to, false);
        others.into_iter().for_each(|other| self.ping_relay(now, target, other));
    }

    /// A node gave a token, or did not.
    fn token_given(
        &mut self,
        now: Instant,
        target: Target,
        to: SocketAddrV4,
        remove: bool,
        answer: Option<&Answer>,
    ) {
        let Some(listener) = self.listeners.get_mut(&target) else { return };
        let known = answer.and_then(|answer| Some((answer.id?, answer.token?, answer.value.is_some())));
        match known {
            _ if !remove && !listener.is_serving() => {}
            Some((node, token, _)) if !remove => {
                self.announce_at(now, target, node, token, to, RelayTask::Renew { to });
            }
            // It may have become a relay again meanwhile.
            Some((node, token, true)) if !listener.is_serving() || !listener.is_relay(to) => {
                let at = At { target, node, token };
                let value = announcement::unannounce(&listener.keys, &at);
                let (target, token, value) = (Some(target), Some(token), Some(value));
                let plain = Plain { target, token, value, ..Plain::new(to, Command::UNANNOUNCE) };
                self.relay_task(now, at.target, RelayTask::Remove, plain);
            }
            _ if remove => self.removal_ended(target, 1),
            _ => {
                if let Some(relay) = listener.relay_mut(to) {
                    relay.renewing = false;
                }
                self.start_cycle(now, target);
            }
        }
    }

    /// So many removals have ended.
    fn removal_ended(&mut self, target: Target, count: usize) {
        let Some(leaving) = self.listeners.get_mut(&target).and_then(|listener| listener.leaving.as_mut())
        else {
            return;
        };
        *leaving = leaving.saturating_sub(count);
        if *leaving == 0 {
            self.listeners.remove(&target);
            self.emit(Event::Unlistened(target));
        }
    }

    fn ping_relay(&mut self, now: Instant, target: Target, to: SocketAddrV4) {
        self.relay_task(now, target, RelayTask::Ping { to }, Plain::new(to, Command::PING));
    }

    fn ask_token(&mut self, now: Instant, target: Target, to: SocketAddrV4, remove: bool) {
        let plain = Plain { target: Some(target), ..Plain::new(to, Command::FIND_PEER) };
        self.relay_task(now, target, RelayTask::Token { to, remove }, plain);
    }

    fn announce_at(
        &mut self,
        now: Instant,
        target: Target,
        node: NodeId,
        token: [u8; 32],
        to: SocketAddrV4,
        task: RelayTask,
    ) {
        let Some(listener) = self.listeners.get(&target) else { return };
        let value = announcement::announce(&listener.keys, &At { target, node, token }, &[], 0);
        let (token, value) = (Some(token), Some(value));
        let plain = Plain { target: Some(target), token, value, ..Plain::new(to, Command::ANNOUNCE) };
        self.relay_task(now, target, task, plain);
    }

    fn relay_task(&mut self, now: Instant, target: Target, task: RelayTask, plain: Plain) {
        let request = self.node.request(now, plain);
        self.tasks.insert(request, Task::Listener(target, task));
    }
}
