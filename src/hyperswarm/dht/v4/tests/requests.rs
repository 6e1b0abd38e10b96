//! Single requests, rightly and wrongly made.

use super::client::Plain;
use super::*;
use crate::codec::v4::{Reply, Request, encode_down_hint, encode_nat_port, encode_ping_delay};

const STRANGER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(14, 0, 0, 1), 5000);

/// One persistent node at `addr(0)`.
fn alone() -> (Node, Instant) {
    let now = Instant::now();
    let config = Config { public: Some(addr(0)), ..config(&[], Persistence::Persistent) };
    (Node::new(now, config, seed(1)), now)
}

fn request<'a>(command: Command, value: Option<&'a [u8]>) -> Request<'a> {
    Request { value, ..Request::new(7, addr(0), command) }
}

/// What the node sends when this arrives on its server's socket.
fn answers(node: &mut Node, now: Instant, from: SocketAddrV4, request: &Request<'_>) -> Vec<Transmit> {
    let mut writer = Writer::new();
    request.encode(&mut writer);
    node.handle_datagram(now, SERVER, from, writer.as_slice());
    std::iter::from_fn(|| node.poll_transmit()).collect()
}

fn reply(transmit: &Transmit) -> Reply<'_> {
    match Packet::decode(&transmit.payload).expect("a packet") {
        Packet::Reply(reply) => reply,
        Packet::Request(request) => panic!("not a reply: {request:?}"),
    }
}

#[test]
fn a_ping_is_answered_with_our_id_and_nothing_else() {
    let (mut node, now) = alone();
    let sent = answers(&mut node, now, STRANGER, &request(Command::PING, None));
    let [transmit] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((transmit.to, transmit.via, transmit.payload.len()), (STRANGER, SERVER, 42));
    let expected = Reply { id: Some(node_id(addr(0))), ..Reply::new(7, STRANGER) };
    assert_eq!(reply(transmit), expected);
}

#[test]
fn what_leaves_from_another_socket_than_the_servers_has_no_id() {
    let (mut node, now) = alone();
    let mut writer = Writer::new();
    request(Command::PING, None).encode(&mut writer);
    node.handle_datagram(now, Via(9), STRANGER, writer.as_slice());
    let sent = node.poll_transmit().expect("an answer");
    assert_eq!((sent.via, reply(&sent).id), (Via(9), None));
}

#[test]
fn a_nat_ping_is_answered_to_the_other_port() {
    let (mut node, now) = alone();
    let sent = answers(&mut node, now, STRANGER, &request(Command::PING_NAT, Some(&encode_nat_port(6000))));
    let other = SocketAddrV4::new(*STRANGER.ip(), 6000);
    assert_eq!((sent[0].to, reply(&sent[0]).to), (other, other));
    assert!(answers(&mut node, now, STRANGER, &request(Command::PING_NAT, Some(&[0, 0]))).is_empty());
    assert!(answers(&mut node, now, STRANGER, &request(Command::PING_NAT, None)).is_empty());
}

#[test]
fn a_delayed_ping_is_answered_when_its_time_has_come() {
    let (mut node, now) = alone();
    let value = encode_ping_delay(Duration::from_millis(1500));
    assert!(answers(&mut node, now, STRANGER, &request(Command::DELAYED_PING, Some(&value))).is_empty());
    assert_eq!(node.poll_timeout(), Some(now + Duration::from_millis(1500)));
    node.handle_timeout(now + Duration::from_millis(1500));
    assert_eq!(node.poll_transmit().expect("an answer").to, STRANGER);
}

#[test]
fn delayed_pings_beyond_the_limit_are_not_answered() {
    use crate::limits::v4::MAX_DELAYED_PINGS;
    let (mut node, now) = alone();
    let value = encode_ping_delay(SECOND);
    for n in 0..=MAX_DELAYED_PINGS {
        let from = SocketAddrV4::new(Ipv4Addr::from(0x0e00_0000 + n as u32), 5000);
        answers(&mut node, now, from, &request(Command::DELAYED_PING, Some(&value)));
    }
    node.handle_timeout(now + SECOND);
    assert_eq!(std::iter::from_fn(|| node.poll_transmit()).count(), MAX_DELAYED_PINGS);
}

#[test]
fn an_unknown_command_of_dht_rpc_is_refused_and_one_of_hyperdht_is_the_owners() {
    let (mut node, now) = alone();
    let unknown = Command { internal: true, number: 99 };
    let sent = answers(&mut node, now, STRANGER, &request(unknown, None));
    assert_eq!(reply(&sent[0]).error, ErrorCode::UNKNOWN_COMMAND);
    assert!(answers(&mut node, now, STRANGER, &request(Command::LOOKUP, None)).is_empty());
    let lookup = std::iter::from_fn(|| node.poll_event()).find_map(|event| match event {
        Event::Request(incoming) => Some(incoming),
        _ => None,
    });
    let lookup = lookup.expect("handed on");
    node.respond(now, &lookup, &Response { token: true, ..Response::default() });
    let sent = node.poll_transmit().expect("an answer");
    let token = reply(&sent).token.expect("a token");
    let good = Request { token: Some(token), ..request(Command::ANNOUNCE, None) };
    assert!(answers(&mut node, now, STRANGER, &good).is_empty(), "the owner's");
    let late = answers(&mut node, now + 15 * SECOND, STRANGER, &good);
    assert_eq!(reply(&late[0]).error, ErrorCode::INVALID_TOKEN);
    assert!(reply(&late[0]).token.is_some(), "a fresh one");
}

#[test]
fn one_hint_about_a_living_node_does_not_remove_it() {
    let mut network = network(25, 9, Link { delay: Duration::from_millis(5), ..Link::PERFECT });
    network.run(2 * MINUTE);
    let victim = node(&network, addr(0)).known().next().expect("somebody");
    let mut writer = Writer::new();
    for n in 0..100u32 {
        writer.clear();
        request(Command::DOWN_HINT, Some(&encode_down_hint(victim))).encode(&mut writer);
        let payload = Bytes::copy_from_slice(writer.as_slice());
        network.inject(SocketAddrV4::new(Ipv4Addr::from(0x0e00_0000 + n), 5000), addr(0), payload);
        network.run(SECOND);
    }
    assert!(node(&network, addr(0)).known().any(|known| known == victim));
}

#[test]
fn a_node_that_is_hinted_at_and_gone_is_removed() {
    let mut network = network(25, 10, Link { delay: Duration::from_millis(5), ..Link::PERFECT });
    let gone = node(&network, addr(0)).known().last().expect("somebody");
    network.remove(gone);
    network.run(20 * SECOND);
    let mut writer = Writer::new();
    request(Command::DOWN_HINT, Some(&encode_down_hint(gone))).encode(&mut writer);
    network.inject(STRANGER, addr(0), Bytes::copy_from_slice(writer.as_slice()));
    network.run(6 * SECOND);
    assert!(node(&network, addr(0)).known().all(|known| known != gone));
}

#[test]
fn a_plain_request_is_answered_or_not_after_its_tries() {
    let mut network = network(5, 11, Link { delay: Duration::from_millis(5), ..Link::PERFECT });
    let ask = |to, tries| Plain { tries, ..Plain::new(to, Command::PING) };
    let ids = network.with(addr(1), |host, now| {
        (host.node.request(now, ask(addr(2), 4)), host.node.request(now, ask(STRANGER, 2)))
    });
    let (good, lost) = ids.expect("a machine");
    network.run(1900 * Duration::from_millis(1));
    let seen = events(&mut network, addr(1));
    assert!(
        seen.iter().any(
            |event| matches!(event, Event::Answered(id, answer) if *id == good && answer.from == addr(2))
        )
    );
    assert!(!seen.contains(&Event::Unanswered(lost)));
    network.run(Duration::from_millis(200));
    assert!(events(&mut network, addr(1)).contains(&Event::Unanswered(lost)));
}

/// Addresses of other nodes that share no bit with our id, each on a host of its own.
fn far_from(node: &Node) -> impl Iterator<Item = SocketAddrV4> {
    let own = node.table.own();
    let hosts = (0..).map(|n| SocketAddrV4::new(Ipv4Addr::from(0x0f00_0001 + (n << 8)), 6000));
    hosts.filter(move |addr| own.shared_bits(&NodeId(node_id(*addr))) == 0)
}

/// The commands of the requests that the node wants to send.
fn commands(node: &mut Node) -> Vec<Command> {
    let sent: Vec<Transmit> = std::iter::from_fn(|| node.poll_transmit()).collect();
    let command = |transmit: &Transmit| match Packet::decode(&transmit.payload).expect("a packet") {
        Packet::Request(request) => Some(request.command),
        Packet::Reply(_) => None,
    };
    sent.iter().filter_map(command).collect()
}

#[test]
fn so_many_requests_leave_at_once_and_the_others_later() {
    use crate::limits::v4::REQUEST_WINDOW;
    let (mut node, now) = alone();
    for n in 0..2 * REQUEST_WINDOW {
        let to = SocketAddrV4::new(Ipv4Addr::from(0x0e00_0000 + n), 5000);
        node.request(now, Plain { tries: 1, ..Plain::new(to, Command::PING) });
    }
    assert_eq!(commands(&mut node).len(), REQUEST_WINDOW as usize);
    node.handle_timeout(now + Duration::from_millis(750));
    assert_eq!(commands(&mut node).len(), REQUEST_WINDOW as usize);
}

#[test]
fn so_many_newcomers_at_a_time_cost_a_ping_of_a_node_in_a_full_bucket() {
    use crate::limits::v4::MAX_SWAPS;
    let (mut node, now) = alone();
    assert!(node.upkeep.ready, "nobody has to be asked");
    let far: Vec<SocketAddrV4> = far_from(&node).take(40).collect();
    far[..20].iter().for_each(|addr| node.add_known(*addr));
    node.upkeep.tick += 100;
    for addr in &far[20..] {
        node.heard(now, NodeId(node_id(*addr)), *addr, super::addr(0), false, true);
    }
    node.run(now);
    assert_eq!(commands(&mut node), vec![Command::PING; MAX_SWAPS]);
}

#[test]
fn so_many_nodes_that_are_said_to_be_down_are_asked_at_a_time() {
    use crate::limits::v4::MAX_LIVENESS_CHECKS;
    let (mut node, now) = alone();
    let far: Vec<SocketAddrV4> = far_from(&node).take(2 * MAX_LIVENESS_CHECKS).collect();
    far.iter().for_each(|addr| node.add_known(*addr));
    node.upkeep.tick += 100;
    for (n, addr) in (0..).zip(&far) {
        let from = SocketAddrV4::new(Ipv4Addr::from(0x0e00_0000 + n), 5000);
        let mut writer = Writer::new();
        request(Command::DOWN_HINT, Some(&encode_down_hint(*addr))).encode(&mut writer);
        node.handle_datagram(now, SERVER, from, writer.as_slice());
    }
    assert_eq!(commands(&mut node), vec![Command::PING; MAX_LIVENESS_CHECKS]);
}

#[test]
fn so_many_nodes_are_asked_to_reach_our_server() {
    use crate::limits::v4::NAT_CHECK_NODES;
    let now = Instant::now();
    let nodes = (0..3 * NAT_CHECK_NODES as u32)
        .map(|n| SocketAddrV4::new(Ipv4Addr::from(0x0f00_0001 + (n << 8)), 6000));
    let config = Config { nodes: nodes.collect(), ..config(&[], Persistence::Persistent) };
    let mut node = Node::new(now, config, seed(1));
    let _ = commands(&mut node);
    node.sample(addr(0));
    node.check_reach(now, false);
    node.run(now);
    assert_eq!(commands(&mut node), vec![Command::PING_NAT; NAT_CHECK_NODES]);
}

#[test]
fn a_node_that_slept_pings_others_two_ticks_later_whenever_it_wakes_up() {
    let (mut node, _) = alone();
    for tick in 100..116 {
        node.upkeep.tick = tick;
        node.wake_up();
        assert_eq!(node.upkeep.tick % 8, 6, "after tick {tick}");
        assert!(node.upkeep.tick > tick + 700);
    }
}
