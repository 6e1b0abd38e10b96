use super::*;
use crate::codec::v2::{decode_local_peers, decode_peers, decode_peers_with_length};
use crate::crypto::KeyPair;
use crate::limits::v2::MAX_SALT_BYTES;
use rand::SeedableRng;

const TOPIC: [u8; 32] = [3; 32];
const HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

struct Fixture {
    storage: Storage,
    now: Instant,
    rng: StdRng,
}

impl Fixture {
    fn new() -> Self {
        let now = Instant::now();
        Self { storage: Storage::new(now), now, rng: StdRng::seed_from_u64(1) }
    }

    fn peers(&mut self, from: SocketAddrV4, kind: Kind, input: PeersInput) -> Answer {
        self.storage.peers(self.now, from, TOPIC, kind, Some(&input.encode()), &mut self.rng)
    }

    fn announce(&mut self, from: SocketAddrV4, input: PeersInput) {
        assert_eq!(self.peers(from, Kind::Update, input), Answer::Value(None));
    }

    fn lookup(&mut self, from: SocketAddrV4, input: PeersInput) -> PeersOutput {
        match self.peers(from, Kind::Query, input) {
            Answer::Value(Some(value)) => PeersOutput::decode(&value).expect("an answer"),
            other => panic!("{other:?}"),
        }
    }

    fn found(&mut self, from: SocketAddrV4) -> Vec<SocketAddrV4> {
        let output = self.lookup(from, PeersInput::default());
        output.peers.map(|list| decode_peers(&list).expect("a list")).unwrap_or_default()
    }
}

fn addr(n: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 1, (n >> 8) as u8, n as u8), 1000 + n)
}

fn local(n: u8) -> PeersInput {
    let local_address = Some(SocketAddrV4::new(Ipv4Addr::new(192, 168, n / 50, n), 4000));
    PeersInput { local_address, ..PeersInput::default() }
}

#[test]
fn port_0_means_the_port_the_datagram_came_from() {
    let mut f = Fixture::new();
    f.announce(addr(1), PeersInput { port: Some(0), ..PeersInput::default() });
    f.announce(addr(2), PeersInput::default());
    f.announce(addr(3), PeersInput { port: Some(7), ..PeersInput::default() });
    let mut found = f.found(addr(9));
    found.sort();
    assert_eq!(found, [addr(1), addr(2), SocketAddrV4::new(*addr(3).ip(), 7)]);
}

#[test]
fn a_port_above_65535_is_an_error() {
    let mut f = Fixture::new();
    let input = |port| PeersInput { port: Some(port), ..PeersInput::default() };
    assert_eq!(f.peers(addr(1), Kind::Update, input(65_536)), Answer::Error("Invalid port", None));
    assert_eq!(f.peers(addr(1), Kind::Update, input(65_535)), Answer::Value(None));
}

#[test]
fn what_does_not_decode_gets_no_answer() {
    let mut f = Fixture::new();
    let (now, rng) = (f.now, &mut f.rng);
    assert_eq!(f.storage.peers(now, addr(1), TOPIC, Kind::Query, Some(b"\x08"), rng), Answer::Silence);
    assert_eq!(f.storage.peers(now, addr(1), TOPIC, Kind::Update, None, rng), Answer::Silence);
    assert_eq!(f.storage.mutable(HOST, TOPIC, Kind::Query, Some(b"\x08")), Answer::Silence);
    assert_eq!(f.storage.mutable(HOST, TOPIC, Kind::Query, None), Answer::Silence);
    assert_eq!(f.storage.immutable(HOST, TOPIC, Kind::Update, None), Answer::Silence);
}

#[test]
fn the_askers_own_record_is_left_out() {
    let mut f = Fixture::new();
    f.announce(addr(1), PeersInput::default());
    assert!(f.found(addr(1)).is_empty());
    assert_eq!(f.lookup(addr(1), PeersInput::default()), PeersOutput::default());
    assert_eq!(f.found(addr(2)), [addr(1)]);
}

#[test]
fn unannouncing_removes_the_record() {
    let mut f = Fixture::new();
    f.announce(addr(1), PeersInput::default());
    f.announce(addr(1), PeersInput { unannounce: Some(true), ..PeersInput::default() });
    assert!(f.found(addr(2)).is_empty());
}

#[test]
fn at_most_50_remote_records_are_answered() {
    let mut f = Fixture::new();
    for n in 0..50 {
        f.announce(addr(n), PeersInput::default());
    }
    assert_eq!(f.found(addr(999)).len(), MAX_PEERS_ANSWERED);
    f.announce(addr(50), PeersInput::default());
    assert_eq!(f.found(addr(999)).len(), MAX_PEERS_ANSWERED);
}

#[test]
fn lengths_are_answered_if_asked_for() {
    let mut f = Fixture::new();
    f.announce(addr(1), PeersInput { length: Some(77), ..PeersInput::default() });
    let input = PeersInput { include_length: Some(true), ..PeersInput::default() };
    let output = f.lookup(addr(2), input);
    let list = decode_peers_with_length(&output.peers_with_length.expect("lengths")).expect("a list");
    assert_eq!((list[0].addr, list[0].length, output.peers), (addr(1), 77, None));
}

#[test]
fn local_records_are_told_only_within_the_same_16_bits() {
    let mut f = Fixture::new();
    f.announce(addr(1), local(7));
    let output = f.lookup(addr(2), local(8));
    let locals = decode_local_peers([192, 168], &output.local_peers.expect("local peers"));
    assert_eq!(locals, Some(vec![local(7).local_address.expect("an address")]));
    assert_eq!(f.lookup(addr(1), local(7)).local_peers, None, "its own record");
    let elsewhere = Some(SocketAddrV4::new(Ipv4Addr::new(192, 169, 0, 8), 4000));
    let elsewhere = PeersInput { local_address: elsewhere, ..PeersInput::default() };
    assert_eq!(f.lookup(addr(2), elsewhere).local_peers, None);
    f.announce(addr(1), PeersInput { unannounce: Some(true), ..local(7) });
    assert_eq!(f.lookup(addr(2), local(8)).local_peers, None);
}

#[test]
fn each_of_at_most_32_local_records_takes_the_room_of_two_remote_ones() {
    let mut f = Fixture::new();
    for n in 0..60 {
        f.announce(addr(n), if n < 10 { local(n as u8) } else { PeersInput::default() });
    }
    let output = f.lookup(addr(999), local(200));
    assert_eq!(output.local_peers.expect("local peers").len(), 10 * 4);
    assert_eq!(output.peers.expect("peers").len(), 30 * 6);
    for n in 10..33 {
        f.announce(addr(n), local(n as u8));
    }
    let output = f.lookup(addr(999), local(200));
    assert_eq!(output.local_peers.expect("local peers").len(), MAX_LOCAL_PEERS_ANSWERED * 4);
    assert_eq!(output.peers, None);
}

fn signed(seed: u8, value: &[u8], seq: u64, salt: Option<&[u8]>) -> ([u8; 32], Mutable) {
    let pair = KeyPair::from_seed(&[seed; 32]);
    let signature = hypersign::sign(&pair, value, seq, salt).expect("short").0;
    let record = Mutable {
        value: Some(Bytes::copy_from_slice(value)),
        signature: Some(signature),
        seq: Some(seq),
        salt: salt.map(Bytes::copy_from_slice),
    };
    (pair.public().0, record)
}

fn put(storage: &mut Storage, key: [u8; 32], record: &Mutable) -> Answer {
    storage.mutable(HOST, key, Kind::Update, Some(&record.encode()))
}

fn get(storage: &mut Storage, key: [u8; 32], seq: u64, salt: Option<&[u8]>) -> Option<Mutable> {
    let wanted = Mutable { seq: Some(seq), salt: salt.map(Bytes::copy_from_slice), ..Mutable::default() };
    match storage.mutable(HOST, key, Kind::Query, Some(&wanted.encode())) {
        Answer::Value(value) => value.map(|v| Mutable::decode(&v).expect("a record")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signed_value_is_stored_under_its_key_and_salt() {
    let mut storage = Fixture::new().storage;
    let (key, plain) = signed(1, b"plain", 2, None);
    let (_, salted) = signed(1, b"salted", 2, Some(b"salt"));
    assert_eq!(put(&mut storage, key, &plain), Answer::Value(None));
    assert_eq!(put(&mut storage, key, &salted), Answer::Value(None));
    assert_eq!(get(&mut storage, key, 0, None), Some(plain.clone()));
    assert_eq!(get(&mut storage, key, 2, Some(b"salt")), Some(salted));
    assert_eq!(get(&mut storage, key, 3, None), None, "an older one than asked for");
}

#[test]
fn a_forged_value_is_refused() {
    let mut storage = Fixture::new().storage;
    let (key, record) = signed(1, b"value", 0, None);
    let refused = Answer::Error("ERR_INVALID_INPUT", None);
    let forged = Mutable { value: Some(Bytes::from_static(b"other")), ..record.clone() };
    assert_eq!(put(&mut storage, key, &forged), refused);
    assert_eq!(put(&mut storage, signed(2, b"", 0, None).0, &record), refused, "another key");
    assert_eq!(put(&mut storage, key, &Mutable { seq: Some(1), ..record.clone() }), refused);
    assert_eq!(put(&mut storage, key, &Mutable { signature: None, ..record }), Answer::Value(None));
    assert_eq!(get(&mut storage, key, 0, None), None);
    assert!(storage.values.is_empty());
}

#[test]
fn a_refused_value_does_not_replace_the_stored_one() {
    let mut storage = Fixture::new().storage;
    let (key, current) = signed(1, b"current", 5, None);
    put(&mut storage, key, &current);
    let proof = Some(current.encode());
    let (_, other) = signed(1, b"other", 5, None);
    assert_eq!(put(&mut storage, key, &other), Answer::Error("ERR_INVALID_SEQ", proof.clone()));
    let (_, older) = signed(1, b"older", 4, None);
    let too_old = Answer::Error("ERR_SEQ_MUST_EXCEED_CURRENT", proof);
    assert_eq!(put(&mut storage, key, &older), too_old);
    assert_eq!(put(&mut storage, key, &current), too_old, "the same again");
    assert_eq!(get(&mut storage, key, 0, None), Some(current));
    let (_, newer) = signed(1, b"newer", 6, None);
    assert_eq!(put(&mut storage, key, &newer), Answer::Value(None));
    assert_eq!(get(&mut storage, key, 0, None), Some(newer));
}

#[test]
fn mutable_values_and_salts_beyond_their_limits_are_refused() {
    let mut storage = Fixture::new().storage;
    let (key, longest) = signed(1, &[7; MAX_STORED_VALUE_BYTES], 0, Some(&[7; MAX_SALT_BYTES]));
    assert_eq!(put(&mut storage, key, &longest), Answer::Value(None));
    let refused = Answer::Error("ERR_INVALID_INPUT", None);
    let long_value = Mutable { value: Some(vec![7; MAX_STORED_VALUE_BYTES + 1].into()), ..longest.clone() };
    assert_eq!(put(&mut storage, key, &long_value), refused);
    let long_salt = Mutable { salt: Some(vec![7; MAX_SALT_BYTES + 1].into()), ..longest };
    assert_eq!(put(&mut storage, key, &long_salt), refused);
}

#[test]
fn an_immutable_value_is_stored_under_its_hash_only() {
    let mut storage = Fixture::new().storage;
    let longest = [7; MAX_STORED_VALUE_BYTES];
    let key = blake2b_256(&[&longest]);
    assert_eq!(storage.immutable(HOST, key, Kind::Query, None), Answer::Value(None));
    assert_eq!(storage.immutable(HOST, key, Kind::Update, Some(&longest)), Answer::Value(None));
    let stored = Answer::Value(Some(Bytes::copy_from_slice(&longest)));
    assert_eq!(storage.immutable(HOST, key, Kind::Query, None), stored);
    let refused = Answer::Error("ERR_INVALID_INPUT", None);
    assert_eq!(storage.immutable(HOST, key, Kind::Update, Some(b"other")), refused);
    let longer = [7; MAX_STORED_VALUE_BYTES + 1];
    assert_eq!(storage.immutable(HOST, blake2b_256(&[&longer]), Kind::Update, Some(&longer)), refused);
}

#[test]
fn no_more_than_twice_5000_values_are_kept() {
    let mut storage = Fixture::new().storage;
    for n in 0..3 * MAX_STORED_VALUES as u32 {
        let value = n.to_be_bytes();
        storage.immutable(HOST, blake2b_256(&[&value]), Kind::Update, Some(&value));
        assert!(storage.values.len() <= 2 * MAX_STORED_VALUES);
    }
    assert!(storage.values.len() >= MAX_STORED_VALUES);
}

#[test]
fn no_more_than_twice_65536_announcements_are_kept() {
    let mut f = Fixture::new();
    for n in 0..3 * MAX_PEER_RECORDS as u32 {
        let from = SocketAddrV4::new(Ipv4Addr::from(0x0b00_0000 + n), 1);
        let mut topic = [0; 32];
        topic[..4].copy_from_slice(&(n % 1000).to_be_bytes());
        let input = PeersInput::default().encode();
        f.storage.peers(f.now, from, topic, Kind::Update, Some(&input), &mut f.rng);
    }
    let kept = f.storage.peers.len();
    assert!((MAX_PEER_RECORDS * 3 / 4..=2 * MAX_PEER_RECORDS + 1).contains(&kept), "{kept}");
}

#[test]
fn no_more_than_twice_16384_local_announcements_are_kept() {
    let mut f = Fixture::new();
    for n in 0..3 * MAX_LOCAL_PEER_RECORDS as u32 {
        let local_address = Some(SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1));
        let input = PeersInput { local_address, ..PeersInput::default() }.encode();
        let topic = [(n % 100) as u8; 32];
        f.storage.peers(f.now, addr(1), topic, Kind::Update, Some(&input), &mut f.rng);
    }
    let kept = f.storage.local_peers.len();
    assert!((MAX_LOCAL_PEER_RECORDS * 3 / 4..=2 * MAX_LOCAL_PEER_RECORDS + 1).contains(&kept), "{kept}");
}

#[test]
fn no_more_than_1024_announcements_of_a_topic_are_kept_in_a_generation() {
    let mut f = Fixture::new();
    for n in 0..MAX_RECORDS_PER_TOPIC as u16 {
        f.announce(addr(n), PeersInput::default());
    }
    assert_eq!(f.storage.peers.len(), MAX_RECORDS_PER_TOPIC);
    f.announce(addr(MAX_RECORDS_PER_TOPIC as u16), PeersInput::default());
    assert_eq!(f.storage.peers.len(), MAX_RECORDS_PER_TOPIC);
}

#[test]
fn one_host_that_announces_much_hides_nobody_whatever_local_address_it_claims() {
    let mut f = Fixture::new();
    f.announce(addr(1), local(7));
    for n in 0..10_000u32 {
        let local_address = Some(SocketAddrV4::new(Ipv4Addr::from(0xc0a8_0000 + n % 7000), 1));
        let port = Some(2000 + n);
        f.announce(addr(2), PeersInput { local_address, port, ..PeersInput::default() });
    }
    let output = f.lookup(addr(3), local(8));
    let locals = decode_local_peers([192, 168], &output.local_peers.expect("local peers")).expect("a list");
    assert!(locals.contains(&local(7).local_address.expect("an address")));
    assert!(f.found(addr(3)).contains(&addr(1)));
}
