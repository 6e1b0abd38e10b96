//! RELIABILITY 2: no decoder allocates more than 64 times its input and 4 KiB.

mod counting;

use counting::peak;
use hyperswarm::codec::compact::{Reader, Writer};
use hyperswarm::codec::v2::{self, mdns};
use hyperswarm::codec::v4;
use hyperswarm::crypto::noise::{Handshake, Keys};
use hyperswarm::crypto::v4::SecurePayload;
use hyperswarm::crypto::{KeyPair, PublicKey};
use hyperswarm::limits::MAX_SECRET_FRAME_BYTES;
use hyperswarm::mux::{ChannelOptions, Event, Mux};
use hyperswarm::secret_stream::{MessageOpener, Opening, Receiver, Sender};
use hyperswarm::udx;

/// A message of the given fields, in the wire format of protobuf.
fn fields(fields: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = vec![0x08, 1, 0x10, 7];
    for (number, bytes) in fields {
        out.push(number << 3 | 2);
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
    }
    out
}

/// Name and call of a decoder, whose result is dropped at once.
type Decoder = (&'static str, fn(&[u8]));

/// Inputs meant to cost much: long lists, lengths that promise more than there is, many repetitions, deep nesting.
fn inputs() -> Vec<Vec<u8>> {
    let long = vec![1; 60_000];
    let mut all = vec![Vec::new(), long.clone(), vec![0; 60_000], vec![0xff; 60_000]];
    all.push(fields(&[(9, &long)]));
    all.push(fields(&[(5, &long), (7, &long), (8, &long), (9, &long)]));
    all.push(fields(&vec![(9, b"0123456789".as_slice()); 4000]));
    all.push(fields(&vec![(9, b"".as_slice()); 20_000]));
    // Field 9 promises 2^62 bytes; field 15 opens 20,000 groups.
    all.push([b"\x08\x01\x10\x07\x4a".as_slice(), &[0x80; 8], &[0x40, 1, 2, 3]].concat());
    all.push([b"\x08\x01\x10\x07".as_slice(), &[0x7b; 20_000]].concat());
    // Batches of protomux: opens of an unknown and of a known protocol, messages for both kinds of channel.
    let open = |channel: u8, name: &[u8; 4]| [&[9, 1, channel, 4], &name[..], &[0, 0]].concat();
    all.push([&[0, 0, 0], &open(1, b"none").repeat(5000)[..]].concat());
    all.push([&[0, 0, 0], &(1..60).flat_map(|n| open(n, b"late")).collect::<Vec<_>>()[..]].concat());
    all.push([&[0, 0, 0], &open(1, b"late")[..], &[0, 1], &[1, 0].repeat(20_000)].concat());
    all.push([&[0, 0, 0], &open(1, b"test")[..], &[0, 1], &[1, 0].repeat(20_000)].concat());
    // The longest frames of a handshake and of a secret stream, announced and no more.
    all.extend([vec![0xff, 0xff, 0], vec![0xff; 3], vec![0xff; 4]]);
    // Packets of dht-rpc: as many closer nodes as fit, more promised than there are, and a value of 60,000 bytes.
    let head = |kind, flags| vec![kind, flags, 1, 0, 10, 0, 0, 1, 7, 0];
    all.push([&head(0x13, 4)[..], &[0xfd, 0x10, 0x27], &long].concat());
    all.push([&head(0x13, 4)[..], &[0xfe, 0, 0, 0x10, 0], &long].concat());
    all.push([&head(0x03, 16)[..], &[0, 0xfd, 0x60, 0xea], &long].concat());
    // A lookup reply of 1000 peers, and a payload of a handshake with every list.
    all.push([&[0xfd, 0xe8, 3], &[0; 33_000][..], &[0]].concat());
    let list = |bytes| [&[0xfd, 0xe8, 3][..], &vec![1; bytes]].concat();
    all.push([vec![1, 71, 0, 0, 0], list(12_000), list(6000), list(18_000), list(6000)].concat());
    for length in [1, 5, 6, 14, 38, 100, 1000, 4096] {
        all.push(vec![7; length]);
        all.push(fields(&[(1, &vec![7; length]), (2, &vec![7; length])]));
    }
    all
}

#[test]
fn decoders_allocate_in_proportion_to_their_input() {
    let decoders: [Decoder; 21] = [
        ("Message", |b| drop(v2::Message::decode(b))),
        ("Holepunch", |b| drop(v2::Holepunch::decode(b))),
        ("PeersInput", |b| drop(v2::PeersInput::decode(b))),
        ("PeersOutput", |b| drop(v2::PeersOutput::decode(b))),
        ("Mutable", |b| drop(v2::Mutable::decode(b))),
        ("closerNodes", |b| drop(v2::decode_nodes(b))),
        ("peers", |b| drop(v2::decode_peers(b))),
        ("peersWithLength", |b| drop(v2::decode_peers_with_length(b))),
        ("localPeers", |b| drop(v2::decode_local_peers([10, 0], b))),
        ("mDNS", |b| drop(mdns::Message::decode(b))),
        ("v4 packet", |b| {
            let _ = v4::Packet::decode(b);
        }),
        ("v4 values", read_values_v4),
        ("sealed payload", |b| drop(SecurePayload::new([5; 32].into()).open(b))),
        ("array of uint", |b| drop(Reader::new(b).array("list", |r| r.uint("item")))),
        ("array of array", |b| {
            drop(Reader::new(b).array("list", |r| r.array("inner", |r| r.string("item"))))
        }),
        ("udx packet", |b| {
            drop(udx::Packet::decode(b).map(|packet| packet.sack_blocks().collect::<Vec<_>>()))
        }),
        ("noise message", read_handshake),
        ("secret stream opening", read_opening),
        ("secret stream", read_secret_stream),
        ("unordered message", |b| drop(MessageOpener::new(&keys(false)).open(b))),
        ("protomux message", read_protomux),
    ];
    let mut worst = (0.0, "");
    for input in inputs() {
        for (name, decode) in decoders {
            let bytes = peak(|| decode(&input));
            let bar = 64 * input.len() + 4096;
            assert!(bytes <= bar, "{name}: {bytes} bytes for an input of {}", input.len());
            let share = bytes as f64 / bar as f64;
            if share > worst.0 {
                worst = (share, name);
            }
        }
    }
    println!("check 2: measured {:.3} of the bound ({}), bar 1, seed none", worst.0, worst.1);
}

/// Reads bytes as each value of the v4 network, with the lists in them. What one allocates is free before the next.
fn read_values_v4(bytes: &[u8]) {
    let _ = v4::Handshake::decode(bytes);
    let _ = v4::Holepunch::decode(bytes);
    let _ =
        v4::HolepunchPayload::decode(bytes).map(|payload| payload.addresses.map(|list| list.iter().count()));
    let _ = v4::NoisePayload::decode(bytes).map(|payload| payload.addresses6.iter().count());
    let _ = v4::Peer::decode(bytes).map(|peer| peer.relay_addresses.iter().count());
    let _ = v4::LookupReply::decode(bytes).map(|reply| reply.peers.iter().count());
    let _ = v4::Announce::decode(bytes);
    let _ = v4::MutablePut::decode(bytes);
    let _ = v4::MutableValue::decode(bytes);
    let _ = v4::PluginRequest::decode(bytes);
}

#[test]
fn decoding_and_encoding_a_reply_with_20_nodes_allocates_nothing() {
    let nodes = [std::net::SocketAddrV4::new([192, 0, 2, 1].into(), 4001); 20];
    let to = std::net::SocketAddrV4::new([10, 0, 0, 1].into(), 7);
    let reply =
        v4::Reply { id: Some([7; 32]), closer_nodes: nodes.as_slice().into(), ..v4::Reply::new(1, to) };
    let mut out = Writer::with_capacity(256);
    assert_eq!(peak(|| reply.encode(&mut out)), 0);
    let decoded = || match v4::Packet::decode(out.as_slice()) {
        Ok(v4::Packet::Reply(reply)) => assert!(reply.closer_nodes.iter().eq(nodes)),
        other => panic!("{other:?}"),
    };
    assert_eq!(peak(decoded), 0);
}

/// Reads a message as the first of a handshake.
fn read_handshake(bytes: &[u8]) {
    let own = KeyPair::from_seed(&[9; 32]);
    drop(Handshake::xx(false, &own, b"", [7; 32].into()).read(bytes));
}

/// Reads bytes as the first of a secret stream without keys.
fn read_opening(bytes: &[u8]) {
    let own = KeyPair::from_seed(&[9; 32]);
    let opening = Opening::new(Handshake::xx(false, &own, b"", [7; 32].into()));
    assert!(opening.is_ok());
    drop(opening.map(|(mut opening, _)| opening.receive(bytes::Bytes::copy_from_slice(bytes))));
}

/// Reads bytes as those of a secret stream after its header.
fn read_secret_stream(bytes: &[u8]) {
    let mut receiver = Receiver::new(&keys(false), MAX_SECRET_FRAME_BYTES);
    receiver.receive(Sender::new(&keys(true), &[5; 24]).1);
    assert_eq!(receiver.next_message(), Ok(None));
    receiver.receive(bytes::Bytes::copy_from_slice(bytes));
    while let Ok(Some(_)) = receiver.next_message() {}
}

/// Keys of either side of a handshake.
fn keys(initiator: bool) -> Keys {
    let (tx, rx) = if initiator { ([1; 32], [2; 32]) } else { ([2; 32], [1; 32]) };
    Keys { initiator, remote: PublicKey([3; 32]), handshake_hash: [4; 64], tx: tx.into(), rx: rx.into() }
}

/// Reads a message as one of a connection with channels of every kind, answering nothing and taking no rejects.
fn read_protomux(bytes: &[u8]) {
    let mut mux = Mux::new();
    mux.pair("late", b"");
    let _ = mux.open("test", b"", ChannelOptions::default());
    let _ = mux.handle_message(bytes::Bytes::copy_from_slice(bytes));
    while let Some(event) = mux.poll_event() {
        if let Event::Failed(_) = event {
            break;
        }
    }
}

#[test]
fn the_allocator_counts() {
    assert!(peak(|| drop(Vec::<u8>::with_capacity(10_000))) >= 10_000);
}
