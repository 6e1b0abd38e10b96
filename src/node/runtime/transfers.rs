//! Transfer swarms of providers: joined when a download needs one, kept a while for the next, then left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::provide::Provider;
use super::swarm::SwarmHandle;
use crate::hyperswarm::net::v2::Network;
use crate::limits;
use crate::node::legacy::{NodeId, Protocol, Purpose, Signer};

/// An unused transfer swarm is left after this long.
const KEPT: Duration = Duration::from_secs(120);

type Key = (Protocol, NodeId);
/// Set when the swarm is joined.
type Cell = Arc<OnceCell<Arc<SwarmHandle>>>;

/// The transfer swarms of other nodes.
pub(crate) struct Transfers {
    network: Network,
    signer: Signer,
    provider: Arc<Provider>,
    table: Mutex<HashMap<Key, Entry>>,
}

struct Entry {
    swarm: Cell,
    users: usize,
    idle_since: Instant,
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
}

impl Transfers {
    pub(crate) fn new(network: Network, signer: Signer, provider: Arc<Provider>) -> Arc<Self> {
        Arc::new(Self { network, signer, provider, table: Mutex::default() })
    }

    /// Joins the transfer swarm of a node, or shares it.
    pub(crate) async fn acquire(self: &Arc<Self>, protocol: Protocol, node: NodeId) -> Result<Lease, String> {
        let key = (protocol, node);
        let (swarm, evicted) = self.enter(key)?;
        let lease = Lease { transfers: self.clone(), key, swarm };
        if let Some(evicted) = evicted {
            tokio::spawn(async move { evicted.leave().await });
        }
        let joined = lease.swarm.get_or_try_init(|| self.join(protocol, node)).await;
        joined.map_err(|error| format!("its transfer swarm cannot be joined: {error}"))?;
        Ok(lease)
    }

    /// All joined swarms.
    pub(crate) fn swarms(&self) -> Vec<Arc<SwarmHandle>> {
        self.table().values().filter_map(|entry| entry.swarm.get().cloned()).collect()
    }

    fn enter(&self, key: Key) -> Result<(Cell, Option<Arc<SwarmHandle>>), String> {
        let mut table = self.table();
        let mut evicted = None;
        // One that ended by itself (its sockets failed) is joined anew.
        if table.get(&key).and_then(|entry| entry.swarm.get()).is_some_and(|swarm| swarm.ended.is_cancelled())
        {
            table.remove(&key);
        }
        if table.len() >= limits::TRANSFER_SWARMS && !table.contains_key(&key) {
            let idle = table.iter().filter(|(_, entry)| entry.users == 0);
            let oldest = idle.min_by_key(|(_, entry)| entry.idle_since).map(|(key, _)| *key);
            let Some(oldest) = oldest else {
                return Err(format!("{} transfer swarms are in use", limits::TRANSFER_SWARMS));
            };
            evicted = table.remove(&oldest).and_then(|entry| entry.swarm.get().cloned());
        }
        let entry = table.entry(key).or_insert_with(|| Entry {
            swarm: Arc::default(),
            users: 0,
            idle_since: Instant::now(),
        });
        entry.users += 1;
        Ok((entry.swarm.clone(), evicted))
    }

    async fn join(&self, protocol: Protocol, node: NodeId) -> std::io::Result<Arc<SwarmHandle>> {
        let purpose = Purpose::Transfer(node);
        let swarm = self.network.join(purpose.topic(protocol)).await?;
        SwarmHandle::start(swarm, protocol, purpose, self.signer.clone(), self.provider.clone())
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Drop for Lease {
    fn drop(&mut self) {
        let mut table = self.transfers.table();
        // One that ended by itself may have been replaced: its leases are none of the new one's.
        let ours = table.get_mut(&self.key).filter(|entry| Arc::ptr_eq(&entry.swarm, &self.swarm));
        let Some(entry) = ours else { return };
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
    use crate::hyperswarm::crypto::{KeyPair, PublicKey};
    use crate::hyperswarm::net::v2::NetworkConfig;
    use crate::node::legacy::Style;
    use crate::store::Store;

    fn key(number: usize) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        (Protocol::Daemon02, NodeId::new(PublicKey(bytes), Style::Spki))
    }

    async fn transfers(folder: &tempfile::TempDir) -> Arc<Transfers> {
        let network = Network::start(NetworkConfig { bootstrap: Vec::new(), mdns: false }).await.unwrap();
        let provider = Provider::new(Store::open(folder.path()).unwrap());
        Transfers::new(network, Signer::new(KeyPair::from_seed(&[1; 32])), provider)
    }

    /// As [`Transfers::acquire`] before the swarm is joined: takes a place, needs no socket.
    fn take(transfers: &Arc<Transfers>, number: usize) -> Result<Lease, String> {
        let (swarm, _) = transfers.enter(key(number))?;
        Ok(Lease { transfers: transfers.clone(), key: key(number), swarm })
    }

    #[tokio::test]
    async fn transfer_swarms_in_use_are_bounded_and_shared() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let mut leases: Vec<_> =
            (0..limits::TRANSFER_SWARMS).map(|number| take(&transfers, number).expect("room")).collect();
        let refused = take(&transfers, limits::TRANSFER_SWARMS).err().expect("one beyond");
        assert!(refused.contains("64 transfer swarms are in use"), "{refused}");
        leases.push(take(&transfers, 0).expect("that one is there already"));
        leases.remove(1);
        assert!(take(&transfers, limits::TRANSFER_SWARMS).is_ok(), "one was given back");
    }

    #[tokio::test]
    async fn beyond_the_limit_a_new_transfer_swarm_takes_the_place_of_an_idle_one() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let (protocol, node) = key(0);
        let idle = transfers.acquire(protocol, node).await.expect("a port");
        let swarm = idle.swarm().clone();
        drop(idle);
        let _leases: Vec<_> =
            (1..limits::TRANSFER_SWARMS).map(|number| take(&transfers, number).expect("room")).collect();
        assert!(!swarm.ended.is_cancelled() && transfers.swarms().len() == 1, "kept while there is room");
        let (protocol, node) = key(limits::TRANSFER_SWARMS);
        let _beyond = transfers.acquire(protocol, node).await.expect("the place of the idle one");
        assert_eq!(transfers.table().len(), limits::TRANSFER_SWARMS);
        swarm.ended.cancelled().await;
    }

    #[tokio::test]
    async fn leases_of_a_swarm_that_ended_by_itself_do_not_count_for_the_one_joined_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = transfers(&folder).await;
        let (protocol, node) = key(0);
        let old = transfers.acquire(protocol, node).await.expect("a port");
        old.swarm().ended.cancel();
        let new = transfers.acquire(protocol, node).await.expect("another");
        assert!(!new.swarm().ended.is_cancelled());
        drop(old);
        assert_eq!(transfers.table().get(&key(0)).map(|entry| entry.users), Some(1));
        drop(new);
        assert_eq!(transfers.table().get(&key(0)).map(|entry| entry.users), Some(0));
    }
}
