//! What an endpoint keeps for its sockets: turns to send, datagrams of no stream, relays.

use std::time::Instant;

use crate::limits::{MAX_UDX_LOOSE_BYTES, MAX_UDX_LOOSE_DATAGRAMS};
use crate::testkit::pair::{IDS, Pair, SOCKET, address, packet};
use crate::udx::{CloseReason, Endpoint, Remote, SocketId, StreamId, StreamOptions, flag};

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
