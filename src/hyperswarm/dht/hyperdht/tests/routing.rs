//! Handshakes and holepunch messages on their way.

use super::*;
use crate::codec::v4::{Handshake, Holepunch, Mode};
use crate::crypto::vectors;
use crate::limits::v4::FORWARDED_BYTES_PER_MINUTE;

const CLIENT_ADDR: SocketAddrV4 = STRANGER;
const SERVER_ADDR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(15, 0, 0, 1), 5001);
const OTHER_RELAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(16, 0, 0, 1), 5002);

fn handshake(mode: Mode) -> Handshake<'static> {
    Handshake { mode, noise: b"noise", peer_address: None, relay_address: None }
}

fn holepunch(mode: Mode) -> Holepunch<'static> {
    Holepunch { mode, id: 3, payload: b"payload", peer_address: None }
}

/// A relay at which the server of this target announced itself.
fn relay() -> (Hyperdht, Instant, Target) {
    let (mut dht, now) = alone();
    let key = keys(1).public().0;
    let target = hash_of(&keys(1));
    dht.kept(now).keep_unsigned(now, SERVER_ADDR, target, key, &mut StdRng::from_seed([1; 32]));
    (dht, now, target)
}

fn hear(dht: &mut Hyperdht, now: Instant, from: SocketAddrV4) {
    assert!(!answers(dht, now, from, &request(Command::PING, TOPIC, None)).is_empty());
}

/// What is sent when a handshake arrives.
fn shake(
    dht: &mut Hyperdht,
    now: Instant,
    from: SocketAddrV4,
    target: Target,
    handshake: &Handshake<'_>,
) -> Vec<Transmit> {
    let value = encoded(|out| handshake.encode(out));
    answers(dht, now, from, &request(Command::PEER_HANDSHAKE, target, Some(&value)))
}

fn punch(
    dht: &mut Hyperdht,
    now: Instant,
    from: SocketAddrV4,
    target: Target,
    message: &Holepunch<'_>,
) -> Vec<Transmit> {
    let value = encoded(|out| message.encode(out));
    answers(dht, now, from, &request(Command::PEER_HOLEPUNCH, target, Some(&value)))
}

/// A request that was passed on: where to, and its value. It keeps id, command and target, and has no token.
fn passed_on(dht: &Hyperdht, sent: &[Transmit], command: Command, target: Target) -> (SocketAddrV4, Vec<u8>) {
    let [transmit] = sent else { panic!("{sent:?}") };
    let Ok(Packet::Request(request)) = Packet::decode(&transmit.payload) else { panic!("not a request") };
    let value = request.value.expect("a value").to_vec();
    let expected = Request {
        id: Some(id_of(dht).0),
        target: Some(target),
        value: request.value,
        ..Request::new(7, transmit.to, command)
    };
    assert_eq!(request, expected);
    (transmit.to, value)
}

fn answered(sent: &[Transmit]) -> (SocketAddrV4, Vec<u8>) {
    let [transmit] = sent else { panic!("{sent:?}") };
    let reply = reply(transmit);
    assert_eq!((reply.tid, reply.to, reply.token), (7, transmit.to, None));
    assert!(reply.closer_nodes.is_empty() && reply.error == ErrorCode::NONE);
    (transmit.to, reply.value.expect("a value").to_vec())
}

fn passed_handshake(
    dht: &Hyperdht,
    sent: &[Transmit],
    target: Target,
    expected: &Handshake<'_>,
    to: SocketAddrV4,
) {
    let (next, value) = passed_on(dht, sent, Command::PEER_HANDSHAKE, target);
    assert_eq!((next, Handshake::decode(&value)), (to, Ok(*expected)));
}

#[test]
fn a_clients_handshake_is_passed_on_to_the_server_and_its_answer_to_the_client() {
    let (mut dht, now, target) = relay();
    let sent = shake(&mut dht, now, CLIENT_ADDR, target, &handshake(Mode::FROM_CLIENT));
    let expected = Handshake { peer_address: Some(CLIENT_ADDR), ..handshake(Mode::FROM_RELAY) };
    passed_handshake(&dht, &sent, target, &expected, SERVER_ADDR);
    let from_server = Handshake { peer_address: Some(CLIENT_ADDR), ..handshake(Mode::FROM_SERVER) };
    let sent = shake(&mut dht, now, SERVER_ADDR, target, &from_server);
    let (to, value) = answered(&sent);
    let expected = Handshake { peer_address: Some(SERVER_ADDR), ..handshake(Mode::REPLY) };
    assert_eq!((to, Handshake::decode(&value)), (CLIENT_ADDR, Ok(expected)));
}

#[test]
fn a_relay_passes_on_to_a_second_one_and_that_to_the_server() {
    let (mut first, now) = alone();
    let target = hash_of(&keys(1));
    hear(&mut first, now, OTHER_RELAY);
    let named = Handshake { relay_address: Some(OTHER_RELAY), ..handshake(Mode::FROM_CLIENT) };
    let sent = shake(&mut first, now, CLIENT_ADDR, target, &named);
    let from_relay = Handshake { peer_address: Some(CLIENT_ADDR), ..handshake(Mode::FROM_RELAY) };
    passed_handshake(&first, &sent, target, &from_relay, OTHER_RELAY);

    let (mut second, now, target) = relay();
    let sent = shake(&mut second, now, OTHER_RELAY, target, &from_relay);
    let expected = Handshake {
        peer_address: Some(CLIENT_ADDR),
        relay_address: Some(OTHER_RELAY),
        ..handshake(Mode::FROM_SECOND_RELAY)
    };
    passed_handshake(&second, &sent, target, &expected, SERVER_ADDR);
}

#[test]
fn a_handshake_for_a_server_that_is_not_known_is_answered_with_closer_nodes() {
    let (mut dht, now) = alone();
    let node = Reply { id: Some(id_of(&dht).0), ..Reply::new(7, CLIENT_ADDR) };
    let sent = shake(&mut dht, now, CLIENT_ADDR, TOPIC, &handshake(Mode::FROM_CLIENT));
    assert_eq!(reply(&sent[0]), node, "this one knows none");
    // A relay that nobody heard of lately is not believed in.
    let named = Handshake { relay_address: Some(OTHER_RELAY), ..handshake(Mode::FROM_CLIENT) };
    let sent = shake(&mut dht, now, CLIENT_ADDR, TOPIC, &named);
    assert_eq!((sent[0].to, reply(&sent[0])), (CLIENT_ADDR, node));
}

#[test]
fn what_has_no_next_hop_or_makes_no_sense_is_dropped() {
    let (mut dht, now, target) = relay();
    let peer_address = Some(CLIENT_ADDR);
    let dropped = [
        (TOPIC, Handshake { peer_address, ..handshake(Mode::FROM_RELAY) }),
        (target, Handshake { peer_address, ..handshake(Mode::FROM_SECOND_RELAY) }),
        (target, Handshake { peer_address, ..handshake(Mode::REPLY) }),
        (target, Handshake { peer_address, ..handshake(Mode(9)) }),
        (target, handshake(Mode::FROM_SERVER)),
        (target, Handshake { noise: b"", ..handshake(Mode::FROM_CLIENT) }),
        (target, Handshake { noise: b"", ..handshake(Mode::FROM_RELAY) }),
    ];
    for (at, handshake) in dropped {
        assert_eq!(shake(&mut dht, now, SERVER_ADDR, at, &handshake), [], "{handshake:?}");
    }
    for (at, message) in [
        (TOPIC, holepunch(Mode::FROM_CLIENT)),
        (target, Holepunch { peer_address, ..holepunch(Mode::FROM_RELAY) }),
        (target, holepunch(Mode::FROM_SECOND_RELAY)),
        (target, holepunch(Mode::REPLY)),
    ] {
        assert_eq!(punch(&mut dht, now, SERVER_ADDR, at, &message), [], "{message:?}");
    }
    for command in [Command::PEER_HANDSHAKE, Command::PEER_HOLEPUNCH] {
        for value in [None, Some(&b""[..]), Some(&b"\x01\x00\x09"[..])] {
            assert_eq!(answers(&mut dht, now, CLIENT_ADDR, &request(command, target, value)), []);
        }
    }
}

#[test]
fn nothing_is_passed_on_to_an_address_that_did_not_send_anything_in_the_last_minute() {
    let (mut dht, now, target) = relay();
    let victim = SocketAddrV4::new(Ipv4Addr::new(17, 0, 0, 1), 53);
    let from_server = Handshake { peer_address: Some(victim), ..handshake(Mode::FROM_SERVER) };
    let reply = Holepunch { peer_address: Some(victim), ..holepunch(Mode::FROM_SERVER) };
    let from_client = Holepunch { peer_address: Some(victim), ..holepunch(Mode::FROM_CLIENT) };
    let named = Handshake { relay_address: Some(victim), ..handshake(Mode::FROM_CLIENT) };
    let to_victim = |dht: &mut Hyperdht, now| {
        let mut sent = shake(dht, now, SERVER_ADDR, target, &from_server);
        sent.extend(punch(dht, now, SERVER_ADDR, target, &reply));
        sent.extend(punch(dht, now, CLIENT_ADDR, target, &from_client));
        sent.extend(shake(dht, now, CLIENT_ADDR, target, &named));
        sent.iter().filter(|transmit| transmit.to == victim).count()
    };
    assert_eq!(to_victim(&mut dht, now), 0);
    hear(&mut dht, now, victim);
    assert_eq!(to_victim(&mut dht, now + 59 * SECOND), 4);
    assert_eq!(to_victim(&mut dht, now + 125 * SECOND), 0);
}

#[test]
fn a_server_on_the_relays_own_machine_is_reached_from_elsewhere() {
    let (mut dht, now, target) = relay();
    let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5001);
    let key = keys(1).public().0;
    dht.kept(now).keep_unsigned(now, local, target, key, &mut StdRng::from_seed([1; 32]));
    let sent = shake(&mut dht, now, CLIENT_ADDR, target, &handshake(Mode::FROM_CLIENT));
    let expected = Handshake { peer_address: Some(CLIENT_ADDR), ..handshake(Mode::FROM_RELAY) };
    passed_handshake(&dht, &sent, target, &expected, local);
}

#[test]
fn a_holepunch_message_takes_the_same_way() {
    let (mut dht, now, target) = relay();
    let sent = punch(&mut dht, now, CLIENT_ADDR, target, &holepunch(Mode::FROM_CLIENT));
    let (to, value) = passed_on(&dht, &sent, Command::PEER_HOLEPUNCH, target);
    let expected = Holepunch { peer_address: Some(CLIENT_ADDR), ..holepunch(Mode::FROM_RELAY) };
    assert_eq!((to, Holepunch::decode(&value)), (SERVER_ADDR, Ok(expected)));
    // The server answers from another socket, to which the next message goes.
    let puncher = SocketAddrV4::new(*SERVER_ADDR.ip(), 6000);
    let from_server = Holepunch { peer_address: Some(CLIENT_ADDR), ..holepunch(Mode::FROM_SERVER) };
    let (to, value) = answered(&punch(&mut dht, now, puncher, target, &from_server));
    let expected = Holepunch { peer_address: Some(puncher), ..holepunch(Mode::REPLY) };
    assert_eq!((to, Holepunch::decode(&value)), (CLIENT_ADDR, Ok(expected)));
    let again = Holepunch { peer_address: Some(puncher), ..holepunch(Mode::FROM_CLIENT) };
    let sent = punch(&mut dht, now, CLIENT_ADDR, target, &again);
    assert_eq!(passed_on(&dht, &sent, Command::PEER_HOLEPUNCH, target).0, puncher);
    // Upstream answers the sender if no client is named.
    let (to, _) = answered(&punch(&mut dht, now, puncher, target, &holepunch(Mode::FROM_SERVER)));
    assert_eq!(to, puncher);
}

#[test]
fn a_relay_does_to_the_byte_what_the_original_was_recorded_doing() {
    let vectors = vectors("connect-trace.json");
    let unhex = |case: &serde_json::Value| {
        data_encoding::HEXLOWER.decode(case["hex"].as_str().expect("hex").as_bytes()).expect("hex")
    };
    let local = |port: &serde_json::Value| {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.as_u64().expect("a port") as u16)
    };
    let mut compared = 0;
    for scenario in vectors["scenarios"].as_array().expect("scenarios") {
        let (mut nodes, now) = (BTreeMap::new(), Instant::now());
        for packet in scenario["announce_packets"].as_array().expect("packets") {
            let (at, from) = (local(&packet["local_port"]), local(&packet["from_port"]));
            let bytes = unhex(packet);
            let Ok(Packet::Request(request)) = Packet::decode(&bytes) else { continue };
            let announce = crate::codec::v4::Announce::decode(request.value.expect("a value"));
            let key = announce.expect("an announcement").peer.expect("a peer").public_key;
            let target = request.target.expect("a target");
            let mut dht = persistent(now, at, 1);
            dht.kept(now).keep_unsigned(now, from, target, key, &mut StdRng::from_seed([1; 32]));
            nodes.insert(at, dht);
        }
        let packets = scenario["packets"].as_array().expect("packets");
        for (n, packet) in packets.iter().enumerate() {
            let Some(dht) = nodes.get_mut(&local(&packet["local_port"])) else { continue };
            let follows = |other: &&serde_json::Value| {
                other["tid"] == packet["tid"] && other["from_port"] == packet["local_port"]
            };
            dht.handle_datagram(now, SERVER, local(&packet["from_port"]), &unhex(packet));
            let sent = std::iter::from_fn(|| dht.poll_transmit()).last().expect("passed on");
            if let Some(next) = packets[n..].iter().find(follows) {
                assert_eq!((sent.to, sent.payload.to_vec()), (local(&next["local_port"]), unhex(next)));
                compared += 1;
            }
        }
    }
    println!("{compared} datagrams are the same");
    assert!(compared >= 25, "{compared}");
}

/// The handshakes and holepunch messages that went up.
fn messages(dht: &mut Hyperdht) -> Vec<Event> {
    let events = std::iter::from_fn(|| dht.poll_event());
    events.filter(|event| matches!(event, Event::Handshake(_) | Event::Holepunch(_))).collect()
}

/// A node with a server of its own, which nobody has heard of yet.
fn server() -> (Hyperdht, Instant, Target) {
    let (mut dht, now) = alone();
    let target = dht.listen(now, keys(1)).expect("not yet");
    (dht, now, target)
}

#[test]
fn handshakes_for_a_server_of_our_own_go_up_and_are_answered_the_way_they_came() {
    let (mut dht, now, target) = server();
    let (peer_address, relay_address) = (Some(CLIENT_ADDR), Some(OTHER_RELAY));
    let cases = [
        (CLIENT_ADDR, handshake(Mode::FROM_CLIENT), None),
        (SERVER_ADDR, Handshake { peer_address, ..handshake(Mode::FROM_RELAY) }, Some(SERVER_ADDR)),
        (
            SERVER_ADDR,
            Handshake { peer_address, relay_address, ..handshake(Mode::FROM_SECOND_RELAY) },
            Some(OTHER_RELAY),
        ),
    ];
    for (from, asked, back_to) in cases {
        assert_eq!(shake(&mut dht, now, from, target, &asked), [], "the owner answers");
        let Some(Event::Handshake(message)) = messages(&mut dht).pop() else { panic!("not handed up") };
        assert_eq!(
            (message.mode, message.noise.as_ref(), message.target),
            (asked.mode, &b"noise"[..], target)
        );
        assert_eq!((message.peer_address, message.relay_address), (asked.peer_address, asked.relay_address));
        dht.reply_handshake(now, &message, b"answer", None);
        let sent: Vec<_> = std::iter::from_fn(|| dht.poll_transmit()).collect();
        let answer = Handshake { noise: b"answer", ..handshake(Mode::FROM_SERVER) };
        match back_to {
            None => {
                let (to, value) = answered(&sent);
                let expected = Handshake { mode: Mode::REPLY, ..answer };
                assert_eq!((to, Handshake::decode(&value)), (CLIENT_ADDR, Ok(expected)));
            }
            Some(to) => {
                let expected = Handshake { peer_address, ..answer };
                passed_handshake(&dht, &sent, target, &expected, to);
            }
        }
    }
}

#[test]
fn an_answer_can_leave_from_another_socket_and_has_no_id_then() {
    let (mut dht, now, target) = server();
    let asked = Handshake { peer_address: Some(CLIENT_ADDR), ..handshake(Mode::FROM_RELAY) };
    shake(&mut dht, now, SERVER_ADDR, target, &asked);
    let asked = Holepunch { peer_address: Some(CLIENT_ADDR), ..holepunch(Mode::FROM_RELAY) };
    assert_eq!(punch(&mut dht, now, SERVER_ADDR, target, &asked), []);
    let events = messages(&mut dht);
    let [Event::Handshake(handshake), Event::Holepunch(holepunch)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((holepunch.id, holepunch.payload.as_ref()), (3, &b"payload"[..]));
    assert_eq!((holepunch.target, holepunch.peer_address), (target, CLIENT_ADDR));
    dht.reply_handshake(now, handshake, b"answer", Some(Via(9)));
    dht.reply_holepunch(now, holepunch, b"answer", Some(Via(9)));
    let sent: Vec<_> = std::iter::from_fn(|| dht.poll_transmit()).collect();
    for transmit in &sent {
        let Ok(Packet::Request(request)) = Packet::decode(&transmit.payload) else { panic!("a reply") };
        assert_eq!((transmit.via, transmit.to, request.id), (Via(9), SERVER_ADDR, None));
    }
    let Ok(Packet::Request(request)) = Packet::decode(&sent[1].payload) else { panic!("a reply") };
    let value = Holepunch::decode(request.value.expect("a value")).expect("a message");
    let peer_address = Some(CLIENT_ADDR);
    assert_eq!(value, Holepunch { mode: Mode::FROM_SERVER, id: 0, payload: b"answer", peer_address });
}

#[test]
fn the_mode_is_looked_at_before_a_handshake_goes_up() {
    let (mut dht, now, target) = server();
    let peer_address = Some(CLIENT_ADDR);
    let loopback = Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));
    let router = Some(SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 1), 80));
    let all = Some(SocketAddrV4::new(Ipv4Addr::BROADCAST, 80));
    let relay_address = Some(OTHER_RELAY);
    for asked in [
        Handshake { peer_address, ..handshake(Mode::FROM_SERVER) },
        Handshake { peer_address, ..handshake(Mode::REPLY) },
        Handshake { peer_address, noise: b"", ..handshake(Mode::FROM_RELAY) },
        handshake(Mode::FROM_RELAY),
        Handshake { peer_address: loopback, ..handshake(Mode::FROM_RELAY) },
        Handshake { peer_address: router, ..handshake(Mode::FROM_RELAY) },
        Handshake { peer_address: all, ..handshake(Mode::FROM_RELAY) },
        Handshake { peer_address, ..handshake(Mode::FROM_SECOND_RELAY) },
        Handshake { relay_address, ..handshake(Mode::FROM_SECOND_RELAY) },
        Handshake { peer_address, relay_address: all, ..handshake(Mode::FROM_SECOND_RELAY) },
    ] {
        assert_eq!(shake(&mut dht, now, SERVER_ADDR, target, &asked), [], "{asked:?}");
        assert_eq!(messages(&mut dht), [], "{asked:?}");
    }
    for asked in [
        holepunch(Mode::FROM_RELAY),
        Holepunch { peer_address: loopback, ..holepunch(Mode::FROM_RELAY) },
        Holepunch { peer_address, ..holepunch(Mode::REPLY) },
    ] {
        assert_eq!(punch(&mut dht, now, SERVER_ADDR, target, &asked), [], "{asked:?}");
        assert_eq!(messages(&mut dht), [], "{asked:?}");
    }
}

#[test]
fn messages_that_the_owner_does_not_take_do_not_pile_up() {
    let (mut dht, now, target) = server();
    for _ in 0..2 * MAX_DHT_EVENTS {
        shake(&mut dht, now, CLIENT_ADDR, target, &handshake(Mode::FROM_CLIENT));
    }
    assert_eq!(dht.events.len(), MAX_DHT_EVENTS);
}

#[test]
fn so_much_is_passed_on_for_one_host_and_then_no_more_until_later() {
    let (mut dht, now, target) = relay();
    // The server has shown that it is there.
    token(&mut dht, now, SERVER_ADDR);
    let own_token = token(&mut dht, now, SERVER_ADDR);
    let shown = Request { token: Some(own_token), ..request(Command::PING, TOPIC, None) };
    answers(&mut dht, now, SERVER_ADDR, &shown);
    let noise = [7; 1000];
    let asked = Handshake { noise: &noise, ..handshake(Mode::FROM_CLIENT) };
    let mut bytes = 0;
    for _ in 0..FORWARDED_BYTES_PER_MINUTE / 1000 {
        let sent = shake(&mut dht, now, CLIENT_ADDR, target, &asked);
        bytes += sent.iter().map(|transmit| transmit.payload.len()).sum::<usize>();
    }
    assert!(bytes <= FORWARDED_BYTES_PER_MINUTE as usize, "{bytes}");
    assert!(bytes > FORWARDED_BYTES_PER_MINUTE as usize - 1200, "{bytes}");
    assert_eq!(shake(&mut dht, now, OTHER_RELAY, target, &asked).len(), 1, "for another host");
    assert_eq!(shake(&mut dht, now + SECOND, CLIENT_ADDR, target, &asked).len(), 1, "later");
}

#[test]
fn a_server_that_has_ended_gets_no_messages() {
    let (mut dht, now, target) = server();
    dht.unlisten(now, target);
    assert_eq!(shake(&mut dht, now, CLIENT_ADDR, target, &handshake(Mode::FROM_CLIENT)).len(), 1);
    assert_eq!(messages(&mut dht), []);
}

#[test]
fn handshakes_reach_a_server_through_one_relay_and_through_two() {
    for through_two in [false, true] {
        let mut network = network(20, 7, delayed(10));
        let at = addr(3);
        let listening = network.with(at, |host, now| host.dht.listen(now, keys(1)));
        let target = listening.expect("a machine").expect("not yet");
        network.run(5 * SECOND);
        let server = dht(&network, at);
        let relay = server.relays(&target)[0].relay_address;
        let is_relay = |n: &usize| server.is_server_relay(&target, addr(*n));
        let other = (4..20).find(|n| !is_relay(n)).expect("another node");
        let (to, relay_address) = if through_two { (addr(other), Some(relay)) } else { (relay, None) };
        if through_two {
            // The relay is known there only if it has sent something.
            network.with(relay, |host, now| host.dht.request(now, Plain::new(to, Command::PING)));
            network.run(SECOND);
        }
        let asked = Handshake { relay_address, ..handshake(Mode::FROM_CLIENT) };
        let value = Some(Bytes::from(encoded(|out| asked.encode(out))));
        let client = addr(2);
        let plain = Plain { target: Some(target), value, ..Plain::new(to, Command::PEER_HANDSHAKE) };
        let id = network.with(client, |host, now| host.dht.request(now, plain)).expect("a machine");
        network.run(Duration::from_millis(500));
        let message = events(&mut network, at).into_iter().find_map(|event| match event {
            Event::Handshake(message) => Some(message),
            _ => None,
        });
        let message = message.expect("handed up");
        let mode = if through_two { Mode::FROM_SECOND_RELAY } else { Mode::FROM_RELAY };
        assert_eq!((message.mode, message.peer_address), (mode, Some(client)));
        network.with(at, |host, now| host.dht.reply_handshake(now, &message, b"answer", None));
        network.run(Duration::from_millis(500));
        let answer = events(&mut network, client).into_iter().find_map(|event| match event {
            Event::Answered(of, answer) if of == id => answer.value,
            _ => None,
        });
        let answer = answer.expect("answered by the relay");
        let answer = Handshake::decode(&answer).expect("a handshake");
        let expected = Handshake { noise: b"answer", peer_address: Some(at), ..handshake(Mode::REPLY) };
        assert_eq!(answer, expected, "through two: {through_two}");
    }
}
