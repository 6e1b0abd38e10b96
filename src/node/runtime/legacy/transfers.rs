//! Transfer swarms of providers: joined when a download needs one, kept a while for the next, then left. Their number is
//! bounded, and strangers must not keep all of them: swarms of providers that nobody reaches, or that send nothing, give
//! way to those that wait, and do so soon if one origin of claims has more of them than another one that waits.

use parking_lot::{Mutex, MutexGuard};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::super::provide::Provider;
use super::swarm::SwarmHandle;
use crate::limits;
use crate::node::legacy::{NodeId, Protocol, Purpose, SharedBudget, Signer};
use crate::node::peer::Origin;
use crate::node::transfer::shares::Shares;
use hyperswarm::net::v2::Network;

/// An unused transfer swarm is left after this long.
const KEPT: Duration = Duration::from_secs(120);
/// A used one whose node cannot be reached for this long gives its place to another that is wanted.
const UNREACHABLE: Duration = Duration::from_secs(10);
/// The same where its origin has more than the share of the one that waits, and sends nothing.
const UNUSED: Duration = Duration::from_secs(1);
/// Who finds all in use looks again after this long.
const RETRY: Duration = Duration::from_secs(1);

type Key = (Protocol, NodeId);
/// Set when the swarm is joined.
type Cell = Arc<OnceCell<Arc<SwarmHandle>>>;

/// The transfer swarms of other nodes.
pub(crate) struct Transfers {
    network: Network,
    signer: Signer,
    provider: Arc<Provider>,
    budget: SharedBudget,
    table: Mutex<HashMap<Key, Entry>>,
}

struct Entry {
    swarm: Cell,
    /// Of the claim for which it was joined.
    origin: Origin,
    users: usize,
    idle_since: Instant,
    /// None: its node can be reached.
    unreachable_since: Option<Instant>,
    /// When its data came last, or when it was first reached. None: it was not reached since it is in use.
    silent_since: Option<Instant>,
}

/// The use of a transfer swarm, until dropped.
pub(crate) struct Lease {
    transfers: Arc<Transfers>,
    key: Key,
    swarm: Cell,
}

impl Lease {
    /// The swarm.
    // A lease is given out only after its swarm was set.
    #[allow(clippy::expect_used)]
    pub(crate) fn swarm(&self) -> &Arc<SwarmHandle> {
        self.swarm.get().expect("a lease has a swarm")
    }

    /// Notes whether its node can be sent requests there; at first it cannot. A node that comes and goes is silent all
    /// the while, and one that is looked for again and again is still not reached.
    pub(crate) fn set_reachable(&self, reachable: bool, now: Instant) {
        self.note(|entry| match reachable {
            true => {
                entry.unreachable_since = None;
                entry.silent_since.get_or_insert(now);
            }
            false => {
                entry.unreachable_since.get_or_insert(now);
            }
        });
    }

    /// Notes that data came that was asked for there.
    pub(crate) fn note_data(&self, now: Instant) {
        self.note(|entry| entry.silent_since = Some(now));
    }

    fn note(&self, what: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.transfers.table().get_mut(&self.key).filter(|entry| self.is_of(entry)) {
            what(entry);
        }
    }

    /// One that ended may have been replaced: its leases are none of the new one's.
    fn is_of(&self, entry: &Entry) -> bool {
        Arc::ptr_eq(&entry.swarm, &self.swarm)
    }
}

impl Transfers {
    pub(crate) fn new(
        network: Network,
        signer: Signer,
        provider: Arc<Provider>,
        budget: SharedBudget,
    ) -> Arc<Self> {
        Arc::new(Self { network, signer, provider, budget, table: Mutex::default() })
    }

    /// Joins the transfer swarm of a node, or shares it; waits while all are in use. A swarm may end before its lease
    /// does: it failed, or gave way to another because its node was not reached, or sent nothing, for a while.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        protocol: Protocol,
        node: NodeId,
        origin: Origin,
    ) -> io::Result<Lease> {
        let key = (protocol, node);
        let (swarm, evicted) = loop {
            match self.enter(key, origin, Instant::now()) {
                Some(place) => break place,
                None => tokio::time::sleep(RETRY).await,
            }
        };
        let lease = Lease { transfers: self.clone(), key, swarm };
        if let Some(evicted) = evicted {
            tokio::spawn(async move { evicted.leave().await });
        }
        lease.swarm.get_or_try_init(|| self.join(protocol, node)).await?;
        Ok(lease)
    }

    /// All joined swarms.
    pub(crate) fn swarms(&self) -> Vec<Arc<SwarmHandle>> {
        self.table().values().filter_map(|entry| entry.swarm.get().cloned()).collect()
    }

    /// A place in the table, with the swarm that is to be left for it. None: all are in use.
    fn enter(&self, key: Key, origin: Origin, now: Instant) -> Option<(Cell, Option<Arc<SwarmHandle>>)> {
        let mut table = self.table();
        let mut evicted = None;
        // One that ended by itself (its sockets failed) is joined anew.
        if table.get(&key).and_then(|entry| entry.swarm.get()).is_some_and(|swarm| swarm.ended.is_cancelled())
        {
            table.remove(&key);
        }
        if table.len() >= limits::TRANSFER_SWARMS && !table.contains_key(&key) {
            let dispensable = dispensable(&table, origin, now)?;
            evicted = table.remove(&dispensable).and_then(|entry| entry.swarm.get().cloned());
        }
        let entry = table.entry(key).or_insert_with(|| Entry {
            swarm: Arc::default(),
            origin,
            users: 0,
            idle_since: now,
            unreachable_since: None,
            silent_since: None,
        });
        if entry.users == 0 {
            entry.unreachable_since = Some(now);
            entry.silent_since = None;
        }
        entry.users += 1;
        Some((entry.swarm.clone(), evicted))
    }

    async fn join(&self, protocol: Protocol, node: NodeId) -> io::Result<Arc<SwarmHandle>> {
        let purpose = Purpose::Transfer(node);
        let swarm = self.network.join(purpose.topic(protocol)).await?;
        let (signer, provider) = (self.signer.clone(), self.provider.clone());
        SwarmHandle::start(swarm, protocol, purpose, signer, provider, self.budget.clone())
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.table.lock()
    }

    /// Leaves the swarm if it is still unused after a while.
    async fn leave_later(self: Arc<Self>, key: Key) {
        tokio::time::sleep(KEPT).await;
        let unused = {
            let mut table = self.table();
            let unused = |entry: &Entry| entry.users == 0 && entry.idle_since.elapsed() >= KEPT;
            if table.get(&key).is_some_and(unused) { table.remove(&key) } else { None }
        };
        if let Some(swarm) = unused.and_then(|entry| entry.swarm.get().cloned()) {
            swarm.leave().await;
        }
    }
}

/// The swarm that has been idle longest; if none is, the one whose node was not reached for longest; if all are, the one
/// whose node has sent nothing for longest. Those of an origin with more than the newcomer's give way early.
fn dispensable(table: &HashMap<Key, Entry>, newcomer: Origin, now: Instant) -> Option<Key> {
    let shares: Shares = table.values().filter(|entry| entry.users > 0).map(|entry| entry.origin).collect();
    let oldest = |since: &dyn Fn(&Entry) -> Option<Instant>, age: Duration| {
        let old = table.iter().filter_map(|(key, entry)| {
            let crowded = age > UNUSED && shares.must_yield(entry.origin, newcomer);
            let (since, age) = (since(entry)?, if crowded { UNUSED } else { age });
            let rank = crowded.then(|| shares.rank(entry.origin));
            (now.saturating_duration_since(since) >= age).then_some(((Reverse(rank), since), *key))
        });
        old.min_by_key(|(order, _)| *order).map(|(_, key)| key)
    };
    let joined = |entry: &&Entry| entry.swarm.get().is_some();
    let idle = |entry: &Entry| (entry.users == 0).then_some(entry.idle_since);
    let lonely = |entry: &Entry| Some(entry).filter(joined)?.unreachable_since;
    let silent = |entry: &Entry| Some(entry).filter(joined)?.silent_since;
    oldest(&idle, Duration::ZERO)
        .or_else(|| oldest(&lonely, UNREACHABLE))
        .or_else(|| oldest(&silent, limits::SILENCE))
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut table = self.transfers.table();
        let Some(entry) = table.get_mut(&self.key).filter(|entry| self.is_of(entry)) else { return };
        entry.users -= 1;
        entry.idle_since = Instant::now();
        if entry.users > 0 {
            return;
        }
        if entry.swarm.get().is_none() {
            // Joining failed, or was given up.
            table.remove(&self.key);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.transfers.clone().leave_later(self.key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::legacy::Style;
    use crate::node::peer::PeerKey;
    use crate::store::Store;
    use hyperswarm::crypto::{KeyPair, PublicKey};
    use hyperswarm::net::v2::NetworkConfig;

    impl Transfers {
        /// In a network of which nobody is told.
        pub(crate) async fn without_peers(store: Store) -> Arc<Self> {
            let config = NetworkConfig { bootstrap: Vec::new(), mdns: false };
            let network = Network::start(config).await.unwrap();
            Self::new(
                network,
                Signer::new(KeyPair::from_seed(&[1; 32])),
                Provider::new(store),
                SharedBudget::default(),
            )
        }

        /// Since when a node in use has sent nothing, if it was reached.
        pub(crate) fn silent_since(&self, protocol: Protocol, node: NodeId) -> Option<Instant> {
            self.table().get(&(protocol, node))?.silent_since
        }
    }

    fn key(number: usize) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        (Protocol::Daemon02, NodeId::new(PublicKey(bytes), Style::Spki))
    }

    /// A stranger at this host.
    fn origin(host: u8) -> Origin {
        let neighbour = PeerKey(PublicKey([host; 32]));
        Origin { host: Some([203, 0, host, 1].into()), neighbour, own: false }
    }

    async fn transfers(folder: &tempfile::TempDir) -> Arc<Transfers> {
        Transfers::without_peers(Store::open(folder.path()).unwrap()).await
    }

    /// As [`Transfers::acquire`] before the swarm is joined: takes a place, needs no socket.
    fn take(transfers: &Arc<Transfers>, number: usize) -> Option<Lease> {
        let (swarm, _) = transfers.enter(key(number), origin(1), Instant::now())?;
        Some(Lease { transfers: transfers.clone(), key: key(number), swarm })
    }

    #[tokio::test]
    async fn transfer_swarms_in_use_are_bounded_and_shared() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let mut leases: Vec<_> =
            (0..limits::TRANSFER_SWARMS).map(|number| take(&transfers, number).expect("room")).collect();
        assert!(take(&transfers, limits::TRANSFER_SWARMS).is_none(), "one beyond");
        leases.push(take(&transfers, 0).expect("that one is there already"));
        leases.remove(1);
        assert!(take(&transfers, limits::TRANSFER_SWARMS).is_some(), "one was given back");
    }

    #[tokio::test]
    async fn who_finds_all_transfer_swarms_in_use_gets_the_first_that_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let mut leases: Vec<_> =
            (0..limits::TRANSFER_SWARMS).map(|number| take(&transfers, number).expect("room")).collect();
        tokio::time::pause();
        let (protocol, node) = key(limits::TRANSFER_SWARMS);
        let mut waiting = std::pin::pin!(transfers.acquire(protocol, node, origin(1)));
        tokio::select! {
            _ = &mut waiting => panic!("there is no place"),
            () = tokio::time::sleep(RETRY * 10) => {}
        }
        leases.pop();
        waiting.await.expect("a port");
    }

    #[tokio::test]
    async fn beyond_the_limit_a_new_transfer_swarm_takes_the_place_of_an_idle_one() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let (protocol, node) = key(0);
        let idle = transfers.acquire(protocol, node, origin(1)).await.expect("a port");
        let swarm = idle.swarm().clone();
        drop(idle);
        let _leases: Vec<_> =
            (1..limits::TRANSFER_SWARMS).map(|number| take(&transfers, number).expect("room")).collect();
        assert!(!swarm.ended.is_cancelled() && transfers.swarms().len() == 1, "kept while there is room");
        let (protocol, node) = key(limits::TRANSFER_SWARMS);
        let _beyond = transfers.acquire(protocol, node, origin(1)).await.expect("the place of the idle one");
        assert_eq!(transfers.table().len(), limits::TRANSFER_SWARMS);
        swarm.ended.cancelled().await;
    }

    #[tokio::test]
    async fn a_swarm_whose_node_nobody_reaches_gives_way_and_others_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let (protocol, node) = key(0);
        let made_up = transfers.acquire(protocol, node, origin(1)).await.expect("a port");
        let _others: Vec<_> =
            (1..limits::TRANSFER_SWARMS).map(|number| take(&transfers, number).expect("room")).collect();
        let wanted = key(limits::TRANSFER_SWARMS);
        let now = Instant::now();
        let later = now + 2 * UNREACHABLE;
        made_up.set_reachable(true, later);
        assert!(transfers.enter(wanted, origin(1), later).is_none(), "it is reached");
        made_up.set_reachable(false, now);
        assert!(
            transfers.enter(wanted, origin(1), now + UNREACHABLE / 2).is_none(),
            "it may be reached soon"
        );
        // Others came and went in its swarm, and it was still not reached.
        made_up.set_reachable(false, now + UNREACHABLE / 2);
        let (_, evicted) = transfers.enter(wanted, origin(1), now + UNREACHABLE).expect("its place");
        assert!(Arc::ptr_eq(&evicted.expect("it was joined"), made_up.swarm()));
        drop(made_up);
        assert!(transfers.table().contains_key(&wanted) && !transfers.table().contains_key(&key(0)));
    }

    #[tokio::test]
    async fn a_swarm_whose_node_is_reached_and_silent_gives_way_and_those_that_send_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let mut joined = Vec::new();
        for number in 0..3 {
            let (protocol, node) = key(number);
            joined.push(transfers.acquire(protocol, node, origin(1)).await.expect("a port"));
        }
        let _others: Vec<_> =
            (3..limits::TRANSFER_SWARMS).map(|number| take(&transfers, number).expect("room")).collect();
        let second = Duration::from_secs(1);
        let reached = Instant::now();
        for (lease, after) in joined.iter().zip([0, 2, 1]) {
            lease.set_reachable(true, reached + after * second);
        }
        let silent = reached + second + limits::SILENCE;
        joined[0].note_data(silent);
        // It comes and goes, and is no less silent.
        joined[2].set_reachable(false, silent - second);
        joined[2].set_reachable(true, silent - second);
        let wanted = [0, 1, 2].map(|number| key(limits::TRANSFER_SWARMS + number));
        assert!(transfers.enter(wanted[0], origin(1), silent - second / 2).is_none(), "it may be asked soon");
        let gives_way = |wanted, lease: &Lease, now| {
            let (_, evicted) = transfers.enter(wanted, origin(1), now).expect("a place");
            assert!(Arc::ptr_eq(&evicted.expect("it was joined"), lease.swarm()));
        };
        gives_way(wanted[0], &joined[2], silent);
        assert!(transfers.enter(wanted[1], origin(1), silent).is_none(), "the other one has a second left");
        gives_way(wanted[1], &joined[1], silent + second);
        assert!(transfers.enter(wanted[2], origin(1), silent + second).is_none(), "it sends");
    }

    #[tokio::test]
    async fn leases_of_a_swarm_that_ended_by_itself_do_not_count_for_the_one_joined_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let (protocol, node) = key(0);
        let old = transfers.acquire(protocol, node, origin(1)).await.expect("a port");
        old.swarm().ended.cancel();
        let new = transfers.acquire(protocol, node, origin(1)).await.expect("another");
        assert!(!new.swarm().ended.is_cancelled());
        drop(old);
        assert_eq!(transfers.table().get(&key(0)).map(|entry| entry.users), Some(1));
        drop(new);
        assert_eq!(transfers.table().get(&key(0)).map(|entry| entry.users), Some(0));
    }

    #[tokio::test]
    async fn a_stranger_that_holds_all_transfer_swarms_gives_one_that_is_not_used_to_another_origin_soon() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let mut joined = Vec::new();
        for number in 0..2 {
            let (protocol, node) = key(number);
            joined.push(transfers.acquire(protocol, node, origin(1)).await.expect("a port"));
        }
        let _others: Vec<_> =
            (2..limits::TRANSFER_SWARMS).map(|number| take(&transfers, number).expect("room")).collect();
        let reached = Instant::now();
        joined.iter().for_each(|lease| lease.set_reachable(true, reached));
        let soon = reached + UNUSED;
        joined[0].note_data(soon);
        let wanted = [0, 1].map(|number| key(limits::TRANSFER_SWARMS + number));
        assert!(transfers.enter(wanted[0], origin(1), soon).is_none(), "it has all already");
        assert!(transfers.enter(wanted[0], origin(2), soon - UNUSED / 2).is_none(), "it may be asked soon");
        let (_, evicted) = transfers.enter(wanted[0], origin(2), soon).expect("a place");
        assert!(Arc::ptr_eq(&evicted.expect("it was joined"), joined[1].swarm()));
        assert!(transfers.enter(wanted[1], origin(2), soon).is_none(), "the other one sends");
    }
}
