//! Pushes each cap to its limit and one beyond.

use super::*;
use crate::limits::v4::{
    MAX_ANNOUNCED_RELAYS, MAX_NAMED_RELAYS, MAX_PEERS_PER_REPLY, MAX_PUNCHED_ADDRESSES, MAX_SHARED_ADDRESSES,
};
use crate::limits::{MAX_ARRAY_ITEMS, MAX_BUCKET_NODES};

/// As many different addresses.
fn addresses4(count: usize) -> Vec<SocketAddrV4> {
    (0..count).map(|n| SocketAddrV4::new([192, 0, 2, n as u8].into(), 1000 + n as u16)).collect()
}

/// One below the cap, the cap, and one beyond: what is kept of so many.
fn kept(cap: usize, keep: impl Fn(&[SocketAddrV4]) -> Vec<SocketAddrV4>) {
    for count in [cap - 1, cap, cap + 1] {
        let all = addresses4(count);
        assert_eq!(keep(&all), all[..count.min(cap)], "{count}");
    }
}

#[test]
fn the_first_20_closer_nodes_of_a_reply_are_kept() {
    assert_eq!(MAX_BUCKET_NODES, 20);
    kept(MAX_BUCKET_NODES, |nodes| {
        let reply = Reply {
            closer_nodes: nodes.into(),
            value: Some(b"after"),
            ..Reply::new(1, "10.0.0.1:7".parse().unwrap())
        };
        let bytes = encoded(|out| reply.encode(out));
        let Ok(Packet::Reply(decoded)) = Packet::decode(&bytes) else { panic!("no reply") };
        assert_eq!(decoded.value, reply.value, "what follows the list is read");
        decoded.closer_nodes.iter().collect()
    });
}

#[test]
fn the_first_addresses_of_a_handshake_are_kept() {
    kept(MAX_SHARED_ADDRESSES, |addresses| {
        let v6: Vec<_> =
            addresses.iter().map(|a| SocketAddrV6::new(a.ip().to_ipv6_mapped(), a.port(), 0, 0)).collect();
        let payload = NoisePayload {
            addresses4: addresses.into(),
            addresses6: v6.as_slice().into(),
            secret_stream: Some(1),
            ..NoisePayload::default()
        };
        let bytes = encoded(|out| payload.encode(out));
        let decoded = NoisePayload::decode(&bytes).expect("a payload");
        assert_eq!(decoded.secret_stream, Some(1), "what follows the lists is read");
        assert_eq!(decoded.addresses6.len(), decoded.addresses4.len());
        decoded.addresses4.iter().collect()
    });
}

#[test]
fn the_first_relays_of_a_handshake_are_kept() {
    kept(MAX_NAMED_RELAYS, |relays| {
        let infos: Vec<_> =
            relays.iter().map(|a| RelayInfo { relay_address: *a, peer_address: *a }).collect();
        let payload = NoisePayload {
            holepunch: Some(HolepunchInfo { id: 1, relays: infos.as_slice().into() }),
            relay_addresses: Some(relays.into()),
            ..NoisePayload::default()
        };
        let bytes = encoded(|out| payload.encode(out));
        let decoded = NoisePayload::decode(&bytes).expect("a payload");
        let named = decoded.relay_addresses.expect("relays");
        let punching = decoded.holepunch.expect("relays").relays;
        assert!(punching.iter().map(|relay| relay.relay_address).eq(named));
        named.iter().collect()
    });
}

#[test]
fn the_first_addresses_of_a_holepunch_message_are_kept() {
    kept(MAX_PUNCHED_ADDRESSES, |addresses| {
        let payload = HolepunchPayload { addresses: Some(addresses.into()), ..HolepunchPayload::default() };
        let bytes = encoded(|out| payload.encode(out));
        HolepunchPayload::decode(&bytes).expect("a payload").addresses.expect("addresses").iter().collect()
    });
}

#[test]
fn the_first_three_relays_of_an_announcement_are_stored_and_its_signature_covers_all() {
    assert_eq!(MAX_ANNOUNCED_RELAYS, 3);
    kept(MAX_ANNOUNCED_RELAYS, |relays| {
        let peer = Peer { public_key: [7; 32], relay_addresses: relays.into() };
        let bytes = encoded(|out| peer.encode(out));
        let decoded = Peer::decode(&bytes).expect("a peer");
        assert_eq!(decoded, peer, "a signature is verified over all relays");
        decoded.trimmed().relay_addresses.iter().collect()
    });
}

#[test]
fn the_first_20_peers_of_a_lookup_reply_are_kept() {
    assert_eq!(MAX_PEERS_PER_REPLY, 20);
    for count in [MAX_PEERS_PER_REPLY, MAX_PEERS_PER_REPLY + 1] {
        let relays = addresses4(count);
        let records: Vec<_> = (0..count)
            .map(|n| Peer { public_key: [n as u8; 32], relay_addresses: relays[..n].into() })
            .map(|peer| encoded(|out| peer.encode(out)))
            .collect();
        let bytes = encoded(|out| encode_lookup_reply(records.iter().map(Vec::as_slice), 99, out));
        let reply = LookupReply::decode(&bytes).expect("a reply");
        assert_eq!((reply.peers.len(), reply.bump), (MAX_PEERS_PER_REPLY, 99));
        let again: Vec<_> = reply.peers.iter().map(|peer| encoded(|out| peer.encode(out))).collect();
        assert_eq!(again, records[..MAX_PEERS_PER_REPLY]);
    }
}

#[test]
fn a_reply_of_peers_is_refused_as_a_whole_if_one_is_cut_off() {
    let records = [[7; 33]; 21].map(|mut record: [u8; 33]| {
        record[32] = 0;
        record
    });
    let bytes = encoded(|out| encode_lookup_reply(records.iter().map(<[u8; 33]>::as_slice), 0, out));
    assert!(LookupReply::decode(&bytes).is_ok());
    // The byte of the bump, and one of the peer that would not even be kept.
    let cut = &bytes[..bytes.len() - 2];
    assert_eq!(LookupReply::decode(cut), Err(DecodeError::Truncated("relay addresses")));
}

#[test]
fn lists_of_more_items_than_upstream_takes_or_the_message_has_are_refused() {
    let peer = |count: u64| encoded(|out| uint(out.raw(&[7; 32]), count));
    let refused = |count| Peer::decode(&peer(count)).expect_err("no items");
    assert_eq!(refused(1), DecodeError::Truncated("relay addresses"));
    assert_eq!(refused(MAX_ARRAY_ITEMS), DecodeError::Truncated("relay addresses"));
    assert_eq!(refused(MAX_ARRAY_ITEMS + 1), DecodeError::TooManyItems("relay addresses"));
    let peers = |count: u64| LookupReply::decode(&encoded(|out| uint(out, count))).expect_err("no items");
    assert_eq!(peers(MAX_ARRAY_ITEMS), DecodeError::Truncated("public key"));
    assert_eq!(peers(MAX_ARRAY_ITEMS + 1), DecodeError::TooManyItems("peers"));
}
