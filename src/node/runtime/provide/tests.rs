//! The limits of the giving side, one at a time.

use std::time::Duration;

use super::*;
use hyperswarm::crypto::PublicKey;

pub(super) fn node(number: usize) -> PeerKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    PeerKey(PublicKey(key))
}

/// A peer that asks through others.
pub(in crate::node::runtime) fn asker(number: usize) -> Asker {
    Asker { peer: node(number), host: None }
}

impl Provider {
    /// As [`Provider::open`], for a peer that waits as long as is needed.
    async fn open_for(&self, number: usize, sha1: Sha1) -> Result<Arc<ServedFile>, NotServed> {
        self.open(sha1, asker(number), Duration::from_secs(3600)).await
    }
}

pub(in crate::node::runtime) fn provider() -> (Arc<Provider>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("folder");
    (Provider::new(Store::open(folder.path()).expect("store")), folder)
}

/// A stored file of so many bytes.
pub(in crate::node::runtime) fn stored(provider: &Provider, folder: &tempfile::TempDir, size: usize) -> Sha1 {
    let path = folder.path().join("source");
    std::fs::write(&path, vec![7; size]).expect("write");
    provider.store.put_file(&path).expect("store").sha1
}

#[test]
fn one_seeker_has_a_bounded_number_of_turns_and_others_still_get_theirs() {
    let (provider, _folder) = provider();
    let turns: Vec<_> =
        (0..limits::STORE_LOOKS_PER_NODE).map(|_| provider.look(node(1)).expect("a turn")).collect();
    assert!(provider.look(node(1)).is_none());
    assert!(provider.look(node(2)).is_some());
    drop(turns);
    assert!(provider.look(node(1)).is_some());
    assert!(provider.lookers.lock().is_empty());
}

#[test]
fn all_seekers_together_have_a_bounded_number_of_turns() {
    let (provider, _folder) = provider();
    let turns: Vec<_> =
        (0..limits::STORE_LOOKS_WAITING).map(|number| provider.look(node(number)).expect("a turn")).collect();
    assert!(provider.look(node(limits::STORE_LOOKS_WAITING)).is_none());
    drop(turns);
}

/// `count` turns of a semaphore, taken as if that much work were going on.
async fn busy(turns: &Semaphore, count: usize) -> tokio::sync::SemaphorePermit<'_> {
    turns.acquire_many(count as u32).await.expect("never closed")
}

/// The same for reads.
async fn reading(provider: &Provider, count: usize) -> Vec<FairTurn> {
    futures::future::join_all((0..count).map(|_| provider.reads.take(asker(0), 0))).await
}

#[tokio::test(start_paused = true)]
async fn a_look_into_the_store_waits_while_as_many_as_allowed_go_on() {
    let (provider, folder) = provider();
    let sha1 = stored(&provider, &folder, 10);
    let others = busy(&provider.looks, limits::STORE_LOOKS - 1).await;
    assert_eq!(provider.size_of(sha1).await, Some((10, false)), "the last turn");
    let last = busy(&provider.looks, 1).await;
    let mut look = std::pin::pin!(provider.size_of(sha1));
    // Virtual time stands still while anybody really looks, so this runs out only if nobody does.
    assert!(tokio::time::timeout(Duration::from_millis(50), look.as_mut()).await.is_err());
    drop(last);
    assert_eq!(look.await, Some((10, false)));
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn opening_and_reading_wait_while_as_many_reads_as_allowed_go_on() {
    let (provider, folder) = provider();
    let sha1 = stored(&provider, &folder, 10);
    let others = reading(&provider, limits::STORE_READS - 1).await;
    let file = provider.open_for(1, sha1).await.expect("the last turn");
    provider.open.clear();
    assert_eq!(provider.read(file.clone(), asker(1), 0, 10).await.expect("the last turn").len(), 10);
    let last = reading(&provider, 1).await;
    let mut open = std::pin::pin!(provider.open_for(1, sha1));
    let mut read = std::pin::pin!(provider.read(file, asker(1), 0, 10));
    assert!(tokio::time::timeout(Duration::from_millis(50), open.as_mut()).await.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(50), read.as_mut()).await.is_err());
    drop(last);
    assert!(open.await.is_ok() && read.await.is_ok());
    drop(others);
}

/// A file as Python stores it: nothing says that it was verified.
pub(in crate::node::runtime) fn planted(folder: &tempfile::TempDir, bytes: &[u8]) -> Sha1 {
    use sha1::Digest;
    let sha1 = Sha1(sha1::Sha1::digest(bytes).into());
    let name = sha1.to_string();
    let shard = folder.path().join("sha1").join(&name[..2]).join(&name[2..4]).join(&name[4..6]);
    std::fs::create_dir_all(&shard).expect("folder");
    std::fs::write(shard.join(name), bytes).expect("write");
    sha1
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_verification_keeps_nobody_from_reading() {
    let (provider, folder) = provider();
    let verified = stored(&provider, &folder, 200_000);
    let unverified = planted(&folder, &[9; 300_000]);
    assert_eq!(provider.size_of(unverified).await, Some((300_000, true)));
    let verifying = busy(provider.verifications.turns(), limits::STORE_VERIFICATIONS).await;
    let waiting: Vec<_> =
        (0..2 * limits::STORE_READS + 1).map(|_| provider.open_for(1, unverified)).collect();
    let mut waiting = std::pin::pin!(futures::future::join_all(waiting));
    assert!(tokio::time::timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err());
    assert_eq!(provider.reads.free(), limits::STORE_READS);
    let file = provider.open_for(1, verified).await.expect("others go on");
    assert_eq!(provider.read(file, asker(1), 0, 10).await.expect("others go on").len(), 10);
    drop(verifying);
    assert!(waiting.await.iter().all(Result::is_ok));
    assert_eq!(provider.size_of(unverified).await, Some((300_000, false)));
}

#[tokio::test(start_paused = true)]
async fn one_verification_at_a_time_and_that_goes_on_when_nobody_waits_for_it() {
    let (provider, folder) = provider();
    let unverified = planted(&folder, &[9; 300_000]);
    let others = busy(provider.verifications.turns(), limits::STORE_VERIFICATIONS - 1).await;
    let (begun, started) = std::sync::mpsc::sync_channel(1);
    let (finish, finished) = std::sync::mpsc::sync_channel::<()>(1);
    let hashing = in_turn(provider.verifications.turns(), move || {
        begun.send(()).expect("begun");
        // Ends with the sender.
        finished.recv().ok();
        Ok(())
    });
    tokio::select! {
        biased;
        _ = hashing => panic!("nobody finished it"),
        () = async { started.recv().expect("begun") } => {}
    }
    assert_eq!(provider.verifications.turns().available_permits(), 0, "its asker has left, but it goes on");
    let mut open = std::pin::pin!(provider.open_for(1, unverified));
    assert!(futures::poll!(open.as_mut()).is_pending());
    drop(finish);
    assert!(open.await.is_ok());
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn the_user_waits_for_no_file_that_peers_have_verified() {
    let (provider, folder) = provider();
    let unverified = planted(&folder, &[9; 300_000]);
    let verifying = busy(provider.verifications.turns(), limits::STORE_VERIFICATIONS).await;
    let reads = reading(&provider, limits::STORE_READS).await;
    let found = provider.find_verified(unverified, || {}).await;
    assert!(matches!(found, Ok(Some(_))), "{found:?}");
    assert!(matches!(provider.open_verified(unverified).await, Ok(Some(_))));
    drop((verifying, reads));
}

/// Files that were never verified, of different content.
fn unverified(folder: &tempfile::TempDir, count: usize, size: usize) -> Vec<Sha1> {
    let content = |number: usize| [number.to_le_bytes().to_vec(), vec![9; size]].concat();
    (0..count).map(|number| planted(folder, &content(number))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_strangers_250_unverified_files_do_not_keep_a_small_one_of_another_peer_waiting() {
    let (provider, folder) = provider();
    let large = unverified(&folder, 250, 200_000);
    let small = planted(&folder, &[8; 150_000]);
    let verifying = busy(provider.verifications.turns(), limits::STORE_VERIFICATIONS).await;
    let ended = Mutex::new(Vec::new());
    let open = async |number, sha1| {
        assert!(provider.open_for(number, sha1).await.is_ok());
        ended.lock().push(sha1);
    };
    let strangers = futures::future::join_all(large.iter().map(|sha1| open(1, *sha1)));
    let begin = async {
        // Virtual time stands still until all are in line.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(verifying);
    };
    tokio::join!(strangers, open(2, small), begin);
    let before = ended.lock().iter().position(|sha1| *sha1 == small).expect("it was served");
    println!("{before} of 250 files were verified before that of the other peer");
    // It is verified first, but a few others may be told of theirs before it is.
    assert!(before < 25, "{before}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_for_long_hears_busy_and_finds_its_file_verified_when_it_is_repeated() {
    let (provider, folder) = provider();
    let sha1 = unverified(&folder, 1, 200_000)[0];
    let verifying = busy(provider.verifications.turns(), limits::STORE_VERIFICATIONS).await;
    let began = tokio::time::Instant::now();
    let open = || provider.open(sha1, asker(1), limits::VERIFICATION_PATIENCE);
    assert_eq!(open().await.err(), Some(NotServed::Busy));
    let waited = began.elapsed();
    assert!(waited >= limits::VERIFICATION_PATIENCE && waited < limits::SILENCE / 2, "{waited:?}");
    drop(verifying);
    // The next turn comes after that of the file.
    drop(busy(provider.verifications.turns(), limits::STORE_VERIFICATIONS).await);
    assert_eq!(provider.size_of(sha1).await, Some((200_008, false)));
    assert!(open().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_refused_to_all_that_wait_for_it_and_others_are_verified_after_it() {
    let (provider, folder) = provider();
    let files = unverified(&folder, 2, 200_000);
    let name = files[0].to_string();
    let shard = folder.path().join("sha1").join(&name[..2]).join(&name[2..4]).join(&name[4..6]);
    std::fs::write(shard.join(&name), vec![1; 200_008]).expect("write");
    let opened = [(1, files[0]), (2, files[0]), (3, files[1])];
    let opened = opened.map(|(number, sha1)| provider.open_for(number, sha1));
    let opened = futures::future::join_all(opened).await;
    let errors: Vec<_> = opened.iter().map(|opened| opened.as_ref().err().copied()).collect();
    assert_eq!(errors, [Some(NotServed::NotFound), Some(NotServed::NotFound), None]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_verified_ahead_while_requests_wait() {
    let (provider, folder) = provider();
    let files = unverified(&folder, 2, 200_000);
    let verifying = busy(provider.verifications.turns(), limits::STORE_VERIFICATIONS).await;
    let mut open = std::pin::pin!(provider.open_for(1, files[0]));
    assert!(tokio::time::timeout(Duration::from_millis(50), open.as_mut()).await.is_err());
    provider.verify_ahead(files[1]).await;
    drop(verifying);
    assert!(open.await.is_ok());
    assert_eq!(provider.size_of(files[1]).await, Some((200_008, true)), "it was left");
    provider.verify_ahead(files[1]).await;
    assert_eq!(provider.size_of(files[1]).await, Some((200_008, false)));
}

/// Files in the folder that this process has open.
pub(in crate::node::runtime) fn open_in(folder: &tempfile::TempDir) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
    let files = links.filter_map(|link| std::fs::read_link(link.path()).ok()).filter(|to| to.is_file());
    files.filter(|to| to.starts_with(folder.path())).count()
}

impl Provider {
    /// Without a descriptor to spare for peers.
    pub(in crate::node::runtime) fn without_descriptors(store: Store) -> Arc<Self> {
        let mut provider = Self::new(store);
        Arc::get_mut(&mut provider).expect("no other user").scarce = || true;
        provider
    }
}
