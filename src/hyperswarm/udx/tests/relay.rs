//! Relaying, and changing the remote.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::testkit::Endpoints;
use crate::testkit::pair::{IDS, MS, Pair, SOCKET, address, packet, pattern};
use crate::udx::{CloseReason, Endpoint, Event, Header, Remote, SocketId, StreamId, flag};

const ALICE: usize = 0;
const BOB: usize = 1;
const RELAY: usize = 2;

/// Alice (stream 10) and Bob (20) with a relay (100 and 200) between them, as in the captured scenario.
struct Relayed {
    world: Endpoints,
    hops: Vec<(usize, Bytes)>,
}

impl Relayed {
    fn new() -> Self {
        let hosts = [1, 2, 3].map(|number| SocketAddr::from(([10, 0, 0, number], 1)));
        let mut world = Endpoints::new(Instant::now(), hosts);
        for (end, id, remote) in
            [(ALICE, 10, Some(100)), (BOB, 20, Some(200)), (RELAY, 100, None), (RELAY, 200, None)]
        {
            world.open(end, id, remote.map(|id| (RELAY, id))).unwrap();
        }
        let mut relayed = Self { world, hops: Vec::new() };
        let relay = relayed.end(RELAY);
        relay.stream(StreamId(100)).unwrap().relay_to(StreamId(200));
        relay.stream(StreamId(200)).unwrap().relay_to(StreamId(100));
        relayed
    }

    fn end(&mut self, number: usize) -> &mut Endpoint {
        self.world.get(number).unwrap()
    }

    fn write(&mut self, end: usize, id: u32, text: &'static str) {
        self.world.write(end, id, Bytes::from_static(text.as_bytes()));
    }

    /// Lets datagrams go where they want; the relay connects its streams to those it hears from.
    fn run(&mut self) {
        let Self { world, hops } = self;
        let mut again = true;
        while again {
            again = false;
            for from in [ALICE, BOB, RELAY] {
                let hop = |from, datagram: &[u8]| hops.push((from, Bytes::copy_from_slice(datagram)));
                again |= world.turn(from, 1, hop, |now, relay, id, event| {
                    if let Event::FirstContact { socket, from } = event {
                        let remote = Remote { id: id.0 / 10, address: from, path_mtu: 1500 };
                        relay.stream(id).unwrap().connect(now, socket, remote).unwrap();
                    }
                });
            }
        }
    }

    fn read(&mut self, end: usize, id: u32) -> Option<Bytes> {
        self.end(end).stream(StreamId(id)).unwrap().read(100)
    }

    fn closed(&mut self, end: usize, id: u32) -> Option<CloseReason> {
        self.end(end).stream(StreamId(id)).unwrap().closed()
    }
}

#[test]
fn a_relay_changes_the_id_and_nothing_else() {
    let mut relayed = Relayed::new();
    relayed.end(BOB).stream(StreamId(20)).unwrap().send_message(Bytes::new()).unwrap();
    relayed.run();
    assert_eq!(relayed.hops.len(), 1, "Alice is not known to the relay: the packet is dropped");
    relayed.write(ALICE, 10, "via relay");
    relayed.run();
    assert_eq!(relayed.read(BOB, 20).unwrap(), "via relay");
    relayed.write(BOB, 20, "back");
    relayed.run();
    assert_eq!(relayed.read(ALICE, 10).unwrap(), "back");
    let passed: Vec<_> = relayed.hops.iter().filter(|(from, _)| *from == RELAY).collect();
    assert_eq!(passed.len(), 4, "data and acknowledgement each way");
    for (_, bytes) in passed {
        let header = Header::decode(bytes).unwrap();
        let original = Header { stream: if header.stream == 20 { 100 } else { 200 }, ..header }.encode();
        assert!(relayed.hops.iter().any(|(_, hop)| hop.starts_with(&original) && hop[20..] == bytes[20..]));
    }
}

#[test]
fn a_destroy_is_passed_on_and_closes_the_relay() {
    let mut relayed = Relayed::new();
    relayed.write(ALICE, 10, "a");
    relayed.write(BOB, 20, "b");
    relayed.run();
    relayed.end(ALICE).stream(StreamId(10)).unwrap().destroy();
    relayed.run();
    assert_eq!(relayed.closed(RELAY, 100), Some(CloseReason::Reset));
    assert_eq!(relayed.closed(RELAY, 200), Some(CloseReason::RelayClosed(StreamId(100))));
}

#[test]
fn closing_a_stream_closes_what_relays_to_it_silently() {
    let mut relayed = Relayed::new();
    relayed.write(ALICE, 10, "a");
    relayed.run();
    relayed.hops.clear();
    relayed.end(RELAY).forget(StreamId(200));
    relayed.run();
    assert_eq!(relayed.closed(RELAY, 100), Some(CloseReason::RelayClosed(StreamId(200))));
    assert_eq!(relayed.hops.len(), 0, "a relaying stream says nothing when it is destroyed");
}

#[test]
fn a_relay_of_a_stream_to_itself_does_no_harm() {
    let mut relayed = Relayed::new();
    relayed.end(RELAY).stream(StreamId(100)).unwrap().relay_to(StreamId(100));
    relayed.write(ALICE, 10, "a");
    relayed.run();
    relayed.end(RELAY).forget(StreamId(100));
    assert!(relayed.end(RELAY).stream(StreamId(100)).is_none());
}

/// Where each datagram of side 0 goes, and its flags and number, after a turn.
fn destinations(pair: &mut Pair, socket: SocketId) -> Vec<(SocketAddr, u8, u32)> {
    let mut buffer = Vec::new();
    let mut out = Vec::new();
    while let Some(transmit) = pair.ends[0].poll_transmit(pair.now, socket, 1, &mut buffer) {
        let header = Header::decode(&buffer).unwrap();
        out.push((transmit.destination, header.flags, header.seq));
        buffer.clear();
    }
    out
}

#[test]
fn after_a_change_new_packets_go_the_new_way_and_old_ones_are_repeated_on_the_old_way() {
    let mut pair = Pair::connected(1);
    let (new_socket, new_address) = (SocketId(9), address(7));
    pair.write(0, "old");
    assert_eq!(destinations(&mut pair, SOCKET), [(address(1), flag::DATA, 0)]);
    let now = pair.now;
    let remote = Remote { id: 77, address: new_address, path_mtu: 1500 };
    pair.stream(0).change_remote(now, new_socket, remote).unwrap();
    pair.write(0, "new");
    assert_eq!(destinations(&mut pair, SOCKET), []);
    assert_eq!(destinations(&mut pair, new_socket), [(new_address, flag::DATA, 1)]);
    pair.now += Duration::from_secs(1);
    let now = pair.now;
    pair.ends[0].handle_timeout(now);
    let old = destinations(&mut pair, SOCKET);
    let new = destinations(&mut pair, new_socket);
    assert_eq!((old, new), (vec![(address(1), flag::DATA, 0)], vec![(new_address, flag::DATA, 1)]));
    while pair.ends[0].poll_event().is_some() {}
    pair.ends[0].handle_datagram(now, new_socket, new_address, &packet(0, 0, 1, b""));
    assert_eq!(pair.ends[0].poll_event(), Some((IDS[0], Event::RemoteChanged)));
}

#[test]
fn a_change_without_packets_under_way_is_done_at_once() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let remote = Remote { id: 77, address: address(7), path_mtu: 1500 };
    pair.stream(0).change_remote(now, SOCKET, remote).unwrap();
    assert_eq!(pair.ends[0].poll_event(), Some((IDS[0], Event::RemoteChanged)));
}

#[test]
fn a_change_starts_the_search_for_larger_packets_anew() {
    let mut pair = Pair::connected(1);
    pair.tracing = false;
    let trickle = |pair: &mut Pair| {
        for _ in 0..50 {
            pair.write(0, pattern(20_000));
            pair.run_for(20 * MS);
        }
    };
    trickle(&mut pair);
    assert_eq!(pair.stream(0).stats().mtu, 1500);
    let now = pair.now;
    let remote = Remote { id: IDS[1].0, address: address(1), path_mtu: 1400 };
    pair.stream(0).change_remote(now, SOCKET, remote).unwrap();
    assert_eq!(pair.stream(0).stats().mtu, 1200);
    trickle(&mut pair);
    assert_eq!(pair.stream(0).stats().mtu, 1400);
    assert_eq!(pair.received[1].len(), 2_000_000);
}

#[test]
fn transfers_survive_a_change_in_the_middle() {
    let mut pair = Pair::connected(3);
    (pair.tracing, pair.loss) = (false, 0.05);
    pair.write(0, pattern(2_000_000));
    pair.run_for(40 * MS);
    for _ in 0..3 {
        let now = pair.now;
        let remote = Remote { id: IDS[1].0, address: address(1), path_mtu: 1500 };
        pair.stream(0).change_remote(now, SOCKET, remote).unwrap();
        pair.run_for(30 * MS);
    }
    pair.run_for(Duration::from_secs(60));
    assert!(pair.received[1] == pattern(2_000_000));
}
