//! `dht-node --network v4`.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::{Child, ChildStdout};
use std::time::{Duration, Instant};

use hyperswarm::codec::compact::Writer;
use hyperswarm::codec::v4::{Packet, Reply};
use hyperswarm::crypto::v4::node_id;
use hyperswarm::dht::id::NodeId;
use hyperswarm::dht::v4::Persistence;
use hyperswarm::net::v4::{Dht, DhtOptions};
use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Done, Home, finish, signal};

const ANY_PORT: &str = "127.0.0.1:0";

/// The command while it runs; killed if the test fails before it ends.
struct Nodes {
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
    _home: Home,
}

impl Nodes {
    fn start(words: &[&str]) -> Self {
        let home = Home::new();
        let words = [&["dht-node", "--network", "v4"], words].concat();
        let mut child = home.command("kachery-p2p", &words).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child: Some(child), stdout, _home: home }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// The addresses in the line of `--json`.
    fn addresses(&mut self) -> Vec<SocketAddrV4> {
        let line: Value = serde_json::from_str(&self.line()).unwrap();
        let nodes = line["nodes"].as_array().unwrap().iter();
        nodes.map(|node| node.as_str().unwrap().parse().unwrap()).collect()
    }

    /// Asks it to end; what it did, and how long that took.
    fn end(mut self, with: Signal) -> (Done, Duration) {
        let begun = Instant::now();
        let child = self.child.take().unwrap();
        signal(child.id(), with);
        (finish(child), begun.elapsed())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const TARGET: [u8; 32] = [7; 32];

/// Nodes close to the target that a stranger finds who enters the network there.
fn found_through(entrance: SocketAddrV4) -> Vec<SocketAddrV4> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let walk = async {
        let options = DhtOptions::private(Ipv4Addr::LOCALHOST, [entrance]);
        let guest = Dht::bind(DhtOptions { persistence: Persistence::Ephemeral, ..options }).unwrap();
        guest.until(|status| status.ready).await;
        let mut found = guest.lookup(TARGET).outcome().await.closest;
        found.sort_unstable();
        found
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), walk).await.unwrap() })
}

fn sorted(mut addresses: Vec<SocketAddrV4>) -> Vec<SocketAddrV4> {
    addresses.sort_unstable();
    addresses
}

/// A port that was free a moment ago, and so were the next three.
fn four_free_ports() -> u16 {
    let at = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
    loop {
        let port = at(0).unwrap().local_addr().unwrap().port();
        if (0..4).all(|i| port.checked_add(i).is_some_and(|port| port < u16::MAX && at(port).is_ok())) {
            return port;
        }
    }
}

#[test]
fn by_default_there_are_four_nodes_on_ports_that_follow_each_other() {
    let port = four_free_ports();
    let mut nodes = Nodes::start(&["--listen", &format!("127.0.0.1:{port}")]);
    for i in 0..4 {
        assert_eq!(nodes.line(), format!("dht node ready: 127.0.0.1:{}\n", port + i));
    }
    let (done, _) = nodes.end(Signal::INT);
    let paste = format!("--network v4 --listen {ANY_PORT} --bootstrap 127.0.0.1:{port}\n");
    assert!(done.stderr.ends_with(&paste), "{}", done.stderr);
}

#[test]
fn one_line_of_json_names_all_nodes_when_a_stranger_finds_them() {
    let begun = Instant::now();
    let mut nodes = Nodes::start(&["--listen", ANY_PORT, "--nodes", "12", "--json"]);
    let addresses = nodes.addresses();
    println!("12 nodes: {:?}", begun.elapsed());
    assert_eq!(addresses.len(), 12);
    assert_eq!(found_through(addresses[0]), sorted(addresses));
    let (done, _) = nodes.end(Signal::TERM);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

/// Each entered while the others did.
#[test]
fn a_walk_through_a_hundred_nodes_that_just_entered_finds_the_closest() {
    let mut nodes = Nodes::start(&["--listen", ANY_PORT, "--nodes", "100", "--json"]);
    let mut addresses = nodes.addresses();
    let found = found_through(addresses[0]);
    addresses.sort_unstable_by_key(|address| NodeId(node_id(*address)).distance(&TARGET));
    assert_eq!(found, sorted(addresses[..20].to_vec()));
}

/// The bar is 100 ms; the test leaves room for a busy machine.
#[test]
fn a_hundred_nodes_end_at_once_when_they_are_asked_to() {
    let mut nodes = Nodes::start(&["--listen", ANY_PORT, "--nodes", "100", "--json"]);
    assert_eq!(nodes.addresses().len(), 100);
    let (done, took) = nodes.end(Signal::TERM);
    println!("ended after {took:?}");
    assert_eq!(done.code, 0);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn nodes_of_another_process_enter_the_network_through_any_of_the_first() {
    let mut first = Nodes::start(&["--listen", ANY_PORT, "--json"]);
    let mut all = first.addresses();
    let entrance = all[2].to_string();
    let mut second = Nodes::start(&["--listen", ANY_PORT, "--json", "--bootstrap", &entrance]);
    all.extend(second.addresses());
    assert_eq!(all.len(), 8);
    assert_eq!(found_through(all[7]), sorted(all));
}

#[test]
fn nodes_on_all_addresses_learn_from_the_bootstrap_nodes_which_one_others_see() {
    let mut first = Nodes::start(&["--listen", ANY_PORT, "--json"]);
    let entrance = first.addresses()[0].to_string();
    let mut second = Nodes::start(&["--listen", "0.0.0.0:0", "--json", "--bootstrap", &entrance]);
    let learnt = second.addresses();
    assert_eq!(learnt.len(), 4);
    assert!(learnt.iter().all(|address| address.ip().is_loopback()), "{learnt:?}");
}

#[test]
fn nodes_wait_for_a_bootstrap_node_that_starts_later() {
    let entrance = format!("127.0.0.1:{}", four_free_ports());
    let mut early = Nodes::start(&["--listen", ANY_PORT, "--bootstrap", &entrance]);
    let mut stderr = BufReader::new(early.child.as_mut().unwrap().stderr.take().unwrap());
    let mut note = String::new();
    stderr.read_line(&mut note).unwrap();
    assert_eq!(note, format!("no bootstrap node answers ({entrance}); trying until one does\n"));
    let mut late = Nodes::start(&["--listen", &entrance, "--json"]);
    let first = late.addresses();
    let ready = early.line();
    let early = ready.trim_end().strip_prefix("dht node ready: ").unwrap().parse().unwrap();
    assert!(found_through(first[0]).contains(&early), "{early}");
}

#[test]
fn the_first_node_of_a_network_is_told_an_address_that_others_can_use() {
    let done = Home::new().run(&["dht-node", "--network", "v4"]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""));
    for part in
        ["the address that others use", "likely: 0.0.0.0 is every address", "next: kachery-p2p dht-node"]
    {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
}

#[test]
fn a_port_of_the_four_that_is_taken_is_named() {
    let port = four_free_ports();
    let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 1)).unwrap();
    let listen = format!("127.0.0.1:{port}");
    let done = Home::new().run(&["dht-node", "--network", "v4", "--listen", &listen]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    let named = format!("on {}: ", taken.local_addr().unwrap());
    for part in [&*named, "likely: another DHT node", "next: kachery-p2p dht-node --network v4 --listen 127."]
    {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
}

#[test]
fn what_only_v4_has_is_refused_for_v2() {
    for words in [["--nodes", "3"], ["--bootstrap", "127.0.0.1:9"]] {
        let done = Home::new().run(&[["dht-node", "--listen"].as_slice(), &[ANY_PORT], &words].concat());
        assert_eq!((done.code, done.stdout.as_str()), (2, ""));
        assert!(done.stderr.contains("are for --network v4"), "{}", done.stderr);
    }
}

/// A node that answers to wherever it was asked from; `seen` is how it says that it sees who asks.
fn pretend_node(seen: impl Fn(SocketAddrV4) -> SocketAddrV4 + Send + 'static) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, SocketAddr::V4(from))) = socket.recv_from(&mut buffer) {
            if let Ok(Packet::Request(request)) = Packet::decode(&buffer[..length]) {
                let mut out = Writer::new();
                Reply::new(request.tid, seen(from)).encode(&mut out);
                socket.send_to(out.as_slice(), from).unwrap();
            }
        }
    });
    address.to_string()
}

#[test]
fn an_address_that_a_nat_translates_is_not_taken_for_that_which_others_see() {
    let outside = pretend_node(|_| SocketAddrV4::new([198, 51, 100, 9].into(), 7));
    let words = ["dht-node", "--network", "v4", "--listen", ANY_PORT, "--bootstrap", &outside];
    let done = Home::new().run(&words);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    for part in ["at 198.51.100.9, not at 127.0.0.1", "likely: a NAT", "next: kachery-p2p dht-node"] {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
}

/// It never answers to the other port, as it is asked to.
#[test]
fn a_machine_that_others_do_not_reach_does_not_serve_them() {
    let behind_a_firewall = pretend_node(|from| from);
    let words = ["dht-node", "--network", "v4", "--listen", "0.0.0.0:0", "--bootstrap", &behind_a_firewall];
    let done = Home::new().run(&words);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    for part in ["cannot reach this machine", "likely: a firewall or a NAT", "next: open these ports"] {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
}
