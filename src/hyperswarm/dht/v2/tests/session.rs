//! The captured session of an original daemon, replayed with our node in each of its roles: the instance that joins,
//! the node it asks, the relay and the target of its holepunch.

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use serde_json::Value;

use super::*;
use crate::codec::v2::{Holepunch, decode_nodes};

fn capture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v2/dht_session.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("read vectors")).expect("parse vectors")
}

#[derive(Clone, Debug)]
struct Datagram {
    from: SocketAddrV4,
    to: SocketAddrV4,
    message: Message,
}

fn datagrams(part: &Value) -> Vec<Datagram> {
    let addr = |v: &Value| v.as_str().expect("a string").parse().expect("an address");
    let decode = |v: &Value| {
        let bytes = HEXLOWER.decode(v.as_str().expect("a string").as_bytes()).expect("hex");
        Message::decode(&bytes).expect("a message")
    };
    part.as_array()
        .expect("a list")
        .iter()
        .map(|v| Datagram { from: addr(&v["src"]), to: addr(&v["dst"]), message: decode(&v["hex"]) })
        .collect()
}

fn instance() -> SocketAddrV4 {
    "10.78.0.3:36489".parse().expect("an address")
}

fn bootstrap() -> SocketAddrV4 {
    "10.78.0.1:49737".parse().expect("an address")
}

fn other_daemon() -> SocketAddrV4 {
    "10.78.0.2:38163".parse().expect("an address")
}

/// What the instance of the capture sent, of one kind and command.
fn captured(session: &[Datagram], kind: Kind, command: &str) -> Vec<Datagram> {
    let wanted = |d: &&Datagram| {
        d.from == instance() && d.message.kind == kind && d.message.command.as_deref() == Some(command)
    };
    session.iter().filter(wanted).cloned().collect()
}

/// The answer of the capture to a request of the same kind to the same node.
fn captured_answer(session: &[Datagram], request: &Datagram, topic: [u8; 32]) -> Option<Datagram> {
    let alike = |d: &&Datagram| {
        d.from == instance()
            && d.to == request.to
            && d.message.kind == request.message.kind
            && d.message.command == request.message.command
            && (d.message.target == Some(topic)) == (request.message.target == Some(topic))
    };
    let asked = session.iter().find(alike)?;
    let answers =
        |d: &&Datagram| d.to == instance() && d.from == asked.to && d.message.rid == asked.message.rid;
    session.iter().find(answers).cloned()
}

/// The instance of the capture, played by our node; the others answer as captured.
struct Replay {
    node: Node,
    now: Instant,
    session: Vec<Datagram>,
    topic: [u8; 32],
    sent: Vec<Datagram>,
}

impl Replay {
    fn new() -> Self {
        let session = datagrams(&capture()["datagrams"]);
        let topic = session[0].message.target.expect("the topic");
        let named = Bootstrap { addr: bootstrap(), named: true };
        let config = Config { bootstrap: vec![named; 3], ephemeral: Ephemeral::Adaptive };
        let now = Instant::now();
        Self { node: Node::new(now, config, seed(1)), now, session, topic, sent: Vec::new() }
    }

    /// Exchanges datagrams until nothing more is sent.
    fn exchange(&mut self) {
        while let Some(transmit) = self.node.poll_transmit() {
            let message = Message::decode(&transmit.payload).expect("our own message");
            let request = Datagram { from: instance(), to: transmit.to, message };
            self.sent.push(request.clone());
            // The capture of leaving has no answers; those to looking for our id name the same nodes.
            let topic =
                if request.message.command.as_deref() == Some("_find_node") { [0; 32] } else { self.topic };
            if let Some(mut answer) = captured_answer(&self.session, &request, topic) {
                answer.message.rid = request.message.rid;
                self.now += Duration::from_millis(1);
                self.node.handle_datagram(self.now, answer.from, &answer.message.encode());
            }
        }
    }
}

/// Destination and bytes, without the request id.
fn shapes(datagrams: &[Datagram]) -> Vec<(SocketAddrV4, Bytes)> {
    datagrams.iter().map(|d| (d.to, Message { rid: 0, ..d.message.clone() }.encode())).collect()
}

#[test]
fn joining_sends_what_the_original_sends() {
    let mut replay = Replay::new();
    let query = replay.node.announce(replay.now, Topic(replay.topic), 0);
    replay.exchange();
    // Lookups: the same datagrams, the three to the bootstrap names (without `to`) first.
    let ours = shapes(&captured(&replay.sent, Kind::Query, "peers"));
    let theirs = shapes(&captured(&replay.session, Kind::Query, "peers"));
    assert_eq!(ours[..3], theirs[..3]);
    assert_eq!(BTreeSet::from_iter(&ours), BTreeSet::from_iter(&theirs));
    assert_eq!(ours.len(), theirs.len());
    // Announcements: the same datagrams with each node's token, in the same order.
    let ours = shapes(&captured(&replay.sent, Kind::Update, "peers"));
    assert_eq!(ours, shapes(&captured(&replay.session, Kind::Update, "peers")));
    assert_eq!(ours.len(), 9);
    // Looking for our own id: the same destinations.
    let to = |list: &[Datagram]| list.iter().map(|d| d.to).collect::<BTreeSet<_>>();
    let ours = captured(&replay.sent, Kind::Query, "_find_node");
    assert_eq!(to(&ours), to(&captured(&replay.session, Kind::Query, "_find_node")));
    // What was found.
    let events: Vec<Event> = std::iter::from_fn(|| replay.node.poll_event()).collect();
    let peers: Vec<&Peer> =
        events.iter().filter_map(|e| if let Event::Peer(_, peer) = e { Some(peer) } else { None }).collect();
    let referrers: BTreeSet<SocketAddrV4> = peers.iter().map(|p| p.referrer).collect();
    assert_eq!(referrers, to(&captured(&replay.session, Kind::Query, "peers")));
    assert!(peers.iter().all(|p| p.addr == other_daemon() && p.to == Some(instance())));
    let done = Outcome { answered: 12, updated: 9, failed: false };
    assert!(events.iter().any(|e| matches!(e, Event::Done(id, outcome) if *id == query && *outcome == done)));
    assert!(events.iter().any(|e| matches!(e, Event::Ready)));
    assert_eq!(replay.node.own_address(), Some(instance()));
}

#[test]
fn after_40_s_the_five_longest_silent_nodes_are_pinged_as_captured() {
    let mut replay = Replay::new();
    replay.node.announce(replay.now, Topic(replay.topic), 0);
    replay.exchange();
    let joined = replay.sent.len();
    while let Some(at) = replay.node.poll_timeout() {
        replay.now = at;
        replay.node.handle_timeout(at);
        if replay.node.poll_transmit().map(|t| replay.sent.push(datagram(&t))).is_some() {
            break;
        }
    }
    replay.exchange();
    let pings = &replay.sent[joined..];
    assert_eq!(pings.len(), 5);
    let captured = captured(&replay.session, Kind::Query, "_ping");
    let known: BTreeSet<_> = shapes(&captured).into_iter().collect();
    let alike = shapes(pings).iter().filter(|shape| known.contains(*shape)).count();
    assert!(alike >= 3, "of five pings {alike} went to nodes the original pinged");
    assert!(pings.iter().all(|d| d.message.value.as_ref().is_some_and(|v| v.len() == 32)));
}

fn datagram(transmit: &Transmit) -> Datagram {
    let message = Message::decode(&transmit.payload).expect("our own message");
    Datagram { from: instance(), to: transmit.to, message }
}

#[test]
fn leaving_sends_what_the_original_sends() {
    let mut replay = Replay::new();
    replay.node.announce(replay.now, Topic(replay.topic), 0);
    replay.exchange();
    replay.sent.clear();
    replay.node.unannounce(replay.now, Topic(replay.topic), 0);
    replay.exchange();
    let leaving = datagrams(&capture()["unannounce_on_leave"]);
    let walk = shapes(&captured(&replay.sent, Kind::Query, "_find_node"));
    for shape in shapes(&captured(&leaving, Kind::Query, "_find_node")) {
        assert!(walk.contains(&shape));
    }
    let ours = shapes(&captured(&replay.sent, Kind::Update, "peers"));
    let theirs = shapes(&captured(&leaving, Kind::Update, "peers"));
    assert_eq!(ours[..theirs.len()], theirs, "the capture shows the first four of nine");
    assert_eq!(ours.len(), 9);
}

/// Our node with the id and the table of the captured bootstrap node.
fn as_bootstrap() -> (Node, Instant, Vec<Datagram>) {
    let session = datagrams(&capture()["datagrams"]);
    let now = Instant::now();
    let mut node = Node::new(now, config(&[], Ephemeral::Never), seed(1));
    let answer = session.iter().find(|d| d.from == bootstrap()).expect("an answer").message.clone();
    node.id = NodeId(answer.id.expect("an id"));
    node.table = Table::new(node.id);
    for known in decode_nodes(&answer.closer_nodes.expect("nodes")) {
        node.table.heard(NodeId(known.id), known.addr, None, 0, true);
    }
    (node, now, session)
}

#[test]
fn our_node_in_the_place_of_the_bootstrap_answers_byte_for_byte() {
    let (mut node, now, session) = as_bootstrap();
    // The other daemon had announced before.
    let topic = session[0].message.target;
    let value = session[0].message.value.clone();
    let token = Some(node.tokens.create(now, *other_daemon().ip(), &mut node.rng));
    let announced = Message {
        token,
        target: topic,
        value,
        command: Some("peers".into()),
        ..Message::new(Kind::Update, 1)
    };
    node.handle_datagram(now, other_daemon(), &announced.encode());
    node.poll_transmit().expect("an answer");
    let mut compared = 0;
    for request in session.iter().filter(|d| d.to == bootstrap() && d.from == instance()) {
        let answers = |d: &&Datagram| {
            d.from == bootstrap() && d.to == instance() && d.message.rid == request.message.rid
        };
        let Some(answer) = session.iter().find(answers) else { continue };
        let token = node.tokens.create(now, *instance().ip(), &mut node.rng);
        let bytes = Message { token: request.message.token.map(|_| token), ..request.message.clone() };
        node.handle_datagram(now, instance(), &bytes.encode());
        let ours = node.poll_transmit().expect("an answer");
        assert_eq!(ours.to, instance());
        let expected = Message { token: Some(token), ..answer.message.clone() };
        assert_eq!(Message::decode(&ours.payload), Ok(expected.clone()), "{request:?}");
        assert_eq!(ours.payload, expected.encode());
        compared += 1;
    }
    assert_eq!(compared, 10);
}

#[test]
fn a_holepunch_is_asked_for_as_captured() {
    let mut replay = Replay::new();
    replay.exchange();
    replay.sent.clear();
    let query = replay.node.holepunch(replay.now, other_daemon(), bootstrap());
    replay.exchange();
    let ours = shapes(&replay.sent);
    assert_eq!(ours, shapes(&captured(&replay.session, Kind::Query, "_holepunch")));
    assert_eq!(replay.sent[0].message.rid, replay.sent[1].message.rid);
    let reached = std::iter::from_fn(|| replay.node.poll_event())
        .any(|e| matches!(e, Event::Reached(id, Ok(_)) if id == query));
    assert!(reached, "the captured answer of the target counts");
}

#[test]
fn our_node_in_the_place_of_the_referrer_relays_byte_for_byte() {
    let (mut node, now, _) = as_bootstrap();
    let seen = datagrams(&capture()["holepunch_seen_at_referrer"]);
    for pair in seen.chunks(2) {
        node.handle_datagram(now, pair[0].from, &pair[0].message.encode());
        let relayed = node.poll_transmit().expect("a relayed datagram");
        assert_eq!((relayed.to, relayed.payload), (pair[1].to, pair[1].message.encode()));
        assert!(node.poll_transmit().is_none(), "the asker gets no answer");
    }
}

#[test]
fn our_node_in_the_place_of_the_target_answers_the_asker_byte_for_byte() {
    let seen = datagrams(&capture()["holepunch_seen_at_target"]);
    let now = Instant::now();
    let mut node = Node::new(now, config(&[], Ephemeral::Adaptive), seed(1));
    for [direct, relayed, answer] in seen.as_chunks::<3>().0 {
        node.handle_datagram(now, direct.from, &direct.message.encode());
        assert!(node.poll_transmit().is_none(), "the direct one is not answered");
        node.handle_datagram(now, relayed.from, &relayed.message.encode());
        let ours = node.poll_transmit().expect("an answer");
        let token = node.tokens.create(now, *answer.to.ip(), &mut node.rng);
        let expected = Message { token: Some(token), ..answer.message.clone() };
        assert_eq!((ours.to, ours.payload), (answer.to, expected.encode()));
    }
}

#[test]
fn holepunches_to_impossible_addresses_go_nowhere() {
    let (mut node, now, _) = as_bootstrap();
    for text in ["224.0.0.251:5353", "255.255.255.255:9", "127.0.0.1:22", "0.0.0.0:9", "10.78.0.3:36489"] {
        let to = Some(text.parse().expect("an address"));
        let value = Holepunch { from: None, to }.encode();
        let message = Message {
            value: Some(value),
            command: Some("_holepunch".into()),
            ..Message::new(Kind::Query, 1)
        };
        node.handle_datagram(now, instance(), &message.encode());
        assert_eq!(node.poll_transmit(), None, "relay to {text}");
        if text.starts_with("10.") {
            continue;
        }
        let value = Holepunch { from: to, to: None }.encode();
        node.handle_datagram(now, instance(), &Message { value: Some(value), ..message }.encode());
        assert_eq!(node.poll_transmit(), None, "answer to {text}");
    }
}

#[test]
fn one_host_may_cause_96_holepunches_at_once() {
    let (mut node, now, _) = as_bootstrap();
    let mut relayed = 0;
    for n in 0..=crate::limits::v2::HOLEPUNCH_BURST {
        let value = Holepunch { from: None, to: Some(addr(n as usize)) }.encode();
        let message = Message {
            value: Some(value),
            command: Some("_holepunch".into()),
            ..Message::new(Kind::Query, 1)
        };
        node.handle_datagram(now, instance(), &message.encode());
        relayed += u32::from(node.poll_transmit().is_some());
    }
    assert_eq!(relayed, crate::limits::v2::HOLEPUNCH_BURST);
}
