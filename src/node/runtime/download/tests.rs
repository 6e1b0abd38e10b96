//! Downloads whose providers claim different sizes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Download;
use crate::node::legacy::Dialect;
use crate::node::peer::{PeerKey, Via};
use crate::node::runtime::environment::Environment;
use crate::node::runtime::legacy::transfers::Transfers;
use crate::node::transfer::Offer;
use crate::node::transfer::candidates::Candidates;
use crate::node::{LoadError, LoadEvent, Loaded};
use crate::store::{Sha1, Store};
use hyperswarm::crypto::KeyPair;

type Running = JoinHandle<Option<Result<Loaded, LoadError>>>;

/// A download that providers nobody can connect to offer with these sizes, in a network without anybody else.
async fn begin(
    folder: &tempfile::TempDir,
    sizes: &[u64],
    timeout: Duration,
) -> (Running, watch::Receiver<LoadEvent>) {
    let store = Store::open(folder.path()).expect("store");
    let transfers = Transfers::without_peers(store.clone()).await;
    let mut candidates = Candidates::default();
    for (number, size) in sizes.iter().enumerate() {
        let peer = PeerKey(KeyPair::from_seed(&[number as u8 + 1; 32]).public());
        assert!(candidates.add(Offer { peer, via: Via::Legacy(Dialect::V021), size: *size }, false));
    }
    let (events, seen) = watch::channel(LoadEvent::Looking { peers: 0 });
    let download = Download {
        sha1: Sha1([7; 20]),
        timeout,
        environment: Arc::new(Environment::new(store, transfers)),
        offers: mpsc::channel(1).1,
        searching: false,
        candidates,
        events,
    };
    tokio::time::pause();
    (tokio::spawn(download.run()), seen)
}

/// Time passes while a download does what it does; its disk is a real thread, so only as fast as that.
async fn pass_time_until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = found() {
            return found;
        }
        tokio::time::advance(Duration::from_millis(100)).await;
        tokio::task::yield_now().await;
    }
}

fn size(seen: &watch::Receiver<LoadEvent>) -> Option<u64> {
    match *seen.borrow() {
        LoadEvent::Downloading { size, .. } => Some(size),
        _ => None,
    }
}

#[tokio::test]
async fn a_size_whose_provider_is_slow_to_connect_has_another_turn_after_the_others() {
    let folder = tempfile::tempdir().expect("folder");
    let (running, seen) = begin(&folder, &[1000, 2000], Duration::from_secs(100_000)).await;
    for expected in [1000, 2000, 1000, 2000, 1000] {
        pass_time_until(|| (running.is_finished() || size(&seen) == Some(expected)).then_some(())).await;
        assert!(!running.is_finished(), "before a turn of {expected}");
    }
}

#[tokio::test]
async fn sizes_of_which_nobody_is_ever_reached_end_with_who_was_not_reached() {
    let folder = tempfile::tempdir().expect("folder");
    let (running, _seen) = begin(&folder, &[1000, 2000], Duration::from_secs(30)).await;
    pass_time_until(|| running.is_finished().then_some(())).await;
    let outcome = running.await.expect("no panic").expect("there were providers");
    let Err(LoadError::Transfer { reasons }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons.iter().all(|(_, why)| why.contains("within")), "{reasons:?}");
}
