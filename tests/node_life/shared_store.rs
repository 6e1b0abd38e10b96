//! Two programs load the same file into one store.

use std::time::Duration;

use kachery_p2p::node::{Load, LoadError, LoadEvent, LoadOptions};
use kachery_p2p::store::{Partial, Sha1, Store};

use crate::node_common::{PrivateDht, TestNode, bytes, finish, options, start_in};

const SIZE: usize = 3_000_000;
const SEED: u64 = 31;

/// A node that provides a file, one that can load it, and the other program: it loads the file into the store of the
/// second node and has half of it.
struct World {
    _dht: PrivateDht,
    provider: TestNode,
    asker: TestNode,
    other: Partial,
    sha1: Sha1,
    file: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        let dht = PrivateDht::start().await;
        let provider = TestNode::start(&dht, &["one"]).await;
        let asker = TestNode::start(&dht, &["one"]).await;
        let sha1 = provider.put(SIZE, SEED);
        asker.connected("one", 1).await;
        let file = bytes(SIZE, SEED);
        let store = Store::open(asker.node.store().root()).unwrap();
        let mut other = store.partial(sha1, SIZE as u64).unwrap();
        other.write_at(0, &file[..SIZE / 2]).unwrap();
        other.sync().unwrap();
        Self { _dht: dht, provider, asker, other, sha1, file }
    }

    /// A load that waits for the other program.
    async fn waiting(&self) -> Load {
        let mut load = self.asker.node.load(self.sha1, options());
        let waits = |event: &LoadEvent| matches!(event, LoadEvent::Waiting { bytes, size } if *size == SIZE as u64 && *bytes >= *size / 2);
        load.events.wait_for(waits).await.expect("it waits");
        load
    }

    async fn shutdown(self) {
        self.asker.node.shutdown().await;
        self.provider.node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_program_loads_is_taken_from_the_store_when_that_has_it() {
    let mut world = World::new().await;
    let load = world.waiting().await;
    world.other.write_at(SIZE as u64 / 2, &world.file[SIZE / 2..]).unwrap();
    let store = Store::open(world.asker.node.store().root()).unwrap();
    let nothing = store.partial(Sha1([1; 20]), 1).unwrap();
    let stored = std::mem::replace(&mut world.other, nothing).commit().unwrap();
    let loaded = finish(load).await.expect("loaded");
    assert_eq!((loaded.path, loaded.downloaded), (stored.path, 0));
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_program_gives_up_is_loaded_on_from_where_that_ended() {
    let mut world = World::new().await;
    let load = world.waiting().await;
    let store = Store::open(world.asker.node.store().root()).unwrap();
    world.other = store.partial(Sha1([1; 20]), 1).unwrap();
    let loaded = finish(load).await.expect("loaded");
    assert_eq!(loaded.downloaded, (SIZE - SIZE / 2) as u64);
    assert!(std::fs::read(loaded.path).unwrap() == world.file);
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_with_one_store_that_load_a_file_at_the_same_time_fetch_it_once() {
    let dht = PrivateDht::start().await;
    let provider = TestNode::start(&dht, &["one"]).await;
    let first = TestNode::start(&dht, &["one"]).await;
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(first.node.store().root(), folder.path().join("store")).unwrap();
    let second = start_in(folder.path().to_owned(), &dht, &["one"]).await;
    let size = 30_000_000;
    let sha1 = provider.put(size, SEED);
    provider.connected("one", 2).await;
    let loads = [first.node.load(sha1, options()), second.load(sha1, options())];
    let loaded = futures::future::join_all(loads.map(finish)).await;
    let downloaded: Vec<_> = loaded.into_iter().map(|loaded| loaded.expect("loaded").downloaded).collect();
    // The other one notices with its first bytes.
    assert!(downloaded.contains(&0) && downloaded.contains(&(size as u64)), "{downloaded:?}");
    let fetched = first.node.status().bytes_downloaded + second.status().bytes_downloaded;
    assert!(fetched < size as u64 * 3 / 2, "{fetched} bytes for {size}");
    second.shutdown().await;
    first.node.shutdown().await;
    provider.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_waited_for_another_program_in_vain_says_so() {
    let world = World::new().await;
    let short = LoadOptions { timeout: Duration::from_millis(500), provider: None };
    let outcome = finish(world.asker.node.load(world.sha1, short)).await;
    assert!(matches!(outcome, Err(LoadError::InUse(_))), "{outcome:?}");
    world.shutdown().await;
}
