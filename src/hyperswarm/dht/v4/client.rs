//! Requests and queries of our own, and the answers to them.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Answer, Closest, Event, Node, Outcome, QueryId, RequestId, proven_id};
use crate::codec::v4::{Command, ErrorCode, Reply, Request};
use crate::crypto::v4::node_id;
use crate::dht::guard::{can_be_meant, is_sane};
use crate::dht::id::NodeId;
use crate::dht::query::{self, Ask, Query, Rules as QueryRules};
use crate::dht::rpc::{Outgoing, Pacing, Rules, Via, Waits};
use crate::dht::table::Tick;
use crate::limits::{MAX_BUCKET_NODES, MAX_QUERIES, v4::REQUEST_WINDOW};

/// From each datagram of a request to the next, or to failure.
const SECOND: Duration = Duration::from_secs(1);
/// Waits of a request to one node.
pub(super) const PLAIN: Waits = Waits { tries: 4, resend: SECOND, fail: SECOND };
/// Waits of a query's requests.
const PATIENT: Waits = Waits { tries: 6, resend: SECOND, fail: SECOND };
/// Requests in flight of one query, those sent again left out.
const CONCURRENCY: usize = 10;
/// The same for a query in the background while others run, which are so many requests in flight at least.
const BACKGROUND_CONCURRENCY: usize = 2;
const BUSY: usize = 3;
const WALK: QueryRules = QueryRules { needs_token: false, counts_refusals: false, leaves_late: true };

/// How requests are sent (dht-rpc `lib/io.js`).
pub(super) fn rules(now: Instant) -> Rules {
    Rules { grid: Duration::ZERO, pacing: Pacing::window(now, REQUEST_WINDOW) }
}

/// What a request is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Query {
        query: QueryId,
        node: Option<NodeId>,
        referrer: Option<SocketAddrV4>,
    },
    Owner(RequestId),
    /// Does this node of the table live, and is it still the same?
    Check {
        node: NodeId,
    },
    /// The same, for a newcomer who takes its place if not.
    Swap {
        node: NodeId,
        newcomer: SocketAddrV4,
    },
    /// Does this newcomer live, for whom another has to give way?
    Prove,
    /// Can this node reach our server's socket? The first one, or those of a check.
    QuickNat,
    Nat,
    Hint,
}

/// A running query.
pub(super) struct Operation {
    query: Query,
    what: What,
}

/// What a query is for.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// To enter the network.
    Enter,
    /// To keep the table fresh.
    Refresh,
    Owner {
        command: Command,
        value: Option<Bytes>,
    },
}

/// A request of the owner to one node.
#[derive(Clone, Debug)]
pub struct Plain {
    /// Whom to ask.
    pub to: SocketAddrV4,
    /// The socket that asks; None: the one that asks at present.
    pub via: Option<Via>,
    /// What for.
    pub command: Command,
    /// About what.
    pub target: Option<[u8; 32]>,
    /// From an earlier answer.
    pub token: Option<[u8; 32]>,
    /// Depends on the command.
    pub value: Option<Bytes>,
    /// Datagrams at most, a second apart.
    pub tries: u8,
}

impl Plain {
    /// A request without anything that is optional, sent four times at most.
    pub fn new(to: SocketAddrV4, command: Command) -> Self {
        Self { to, via: None, command, target: None, token: None, value: None, tries: PLAIN.tries }
    }
}

impl Node {
    /// Walks towards `target` with a command: [`Event::Answer`] for each node that answers without an error, then
    /// [`Event::Done`] (dht-rpc `query`, `findNode`).
    pub fn query(
        &mut self,
        now: Instant,
        target: [u8; 32],
        command: Command,
        value: Option<Bytes>,
    ) -> QueryId {
        self.query_from(now, target, command, value, &[])
    }

    /// The same walk, which starts from these nodes too.
    pub fn query_from(
        &mut self,
        now: Instant,
        target: [u8; 32],
        command: Command,
        value: Option<Bytes>,
        nodes: &[SocketAddrV4],
    ) -> QueryId {
        self.upkeep.put_refresh_off();
        let id = QueryId(self.fresh_id());
        if self.operations.len() >= MAX_QUERIES {
            self.emit(Event::Done(id, Outcome { answered: 0, closest: Vec::new() }));
        } else {
            self.start_from(now, id, target, What::Owner { command, value }, nodes);
            self.run(now);
        }
        id
    }

    /// Ends a query in silence, and its requests.
    pub fn cancel(&mut self, now: Instant, query: QueryId) {
        if self.operations.remove(&query).is_some() {
            self.requests
                .cancel(now, |purpose| matches!(purpose, Purpose::Query { query: of, .. } if *of == query));
            self.run(now);
        }
    }

    /// Asks one node: [`Event::Answered`] or [`Event::Unanswered`] (dht-rpc `request`, `ping`).
    pub fn request(&mut self, now: Instant, plain: Plain) -> RequestId {
        let id = RequestId(self.fresh_id());
        let waits = Waits { tries: plain.tries.max(1), ..PLAIN };
        let via = plain.via.unwrap_or_else(|| self.reach.asking());
        let outgoing = Outgoing { via, ..Outgoing::new(plain.to, waits, Purpose::Owner(id)) };
        let shape = Shape { command: plain.command, target: plain.target, token: plain.token };
        self.send(now, outgoing, shape, plain.value.as_deref());
        self.run(now);
        id
    }

    /// Ends a request in silence. It may have arrived.
    pub fn forget(&mut self, now: Instant, request: RequestId) {
        self.requests.cancel(now, |purpose| matches!(purpose, Purpose::Owner(of) if *of == request));
        self.run(now);
    }

    pub(super) fn start(&mut self, now: Instant, id: QueryId, target: [u8; 32], what: What) {
        self.start_from(now, id, target, what, &[]);
    }

    fn start_from(
        &mut self,
        now: Instant,
        id: QueryId,
        target: [u8; 32],
        what: What,
        nodes: &[SocketAddrV4],
    ) {
        let mut query = Query::new(self.table.own(), target, false, WALK);
        let known = self.table.closest(&target, MAX_BUCKET_NODES);
        known.iter().for_each(|contact| query.add_candidate(contact.id, contact.addr, None));
        nodes.iter().for_each(|addr| query.add_candidate(NodeId(node_id(*addr)), *addr, None));
        let few = known.len() < MAX_BUCKET_NODES;
        self.operations.insert(id, Box::new(Operation { query, what }));
        if few {
            for addr in self.bootstrap.clone() {
                self.ask_bootstrap(now, id, addr);
            }
        }
        self.drive(now, id);
    }

    /// Asks a bootstrap node, whatever else the query does.
    fn ask_bootstrap(&mut self, now: Instant, id: QueryId, addr: SocketAddrV4) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        operation.query.forced(addr, true);
        self.ask(now, id, addr, None, None);
    }

    /// Lets a query make the requests that it wants; ends it when it has ended.
    fn drive(&mut self, now: Instant, id: QueryId) {
        let busy = self.requests.in_flight() >= BUSY;
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let background = busy && !matches!(operation.what, What::Owner { .. });
        let concurrency = if background { BACKGROUND_CONCURRENCY } else { CONCURRENCY };
        let (in_flight, late) = operation.query.in_flight();
        let asks = operation.query.next((concurrency + late).saturating_sub(in_flight));
        for Ask { candidate, .. } in asks {
            self.ask(now, id, candidate.addr, Some(candidate.id), candidate.referrer);
        }
        if self.operations.get(&id).is_some_and(|operation| operation.query.is_finished())
            && let Some(operation) = self.operations.remove(&id)
        {
            self.finish(now, id, &operation);
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        id: QueryId,
        to: SocketAddrV4,
        node: Option<NodeId>,
        referrer: Option<SocketAddrV4>,
    ) {
        let Some(operation) = self.operations.get(&id) else { return };
        let (command, value) = match &operation.what {
            What::Enter | What::Refresh => (Command::FIND_NODE, None),
            What::Owner { command, value } => (*command, value.clone()),
        };
        let shape = Shape { command, target: Some(*operation.query.target()), token: None };
        let plain = Outgoing::new(to, PATIENT, Purpose::Query { query: id, node, referrer });
        let outgoing = Outgoing { via: self.reach.asking(), ..plain };
        self.send(now, outgoing, shape, value.as_deref());
    }

    /// Pings a node for a purpose of our own.
    pub(super) fn ping(&mut self, now: Instant, to: SocketAddrV4, purpose: Purpose) {
        let shape = Shape { command: Command::PING, target: None, token: None };
        let outgoing = Outgoing { via: self.reach.asking(), ..Outgoing::new(to, PLAIN, purpose) };
        self.send(now, outgoing, shape, None);
    }

    pub(super) fn send_value(
        &mut self,
        now: Instant,
        to: SocketAddrV4,
        command: Command,
        value: &[u8],
        purpose: Purpose,
    ) {
        let shape = Shape { command, target: None, token: None };
        let outgoing = Outgoing { via: self.reach.asking(), ..Outgoing::new(to, PLAIN, purpose) };
        self.send(now, outgoing, shape, Some(value));
    }

    fn send(&mut self, now: Instant, outgoing: Outgoing<Purpose>, shape: Shape, value: Option<&[u8]>) {
        let (to, id) = (outgoing.to, self.shown_id(outgoing.via));
        let Shape { command, target, token } = shape;
        let writer = &mut self.writer;
        self.requests.start(now, outgoing, |tid| {
            writer.clear();
            Request { id, token, target, value, ..Request::new(tid, to, command) }.encode(writer);
            Bytes::copy_from_slice(writer.as_slice())
        });
    }

    /// A reply arrived. One that no request of ours explains changes nothing.
    pub(super) fn handle_reply(&mut self, now: Instant, via: Via, from: SocketAddrV4, reply: Reply<'_>) {
        let Some(answered) = self.requests.answer(now, reply.tid, from) else { return };
        self.upkeep.answers += 1;
        self.guard.validated(now, *from.ip());
        let id = proven_id(reply.id, from);
        let sample = via == self.reach.asking();
        if sample {
            self.reach.answered(now, from, reply.to);
        }
        self.heard_answer(now, from, id, reply.to, sample);
        let answer = || Answer {
            from,
            id,
            to: reply.to,
            token: reply.token,
            error: reply.error,
            value: reply.value.map(Bytes::copy_from_slice),
            elapsed: answered.elapsed,
        };
        match answered.context {
            Purpose::Query { query, .. } => {
                let answer = answer();
                self.query_answered(now, query, answer, &reply);
            }
            Purpose::Owner(request) => self.emit(Event::Answered(request, answer())),
            Purpose::Check { node } => self.checked(node, id),
            Purpose::Swap { node, newcomer } => self.swap_answered(now, node, id, newcomer),
            Purpose::Prove => self.prove_ended(),
            Purpose::QuickNat => self.reach.quick_check_passed(),
            Purpose::Nat => self.nat_answered(now, from, reply.to),
            Purpose::Hint => {}
        }
    }

    fn query_answered(&mut self, now: Instant, id: QueryId, answer: Answer, reply: &Reply<'_>) {
        let Some(operation) = self.operations.get_mut(&id) else { return };
        let (from, refused) = (answer.from, answer.error != ErrorCode::NONE);
        let said = query::Reply { from, id: answer.id, token: answer.token, refused };
        operation.query.answered(said, false);
        let is_owners = matches!(operation.what, What::Owner { .. });
        for addr in reply.closer_nodes {
            let may_be = is_sane(addr, *from.ip()) && can_be_meant(*addr.ip(), *from.ip());
            if may_be || self.bootstrap.contains(&from) && is_sane(addr, *from.ip()) {
                operation.query.add_candidate(NodeId(node_id(addr)), addr, Some(from));
            }
        }
        if matches!(operation.what, What::Enter) && self.reach.wants_quick_check() {
            self.quick_check(now, from);
        }
        if is_owners && !refused {
            self.emit(Event::Answer(id, answer));
        }
        self.drive(now, id);
    }

    /// A request got no answer, or could not be made, of which nobody is guilty.
    pub(super) fn request_failed(&mut self, now: Instant, to: SocketAddrV4, sent: bool, purpose: Purpose) {
        self.upkeep.timeouts += u64::from(sent);
        match purpose {
            Purpose::Query { query, node, referrer } => {
                if sent {
                    node.into_iter().for_each(|node| self.table.remove_at(&node, to));
                    referrer.into_iter().for_each(|referrer| self.hint(now, referrer, to));
                }
                if let Some(operation) = self.operations.get_mut(&query) {
                    operation.query.failed(to);
                }
                self.drive(now, query);
            }
            Purpose::Owner(request) => self.emit(Event::Unanswered(request)),
            Purpose::Check { node } => self.check_failed(node, to, sent),
            Purpose::Swap { node, newcomer } => self.swap_failed(now, node, to, newcomer, sent),
            Purpose::Prove => self.prove_ended(),
            Purpose::Nat => self.nat_failed(now),
            Purpose::QuickNat | Purpose::Hint => {}
        }
    }

    /// The first datagram of a request brought no answer: its query asks others meanwhile.
    pub(super) fn request_late(&mut self, now: Instant, to: SocketAddrV4, purpose: Purpose) {
        if let Purpose::Query { query, .. } = purpose {
            if let Some(operation) = self.operations.get_mut(&query) {
                operation.query.late(to);
            }
            self.drive(now, query);
        }
    }

    /// Tells a node that one it named does not answer.
    fn hint(&mut self, now: Instant, referrer: SocketAddrV4, down: SocketAddrV4) {
        if self.upkeep.may_hint() {
            let value = crate::codec::v4::encode_down_hint(down);
            self.send_value(now, referrer, Command::DOWN_HINT, &value, Purpose::Hint);
        }
    }

    fn finish(&mut self, now: Instant, id: QueryId, operation: &Operation) {
        let closest = operation.query.closest().iter();
        let closest = closest.map(|node| Closest { id: node.id, addr: node.addr, token: node.token });
        match operation.what {
            What::Enter => self.entered(now),
            What::Refresh => {}
            What::Owner { .. } => {
                let counts = operation.query.counts();
                let answered = counts.answered - counts.refused;
                self.emit(Event::Done(id, Outcome { answered, closest: closest.collect() }));
            }
        }
        // Requests that were not waited for.
        self.requests.cancel(now, |purpose| matches!(purpose, Purpose::Query { query, .. } if *query == id));
    }

    /// True if a query to enter the network runs.
    pub(super) fn is_entering(&self) -> bool {
        self.operations.values().any(|operation| matches!(operation.what, What::Enter))
    }
}

/// What a request says besides its value.
struct Shape {
    command: Command,
    target: Option<[u8; 32]>,
    token: Option<[u8; 32]>,
}

/// The tick in which something is known to have been true.
pub(super) fn older(than: Tick, ticks: Tick, now: Tick) -> bool {
    now.saturating_sub(than) >= ticks
}
