//! What strangers may cost, and that it does not keep others out.

use super::*;
use crate::codec::compact::Writer;
use crate::codec::v4::{Command, Handshake, Mode, NoisePayload, Request};
use crate::crypto::blake2b_256;
use crate::holepunch::handshake::{Opening, udx_info};
use crate::limits::v4::{
    MAX_DIALS, MAX_EARLY_PACKETS, MAX_HANDSHAKES, MAX_HANDSHAKES_PER_HOST, MAX_PROBE_ECHOES,
    NAT_RECENT_SAMPLES,
};
use zeroize::Zeroizing;

/// A handshake for the server with this key, as a relay passes it on: `client` is what the relay says.
fn handshake(server: SocketAddrV4, key: u8, number: u32, client: SocketAddrV4) -> Bytes {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    seed[4] = 1;
    let payload = NoisePayload { udx: Some(udx_info(number)), ..NoisePayload::default() };
    let remote = keys(key).public();
    let opening = Opening::new(keys(98), remote, Zeroizing::new(seed), &payload).expect("begins");
    let mut value = Writer::new();
    let message = Handshake {
        mode: Mode::FROM_RELAY,
        noise: opening.message(),
        peer_address: Some(client),
        relay_address: None,
    };
    message.encode(&mut value);
    let mut writer = Writer::new();
    let target = Some(blake2b_256(&[&remote.0]));
    let request = Request::new(number as u16, server, Command::PEER_HANDSHAKE);
    Request { target, value: Some(value.as_slice()), ..request }.encode(&mut writer);
    Bytes::copy_from_slice(writer.as_slice())
}

/// A server behind nothing that knows of no hole yet, and an honest peer.
fn flooded(seed: u64) -> (Network<Host>, SocketAddrV4, SocketAddrV4) {
    let mut network = dht(6, seed, Link { delay: Duration::from_millis(5), ..Link::PERFECT });
    let server = peer(&mut network, 101, Behind::A(Nat::Firewall));
    let honest = peer(&mut network, 102, Behind::A(Nat::Consistent));
    network.run(5 * SECOND);
    listen(&mut network, server, 7);
    (network, server, honest)
}

/// The socket of a firewalled server at which its relays send, and a relay.
fn way_in(network: &Network<Host>, server: SocketAddrV4) -> (SocketAddrV4, SocketAddrV4) {
    let connector = &network.machine(server).expect("a machine").connector;
    let target = blake2b_256(&[&keys(7).public().0]);
    let relay = connector.dht().relays(&target)[0];
    (relay.peer_address, relay.relay_address)
}

fn slots(network: &Network<Host>, server: SocketAddrV4) -> usize {
    network.machine(server).expect("a machine").connector.handshakes()
}

#[test]
fn a_flood_of_handshakes_through_one_relay_opens_no_socket_and_keeps_nobody_out() {
    let (mut network, server, honest) = flooded(31);
    let (entrance, relay) = way_in(&network, server);
    for number in 0..2 * MAX_HANDSHAKES as u32 {
        let client = SocketAddrV4::new(Ipv4Addr::from(0x2000_0000 + number), 7);
        network.inject(relay, entrance, handshake(entrance, 7, number, client));
        network.run(Duration::from_millis(2));
    }
    assert_eq!(slots(&network, server), MAX_HANDSHAKES);
    assert_eq!(network.machine(server).expect("a machine").sockets, 0);
    let dialled = dial(&mut network, honest, 7);
    println!(
        "check 34: measured {dialled:?} beside {MAX_HANDSHAKES} handshakes that lead nowhere, bar 1 s, seed 31"
    );
    assert!(dialled.echoed && dialled.first_byte.is_some_and(|time| time < SECOND), "{dialled:?}");
    network.run(15 * SECOND);
    assert!(slots(&network, server) <= 1, "{}", slots(&network, server));
}

#[test]
fn one_client_host_has_no_more_than_its_share_of_many_handshakes() {
    let (mut network, server, _) = flooded(32);
    let (entrance, relay) = way_in(&network, server);
    for number in 0..MAX_HANDSHAKES as u32 / 2 {
        let client = SocketAddrV4::new(Ipv4Addr::from(0x2000_0000 + number), 7);
        network.inject(relay, entrance, handshake(entrance, 7, number, client));
    }
    network.run(SECOND);
    let before = slots(&network, server);
    assert_eq!(before, MAX_HANDSHAKES / 2);
    for number in 1000..1000 + 2 * MAX_HANDSHAKES_PER_HOST as u32 {
        let client = SocketAddrV4::new([33, 0, 0, 1].into(), number as u16);
        network.inject(relay, entrance, handshake(entrance, 7, number, client));
    }
    network.run(SECOND);
    assert_eq!(slots(&network, server) - before, MAX_HANDSHAKES_PER_HOST);
}

#[test]
fn the_same_message_has_one_slot_and_one_answer() {
    let (mut network, server, _) = flooded(33);
    let (entrance, relay) = way_in(&network, server);
    let message = handshake(entrance, 7, 1, SocketAddrV4::new([33, 0, 0, 1].into(), 7));
    network.record();
    for _ in 0..20 {
        network.inject(relay, entrance, message.clone());
        network.run(Duration::from_millis(20));
    }
    assert_eq!(slots(&network, server), 1);
    let answers: Vec<_> =
        network.trace().iter().filter(|sent| sent.from == entrance && sent.to == relay).collect();
    let replies: Vec<_> =
        answers.iter().filter(|sent| sent.payload.len() > 100).map(|sent| &sent.payload).collect();
    assert!(replies.len() >= 20 && replies.iter().all(|reply| *reply == replies[0]), "{}", replies.len());
}

#[test]
fn a_client_gets_few_echoes_of_its_probes() {
    let (mut network, server, _) = flooded(34);
    let (entrance, relay) = way_in(&network, server);
    let client = SocketAddrV4::new([33, 0, 0, 1].into(), 7);
    network.inject(relay, entrance, handshake(entrance, 7, 1, client));
    network.run(Duration::from_millis(50));
    network.record();
    for _ in 0..10 * MAX_PROBE_ECHOES {
        network.inject(client, entrance, Bytes::from_static(&[0]));
        network.run(Duration::from_millis(1));
    }
    network.run(SECOND);
    let echoes = network.trace().iter().filter(|sent| sent.to == client).count();
    assert_eq!(echoes, MAX_PROBE_ECHOES);
    let stranger = SocketAddrV4::new([34, 0, 0, 1].into(), 7);
    network.inject(stranger, entrance, Bytes::from_static(&[0]));
    network.run(SECOND);
    assert!(network.trace().iter().all(|sent| sent.to != stranger), "nobody is probed without a handshake");
}

#[test]
fn no_more_attempts_run_than_the_limit() {
    let (mut network, _, honest) = flooded(35);
    let refused = network.with(honest, |host, now| {
        let mut dial = |n: u8, m: u8| {
            let remote = KeyPair::from_seed(&[n; 32]).public();
            let own = keys(m);
            host.connector.dial(now, own, remote, DialOptions::default())
        };
        for n in 0..MAX_DIALS {
            assert!(dial(n as u8, 1).is_ok());
        }
        dial(3, 2)
    });
    assert_eq!(refused, Some(Err(ConnectError::TooMany(MAX_DIALS))));
}

#[test]
fn a_node_remembers_how_the_latest_nodes_see_it() {
    let (mut network, _, honest) = flooded(36);
    network.run(60 * SECOND);
    let node = network.machine(honest).expect("a machine").connector.dht().node();
    let samples: Vec<_> = node.samples(network.now(), 600 * SECOND).collect();
    assert!((3..=NAT_RECENT_SAMPLES).contains(&samples.len()), "{}", samples.len());
    assert!(samples.iter().all(|(_, seen)| *seen.ip() == Ipv4Addr::new(13, 0, 0, 102)));
}

#[test]
fn packets_that_come_before_the_reply_are_kept_up_to_the_limit_and_given_to_the_stream() {
    let (mut network, _, honest) = flooded(37);
    let server = peer(&mut network, 103, Behind::Nothing);
    network.run(5 * SECOND);
    listen(&mut network, server, 8);
    let stream = network.with(honest, |host, now| {
        let id = host.connector.dial(now, keys(99), keys(8).public(), DialOptions::default()).expect("dials");
        host.settle(now);
        host.connector.stream_of(id).expect("under way")
    });
    let header = udx::Header {
        flags: udx::flag::HEARTBEAT,
        data_offset: 0,
        stream: stream.expect("a machine"),
        window: 1 << 20,
        seq: 0,
        ack: 0,
    };
    for port in 0..2 * MAX_EARLY_PACKETS as u16 {
        let from = SocketAddrV4::new(*server.ip(), SERVER_PORT);
        let via = if port % 2 == 0 { v4::CLIENT } else { SERVER };
        network.with(honest, |host, now| host.connector.handle_datagram(now, via, from, &header.encode()));
    }
    let kept = network.with(honest, |host, _| host.connector.early_packets());
    assert_eq!(kept, Some(MAX_EARLY_PACKETS));
    network.run(SECOND);
    let connected = network.machine(honest).expect("a machine").connected.len();
    assert_eq!(connected, 1);
}
