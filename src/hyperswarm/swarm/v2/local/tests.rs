use super::*;

const TOPIC: Topic = Topic([7; 32]);
const OTHER: Topic = Topic([8; 32]);
const ASKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 5353);

fn started() -> (Instant, LocalDiscovery) {
    (Instant::now(), LocalDiscovery::new([1; 32]))
}

fn sent(local: &mut LocalDiscovery) -> Vec<Message> {
    std::iter::from_fn(|| local.poll_transmit()).map(|bytes| Message::decode(&bytes).unwrap()).collect()
}

fn query(topic: Topic) -> Vec<u8> {
    Message::Query(Query { questions: vec![topic.into()], known: vec![] }).encode()
}

fn response(port: u16, target: [u8; 4]) -> Vec<u8> {
    let id = Some(InstanceId([0xee; 32]));
    let service = Service { name: TOPIC.into(), port, target: target.into(), id };
    Message::Response(Response { services: vec![service], asker: None }).encode()
}

/// The services of the only message sent, and whom it names as asker.
fn only_answer(local: &mut LocalDiscovery) -> (Vec<u16>, Option<Ipv4Addr>) {
    match &sent(local)[..] {
        [Message::Response(r)] => (r.services.iter().map(|s| s.port).collect(), r.asker),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_topic_asks_and_then_says_unasked_that_it_is_there() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    match &sent(&mut local)[..] {
        [Message::Query(q), Message::Response(r)] => {
            assert_eq!(q, &Query { questions: vec![TOPIC.into()], known: vec![] });
            assert_eq!((r.services[0].port, r.services[0].target), (4000, Ipv4Addr::UNSPECIFIED));
            assert_eq!(r.asker, None);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_question_is_repeated_every_30_to_60_seconds() {
    let (mut now, mut local) = started();
    local.register(now, TOPIC, 4000);
    sent(&mut local);
    for _ in 0..100 {
        let next = local.poll_timeout().unwrap();
        assert!((30..60).contains(&(next - now).as_secs()));
        now = next;
        local.handle_timeout(now);
        assert!(matches!(&sent(&mut local)[..], [Message::Query(_)]));
    }
}

#[test]
fn a_question_for_our_topic_is_answered_naming_the_asker() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    sent(&mut local);
    local.handle_datagram(now + ANSWER_GAP, ASKER, &query(TOPIC));
    assert_eq!(only_answer(&mut local), (vec![4000], Some(*ASKER.ip())));
}

#[test]
fn a_question_for_another_topic_is_not_answered() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    sent(&mut local);
    local.handle_datagram(now + ANSWER_GAP, ASKER, &query(OTHER));
    assert_eq!(sent(&mut local), []);
}

#[test]
fn a_question_that_carries_our_own_id_is_not_answered() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    let Some(Message::Response(own)) = sent(&mut local).pop() else { panic!("no response") };
    let known = vec![(TOPIC.into(), own.services[0].id.unwrap())];
    let question = Message::Query(Query { questions: vec![TOPIC.into()], known }).encode();
    local.handle_datagram(now + ANSWER_GAP, ASKER, &question);
    assert_eq!(sent(&mut local), []);
}

#[test]
fn a_flood_of_questions_gets_ten_answers_a_second() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    sent(&mut local);
    let mut answers = 0;
    for millisecond in 0..1000 {
        let now = now + Duration::from_millis(millisecond);
        for _ in 0..10 {
            local.handle_datagram(now, ASKER, &query(TOPIC));
        }
        answers += sent(&mut local).len();
    }
    assert_eq!(answers, 9);
}

#[test]
fn a_question_that_comes_too_soon_is_answered_a_little_later() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    sent(&mut local);
    local.handle_datagram(now, ASKER, &query(TOPIC));
    assert_eq!(sent(&mut local), []);
    assert_eq!(local.poll_timeout(), Some(now + ANSWER_GAP));
    local.handle_timeout(now + ANSWER_GAP);
    assert_eq!(only_answer(&mut local), (vec![4000], Some(*ASKER.ip())));
}

#[test]
fn many_instances_of_one_topic_answer_in_packets_of_seven() {
    let (now, mut local) = started();
    for port in 0..=MDNS_SERVICES_PER_PACKET as u16 {
        local.register(now, TOPIC, 4000 + port);
    }
    sent(&mut local);
    local.handle_datagram(now + ANSWER_GAP, ASKER, &query(TOPIC));
    let packets: Vec<_> = std::iter::from_fn(|| local.poll_transmit()).collect();
    assert!(packets.iter().all(|p| p.len() <= 1400), "{:?}", packets.iter().map(Vec::len));
    let counts = packets.iter().map(|p| match Message::decode(p) {
        Ok(Message::Response(r)) => r.services.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(counts.collect::<Vec<_>>(), [MDNS_SERVICES_PER_PACKET, 1]);
}

#[test]
fn a_peer_that_names_itself_is_reported_at_the_address_it_sends_from() {
    let (now, mut local) = started();
    let registration = local.register(now, TOPIC, 4000);
    local.handle_datagram(now, ASKER, &response(4567, [0, 0, 0, 0]));
    let addr = SocketAddrV4::new(*ASKER.ip(), 4567);
    assert_eq!(local.poll_event(), Some(LocalPeer { registration, addr, sender: *ASKER.ip() }));
    assert_eq!(local.poll_event(), None);
}

#[test]
fn no_instance_of_this_process_is_reported_to_another() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    local.register(now, TOPIC, 4001);
    let packets: Vec<_> = std::iter::from_fn(|| local.poll_transmit()).collect();
    assert_eq!(packets.len(), 4);
    for packet in packets {
        local.handle_datagram(now, ASKER, &packet);
    }
    assert_eq!(local.poll_event(), None);
}

#[test]
fn a_packet_cannot_name_addresses_outside_the_local_network() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    for target in [[127, 0, 0, 1], [8, 8, 8, 8], [255, 255, 255, 255]] {
        local.handle_datagram(now, ASKER, &response(4567, target));
    }
    local.handle_datagram(now, ASKER, &response(0, [0, 0, 0, 0]));
    assert_eq!(local.poll_event(), None);
    local.handle_datagram(now, ASKER, &response(4567, [192, 168, 1, 7]));
    assert_eq!(local.poll_event().unwrap().addr, "192.168.1.7:4567".parse().unwrap());
}

#[test]
fn uncollected_peers_are_kept_up_to_the_limit() {
    let (now, mut local) = started();
    local.register(now, TOPIC, 4000);
    for port in 1..=MDNS_EVENTS as u16 + 1 {
        local.handle_datagram(now, ASKER, &response(port, [0, 0, 0, 0]));
    }
    assert_eq!(std::iter::from_fn(|| local.poll_event()).count(), MDNS_EVENTS);
}

#[test]
fn a_topic_that_left_is_neither_asked_for_nor_answered_nor_reported() {
    let (now, mut local) = started();
    let gone = local.register(now, TOPIC, 4000);
    sent(&mut local);
    local.retain(|r| r != gone);
    local.handle_datagram(now + ANSWER_GAP, ASKER, &query(TOPIC));
    local.handle_datagram(now, ASKER, &response(4567, [0, 0, 0, 0]));
    assert_eq!((sent(&mut local), local.poll_event(), local.poll_timeout()), (vec![], None, None));
}
