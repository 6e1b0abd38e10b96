//! What a persistent node stores, and for whom.

use super::*;
use crate::codec::v4::{Announce, List, LookupReply, MutablePut, MutableValue, Peer};
use crate::crypto::v4::{Announcement, mutable_signable};
use crate::crypto::{blake2b_256, vectors};
use crate::limits::v4::{
    MAX_ANNOUNCED_RELAYS, MAX_ANNOUNCEMENTS, MAX_ANNOUNCEMENTS_PER_TOPIC, MAX_BUMPS, MAX_FORWARDS,
    MAX_PEERS_PER_REPLY, MAX_REFRESHES, MAX_VALUE_BYTES, MAX_VALUES,
};
use announcement::At;

/// An announcement that may have everything.
struct Told<'a> {
    keys: KeyPair,
    relays: &'a [SocketAddrV4],
    refresh: Option<[u8; 32]>,
    bump: u64,
}

impl Told<'_> {
    fn new(number: u64) -> Self {
        Self { keys: keys(number), relays: &[], refresh: None, bump: 0 }
    }

    fn sign(&self, target: Target, node: NodeId, token: [u8; 32], remove: bool) -> Vec<u8> {
        let peer = Peer { public_key: self.keys.public().0, relay_addresses: List::from(self.relays) };
        let encoded_peer = encoded(|out| peer.encode(out));
        let signed = Announcement {
            target: &target,
            node: &node.0,
            token: &token,
            peer: &encoded_peer,
            refresh: self.refresh.as_ref(),
        };
        let signable = if remove { signed.unannounce_signable() } else { signed.announce_signable() };
        let signature = Some(self.keys.sign(&signable).0);
        let announce = Announce { peer: Some(peer), refresh: self.refresh, signature, bump: self.bump };
        encoded(|out| announce.encode(out))
    }

    fn announce(&self, dht: &mut Hyperdht, now: Instant, from: SocketAddrV4, target: Target) -> bool {
        let own = id_of(dht);
        let done =
            write(dht, now, from, Command::ANNOUNCE, target, |token| self.sign(target, own, token, false));
        done == Some(ErrorCode::NONE)
    }

    fn unannounce(&self, dht: &mut Hyperdht, now: Instant, from: SocketAddrV4, target: Target) -> bool {
        let own = id_of(dht);
        let done =
            write(dht, now, from, Command::UNANNOUNCE, target, |token| self.sign(target, own, token, true));
        done == Some(ErrorCode::NONE)
    }
}

fn told_of(dht: &mut Hyperdht, now: Instant, target: Target) -> Vec<[u8; 32]> {
    let Some(value) = read(dht, now, Command::LOOKUP, target) else { return Vec::new() };
    LookupReply::decode(&value).expect("a reply").peers.iter().map(|peer| peer.public_key).collect()
}

fn put(keys: &KeyPair, seq: u64, value: &[u8]) -> Vec<u8> {
    announcement::put_mutable(keys, seq, value).to_vec()
}

#[test]
fn an_announced_peer_is_told_of_until_it_is_removed() {
    let (mut dht, now) = alone();
    let relays = [addr(5), addr(6)];
    let told = Told { relays: &relays, ..Told::new(1) };
    assert!(told.announce(&mut dht, now, STRANGER, TOPIC));
    let value = read(&mut dht, now, Command::LOOKUP, TOPIC).expect("known");
    let found = LookupReply::decode(&value).expect("a reply");
    let peer = found.peers.iter().next().expect("a peer");
    assert_eq!((peer.public_key, peer.relay_addresses), (keys(1).public().0, List::from(&relays[..])));
    assert_eq!((found.peers.len(), found.bump), (1, 0));
    assert_eq!(read(&mut dht, now, Command::FIND_PEER, TOPIC), None, "not the hash of its key");
    assert!(told.unannounce(&mut dht, now, STRANGER, TOPIC));
    assert_eq!(read(&mut dht, now, Command::LOOKUP, TOPIC), None);
}

#[test]
fn an_announcement_is_confirmed_without_value_token_or_nodes() {
    let (mut dht, now) = alone();
    let (token, own) = (token(&mut dht, now, STRANGER), id_of(&dht));
    let value = Told::new(1).sign(TOPIC, own, token, false);
    let announce = Request { token: Some(token), ..request(Command::ANNOUNCE, TOPIC, Some(&value)) };
    let sent = answers(&mut dht, now, STRANGER, &announce);
    let expected = Reply { id: Some(own.0), ..Reply::new(7, STRANGER) };
    assert_eq!(reply(&sent[0]), expected);
}

#[test]
fn recorded_signatures_of_the_original_are_accepted() {
    let vectors = vectors("signatures.json");
    let hex = |case: &serde_json::Value, name: &str| {
        data_encoding::HEXLOWER.decode(case[name].as_str().unwrap_or_default().as_bytes()).expect("hex")
    };
    let fixed =
        |case: &serde_json::Value, name: &str| -> [u8; 32] { hex(case, name).try_into().expect("32 bytes") };
    let now = Instant::now();
    let mut rng = StdRng::from_seed([1; 32]);
    let cases = vectors["announce"].as_array().expect("cases");
    assert!(cases.len() >= 4);
    for case in cases {
        let mut storage = Storage::new(now);
        let value = hex(case, "request_value");
        let (target, token) = (fixed(case, "target"), fixed(case, "token"));
        let write = storage::Write { from: STRANGER, target, token, value: &value };
        let own = NodeId(fixed(case, "node_id"));
        let removes = case["name"].as_str().is_some_and(|name| name.starts_with("unannounce"));
        let wall = 1 << 50;
        let done = match removes {
            true => storage.unannounce(now, own, &write),
            false => storage.announce(now, own, &write, wall, &mut rng),
        };
        assert!(done, "{}", case["name"]);
        let other = storage::Write { token: [0; 32], ..write };
        assert!(!storage.announce(now, own, &other, wall, &mut rng), "{}", case["name"]);
        assert!(!storage.unannounce(now, own, &other), "{}", case["name"]);
    }
    for case in vectors["mutable"].as_array().expect("cases") {
        let (mut storage, value) = (Storage::new(now), hex(case, "put_request_value"));
        let target = fixed(case, "target");
        let write = storage::Write { from: STRANGER, target, token: [0; 32], value: &value };
        assert_eq!(storage.put_mutable(&write), Some(ErrorCode::NONE), "{case}");
    }
    for case in vectors["immutable"].as_array().expect("cases") {
        let (mut storage, value) = (Storage::new(now), hex(case, "value"));
        let target = fixed(case, "target");
        let write = storage::Write { from: STRANGER, target, token: [0; 32], value: &value };
        assert!(storage.put_immutable(&write));
    }
}

#[test]
fn what_is_not_signed_by_the_peer_for_this_node_and_token_gets_no_reply() {
    let (mut dht, now) = alone();
    let (own, other) = (id_of(&dht), NodeId([3; 32]));
    let told = Told::new(1);
    type Forge<'a> = &'a dyn Fn([u8; 32]) -> Vec<u8>;
    let forged: [(&str, Forge<'_>); 6] = [
        ("for another node", &|token| told.sign(TOPIC, other, token, false)),
        ("for another token", &|_| told.sign(TOPIC, own, [1; 32], false)),
        ("for another topic", &|token| told.sign([7; 32], own, token, false)),
        ("for a removal", &|token| told.sign(TOPIC, own, token, true)),
        ("of another peer", &|token| {
            let mut value = told.sign(TOPIC, own, token, false);
            value[1..33].copy_from_slice(&keys(2).public().0);
            value
        }),
        ("without a signature", &|_| {
            let peer = Peer { public_key: keys(1).public().0, relay_addresses: List::default() };
            encoded(|out| Announce { peer: Some(peer), ..Announce::default() }.encode(out))
        }),
    ];
    for (how, forge) in forged {
        let done = write(&mut dht, now, STRANGER, Command::ANNOUNCE, TOPIC, forge);
        assert_eq!(done, None, "{how}");
    }
    assert!(told_of(&mut dht, now, TOPIC).is_empty());
    assert!(told.announce(&mut dht, now, STRANGER, TOPIC));
    let done = write(&mut dht, now, STRANGER, Command::UNANNOUNCE, TOPIC, |token| {
        told.sign(TOPIC, own, token, false)
    });
    assert_eq!((done, told_of(&mut dht, now, TOPIC).len()), (None, 1), "an announcement removes nothing");
}

#[test]
fn nothing_is_stored_without_a_token() {
    let (mut dht, now) = alone();
    let (own, told) = (id_of(&dht), Told::new(1));
    let immutable = b"value".to_vec();
    let hash = blake2b_256(&[&immutable]);
    let key = hash_of(&keys(1));
    let writes = [
        (Command::ANNOUNCE, TOPIC, told.sign(TOPIC, own, [0; 32], false)),
        (Command::UNANNOUNCE, TOPIC, told.sign(TOPIC, own, [0; 32], true)),
        (Command::MUTABLE_PUT, key, put(&keys(1), 1, b"value")),
        (Command::IMMUTABLE_PUT, hash, immutable),
    ];
    for (command, target, value) in &writes {
        let without = request(*command, *target, Some(value));
        assert!(answers(&mut dht, now, STRANGER, &without).is_empty(), "{command:?}");
        let forged = Request { token: Some([0; 32]), ..without };
        let sent = answers(&mut dht, now, STRANGER, &forged);
        assert_eq!(reply(&sent[0]).error, ErrorCode::INVALID_TOKEN, "{command:?}");
    }
    assert!(told_of(&mut dht, now, TOPIC).is_empty());
    assert_eq!(read(&mut dht, now, Command::MUTABLE_GET, key), None);
    assert_eq!(read(&mut dht, now, Command::IMMUTABLE_GET, hash), None);
}

#[test]
fn a_node_that_is_not_persistent_stores_nothing_and_says_so() {
    let now = Instant::now();
    let mut dht = Hyperdht::new(now, config(&[], Persistence::Ephemeral), seed(1));
    for number in 2..=10 {
        let command = Command { internal: false, number };
        let sent = answers(&mut dht, now, STRANGER, &request(command, TOPIC, Some(b"x")));
        assert_eq!(reply(&sent[0]), Reply { error: ErrorCode::UNKNOWN_COMMAND, ..Reply::new(7, STRANGER) });
    }
}

#[test]
fn senseless_requests_and_those_for_plugins_get_no_reply_and_unknown_ones_an_error() {
    let (mut dht, now) = alone();
    for number in 2..=9 {
        let command = Command { internal: false, number };
        let no_target = Request { target: None, ..request(command, TOPIC, None) };
        assert!(answers(&mut dht, now, STRANGER, &no_target).is_empty(), "{number}");
    }
    assert!(answers(&mut dht, now, STRANGER, &request(Command::MUTABLE_GET, TOPIC, None)).is_empty());
    assert!(answers(&mut dht, now, STRANGER, &request(Command::MUTABLE_GET, TOPIC, Some(&[]))).is_empty());
    let plugin = b"\x03abc\x01\x01\x00";
    assert!(answers(&mut dht, now, STRANGER, &request(Command::PLUGIN, TOPIC, Some(plugin))).is_empty());
    for command in [Command::ANNOUNCE, Command::UNANNOUNCE, Command::MUTABLE_PUT, Command::IMMUTABLE_PUT] {
        assert_eq!(write(&mut dht, now, STRANGER, command, TOPIC, |_| vec![0xff; 3]), None, "{command:?}");
    }
    let unknown = Command { internal: false, number: 11 };
    let sent = answers(&mut dht, now, STRANGER, &request(unknown, TOPIC, None));
    assert_eq!(reply(&sent[0]).error, ErrorCode::UNKNOWN_COMMAND);
}

#[test]
fn three_relays_of_an_announcement_are_kept_though_its_signature_covers_all() {
    let (mut dht, now) = alone();
    let relays: Vec<SocketAddrV4> = (0..MAX_ANNOUNCED_RELAYS + 1).map(addr).collect();
    let told = Told { relays: &relays, ..Told::new(1) };
    assert!(told.announce(&mut dht, now, STRANGER, TOPIC));
    let value = read(&mut dht, now, Command::LOOKUP, TOPIC).expect("known");
    let found = LookupReply::decode(&value).expect("a reply");
    let kept = found.peers.iter().next().expect("a peer").relay_addresses;
    assert_eq!(kept, List::from(&relays[..MAX_ANNOUNCED_RELAYS]));
}

#[test]
fn a_reply_names_twenty_peers_at_random() {
    let (mut dht, now) = alone();
    for n in 0..60 {
        assert!(Told::new(n).announce(&mut dht, now, addr(n as usize), TOPIC));
    }
    let (one, other) = (told_of(&mut dht, now, TOPIC), told_of(&mut dht, now, TOPIC));
    assert_eq!((one.len(), other.len()), (MAX_PEERS_PER_REPLY, MAX_PEERS_PER_REPLY));
    assert_ne!(one, other);
}

#[test]
fn a_peer_that_announces_again_from_elsewhere_has_one_record_with_its_new_relays() {
    let (mut dht, now) = alone();
    assert!(Told::new(1).announce(&mut dht, now, STRANGER, TOPIC));
    let relays = [addr(5)];
    let moved = Told { relays: &relays, ..Told::new(1) };
    assert!(moved.announce(&mut dht, now, addr(1), TOPIC));
    let value = read(&mut dht, now, Command::LOOKUP, TOPIC).expect("known");
    let found = LookupReply::decode(&value).expect("a reply");
    let peers: Vec<Peer<'_>> = found.peers.iter().collect();
    assert_eq!((peers.len(), peers[0].relay_addresses), (1, List::from(&relays[..])));
}

#[test]
fn a_peer_announced_under_the_hash_of_its_key_is_found_there_and_told_of_last() {
    let (mut dht, now) = alone();
    let target = hash_of(&keys(1));
    assert!(Told::new(1).announce(&mut dht, now, STRANGER, target));
    let record = read(&mut dht, now, Command::FIND_PEER, target).expect("known");
    let peer = Peer { public_key: keys(1).public().0, relay_addresses: List::default() };
    assert_eq!(record, encoded(|out| peer.encode(out)));
    assert!(Told::new(2).announce(&mut dht, now, STRANGER, target), "as a topic, by somebody else");
    let both = [keys(2).public().0, keys(1).public().0];
    assert_eq!(told_of(&mut dht, now, target), both);
    assert_eq!(dht.forward(&target), Some(STRANGER));
    assert!(Told::new(1).unannounce(&mut dht, now, STRANGER, target));
    assert_eq!(dht.forward(&target), None);
    assert_eq!(told_of(&mut dht, now, target), [keys(2).public().0]);
}

#[test]
fn announcements_live_for_13_to_27_minutes() {
    let (mut dht, now) = alone();
    let target = hash_of(&keys(1));
    Told::new(1).announce(&mut dht, now, STRANGER, target);
    Told::new(1).announce(&mut dht, now, STRANGER, TOPIC);
    assert_eq!(told_of(&mut dht, now + 13 * MINUTE, TOPIC).len(), 1);
    assert!(read(&mut dht, now + 13 * MINUTE, Command::FIND_PEER, target).is_some());
    assert!(told_of(&mut dht, now + 27 * MINUTE, TOPIC).is_empty());
    assert_eq!(read(&mut dht, now + 27 * MINUTE, Command::FIND_PEER, target), None, "reading renews nothing");
}

#[test]
fn a_refresh_brings_an_announcement_back_and_the_chain_goes_on() {
    let (mut dht, mut now) = alone();
    let c2 = [2; 32];
    let c1 = blake2b_256(&[&c2]);
    let c0 = blake2b_256(&[&c1]);
    let target = hash_of(&keys(1));
    for of in [TOPIC, target] {
        let told = Told { refresh: Some(c0), ..Told::new(1) };
        assert!(told.announce(&mut dht, now, STRANGER, of));
        for (preimage, known) in [(c2, false), (c1, true), (c1, false), (c2, true)] {
            now += 5 * MINUTE;
            let value = encoded(|out| {
                Announce { refresh: Some(preimage), ..Announce::default() }.encode(out);
            });
            let done = write(&mut dht, now, addr(3), Command::ANNOUNCE, of, |_| value);
            assert_eq!(done, known.then_some(ErrorCode::NONE));
        }
        // Twenty minutes after the announcement, five after the last refresh.
        assert_eq!(told_of(&mut dht, now + 10 * MINUTE, of), [keys(1).public().0]);
    }
    assert_eq!(dht.forward(&target), Some(addr(3)), "handshakes go to where the refresh came from");
}

#[test]
fn the_latest_bump_of_a_topic_is_told_unless_it_is_in_the_future() {
    let (mut dht, now) = alone();
    let wall = dht.wall(now);
    let bumps = [(wall - 5, wall - 5), (wall - 9, wall - 5), (wall + 60_000, wall + 60_000)];
    for (n, (bump, told)) in (0..).zip(bumps.into_iter().chain([(wall + 60_001, wall + 60_000)])) {
        assert!(Told { bump, ..Told::new(n) }.announce(&mut dht, now, STRANGER, TOPIC));
        let value = read(&mut dht, now, Command::LOOKUP, TOPIC).expect("known");
        assert_eq!(LookupReply::decode(&value).expect("a reply").bump, told);
    }
}

#[test]
fn a_mutable_value_is_replaced_by_newer_ones_only() {
    let (mut dht, now) = alone();
    let (keys, target) = (keys(1), hash_of(&keys(1)));
    let steps = [
        (5, &b"five"[..], ErrorCode::NONE),
        (5, b"five", ErrorCode::NONE),
        (5, b"other", ErrorCode::SEQ_REUSED),
        (4, b"four", ErrorCode::SEQ_TOO_LOW),
        (6, b"", ErrorCode::NONE),
        (300, b"high", ErrorCode::NONE),
    ];
    for (seq, value, code) in steps {
        let done = write(&mut dht, now, STRANGER, Command::MUTABLE_PUT, target, |_| put(&keys, seq, value));
        assert_eq!(done, Some(code), "{seq}");
    }
    let stored = read(&mut dht, now, Command::MUTABLE_GET, target).expect("stored");
    let stored = MutableValue::decode(&stored).expect("a value");
    assert_eq!((stored.seq, stored.value), (300, &b"high"[..]));
    assert!(storage::verify_mutable(&keys.public(), &stored));
    for (minimum, known) in [(300, true), (301, false)] {
        let value = encoded(|out| {
            out.uint(minimum);
        });
        let sent = answers(&mut dht, now, STRANGER, &request(Command::MUTABLE_GET, target, Some(&value)));
        assert_eq!((reply(&sent[0]).value.is_some(), reply(&sent[0]).token.is_some()), (known, true));
    }
}

#[test]
fn a_mutable_value_that_is_forged_or_of_another_target_gets_no_reply() {
    let (mut dht, now) = alone();
    let target = hash_of(&keys(1));
    let signature = keys(2).sign(&mutable_signable(b"\x01\x05value")).0;
    let stored = MutableValue { seq: 1, value: b"value", signature };
    let forged = encoded(|out| MutablePut { public_key: keys(1).public().0, stored }.encode(out));
    for (at, value) in [(target, forged), (TOPIC, put(&keys(1), 1, b"value"))] {
        assert_eq!(write(&mut dht, now, STRANGER, Command::MUTABLE_PUT, at, |_| value), None);
        assert_eq!(read(&mut dht, now, Command::MUTABLE_GET, at), None);
    }
}

#[test]
fn an_immutable_value_is_stored_under_its_hash_only() {
    let (mut dht, now) = alone();
    let (value, hash) = (b"value".to_vec(), blake2b_256(&[b"value"]));
    let other = value.clone();
    assert_eq!(write(&mut dht, now, STRANGER, Command::IMMUTABLE_PUT, TOPIC, |_| other), None);
    assert_eq!(
        write(&mut dht, now, STRANGER, Command::IMMUTABLE_PUT, hash, |_| value),
        Some(ErrorCode::NONE)
    );
    assert_eq!(read(&mut dht, now, Command::IMMUTABLE_GET, hash).as_deref(), Some(&b"value"[..]));
}

#[test]
fn values_that_are_too_long_get_no_reply() {
    let (mut dht, now) = alone();
    for (bytes, done) in [(MAX_VALUE_BYTES, Some(ErrorCode::NONE)), (MAX_VALUE_BYTES + 1, None)] {
        let value = vec![7; bytes];
        let hash = blake2b_256(&[&value]);
        let mutable = put(&keys(1), bytes as u64, &value);
        assert_eq!(write(&mut dht, now, STRANGER, Command::IMMUTABLE_PUT, hash, |_| value), done);
        let target = hash_of(&keys(1));
        assert_eq!(write(&mut dht, now, STRANGER, Command::MUTABLE_PUT, target, |_| mutable), done);
    }
}

#[test]
fn values_that_nobody_reads_live_for_32_to_64_hours() {
    let (mut dht, now) = alone();
    let hour = 60 * MINUTE;
    let hash = blake2b_256(&[b"value"]);
    write(&mut dht, now, STRANGER, Command::IMMUTABLE_PUT, hash, |_| b"value".to_vec());
    assert!(read(&mut dht, now + 31 * hour, Command::IMMUTABLE_GET, hash).is_some());
    assert!(read(&mut dht, now + 63 * hour, Command::IMMUTABLE_GET, hash).is_some());
    assert!(read(&mut dht, now + 95 * hour, Command::IMMUTABLE_GET, hash).is_some(), "it was read meanwhile");
    assert!(read(&mut dht, now + 160 * hour, Command::IMMUTABLE_GET, hash).is_none());
}

/// Stores without signatures, as fast as it goes.
struct Filler {
    storage: Storage,
    now: Instant,
    rng: StdRng,
}

impl Filler {
    fn new() -> Self {
        let now = Instant::now();
        Self { storage: Storage::new(now), now, rng: StdRng::from_seed([1; 32]) }
    }
}

fn number(n: usize) -> Target {
    blake2b_256(&[&n.to_le_bytes()])
}

#[test]
fn everything_that_is_stored_is_limited() {
    let Filler { mut storage, now, mut rng } = Filler::new();
    // Each sender has a network of its own, so that nobody has more than a fair share.
    let sender = |n: usize| SocketAddrV4::new(Ipv4Addr::from(0x0b00_0000 + ((n as u32) << 8)), 1000);
    let most = MAX_ANNOUNCEMENTS.max(MAX_FORWARDS);
    for n in 0..2 * most + 10 {
        let key = number(n);
        storage.keep_unsigned(now, sender(n), number(n / 8), key, &mut rng);
        storage.keep_unsigned(now, sender(n), blake2b_256(&[&key]), key, &mut rng);
        storage.bump_unsigned(sender(n), key);
    }
    let counts = storage.counts();
    let limits = [MAX_ANNOUNCEMENTS, MAX_FORWARDS, MAX_REFRESHES, MAX_BUMPS, MAX_VALUES, MAX_VALUES];
    for (count, limit) in counts.into_iter().zip(limits) {
        assert!(count <= 2 * limit + 1, "{count} of {limit}");
    }
    assert!(counts[0] >= MAX_ANNOUNCEMENTS && counts[1] >= MAX_FORWARDS / 2, "{counts:?}");
    assert!(counts[2] >= MAX_REFRESHES / 2 && counts[3] >= MAX_BUMPS / 2, "{counts:?}");
}

#[test]
fn values_are_limited_and_the_oldest_give_way() {
    let Filler { mut storage, .. } = Filler::new();
    for n in 0..3 * MAX_VALUES {
        let (value, target) = (n.to_le_bytes(), blake2b_256(&[&n.to_le_bytes()]));
        let write = storage::Write { from: STRANGER, target, token: [0; 32], value: &value };
        assert!(storage.put_immutable(&write));
    }
    let count = storage.counts()[5];
    assert!((MAX_VALUES..=2 * MAX_VALUES).contains(&count), "{count}");
}

#[test]
fn announcements_of_one_topic_are_limited_and_every_host_keeps_its_share() {
    let Filler { mut storage, now, mut rng } = Filler::new();
    storage.keep_unsigned(now, addr(1), TOPIC, number(0), &mut rng);
    for n in 1..10 * MAX_ANNOUNCEMENTS_PER_TOPIC {
        storage.keep_unsigned(now, STRANGER, TOPIC, number(n), &mut rng);
        assert!(storage.counts()[0] <= MAX_ANNOUNCEMENTS_PER_TOPIC);
    }
    assert!(storage.counts()[0] > MAX_ANNOUNCEMENTS_PER_TOPIC / 2);
    let value = storage.lookup(now, &TOPIC, None, &mut rng).expect("known");
    let found = LookupReply::decode(&value).expect("a reply");
    assert!(found.peers.iter().any(|peer| peer.public_key == number(0)), "the other host's is always named");
}

#[test]
fn many_peers_behind_one_address_may_use_all_the_room_that_nobody_else_wants() {
    let (mut dht, now) = alone();
    for n in 0..200 {
        assert!(Told::new(n).announce(&mut dht, now, STRANGER, TOPIC));
    }
    assert_eq!(dht.kept(now).counts()[0], 200);
}

#[test]
fn an_announcement_at_a_server_of_our_own_changes_nothing() {
    let (mut dht, now) = alone();
    let target = dht.listen(now, keys(1)).expect("not yet");
    assert!(Told::new(1).announce(&mut dht, now, STRANGER, target), "as upstream");
    assert_eq!(dht.forward(&target), None);
    let record = read(&mut dht, now, Command::FIND_PEER, target).expect("known");
    let peer = Peer { public_key: keys(1).public().0, relay_addresses: List::default() };
    assert_eq!(record, encoded(|out| peer.encode(out)));
    assert_eq!(told_of(&mut dht, now, target), [keys(1).public().0]);
}

#[test]
fn what_is_signed_for_a_node_names_its_id() {
    let at = At { target: TOPIC, node: NodeId([1; 32]), token: [2; 32] };
    let told = Told { relays: &[addr(1)], bump: 5, ..Told::new(3) };
    let expected = told.sign(TOPIC, at.node, at.token, false);
    assert_eq!(announcement::announce(&keys(3), &at, &[addr(1)], 5), expected);
    let expected = Told::new(3).sign(TOPIC, at.node, at.token, true);
    assert_eq!(announcement::unannounce(&keys(3), &at), expected);
}
