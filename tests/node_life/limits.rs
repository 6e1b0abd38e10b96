//! What clients of a node can ask for at the same time.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kachery_p2p::limits;
use kachery_p2p::node::{LoadError, LoadOptions, Node, NodeConfig, NodeError};
use kachery_p2p::store::{Sha1, Store};

use crate::node_common::{PrivateDht, TestNode, finish};

/// A file that nobody has.
fn nowhere(number: usize) -> Sha1 {
    let mut bytes = [0xee; 20];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Sha1(bytes)
}

fn within(timeout: Duration) -> LoadOptions {
    LoadOptions { timeout, provider: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_loads_than_may_transfer_search_at_the_same_time() {
    let dht = PrivateDht::start().await;
    // Nobody else is in the channel, so each search ends when its time is over.
    let alone = TestNode::start(&dht, &["one"]).await;
    let second = within(Duration::from_secs(1));
    let began = Instant::now();
    let mut loads: Vec<_> = (0..2 * limits::ACTIVE_DOWNLOADS)
        .map(|number| alone.node.load(nowhere(number), second.clone()))
        .collect();
    let mut done: FuturesUnordered<_> = loads.iter_mut().map(|load| &mut load.done).collect();
    while let Some(outcome) = done.next().await {
        assert!(matches!(outcome, Ok(Err(LoadError::NoPeers { .. }))), "{outcome:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "they waited for each other: {:?}", began.elapsed());
    drop(done);
    alone.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_beyond_those_that_may_wait_are_refused() {
    let dht = PrivateDht::start().await;
    let alone = TestNode::start(&dht, &["one"]).await;
    let hour = within(Duration::from_secs(3600));
    let loads: Vec<_> =
        (0..limits::WAITING_DOWNLOADS).map(|number| alone.node.load(nowhere(number), hour.clone())).collect();
    assert_eq!(alone.node.status().downloads.len(), limits::WAITING_DOWNLOADS);
    let shared = alone.node.load(nowhere(0), hour.clone());
    let beyond = alone.node.load(nowhere(limits::WAITING_DOWNLOADS), hour.clone());
    let Err(LoadError::Transfer { reasons }) = finish(beyond).await else { panic!("not refused") };
    assert!(reasons[0].1.contains("1024 downloads are waiting already"), "{reasons:?}");
    assert_eq!(alone.node.status().downloads.len(), limits::WAITING_DOWNLOADS);
    drop((loads, shared));
    alone.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_the_end_of_the_node_ends_is_told_as_stopped_and_not_as_cancelled() {
    let dht = PrivateDht::start().await;
    let alone = TestNode::start(&dht, &["one"]).await;
    let load = alone.node.load(nowhere(0), within(Duration::from_secs(3600)));
    alone.node.shutdown().await;
    let outcome = finish(load).await;
    assert!(matches!(outcome, Err(LoadError::Stopped)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_beyond_the_limit_are_refused_when_joined_and_at_the_start() {
    let dht = PrivateDht::start().await;
    let folder = tempfile::tempdir().expect("folder");
    let name = |number: usize| format!("channel {number}");
    let start = |channels| {
        Node::start(NodeConfig {
            config_dir: folder.path().join("config"),
            store: Store::open(&folder.path().join("store")).expect("store"),
            channels,
            bootstrap_v2: vec![dht.address.to_string()],
            mdns: false,
            api_port: 0,
        })
    };
    let refused = start((0..=limits::CHANNELS).map(name).collect()).await.err().expect("one too many");
    assert!(matches!(refused, NodeError::TooManyChannels), "{refused}");
    let node = start((1..limits::CHANNELS).map(name).collect()).await.expect("one below the limit");
    node.join_channel(&name(0)).await.expect("at the limit");
    let refused = node.join_channel(&name(limits::CHANNELS)).await.unwrap_err();
    assert!(refused.to_string().contains("at most 64 channels"), "{refused}");
    node.join_channel(&name(0)).await.expect("joined already");
    node.leave_channel(&name(0)).await.expect("left");
    node.join_channel(&name(limits::CHANNELS)).await.expect("there is room again");
    assert_eq!(node.channels().len(), limits::CHANNELS);
    node.shutdown().await;
}
