//! Loads that are shared, limited, cancelled, cut off and resumed; channels that are left.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod limits;
#[path = "../node_common/mod.rs"]
mod node_common;
mod shared_store;

use std::time::Duration;

use kachery_p2p::node::LoadEvent;
use node_common::{PrivateDht, TestNode, bytes, eventually, finish, options, start_in};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_loads_of_a_file_share_one_download() {
    let dht = PrivateDht::start().await;
    let a = TestNode::start(&dht, &["one"]).await;
    let b = TestNode::start(&dht, &["one"]).await;
    let sha1 = a.put(2_000_000, 3);
    b.connected("one", 1).await;
    let (first, second) = (b.node.load(sha1, options()), b.node.load(sha1, options()));
    let (first, second) = tokio::join!(finish(first), finish(second));
    assert_eq!(first.unwrap().path, second.unwrap().path);
    assert_eq!(b.node.status().bytes_downloaded, 2_000_000);
    a.node.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_downloads_at_once_all_end_right() {
    let dht = PrivateDht::start().await;
    let a = TestNode::start(&dht, &["one"]).await;
    let b = TestNode::start(&dht, &["one"]).await;
    let names: Vec<_> = (0..20).map(|seed| a.put(150_000 + seed as usize, seed)).collect();
    b.connected("one", 1).await;
    let loads: Vec<_> = names.iter().map(|sha1| b.node.load(*sha1, options())).collect();
    for (seed, load) in loads.into_iter().enumerate() {
        let loaded = finish(load).await.unwrap();
        assert!(std::fs::read(&loaded.path).unwrap() == bytes(150_000 + seed, seed as u64), "file {seed}");
    }
    a.node.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_load_cancels_and_a_new_one_goes_on_from_there() {
    let dht = PrivateDht::start().await;
    let a = TestNode::start(&dht, &["one"]).await;
    let b = TestNode::start(&dht, &["one"]).await;
    let size = 30_000_000;
    let sha1 = a.put(size, 5);
    b.connected("one", 1).await;
    let mut load = b.node.load(sha1, options());
    let far = |event: &LoadEvent| matches!(event, LoadEvent::Downloading { bytes, .. } if *bytes > 5_000_000);
    load.events.wait_for(far).await.expect("progress");
    drop(load);
    eventually("the download ends", || b.node.status().downloads.is_empty()).await;
    let had = b.node.status().bytes_downloaded;
    let loaded = b.load(sha1).await.unwrap();
    assert!(had + loaded.downloaded < size as u64 + 8_000_000, "{had} before, {} after", loaded.downloaded);
    assert!(loaded.downloaded < size as u64);
    assert!(std::fs::read(&loaded.path).unwrap() == bytes(size, 5));
    a.node.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_the_restart_of_its_provider() {
    let dht = PrivateDht::start().await;
    let a = TestNode::start(&dht, &["one"]).await;
    let b = TestNode::start(&dht, &["one"]).await;
    let size = 30_000_000;
    let sha1 = a.put(size, 6);
    b.connected("one", 1).await;
    let patient = kachery_p2p::node::LoadOptions { timeout: Duration::from_secs(50), provider: None };
    let mut load = b.node.load(sha1, patient);
    let far = |event: &LoadEvent| matches!(event, LoadEvent::Downloading { bytes, .. } if *bytes > 3_000_000);
    load.events.wait_for(far).await.expect("progress");
    let TestNode { node, folder } = a;
    node.shutdown().await;
    drop(node);
    // The lock of the config folder goes with the last task of the old node.
    let again = start_in(folder.path().to_owned(), &dht, &["one"]).await;
    let loaded = finish(load).await.expect("loaded");
    assert!(std::fs::read(&loaded.path).unwrap() == bytes(size, 6));
    again.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_left_channel_is_neither_served_nor_remembered() {
    let dht = PrivateDht::start().await;
    let a = TestNode::start(&dht, &["one", "two"]).await;
    let b = TestNode::start(&dht, &["one"]).await;
    let sha1 = a.put(1000, 7);
    b.connected("one", 1).await;
    a.node.leave_channel("one").await.expect("left");
    let names: Vec<_> = a.node.channels().into_iter().map(|channel| channel.name).collect();
    assert_eq!(names, ["two"]);
    eventually("the peer is gone", || b.node.channels()[0].peers == 0).await;
    let mut find = b.node.find(sha1, Duration::from_millis(300));
    assert!(find.found.recv().await.is_none());
    let config = std::fs::read_to_string(a.folder.path().join("config/config.json")).unwrap();
    assert!(config.contains("two") && !config.contains("one"), "{config}");
    a.node.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_cannot_be_remembered_is_neither_joined_nor_left() {
    let dht = PrivateDht::start().await;
    let a = TestNode::start(&dht, &["one"]).await;
    let config = a.folder.path().join("config/config.json");
    std::fs::remove_file(&config).unwrap();
    // In its place stands what cannot be replaced.
    std::fs::create_dir_all(config.join("in the way")).unwrap();
    a.node.join_channel("two").await.expect_err("it cannot be saved");
    a.node.leave_channel("one").await.expect_err("it cannot be saved");
    let names: Vec<_> = a.node.channels().into_iter().map(|channel| channel.name).collect();
    assert_eq!(names, ["one"]);
    assert!(!a.node.status().swarms.iter().any(|swarm| swarm.purpose.contains("two")));
    a.node.shutdown().await;
}
