//! The examples do what their first lines say, on loopback.
// Helpers of tests may panic; clippy recognises only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

// Their `main` and what only it uses.
#[allow(dead_code)]
#[path = "../examples/connect.rs"]
mod connect;
#[allow(dead_code)]
#[path = "../examples/put_get.rs"]
mod put_get;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use hyperswarm::crypto::KeyPair;
use hyperswarm::net::v4::{Dht, DhtOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SEED: &str = "0101010101010101010101010101010101010101010101010101010101010101";

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), work).await.expect("in time")
}

/// Four nodes, and where to enter.
async fn network() -> (Vec<Dht>, String) {
    let first = DhtOptions { public_host: Some(HOST), ..DhtOptions::private(HOST, []) };
    let mut nodes = vec![Dht::bind(first).unwrap()];
    let bootstrap = SocketAddrV4::new(HOST, nodes[0].local_address().port());
    while nodes.len() < 4 {
        let node = Dht::bind(DhtOptions::private(HOST, [bootstrap])).unwrap();
        soon(node.until(|status| status.ready && status.id.is_some())).await;
        nodes.push(node);
    }
    (nodes, bootstrap.to_string())
}

/// One end of `connect`.
struct End {
    terminal: DuplexStream,
    told: mpsc::Receiver<String>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl End {
    fn start(arguments: &[&str]) -> Self {
        let (terminal, inside) = duplex(1 << 16);
        let (input, output) = split(inside);
        let (sender, told) = mpsc::channel(4);
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let tell = move |line| sender.try_send(line).unwrap();
        let task = spawn_local(connect::run(arguments.into_iter(), input, output, tell));
        Self { terminal, told, task }
    }

    async fn told(&mut self) -> String {
        soon(self.told.recv()).await.expect("a line")
    }

    /// Ends the input, waits for the end; the output.
    async fn finish(mut self) -> String {
        self.terminal.shutdown().await.unwrap();
        let mut output = String::new();
        soon(self.terminal.read_to_string(&mut output)).await.unwrap();
        soon(self.task).await.unwrap().unwrap();
        output
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_into_one_end_of_connect_comes_out_at_the_other() {
    let (_nodes, bootstrap) = network().await;
    LocalSet::new().run_until(exchange(&bootstrap)).await;
}

async fn exchange(bootstrap: &str) {
    let mut server = End::start(&["--bootstrap", bootstrap, "--seed", SEED]);
    let line = server.told().await;
    let key = line.strip_prefix("public key: ").unwrap();
    assert_eq!(key, KeyPair::from_seed(&[1; 32]).public().to_string());
    let mut client = End::start(&["--bootstrap", bootstrap, key]);
    assert!(client.told().await.starts_with(&format!("connected to {key} at 127.0.0.1:")));
    client.terminal.write_all(b"from the client").await.unwrap();
    server.terminal.write_all(b"from the server").await.unwrap();
    let (at_client, at_server) = tokio::join!(client.finish(), server.finish());
    assert_eq!((&*at_client, &*at_server), ("from the server", "from the client"));
}

#[tokio::test(flavor = "multi_thread")]
async fn put_get_stores_and_finds_both_kinds_of_values() {
    let (_nodes, bootstrap) = network().await;
    let ask = async |command: &[&str]| {
        let arguments = [&[bootstrap.as_str()], command].concat();
        soon(put_get::run(&arguments)).await.unwrap()
    };
    let hash = ask(&["put", "for ever"]).await;
    assert_eq!(ask(&["get", &hash]).await, "for ever");
    let key = ask(&["put-mutable", SEED, "for now"]).await;
    assert_eq!(ask(&["get-mutable", &key]).await, "for now (version 0)");
    ask(&["put-mutable", SEED, "replaced"]).await;
    assert_eq!(ask(&["get-mutable", &key]).await, "replaced (version 1)");
}
