//! Nodes of ours share files over loopback and a private DHT.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod node_common;

use std::time::{Duration, Instant};

use kachery_p2p::node::LoadError;
use kachery_p2p::store::Sha1;
use node_common::{PrivateDht, TestNode, bytes, finish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_one_node_is_found_loaded_and_then_provided_by_the_other() {
    let dht = PrivateDht::start().await;
    let a = TestNode::start(&dht, &["one"]).await;
    let b = TestNode::start(&dht, &["one"]).await;
    let sha1 = a.put(3_000_001, 1);
    b.connected("one", 1).await;
    let began = Instant::now();
    let mut find = b.node.find(sha1, Duration::from_secs(5));
    assert_eq!(find.peers_asked, 1);
    let found = find.found.recv().await.expect("found");
    println!("found after {:?}", began.elapsed());
    assert_eq!((found.size, found.channel.as_str()), (3_000_001, "one"));
    let loaded = b.load(sha1).await.expect("loaded");
    assert_eq!(loaded.downloaded, 3_000_001);
    assert!(std::fs::read(&loaded.path).unwrap() == bytes(3_000_001, 1));
    println!("loaded after {:?}", began.elapsed());
    // A third one gets it although the first is gone.
    a.node.shutdown().await;
    let c = TestNode::start(&dht, &["one"]).await;
    c.connected("one", 1).await;
    let loaded = c.load(sha1).await.expect("loaded from the second");
    assert!(std::fs::read(&loaded.path).unwrap() == bytes(3_000_001, 1));
    let again = c.load(sha1).await.expect("there");
    assert_eq!(again.downloaded, 0);
    b.node.shutdown().await;
    c.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_file_that_was_damaged_is_loaded_again_and_thereby_repaired() {
    let dht = PrivateDht::start().await;
    let a = TestNode::start(&dht, &["one"]).await;
    let b = TestNode::start(&dht, &["one"]).await;
    let sha1 = a.put(300_001, 2);
    assert_eq!(b.put(300_001, 2), sha1);
    // A hint would lead there.
    std::fs::remove_file(b.folder.path().join("source")).unwrap();
    let path = b.node.store().find(sha1).unwrap().expect("stored");
    assert_eq!(b.load(sha1).await.expect("there").downloaded, 0);
    let mut damaged = bytes(300_001, 2);
    damaged[200_000] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    b.connected("one", 1).await;
    let loaded = b.load(sha1).await.expect("loaded");
    assert_eq!((loaded.downloaded, &loaded.path), (300_001, &path));
    assert!(std::fs::read(&path).unwrap() == bytes(300_001, 2));
    assert_eq!(b.load(sha1).await.expect("there").downloaded, 0);
    a.node.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_reason_for_nothing_is_told_apart() {
    let dht = PrivateDht::start().await;
    let alone = TestNode::start(&dht, &[]).await;
    let unknown = Sha1([7; 20]);
    let short = || kachery_p2p::node::LoadOptions { timeout: Duration::from_millis(500), provider: None };
    let outcome = finish(alone.node.load(unknown, short())).await;
    assert!(matches!(outcome, Err(LoadError::NoChannel)), "{outcome:?}");
    alone.node.join_channel("two").await.expect("joined");
    let outcome = finish(alone.node.load(unknown, short())).await;
    assert!(matches!(&outcome, Err(LoadError::NoPeers { channels }) if channels == "two"), "{outcome:?}");
    let other = TestNode::start(&dht, &["two"]).await;
    alone.connected("two", 1).await;
    let outcome = finish(alone.node.load(unknown, short())).await;
    assert!(matches!(outcome, Err(LoadError::NotFound { asked: 1, .. })), "{outcome:?}");
    alone.node.shutdown().await;
    other.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_of_what_nobody_has_ends_ten_seconds_after_the_last_peer_was_asked() {
    let dht = PrivateDht::start().await;
    let asker = TestNode::start(&dht, &["one"]).await;
    let other = TestNode::start(&dht, &["one"]).await;
    asker.connected("one", 1).await;
    let began = Instant::now();
    let long = kachery_p2p::node::LoadOptions { timeout: Duration::from_secs(60), provider: None };
    let outcome = finish(asker.node.load(Sha1([7; 20]), long)).await;
    assert!(matches!(outcome, Err(LoadError::NotFound { asked: 1, .. })), "{outcome:?}");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(12), "{took:?}");
    asker.node.shutdown().await;
    other.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_down_takes_less_than_three_seconds() {
    let dht = PrivateDht::start().await;
    let node = TestNode::start(&dht, &["x", "y"]).await;
    let began = Instant::now();
    node.node.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}
