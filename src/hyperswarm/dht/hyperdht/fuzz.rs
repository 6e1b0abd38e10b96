//! Body of the fuzz target: a node to which anything is sent. It panics when something is not as it should be.

use std::net::Ipv4Addr;
use std::sync::LazyLock;

use super::announcement::{self, At};
use super::*;
use crate::codec::compact::Writer;
use crate::codec::v4::{Announce, Command, Handshake, Holepunch, Mode, Packet, Reply, Request};
use crate::crypto::{KeyPair, blake2b_256};
use crate::dht::guard::is_sane;
use crate::dht::v4::{Persistence, SERVER};

/// The node is bound here.
const OWN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(11, 0, 0, 1), 49_737);
/// A node that it asks.
const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(12, 0, 0, 1), 49_737);
const STRANGER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(13, 0, 0, 1), 5000);
const TOPIC: Target = [0x55; 32];
/// Datagrams that one may cause.
const MAX_CAUSED: usize = 8;

/// A persistent node with a server of its own and something of everything stored, that asks another node.
fn node(now: Instant) -> Hyperdht {
    let node = v4::Config {
        bootstrap: Vec::new(),
        nodes: vec![OTHER],
        persistence: Persistence::Persistent,
        open: false,
        server_port: OWN.port(),
        public: Some(OWN),
    };
    let mut dht = Hyperdht::new(now, Config { node, unix_time: Duration::from_secs(1 << 30) }, [1; 32]);
    // It fails only for a key that listens already.
    let _ = dht.listen(now, keys(1));
    dht.mutable_get(now, keys(2).public(), 0, true);
    dht
}

/// Key pairs take longer to make than all else that is done here.
fn keys(n: usize) -> KeyPair {
    static KEYS: LazyLock<[KeyPair; 3]> = LazyLock::new(|| [0, 1, 2].map(|n| KeyPair::from_seed(&[n; 32])));
    let [zero, one, two] = &*KEYS;
    [zero, one, two].get(n).copied().unwrap_or(zero).clone()
}

/// Hands `data` to a node three times: as it is, as a reply to each of its requests, and as a request with a good token.
/// Whether it was a packet.
pub fn datagrams(now: Instant, data: &[u8]) -> bool {
    let mut dht = node(now);
    let asked: Vec<Transmit> = std::iter::from_fn(|| dht.poll_transmit()).collect();
    hand(&mut dht, now, STRANGER, data);
    let decoded = Packet::decode(data);
    match &decoded {
        Ok(Packet::Request(request)) => {
            let token = token(&mut dht, now);
            let shown = encoded(|out| Request { token: Some(token), ..*request }.encode(out));
            hand(&mut dht, now, STRANGER, &shown);
            hand(&mut dht, now + Duration::from_secs(1), STRANGER, &shown);
        }
        Ok(Packet::Reply(reply)) => {
            for Transmit { to, payload, .. } in asked {
                if let Ok(Packet::Request(request)) = Packet::decode(&payload) {
                    let answer = encoded(|out| Reply { tid: request.tid, ..*reply }.encode(out));
                    hand(&mut dht, now, to, &answer);
                }
            }
        }
        Err(_) => {}
    }
    for seconds in [1, 5, 900] {
        dht.handle_timeout(now + Duration::from_secs(seconds));
        while dht.poll_transmit().is_some() {}
    }
    decoded.is_ok()
}

fn hand(dht: &mut Hyperdht, now: Instant, from: SocketAddrV4, data: &[u8]) {
    dht.handle_datagram(now, SERVER, from, data);
    while let Some(event) = dht.poll_event() {
        match event {
            Event::Handshake(message) => dht.reply_handshake(now, &message, b"answer", None),
            Event::Holepunch(message) => dht.reply_holepunch(now, &message, b"answer", None),
            _ => {}
        }
    }
    let mut caused = 0;
    while let Some(Transmit { to, payload, .. }) = dht.poll_transmit() {
        assert!(is_sane(to, *from.ip()), "sent to {to} because of {from}");
        assert!(Packet::decode(&payload).is_ok());
        caused += 1;
    }
    // A reply may name nodes, each of which is asked.
    assert!(caused <= MAX_CAUSED || from == OTHER, "{caused} datagrams for one");
}

/// A token for the stranger.
fn token(dht: &mut Hyperdht, now: Instant) -> [u8; 32] {
    let find = Request { target: Some(TOPIC), ..Request::new(1, OWN, Command::FIND_PEER) };
    dht.handle_datagram(now, SERVER, STRANGER, &encoded(|out| find.encode(out)));
    let sent = std::iter::from_fn(|| dht.poll_transmit()).last();
    match sent.as_ref().map(|sent| Packet::decode(&sent.payload)) {
        Some(Ok(Packet::Reply(reply))) => reply.token.unwrap_or_default(),
        _ => [0; 32],
    }
}

fn encoded(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::new();
    write(&mut out);
    out.as_slice().to_vec()
}

/// One good request of each kind, signed for the token that the node gives, and replies to its own requests.
pub fn samples() -> Vec<Vec<u8>> {
    let now = Instant::now();
    let mut dht = node(now);
    while dht.poll_transmit().is_some() {}
    let token = token(&mut dht, now);
    let Some(own) = dht.node().id() else { return Vec::new() };
    let (server, peer) = (blake2b_256(&[&keys(1).public().0]), blake2b_256(&[&keys(2).public().0]));
    let at = |target| At { target, node: own, token };
    let value = b"a value".to_vec();
    let refresh = Announce { refresh: Some([1; 32]), ..Announce::default() };
    let shake = |mode, peer_address, relay_address| {
        encoded(|out| Handshake { mode, noise: b"noise", peer_address, relay_address }.encode(out))
    };
    let punch = |mode, peer_address| {
        encoded(|out| Holepunch { mode, id: 1, payload: b"payload", peer_address }.encode(out))
    };
    let (first, second) = (Some(STRANGER), Some(OTHER));
    let requests = [
        (Command::FIND_NODE, TOPIC, None),
        (Command::LOOKUP, TOPIC, None),
        (Command::FIND_PEER, server, None),
        (
            Command::ANNOUNCE,
            TOPIC,
            Some(announcement::announce(&keys(2), &at(TOPIC), &[OTHER], 1 << 39).to_vec()),
        ),
        (Command::ANNOUNCE, peer, Some(announcement::announce(&keys(2), &at(peer), &[], 0).to_vec())),
        (Command::ANNOUNCE, TOPIC, Some(encoded(|out| refresh.encode(out)))),
        (Command::UNANNOUNCE, TOPIC, Some(announcement::unannounce(&keys(2), &at(TOPIC)).to_vec())),
        (Command::MUTABLE_PUT, peer, Some(announcement::put_mutable(&keys(2), 7, &value).to_vec())),
        (Command::MUTABLE_GET, peer, Some(vec![3])),
        (Command::IMMUTABLE_PUT, blake2b_256(&[&value]), Some(value.clone())),
        (Command::IMMUTABLE_GET, blake2b_256(&[&value]), None),
        (Command::PLUGIN, TOPIC, Some(b"\x01a\x01\x01\x00".to_vec())),
        (Command::PEER_HANDSHAKE, server, Some(shake(Mode::FROM_CLIENT, None, None))),
        (Command::PEER_HANDSHAKE, server, Some(shake(Mode::FROM_RELAY, first, None))),
        (Command::PEER_HANDSHAKE, server, Some(shake(Mode::FROM_SECOND_RELAY, first, second))),
        (Command::PEER_HANDSHAKE, TOPIC, Some(shake(Mode::FROM_SERVER, first, None))),
        (Command::PEER_HANDSHAKE, TOPIC, Some(shake(Mode::FROM_CLIENT, None, first))),
        (Command::PEER_HOLEPUNCH, server, Some(punch(Mode::FROM_RELAY, first))),
        (Command::PEER_HOLEPUNCH, TOPIC, Some(punch(Mode::FROM_CLIENT, first))),
        (Command::PEER_HOLEPUNCH, TOPIC, Some(punch(Mode::FROM_SERVER, None))),
    ];
    let datagram = |(command, target, value): &(Command, Target, Option<Vec<u8>>)| {
        let request =
            Request { target: Some(*target), value: value.as_deref(), ..Request::new(7, OWN, *command) };
        encoded(|out| request.encode(out))
    };
    let put = announcement::put_mutable(&keys(2), 7, &value);
    let replies = [None, put.get(32..)].map(|value| {
        let id = Some(crate::crypto::v4::node_id(OTHER));
        encoded(|out| Reply { id, token: Some([1; 32]), value, ..Reply::new(7, OWN) }.encode(out))
    });
    requests.iter().map(datagram).chain(replies).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_samples_are_taken_by_the_node() {
        let now = Instant::now();
        for sample in samples() {
            assert!(datagrams(now, &sample));
        }
        let mut dht = node(now);
        let token = token(&mut dht, now);
        let mut announced = 0;
        for sample in samples() {
            if let Ok(Packet::Request(request)) = Packet::decode(&sample) {
                let shown = encoded(|out| Request { token: Some(token), ..request }.encode(out));
                hand(&mut dht, now, STRANGER, &shown);
                announced = dht.kept(now).counts().iter().sum::<usize>().max(announced);
            }
        }
        // Of a key, a bump, and a value of each kind, as what was announced for the topic was removed again: tokens and
        // signatures were good.
        assert_eq!(announced, 4);
    }
}
