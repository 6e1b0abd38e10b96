//! Queries of our own and the answers to them.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::operation::{HOLEPUNCH, Operation, PING, What};
use super::{Event, Node, Outcome, Purpose, QueryId, Unreachable, may_name};
use crate::codec::v2::{Kind, Message, decode_nodes};
use crate::dht::id::NodeId;
use crate::dht::query::{Ask, Query, Reply, Rules as QueryRules};
use crate::dht::rpc::{Outgoing, Pacing, Rules, Waits};
use crate::limits::{MAX_BUCKET_NODES, MAX_QUERIES};

/// A request is resent at the 3rd and the 6th tick of the grid after it was sent and fails at the 10th.
const WAITS: Waits = Waits { tries: 3, resend: GRID.saturating_mul(3), fail: GRID.saturating_mul(4) };
const GRID: Duration = Duration::from_millis(750);
/// Requests in flight at which pacing begins, if the rate is high too.
const CONCURRENCY: usize = 16;
/// Requests per second at which pacing begins, if many are in flight too.
const RATE: f64 = 50.0;
/// What the original counts in a walk.
const WALK: QueryRules = QueryRules { needs_token: true, counts_refusals: true, leaves_late: false };
/// Requests of a bootstrap in flight while other queries run.
const BACKGROUND_CONCURRENCY: usize = 2;

/// How requests are sent (dht-rpc 4.9 `lib/io.js`).
pub(super) fn rules(now: Instant) -> Rules {
    Rules { grid: GRID, pacing: Pacing::rate(now, CONCURRENCY, RATE) }
}

impl Node {
    /// Starts a query of the owner.
    pub(super) fn start(&mut self, now: Instant, target: [u8; 32], what: What) -> QueryId {
        let id = self.fresh_query_id();
        if self.operations.len() >= MAX_QUERIES {
            self.emit(Event::Done(id, Outcome { answered: 0, updated: 0, failed: true }));
        } else {
            self.start_operation(now, id, target, what);
            self.run(now);
        }
        id
    }

    /// Walks to our own id, to learn who is near us. Once at a time.
    pub(super) fn start_bootstrap(&mut self, now: Instant) {
        if self.bootstrap.is_empty() {
            self.bootstrapped(now);
        } else if !self.operations.values().any(|o| matches!(o.what, What::Bootstrap)) {
            let id = self.fresh_query_id();
            self.start_operation(now, id, self.id.0, What::Bootstrap);
        }
    }

    /// Pings a node, or holepunches to it with the help of a referrer.
    pub(super) fn reach(
        &mut self,
        now: Instant,
        node: SocketAddrV4,
        referrer: Option<SocketAddrV4>,
    ) -> QueryId {
        let query = self.fresh_query_id();
        let command = if referrer.is_some() { HOLEPUNCH } else { PING };
        let message =
            Message { to: Some(node), command: Some(command.to_owned()), ..self.message(Kind::Query, 0) };
        let plain = Outgoing::new(node, WAITS, Purpose::Reach { query });
        let outgoing = Outgoing { referrer, punching: referrer.is_some(), ..plain };
        self.request(now, outgoing, message);
        self.run(now);
        query
    }

    /// Pings a node of the table; it answers only if it still has this id.
    pub(super) fn ping_known(&mut self, now: Instant, id: NodeId, addr: SocketAddrV4, context: Purpose) {
        let message = Message {
            to: Some(addr),
            command: Some(PING.to_owned()),
            value: Some(Bytes::copy_from_slice(&id.0)),
            ..self.message(Kind::Query, 0)
        };
        let immediate = matches!(context, Purpose::MakeRoom { .. });
        let outgoing = Outgoing { immediate, ..Outgoing::new(addr, WAITS, context) };
        self.request(now, outgoing, message);
    }

    /// An answer arrived (dht-rpc `onresponse`). One that no request of ours explains changes nothing.
    pub(super) fn handle_response(&mut self, now: Instant, from: SocketAddrV4, message: Message) {
        let Some(answered) = self.requests.answer(now, message.rid, from) else { return };
        self.guard.validated(now, *from.ip());
        if let Some(id) = message.id {
            self.heard(now, NodeId(id), from, message.to, true);
        }
        match answered.context {
            Purpose::Query { query, node, update } => {
                self.forget_changed(node, from, &message);
                self.query_answered(now, query, update, from, &message);
            }
            Purpose::Check { node } => self.forget_changed(Some(node), from, &message),
            Purpose::MakeRoom { ping, node } => {
                self.forget_changed(Some(node), from, &message);
                self.make_room_answered(now, ping);
            }
            Purpose::Reach { query } => self.emit(Event::Reached(query, Ok(answered.elapsed))),
        }
    }

    /// A request got no answer, which the node pays for; or could not be made, for which it does not.
    pub(super) fn request_failed(&mut self, now: Instant, to: SocketAddrV4, sent: bool, context: Purpose) {
        let asked = match &context {
            Purpose::Query { node, .. } => *node,
            Purpose::Check { node } | Purpose::MakeRoom { node, .. } => Some(*node),
            Purpose::Reach { .. } => None,
        };
        if let Some(node) = asked.filter(|_| sent) {
            self.table.remove_at(&node, to);
        }
        match context {
            Purpose::Query { query, .. } => {
                if let Some(operation) = self.operations.get_mut(&query) {
                    operation.query.failed(to);
                }
                self.drive(now, query);
            }
            Purpose::Check { .. } => {}
            Purpose::MakeRoom { ping, .. } => self.make_room_failed(now, ping, sent),
            Purpose::Reach { query } => self.emit(Event::Reached(query, Err(Unreachable))),
        }
    }

    /// A request was sent again: its query may go on without its host.
    pub(super) fn request_late(&mut self, now: Instant, to: SocketAddrV4, context: Purpose) {
        let Purpose::Query { query, .. } = context else { return };
        if let Some(operation) = self.operations.get_mut(&query) {
            operation.query.late(to);
            self.drive(now, query);
        }
    }

    /// Puts the request into flight.
    pub(super) fn request(&mut self, now: Instant, outgoing: Outgoing<Purpose>, message: Message) {
        self.requests.start(now, outgoing, |rid| Message { rid, ..message }.encode());
    }

    fn fresh_query_id(&mut self) -> QueryId {
        self.next_query += 1;
        QueryId(self.next_query)
    }

    fn start_operation(&mut self, now: Instant, id: QueryId, target: [u8; 32], what: What) {
        let mut query = Query::new(self.id, target, what.wants_update(), WALK);
        let known = self.table.closest(&target, MAX_BUCKET_NODES);
        for contact in &known {
            query.add_candidate(contact.id, contact.addr, None);
        }
        // Strangers choose their ids, and so who is closest to a topic. They do not choose our bootstrap nodes: daemons
        // that share one meet there.
        let is_new = known.len() < self.bootstrap.len();
        let ask_bootstrap = is_new || what.is_about_a_topic();
        self.operations.insert(id, Operation { query, what, superseded: false });
        if ask_bootstrap {
            self.ask_bootstrap(now, id, is_new);
        }
        self.drive(now, id);
    }

    /// Asks all bootstrap addresses, whatever else the query does. While we are new in the network, the walk may ask them
    /// again and each address is asked as often as it is configured, as the original does.
    fn ask_bootstrap(&mut self, now: Instant, id: QueryId, is_new: bool) {
        let mut asked = BTreeSet::new();
        for bootstrap in self.bootstrap.clone() {
            if !asked.insert(bootstrap.addr) && !is_new {
                continue;
            }
            let Some(operation) = self.operations.get_mut(&id) else { return };
            operation.query.forced(bootstrap.addr, !is_new);
            let (command, value) = operation.what.request(false);
            let message = Message {
                to: (!bootstrap.named).then_some(bootstrap.addr),
                target: Some(*operation.query.target()),
                command: Some(command.to_owned()),
                value,
                ..self.message(Kind::Query, 0)
            };
            let context = Purpose::Query { query: id, node: None, update: false };
            let outgoing = Outgoing::new(bootstrap.addr, WAITS, context);
            self.request(now, outgoing, message);
        }
    }

    /// Lets a query make the requests it wants; ends it when it has ended.
    fn drive(&mut self, now: Instant, id: QueryId) {
        let alone = self.operations.len() == 1;
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let background = matches!(operation.what, What::Bootstrap) && !alone;
        let concurrency = if background { BACKGROUND_CONCURRENCY } else { CONCURRENCY };
        let asks = operation.query.next(concurrency.saturating_sub(self.requests.expected()));
        for ask in asks {
            self.ask(now, id, ask);
        }
        if self.operations.get(&id).is_some_and(|o| o.query.is_finished())
            && let Some(operation) = self.operations.remove(&id)
        {
            self.finish(now, id, &operation);
        }
    }

    fn ask(&mut self, now: Instant, id: QueryId, ask: Ask) {
        let Some(operation) = self.operations.get(&id) else { return };
        let (command, value) = operation.what.request(ask.update);
        let kind = if ask.update { Kind::Update } else { Kind::Query };
        let candidate = ask.candidate;
        let node = (!candidate.trusted).then_some(candidate.id);
        let message = Message {
            to: Some(candidate.addr),
            target: Some(*operation.query.target()),
            token: candidate.token.filter(|_| ask.update),
            command: Some(command.to_owned()),
            value,
            ..self.message(kind, 0)
        };
        let context = Purpose::Query { query: id, node, update: ask.update };
        let plain = Outgoing::new(candidate.addr, WAITS, context);
        let outgoing = Outgoing { referrer: candidate.referrer, punched: candidate.asked_before, ..plain };
        self.request(now, outgoing, message);
    }

    fn query_answered(
        &mut self,
        now: Instant,
        id: QueryId,
        update: bool,
        from: SocketAddrV4,
        message: &Message,
    ) {
        let own = self.own_address();
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let reply = Reply {
            from,
            id: message.id.map(NodeId),
            token: message.token,
            refused: message.error.is_some(),
        };
        if operation.query.answered(reply, update) {
            let nodes = message.closer_nodes.as_deref().map(decode_nodes).unwrap_or_default();
            // A node that names us under another id would have us ask ourselves.
            let is_own = |addr| Some(addr) == message.to || Some(addr) == own;
            let bootstrap = &self.bootstrap;
            let usable = |addr| may_name(bootstrap, from, addr) && !is_own(addr);
            for node in nodes.into_iter().take(MAX_BUCKET_NODES).filter(|n| usable(n.addr)) {
                operation.query.add_candidate(NodeId(node.id), node.addr, Some(from));
            }
        }
        for event in operation.read(id, from, message, update, own) {
            self.emit(event);
        }
        self.drive(now, id);
    }

    /// The node at this address has another id than we thought (dht-rpc `onbadid`).
    fn forget_changed(&mut self, expected: Option<NodeId>, from: SocketAddrV4, message: &Message) {
        if let Some(expected) = expected
            && message.id != Some(expected.0)
        {
            self.table.remove_at(&expected, from);
        }
    }

    fn finish(&mut self, now: Instant, id: QueryId, operation: &Operation) {
        if matches!(operation.what, What::Bootstrap) {
            self.bootstrapped(now);
            return;
        }
        let counts = operation.query.counts();
        self.emit(Event::Done(
            id,
            Outcome {
                answered: counts.answered - counts.update_answers,
                updated: counts.updated,
                failed: operation.query.has_failed() || operation.superseded,
            },
        ));
    }
}
