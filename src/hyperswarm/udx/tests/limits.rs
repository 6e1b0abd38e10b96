//! Every limit at its value and one beyond.

use bytes::Bytes;

use crate::limits::{
    MAX_UDX_LINGERING, MAX_UDX_LOOSE_DATAGRAMS, MAX_UDX_MESSAGE_BYTES, MAX_UDX_MESSAGES,
    MAX_UDX_OUT_OF_ORDER, MAX_UDX_SACK_BLOCKS, MAX_UDX_STREAMS, UDX_OUT_OF_ORDER_OVERHEAD,
    UDX_SEND_QUEUE_BYTES, UDX_WINDOW_BYTES, UDX_WINDOW_SLACK_BYTES,
};
use crate::testkit::pair::{IDS, Pair, SOCKET, address, packet};
use crate::udx::{
    CloseReason, Config, Disposition, Endpoint, MessageError, OpenError, Remote, StreamId, StreamOptions,
    flag,
};

fn options(id: u32) -> StreamOptions {
    StreamOptions { id: Some(id), ..StreamOptions::default() }
}

#[test]
fn streams_are_counted() {
    let mut pair = Pair::new(1);
    let now = pair.now;
    let end = &mut pair.ends[0];
    let ids: Vec<_> =
        (1..MAX_UDX_STREAMS).map(|_| end.open(now, StreamOptions::default()).unwrap()).collect();
    assert_eq!(end.len(), MAX_UDX_STREAMS);
    assert_eq!(end.open(now, StreamOptions::default()), Err(OpenError::TooMany(MAX_UDX_STREAMS)));
    end.forget(ids[0]);
    assert_eq!(end.open(now, options(ids[1].0)), Err(OpenError::InUse(ids[1])));
    assert_eq!(end.open(now, options(ids[0].0)), Ok(ids[0]));
}

#[test]
fn a_reader_that_stops_holds_4_mib_at_most() {
    let mut pair = Pair::connected(1);
    pair.reading[0] = false;
    let limit = UDX_WINDOW_BYTES + UDX_WINDOW_BYTES / 8 + UDX_WINDOW_SLACK_BYTES;
    assert_eq!(limit, 4 << 20);
    for seq in 0..64 {
        pair.inject(0, &packet(flag::DATA, seq, 0, &[7; 65_000]));
    }
    let rest = limit - 64 * 65_000;
    pair.inject(0, &packet(flag::DATA, 64, 0, &vec![7; rest + 1]));
    assert_eq!(pair.stream(0).stats().buffered, 64 * 65_000, "one byte too many is refused");
    pair.inject(0, &packet(flag::DATA, 64, 0, &vec![7; rest]));
    assert_eq!(pair.stream(0).stats().buffered, limit);
    pair.inject(0, &packet(flag::DATA, 65, 0, b"x"));
    pair.inject(0, &packet(flag::DATA, 66, 0, b""));
    assert_eq!(pair.stream(0).stats().buffered, limit);
    assert_eq!(pair.stream(0).stats().packets_ignored, 3);
    pair.reading[0] = true;
    pair.drain();
    pair.inject(0, &packet(flag::DATA, 65, 0, b"x"));
    assert_eq!(pair.received[0].len(), limit + 1);
}

#[test]
fn packets_out_of_order_are_counted() {
    let mut pair = Pair::connected(1);
    let most = MAX_UDX_OUT_OF_ORDER as u32;
    pair.inject(0, &packet(flag::DATA, most + 1, 0, b""));
    assert_eq!(pair.stream(0).stats().buffered, 0, "too far ahead");
    for seq in 1..=most {
        pair.ends[0].handle_datagram(pair.now, SOCKET, address(1), &packet(flag::DATA, seq, 0, b""));
    }
    assert_eq!(pair.stream(0).stats().buffered, MAX_UDX_OUT_OF_ORDER * UDX_OUT_OF_ORDER_OVERHEAD);
    pair.inject(0, &packet(flag::DATA, 0, 0, b""));
    assert_eq!(pair.stream(0).stats().buffered, 0, "all in order");
    assert_eq!(pair.sent(0).last().unwrap().1.header.ack, most + 1);
}

#[test]
fn payload_and_overhead_of_packets_out_of_order_fill_4_mib() {
    let mut pair = Pair::connected(1);
    let cost = 65_408 + UDX_OUT_OF_ORDER_OVERHEAD;
    assert_eq!(64 * cost, 4 << 20);
    for seq in 1..=64 {
        pair.inject(0, &packet(flag::DATA, seq, 0, &[7; 65_408]));
    }
    assert_eq!(pair.stream(0).stats().buffered, 4 << 20);
    pair.inject(0, &packet(flag::DATA, 65, 0, b""));
    assert_eq!(pair.stream(0).stats().buffered, 4 << 20);
}

#[test]
fn sack_blocks_are_counted() {
    for (gaps, blocks) in
        [(MAX_UDX_SACK_BLOCKS, MAX_UDX_SACK_BLOCKS), (MAX_UDX_SACK_BLOCKS + 1, MAX_UDX_SACK_BLOCKS)]
    {
        let mut pair = Pair::connected(1);
        for gap in 1..=gaps as u32 {
            pair.inject(0, &packet(flag::DATA, 2 * gap, 0, b"x"));
        }
        let sent = pair.sent(0);
        let (_, ack) = sent.last().unwrap();
        assert_eq!(ack.sack_blocks().count(), blocks);
        assert!(48 + ack.payload.len() <= 1200);
    }
}

#[test]
fn messages_for_a_reader_are_counted_and_their_bytes_too() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let inject = |pair: &mut Pair, length: usize| {
        pair.ends[0].handle_datagram(now, SOCKET, address(1), &packet(flag::MESSAGE, 0, 0, &vec![0; length]));
    };
    let read_all = |pair: &mut Pair| {
        let mut stream = pair.stream(0);
        std::iter::from_fn(|| stream.read_message()).map(|message| message.len()).collect::<Vec<_>>()
    };
    for _ in 0..=MAX_UDX_MESSAGES {
        inject(&mut pair, 1);
    }
    assert_eq!(read_all(&mut pair), vec![1; MAX_UDX_MESSAGES]);
    for length in [60_000, 60_000, 60_000, 60_000] {
        inject(&mut pair, length);
    }
    inject(&mut pair, MAX_UDX_MESSAGE_BYTES - 240_000 + 1);
    inject(&mut pair, MAX_UDX_MESSAGE_BYTES - 240_000);
    inject(&mut pair, 0);
    inject(&mut pair, 1);
    assert_eq!(read_all(&mut pair)[4..], [MAX_UDX_MESSAGE_BYTES - 240_000, 0]);
}

#[test]
fn messages_to_send_are_counted_and_their_bytes_too() {
    let mut pair = Pair::connected(1);
    let mut stream = pair.stream(0);
    for _ in 0..MAX_UDX_MESSAGES {
        stream.send_message(Bytes::new()).unwrap();
    }
    let error = stream.send_message(Bytes::new()).unwrap_err();
    assert_eq!(error, MessageError::Full { stream: IDS[0], waiting: MAX_UDX_MESSAGES });
    assert_eq!(error.to_string(), "udx stream 1001: 256 messages wait already");
    drop(stream);
    pair.drain();
    let mut stream = pair.stream(0);
    for _ in 0..MAX_UDX_MESSAGE_BYTES / 1024 - 1 {
        stream.send_message(vec![0; 1024].into()).unwrap();
    }
    assert!(stream.send_message(vec![0; 1025].into()).is_err());
    assert_eq!(stream.send_message(vec![0; 1024].into()), Ok(()));
}

#[test]
fn a_writer_is_told_when_enough_is_queued_and_when_there_is_room_again() {
    let mut pair = Pair::new(1);
    pair.write(0, vec![0; UDX_SEND_QUEUE_BYTES - 1]);
    assert_eq!(pair.stream(0).send_room(), 1);
    pair.write(0, vec![0; 1]);
    assert_eq!(pair.stream(0).send_room(), 0);
    pair.write(0, vec![0; 1]);
    assert_eq!(pair.stream(0).send_room(), 0);
    pair.connect();
    pair.run_for(std::time::Duration::from_secs(1));
    let events = &pair.events[0];
    assert_eq!(events.iter().filter(|event| **event == crate::udx::Event::Writable).count(), 1);
    assert_eq!(pair.stream(0).send_room(), UDX_SEND_QUEUE_BYTES);
}

#[test]
fn relayed_datagrams_waiting_for_a_socket_are_counted() {
    let mut pair = Pair::connected(1);
    let now = pair.now;
    let end = &mut pair.ends[0];
    let relay = end.open(now, options(5)).unwrap();
    end.stream(relay).unwrap().relay_to(IDS[0]);
    let mut bytes = packet(flag::DATA, 0, 0, b"x");
    bytes[4..8].copy_from_slice(&5u32.to_le_bytes());
    for _ in 0..=MAX_UDX_LOOSE_DATAGRAMS {
        end.handle_datagram(now, SOCKET, address(1), &bytes);
    }
    let mut buffer = Vec::new();
    let mut sent = 0;
    while let Some(batch) = end.poll_transmit(now, SOCKET, 64, &mut buffer) {
        sent += batch.length / batch.segment_size;
    }
    assert_eq!(sent, MAX_UDX_LOOSE_DATAGRAMS);
    end.handle_datagram(now, SOCKET, address(1), &bytes);
    assert!(end.poll_transmit(now, SOCKET, 64, &mut buffer).is_some());
}

#[test]
fn ended_streams_are_remembered_up_to_a_number() {
    let now = std::time::Instant::now();
    let mut end = Endpoint::new(Config::default(), 1);
    let late = |id: u32, flags: u8, ack: u32| {
        let mut bytes = packet(flags, 0, ack, b"");
        bytes[4..8].copy_from_slice(&id.to_le_bytes());
        bytes
    };
    let mut buffer = Vec::new();
    for id in 0..=MAX_UDX_LINGERING as u32 {
        let id = end.open(now, options(id)).unwrap();
        let mut stream = end.stream(id).unwrap();
        stream.connect(now, SOCKET, Remote { id: 9, address: address(1), path_mtu: 1500 }).unwrap();
        stream.finish(now);
        drop(stream);
        end.poll_transmit(now, SOCKET, 64, &mut buffer).unwrap();
        end.handle_datagram(now, SOCKET, address(1), &late(id.0, flag::END, 1));
        assert_eq!(end.stream(id).unwrap().closed(), Some(CloseReason::Ended));
        end.forget(id);
        while end.poll_transmit(now, SOCKET, 64, &mut buffer).is_some() {}
    }
    let mut answered = |id: u32| {
        let handled = end.handle_datagram(now, SOCKET, address(1), &late(id, flag::END, 1));
        (handled == Disposition::Handled, end.poll_transmit(now, SOCKET, 64, &mut buffer).is_some())
    };
    assert_eq!(answered(0), (false, false), "the oldest made room");
    assert_eq!(answered(1), (true, true));
    assert_eq!(answered(MAX_UDX_LINGERING as u32), (true, true));
    assert_eq!(end.open(now, options(1)), Ok(StreamId(1)), "an id can be used again");
}
