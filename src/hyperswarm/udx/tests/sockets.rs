//! What an endpoint keeps for its sockets: turns to send, datagrams of no stream, relays.

use std::time::Instant;

use crate::limits::{MAX_UDX_LOOSE_BYTES, MAX_UDX_LOOSE_DATAGRAMS};
use crate::testkit::pair::{IDS, Pair, SOCKET, address, packet};
use crate::udx::{CloseReason, Endpoint, Event, Remote, SocketId, StreamId, StreamOptions, flag};

const SIBLING: SocketId = SocketId(7);
const THIRD: SocketId = SocketId(8);

fn open(end: &mut Endpoint, now: Instant, id: u32) -> StreamId {
    end.open(now, StreamOptions { id: Some(id), ..StreamOptions::default() }).unwrap()
}

/// A packet of a peer for the stream with this id.
fn packet_for(id: StreamId, flags: u8, ack: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = packet(flags, 0, ack, payload);
    bytes[4..8].copy_from_slice(&id.0.to_le_bytes());
    bytes
}

/// Datagrams that leave a socket in one turn.
fn sent(end: &mut Endpoint, now: Instant, socket: SocketId) -> usize {
    let mut buffer = Vec::new();
    std::iter::from_fn(|| end.poll_transmit(now, socket, 1, &mut buffer)).count()
}

fn remote() -> Remote {
    Remote { id: 9, address: address(1), path_mtu: 1500 }
}

/// A stream on this socket that has ended at both sides, and whose last acknowledgement may be repeated.
fn ended(end: &mut Endpoint, now: Instant, id: u32, socket: SocketId) -> StreamId {
    let id = open(end, now, id);
    end.stream(id).unwrap().connect(now, socket, remote()).unwrap();
    end.stream(id).unwrap().finish(now);
    assert_eq!(sent(end, now, socket), 1);
    end.handle_datagram(now, socket, address(1), &packet_for(id, flag::END, 1, b""));
    assert_eq!(end.stream(id).unwrap().closed(), Some(CloseReason::Ended));
    end.forget(id);
    id
}

#[test]
fn a_socket_that_is_gone_keeps_nothing_from_leaving_the_others() {
    let mut pair = Pair::connected(1);
    let (now, end) = (pair.now, &mut pair.ends[0]);
    let late = ended(end, now, 5, SIBLING);
    let again = packet_for(late, flag::END, 1, b"");
    for _ in 0..=MAX_UDX_LOOSE_DATAGRAMS {
        end.handle_datagram(now, SOCKET, address(1), &again);
    }
    end.forget_socket(SIBLING);
    assert!(!end.wants_transmit(SIBLING));
    end.handle_datagram(now, SOCKET, address(1), &again);
    assert!(!end.wants_transmit(SIBLING), "nobody would send it");
    end.forget(IDS[0]);
    assert_eq!(sent(end, now, SOCKET), 1, "a reset");
}

/// Side 0 has something to send, and changed to another socket twice before any had its turn.
fn moved_twice() -> Pair {
    let mut pair = Pair::connected(1);
    pair.write(0, "text");
    let now = pair.now;
    pair.stream(0).change_remote(now, SIBLING, remote()).unwrap();
    pair.stream(0).change_remote(now, THIRD, remote()).unwrap();
    pair
}

#[test]
fn a_stream_that_waits_for_a_socket_that_is_gone_gets_its_turn_on_another() {
    let mut pair = moved_twice();
    let now = pair.now;
    let end = &mut pair.ends[0];
    end.forget_socket(SOCKET);
    end.forget_socket(SIBLING);
    assert_eq!(sent(end, now, THIRD), 1);
}

#[test]
fn the_third_socket_of_a_stream_within_one_turn_gets_its_turn_too() {
    let mut pair = moved_twice();
    let now = pair.now;
    let counts = [SOCKET, SIBLING, THIRD].map(|socket| sent(&mut pair.ends[0], now, socket));
    assert_eq!(counts, [0, 0, 1]);
}

#[test]
fn relayed_datagrams_waiting_for_a_socket_are_weighed() {
    let mut pair = Pair::connected(1);
    let (now, end) = (pair.now, &mut pair.ends[0]);
    let relay = open(end, now, 5);
    end.stream(relay).unwrap().relay_to(IDS[0]);
    let pass_on = |end: &mut Endpoint, length: usize| {
        end.handle_datagram(
            now,
            SOCKET,
            address(1),
            &packet_for(relay, flag::DATA, 0, &vec![0; length - 20]),
        );
    };
    let longest = 65_507;
    let whole = MAX_UDX_LOOSE_BYTES / longest;
    let rest = MAX_UDX_LOOSE_BYTES % longest;
    for round in 0..2 {
        for _ in 0..whole {
            pass_on(end, longest);
        }
        pass_on(end, rest + 1);
        assert_eq!(sent(end, now, SOCKET), whole, "one byte too many, round {round}");
        for _ in 0..whole {
            pass_on(end, longest);
        }
        pass_on(end, rest);
        pass_on(end, 20);
        assert_eq!(sent(end, now, SOCKET), whole + 1, "round {round}");
    }
}

#[test]
fn a_relay_that_is_forgotten_leaves_its_id_to_another_stream() {
    let mut pair = Pair::connected(1);
    let (now, end) = (pair.now, &mut pair.ends[0]);
    let relay = open(end, now, 5);
    end.stream(relay).unwrap().relay_to(IDS[0]);
    end.forget(relay);
    open(end, now, 5);
    end.forget(IDS[0]);
    assert_eq!(end.stream(relay).unwrap().closed(), None);
}

#[test]
fn a_relay_is_closed_with_its_latest_destination_and_no_other() {
    let mut pair = Pair::connected(1);
    let (now, end) = (pair.now, &mut pair.ends[0]);
    let (relay, latest) = (open(end, now, 5), open(end, now, 6));
    end.stream(relay).unwrap().relay_to(IDS[0]);
    end.stream(relay).unwrap().relay_to(latest);
    end.forget(IDS[0]);
    assert_eq!(end.stream(relay).unwrap().closed(), None);
    end.forget(latest);
    assert_eq!(end.stream(relay).unwrap().closed(), Some(CloseReason::RelayClosed(latest)));
}

#[test]
fn relayed_datagrams_of_one_size_to_one_destination_leave_in_a_batch() {
    let mut pair = Pair::connected(1);
    let (now, end) = (pair.now, &mut pair.ends[0]);
    let relay = open(end, now, 5);
    end.stream(relay).unwrap().relay_to(IDS[0]);
    let other = open(end, now, 6);
    end.stream(other).unwrap().connect(now, SOCKET, Remote { address: address(2), ..remote() }).unwrap();
    let to_other = open(end, now, 7);
    end.stream(to_other).unwrap().relay_to(other);
    for (stream, payload) in
        [(relay, &b"full"[..]), (relay, b"full"), (relay, b"end"), (relay, b"full"), (to_other, b"full")]
    {
        end.handle_datagram(now, SOCKET, address(1), &packet_for(stream, flag::DATA, 0, payload));
    }
    let mut batches = Vec::new();
    let mut buffer = Vec::new();
    while let Some(batch) = end.poll_transmit(now, SOCKET, 64, &mut buffer) {
        batches.push((batch.length, batch.segment_size));
    }
    assert_eq!(batches, [(24 + 24 + 23, 24), (24, 24), (24, 24)]);
    for _ in 0..3 {
        end.handle_datagram(now, SOCKET, address(1), &packet_for(relay, flag::DATA, 0, b"full"));
    }
    let lengths =
        std::iter::from_fn(|| end.poll_transmit(now, SOCKET, 2, &mut buffer)).map(|sent| sent.length);
    assert_eq!(lengths.collect::<Vec<_>>(), [48, 24], "no more than wanted");
}

/// What a stream tells of a packet with this payload that comes in on `socket` from the host of this number.
fn told(pair: &mut Pair, socket: SocketId, from: usize, ack: u32) -> Vec<Event> {
    let (now, end) = (pair.now, &mut pair.ends[0]);
    end.handle_datagram(now, socket, address(from), &packet_for(IDS[0], flag::MESSAGE, ack, b""));
    std::iter::from_fn(|| end.poll_event()).map(|(_, event)| event).collect()
}

#[test]
fn a_packet_from_elsewhere_that_could_be_the_peers_is_told_of_once_per_path() {
    let mut pair = Pair::connected(1);
    assert_eq!(told(&mut pair, SOCKET, 1, 0), [Event::Message], "its own path");
    for (socket, from) in [(SOCKET, 2), (SIBLING, 1), (SOCKET, 2)] {
        let elsewhere = Event::OtherPath { socket, from: address(from) };
        assert_eq!(told(&mut pair, socket, from, 0), [elsewhere, Event::Message]);
        assert_eq!(told(&mut pair, socket, from, 0), [Event::Message], "the same path again");
    }
    pair.stream(0).forget_other_path();
    let elsewhere = Event::OtherPath { socket: SOCKET, from: address(2) };
    assert_eq!(told(&mut pair, SOCKET, 2, 0), [elsewhere, Event::Message]);
}

#[test]
fn a_packet_from_elsewhere_that_acknowledges_what_was_never_sent_is_not_told_of() {
    let mut pair = Pair::connected(1);
    assert_eq!(told(&mut pair, SOCKET, 2, 1000), [Event::Message]);
    let now = pair.now;
    pair.ends[0].handle_datagram(now, SOCKET, address(2), &packet(flag::DATA, 0, 0, b"cut")[..12]);
    assert_eq!(pair.ends[0].poll_event(), None);
}

#[test]
fn after_a_change_of_remote_the_old_path_is_the_other_one() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let (id, path_mtu) = (IDS[1].0, 1500);
    let moved = Remote { id, address: address(2), path_mtu };
    pair.stream(0).change_remote(now, SOCKET, moved).unwrap();
    while pair.ends[0].poll_event().is_some() {}
    assert_eq!(told(&mut pair, SOCKET, 2, 0), [Event::Message]);
    let elsewhere = Event::OtherPath { socket: SOCKET, from: address(1) };
    assert_eq!(told(&mut pair, SOCKET, 1, 0), [elsewhere, Event::Message]);
}
