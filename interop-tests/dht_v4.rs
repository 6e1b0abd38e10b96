//! Our nodes of today's DHT and npm's hyperdht, in networks made of either: entering, walking, pinging, announcing,
//! storing, each side in each role. `node/dht_peer.js` is the other end.

use std::net::{Ipv4Addr, SocketAddrV4};

use data_encoding::HEXLOWER;
use hyperswarm::Topic;
use hyperswarm::crypto::KeyPair;
use hyperswarm::crypto::v4::node_id;
use hyperswarm::dht::hyperdht::Event;
use hyperswarm::dht::id::NodeId;
use hyperswarm::dht::v4::Persistence;
use hyperswarm::holepunch::{DialOptions, ListenOptions};
use hyperswarm::net::v4::{Dht, DhtOptions, Swarm};
use hyperswarm::swarm::v4::{Mode, Options};
use serde_json::Value;
use tokio::time::timeout;

use crate::lab::{LONG, SOON, can_run, js, our_dht_v4};
use crate::process::Process;
use crate::stream_peers::{event, event_that};

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Nodes of a network; hyperdht's first one stays ephemeral, so that it keeps nothing.
const NODES: usize = 10;
const TOPIC: [u8; 32] = [0x70; 32];
/// Seeds of key pairs.
const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [2; 32];

/// A network, and what keeps it alive.
struct Net {
    bootstrap: SocketAddrV4,
    /// Nodes that others may keep in their tables.
    persistent: Vec<SocketAddrV4>,
    ours: Vec<Dht>,
    _process: Option<Process>,
}

impl Net {
    /// Hyperdht's own testnet. None, loudly, where Node.js or its packages are missing.
    fn of_theirs() -> Option<Self> {
        if !can_run() {
            return None;
        }
        let process = Process::start("testnet", js("dht_peer.js").args(["--testnet", &NODES.to_string()]));
        let ready = event(&process, "ready");
        let nodes: Vec<SocketAddrV4> = ports(&ready["ports"]);
        assert_eq!(nodes.len(), NODES);
        let persistent = nodes[1..].to_vec();
        for (node, id) in persistent.iter().zip(ready["ids"].as_array().expect("ids").iter().skip(1)) {
            assert_eq!(id.as_str(), Some(&*hex(&node_id(*node))));
        }
        Some(Self { bootstrap: nodes[0], persistent, ours: Vec::new(), _process: Some(process) })
    }

    /// Nodes of ours. None, loudly, where Node.js or its packages are missing.
    async fn of_ours() -> Option<Self> {
        if !can_run() {
            return None;
        }
        let first = DhtOptions { public_host: Some(HOST), ..DhtOptions::private(HOST, []) };
        let mut ours = vec![Dht::bind(first).expect("bind")];
        let bootstrap = address(&ours[0]);
        while ours.len() < NODES {
            let node = Dht::bind(DhtOptions::private(HOST, [bootstrap])).expect("bind");
            let status = soon(node.until(|status| status.ready && status.id.is_some())).await;
            assert_eq!(status.id, Some(NodeId(node_id(address(&node)))));
            ours.push(node);
        }
        let persistent = ours.iter().map(address).collect();
        Some(Self { bootstrap, persistent, ours, _process: None })
    }

    /// The nodes of the command `dht-node`. None, loudly, where Node.js or its packages are missing.
    fn of_our_command() -> Option<Self> {
        if !can_run() {
            return None;
        }
        let (process, persistent) = our_dht_v4();
        Some(Self { bootstrap: persistent[0], persistent, ours: Vec::new(), _process: Some(process) })
    }

    /// A node of ours that asks and is not kept.
    async fn our_guest(&self) -> Dht {
        let private = DhtOptions::private(HOST, [self.bootstrap]);
        let guest = Dht::bind(DhtOptions { persistence: Persistence::Ephemeral, ..private }).expect("bind");
        let status = soon(guest.until(|status| status.ready)).await;
        assert_eq!(status.id, None);
        guest
    }

    /// A node of theirs that does these actions; with `--persistent` it is kept.
    fn theirs(&self, arguments: &[&str]) -> Process {
        let bootstrap = self.bootstrap.to_string();
        Process::start("hyperdht", js("dht_peer.js").args(["--bootstrap", &bootstrap]).args(arguments))
    }

    /// What one action of a guest of theirs reports.
    fn they(&self, action: &[&str]) -> Value {
        let process = self.theirs(&[&action.join(" ")]);
        event(&process, action[0])
    }

    /// The persistent nodes, the closest to `target` first.
    fn closest(&self, target: &[u8; 32]) -> Vec<SocketAddrV4> {
        let mut nodes = self.persistent.clone();
        nodes.sort_by_key(|node| NodeId(node_id(*node)).distance(target));
        nodes
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(SOON, work).await.expect("in time")
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn address(dht: &Dht) -> SocketAddrV4 {
    SocketAddrV4::new(HOST, dht.local_address().port())
}

fn ports(value: &Value) -> Vec<SocketAddrV4> {
    let ports = value.as_array().expect("ports").iter().map(|port| port.as_u64().expect("a port"));
    ports.map(|port| SocketAddrV4::new(HOST, port.try_into().expect("a port"))).collect()
}

/// The nodes that a query of theirs found closest; each has the id of its address.
fn closest(report: &Value) -> Vec<SocketAddrV4> {
    let nodes = report["closest"].as_array().expect("closest nodes");
    let node = |node: &Value| {
        let at: SocketAddrV4 = node["at"].as_str().expect("an address").parse().expect("an address");
        assert_eq!(node["id"].as_str(), Some(&*hex(&node_id(at))), "{at}");
        at
    };
    nodes.iter().map(node).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn our_node_enters_their_network_and_becomes_known_there() {
    let Some(net) = Net::of_theirs() else { return };
    let node = Dht::bind(DhtOptions::private(HOST, [net.bootstrap])).expect("bind");
    let own = address(&node);
    let status = soon(node.until(|status| status.ready && status.id.is_some())).await;
    assert_eq!(status.id, Some(NodeId(node_id(own))));
    assert_eq!((status.address, status.firewalled), (Some(own), false));
    let mut known = node.known();
    known.sort_unstable();
    let mut all = net.persistent.clone();
    all.sort_unstable();
    assert_eq!(known, all);
    for there in &net.persistent {
        let answer = soon(node.ping(*there)).await.expect("an answer");
        assert_eq!((answer.id, answer.to), (Some(NodeId(node_id(*there))), own));
    }
    let answer = soon(node.ping(net.bootstrap)).await.expect("an answer");
    assert_eq!(answer.id, None, "their first node stays ephemeral");
    let outcome = soon(node.lookup(TOPIC).outcome()).await;
    assert_eq!((outcome.closest, outcome.answered), (net.closest(&TOPIC), NODES - 1));
    // They know it, and it answers like one of them.
    let target = node_id(own);
    let found = closest(&net.they(&["find-node", &hex(&target)]));
    let mut expected = Net { persistent: all, ..net };
    expected.persistent.push(own);
    assert_eq!(found, expected.closest(&target));
    assert_eq!(found.first(), Some(&own));
    let pong = expected.they(&["ping", &own.port().to_string()]);
    assert_eq!(pong["id"].as_str(), Some(&*hex(&target)));
}

#[tokio::test(flavor = "multi_thread")]
async fn their_nodes_enter_our_network_and_walk_through_it() {
    let Some(net) = Net::of_ours().await else { return };
    for target in [TOPIC, [0x0f; 32], node_id(net.persistent[3])] {
        assert_eq!(closest(&net.they(&["find-node", &hex(&target)])), net.closest(&target));
    }
    let pong = net.they(&["ping", &net.persistent[2].port().to_string()]);
    assert_eq!(pong["id"].as_str(), Some(&*hex(&node_id(net.persistent[2]))));
    let newcomer = net.theirs(&["--persistent"]);
    let ready = event(&newcomer, "ready");
    let there = ports(&ready["ports"])[0];
    assert_eq!(ready["ids"][0].as_str(), Some(&*hex(&node_id(there))), "it became persistent");
    for ours in &net.ours {
        let answer = soon(ours.ping(there)).await.expect("an answer");
        assert_eq!((answer.id, answer.to), (Some(NodeId(node_id(there))), address(ours)));
    }
    let knows = net.ours.iter().filter(|ours| ours.known().contains(&there)).count();
    assert_eq!(knows, NODES, "all of ours keep it");
    let guest = net.our_guest().await;
    let target = node_id(there);
    assert_eq!(soon(guest.lookup(target).outcome()).await.closest.first(), Some(&there));
}

/// What either side announces and stores, the other one finds, through the nodes of `net`.
async fn exchange(net: &Net) {
    let guest = net.our_guest().await;
    let (ours, theirs) = (KeyPair::from_seed(&OURS), KeyPair::from_seed(&THEIRS));
    let (our_key, their_key) = (hex(&ours.public().0), hex(&theirs.public().0));
    let (topic, their_seed) = (hex(&TOPIC), hex(&THEIRS));
    let count = net.persistent.len();

    let relay = net.persistent[0];
    let outcome = soon(guest.announce(TOPIC, &ours, &[relay]).outcome()).await;
    assert_eq!((outcome.stored, outcome.refused), (count, 0), "tokens of all nodes were good");
    assert_eq!(net.they(&["announce", &topic, &their_seed])["stored"], count);
    let found = net.they(&["lookup", &topic]);
    let found = found["found"].as_array().expect("peers");
    let named = |key: &str| found.iter().filter(|peer| peer["key"] == *key).count();
    assert_eq!((named(&our_key), named(&their_key)), (count, count));
    let our_peer = found.iter().find(|peer| peer["key"] == *our_key).expect("ours");
    assert_eq!(our_peer["relays"], serde_json::json!([relay.to_string()]));
    let (peers, _) = soon(guest.lookup(TOPIC).peers()).await;
    let named = |key| peers.iter().filter(|peer| peer.public_key == key).count();
    assert_eq!((named(ours.public()), named(theirs.public())), (count, count));
    net.they(&["unannounce", &topic, &their_seed]);
    assert_eq!(soon(guest.unannounce(TOPIC, &ours).outcome()).await.stored, count);
    assert!(soon(guest.lookup(TOPIC).peers()).await.0.is_empty());

    assert_eq!(soon(guest.mutable_put(&ours, 5, b"from us").outcome()).await.stored, count);
    let got = net.they(&["mutable-get", &our_key]);
    assert_eq!((&got["text"], &got["seq"]), (&"from us".into(), &5.into()));
    assert_eq!(net.they(&["mutable-put", &their_seed, "7", "theirs"])["stored"], count);
    let got = soon(guest.mutable_get(theirs.public(), 0).value()).await.expect("a value");
    assert_eq!((&got.value[..], got.seq), (&b"theirs"[..], 7));
    assert_eq!(soon(guest.immutable_put(b"fixed").outcome()).await.stored, count);
    let put = net.they(&["immutable-put", "fixed"]);
    let hash = put["hash"].as_str().expect("a hash");
    assert_eq!(net.they(&["immutable-get", hash])["text"], "fixed");
    let hash = HEXLOWER.decode(hash.as_bytes()).expect("hex").try_into().expect("32 bytes");
    assert_eq!(soon(guest.immutable_get(hash).value()).await.expect("a value").value, "fixed");

    let mut events = guest.events().expect("once");
    let mut server = guest.serve(ours.clone(), ListenOptions::default()).expect("listen");
    while soon(events.recv()).await != Some(Event::Listening(server.target())) {}
    assert!(!server.relay_addresses().is_empty());
    let found = net.they(&["find-peer", &our_key]);
    let found = found["found"].as_array().expect("peers");
    assert!(!found.is_empty() && found.iter().all(|peer| peer["key"] == *our_key), "{found:?}");
    let their_server = net.theirs(&[&format!("listen {their_seed}")]);
    event(&their_server, "listen");
    let their_target = hyperswarm::crypto::blake2b_256(&[&theirs.public().0]);
    let (peers, _) = soon(guest.find_peer(their_target).peers()).await;
    assert!(!peers.is_empty() && peers.iter().all(|peer| peer.public_key == theirs.public()), "{peers:?}");

    for options in ["", " --no-lan", " --no-lan --no-fast-open"] {
        let begun = std::time::Instant::now();
        let dialler = net.theirs(&[&format!("connect {our_key}{options}")]);
        let mut connection = soon(server.accept()).await.expect("a connection");
        assert_eq!(soon(connection.next()).await.expect("a message").expect("authentic"), "from them");
        connection.send(b"from us").await.expect("send");
        assert_eq!(event(&dialler, "connect")["text"], "from us");
        println!("theirs to ours{options}: {:?} with the start of their process", begun.elapsed());
    }
    for local in [true, false] {
        let begun = std::time::Instant::now();
        let options = DialOptions { local, ..DialOptions::default() };
        let dialled = guest.connect(&std::sync::Arc::new(ours.clone()), theirs.public(), options);
        let mut connection = soon(dialled).await.expect("connects");
        println!("ours to theirs, local {local}: {:?}", begun.elapsed());
        assert_eq!(connection.remote(), theirs.public());
        connection.send(b"from us").await.expect("send");
        assert_eq!(soon(connection.next()).await.expect("a message").expect("authentic"), "got from us");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_and_values_pass_between_ours_and_theirs_through_their_nodes() {
    let Some(net) = Net::of_theirs() else { return };
    timeout(LONG, exchange(&net)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn announcements_and_values_pass_between_ours_and_theirs_through_our_nodes() {
    let Some(net) = Net::of_ours().await else { return };
    timeout(LONG, exchange(&net)).await.expect("in time");
}

/// Members of ours and of theirs meet in a topic, whoever announces and whoever looks.
async fn meet(net: &Net) {
    for (number, ours, theirs) in
        [(1, Mode::BOTH, ""), (2, SERVER_ONLY, "--no-server"), (3, CLIENT_ONLY, "--no-client")]
    {
        let topic = Topic([number; 32]);
        let keys = KeyPair::from_seed(&[number + 0x20; 32]);
        let our_key = hex(&keys.public().0);
        let mut swarm = Swarm::start(net.our_guest().await, keys, Options::default()).expect("starts");
        let joined = soon(swarm.join(topic, ours)).await.expect("joined");
        // Who only looks must find what is announced.
        soon(swarm.flush()).await;
        let (bootstrap, name, begun) = (net.bootstrap.to_string(), hex(&topic.0), std::time::Instant::now());
        let mut arguments = vec!["--bootstrap", &bootstrap, "--topic", &name];
        arguments.extend((!theirs.is_empty()).then_some(theirs));
        let process = Process::start("hyperswarm", js("swarm_v4_peer.js").args(arguments));
        if theirs == "--no-client" {
            // It announces itself; we look again.
            event(&process, "joined");
            soon(joined.change(Mode::BOTH)).await;
        }
        let mut connection = soon(swarm.next()).await.expect("a connection");
        println!(
            "ours {ours:?}, theirs {theirs:?}: met after {:?} with the start of their process",
            begun.elapsed()
        );
        connection.send(b"hello from us").await.expect("send");
        let mut heard = Vec::new();
        while heard.len() < 2 {
            heard.push(soon(connection.next()).await.expect("a message").expect("authentic"));
        }
        assert_eq!(heard, ["hello from them", "got hello from us"]);
        let message = event_that(&process, "message", |message| message["peer"] == *our_key);
        assert_eq!(message["text"], "hello from us");
        drop(connection);
        event_that(&process, "closed", |closed| closed["peer"] == *our_key);
    }
}

const SERVER_ONLY: Mode = Mode { server: true, client: false };
const CLIENT_ONLY: Mode = Mode { server: false, client: true };

#[tokio::test(flavor = "multi_thread")]
async fn members_of_ours_and_theirs_meet_in_a_topic_of_their_network() {
    let Some(net) = Net::of_theirs() else { return };
    timeout(LONG, meet(&net)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_ours_and_theirs_meet_in_a_topic_of_our_network() {
    let Some(net) = Net::of_ours().await else { return };
    timeout(LONG, meet(&net)).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_ours_that_is_not_there_any_more_is_left_out_of_their_walks() {
    let Some(mut net) = Net::of_ours().await else { return };
    let gone = net.ours.pop().expect("a node");
    net.persistent.pop();
    let target = node_id(address(&gone));
    drop(gone);
    assert_eq!(closest(&net.they(&["find-node", &hex(&target)])), net.closest(&target));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_theirs_store_find_and_connect_in_a_network_that_is_only_our_command() {
    let Some(net) = Net::of_our_command() else { return };
    let seed = hex(&THEIRS);
    let put = net.they(&["mutable-put", &seed, "1", "kept"]);
    assert_eq!(put["stored"], net.persistent.len());
    let key = put["key"].as_str().expect("a key");
    assert_eq!(net.they(&["mutable-get", key])["text"], "kept");
    let server = net.theirs(&[&format!("listen {seed}")]);
    let relays = event(&server, "listen")["relays"].as_array().expect("relays").len();
    assert_eq!(relays, 3, "as many as two peers need to punch");
    // Not by their local network, and not at once: through the relays, with a hole punched.
    for options in ["", " --no-lan --no-fast-open"] {
        assert_eq!(net.they(&["connect", &format!("{key}{options}")])["text"], "got from them");
    }
}
