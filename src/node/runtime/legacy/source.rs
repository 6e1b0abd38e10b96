//! A provider that is asked in its transfer swarm.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::super::inbox::Sink;
use super::swarm::SwarmHandle;
use super::transfers::{Lease, Transfers};
use crate::node::legacy::{Dialect, FileRequest, NodeId, WireId};
use crate::node::peer::{Origin, Path, PeerKey};
use crate::node::transfer::{Ask, Reach};
use crate::store::Sha1;

/// A provider that is not connected itself may be reached through other peers of its transfer swarm after this long.
const RELAY_AFTER: Duration = Duration::from_secs(3);
/// A whole-file provider is used only this long after it was found: a range provider may answer a little later.
const WHOLE_AFTER: Duration = Duration::from_millis(500);
/// The address of a connected provider is looked at again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After its transfer swarm gave way to another one, a provider waits this long before it takes a place again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A provider. A task joins its transfer swarm and watches for it there, until this is dropped.
pub(crate) struct Source {
    node: NodeId,
    state: Arc<State>,
    agent: AbortHandle,
}

struct State {
    reach: Mutex<(Reach, Option<Lease>)>,
    changed: Arc<Notify>,
}

/// A request under way; dropping it cancels what is left of it.
pub(crate) struct Asked {
    /// The provider's place. A request alone keeps none.
    state: Weak<State>,
    swarm: Arc<SwarmHandle>,
    id: WireId,
}

impl Source {
    /// Begins to look for the provider. `changed` is notified whenever it can be reached in another way.
    pub(crate) fn open(
        transfers: Arc<Transfers>,
        (peer, origin): (PeerKey, Origin),
        dialect: Dialect,
        changed: Arc<Notify>,
    ) -> Self {
        let node = NodeId::new(peer.0, dialect.style());
        let state = Arc::new(State { reach: Mutex::new((Reach::Opening, None)), changed });
        let agent = Agent { node, origin, dialect, transfers, state: state.clone() };
        Self { node, state, agent: tokio::spawn(agent.run()).abort_handle() }
    }

    /// How it can be reached now.
    pub(crate) fn reach(&self) -> Reach {
        self.state.reach.lock().0.clone()
    }

    /// Asks it; what comes goes to the sink. None: its transfer swarm is not joined now.
    pub(crate) fn request(&self, sha1: Sha1, ask: Ask, sink: Sink) -> Option<Asked> {
        let body = match ask {
            Ask::Whole => FileRequest::Whole { sha1 },
            Ask::Range(start, end) => FileRequest::Range { sha1, start, end },
        };
        let swarm = self.state.reach.lock().1.as_ref()?.swarm().clone();
        let id = swarm.request(self.node, body, sink);
        Some(Asked { state: Arc::downgrade(&self.state), swarm, id })
    }
}

impl Asked {
    /// Data came for it that was wanted: its provider keeps its place.
    pub(crate) fn note_data(&self) {
        let Some(state) = self.state.upgrade() else { return };
        if let Some(lease) = &state.reach.lock().1 {
            lease.note_data(Instant::now());
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.swarm.cancel_request(self.id);
    }
}

impl State {
    fn set(&self, reach: Reach) {
        let mut state = self.reach.lock();
        if let Some(lease) = &state.1 {
            lease.set_reachable(matches!(reach, Reach::Reached(_)), Instant::now());
        }
        if state.0 != reach {
            state.0 = reach;
            self.changed.notify_one();
        }
    }
}

/// Joins the provider's transfer swarm and notes how the provider can be reached there.
struct Agent {
    node: NodeId,
    origin: Origin,
    dialect: Dialect,
    transfers: Arc<Transfers>,
    state: Arc<State>,
}

impl Agent {
    async fn run(self) {
        loop {
            let acquired = self.transfers.acquire(self.dialect.protocol(), self.node, self.origin).await;
            let lease = match acquired {
                Ok(lease) => lease,
                Err(error) => {
                    let why = format!("its transfer swarm cannot be joined: {error}");
                    return self.state.set(Reach::Unusable(why));
                }
            };
            let swarm = lease.swarm().clone();
            self.state.reach.lock().1 = Some(lease);
            self.state.set(Reach::Connecting);
            tokio::select! {
                () = self.watch(&swarm) => return,
                () = swarm.ended.cancelled() => {}
            }
            // It gave way to another one after a while without a connection or data (or its sockets failed): others first.
            self.state.set(Reach::Opening);
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn watch(&self, swarm: &SwarmHandle) {
        let mut changed = swarm.peers_changed();
        if !self.dialect.has_ranges() {
            tokio::time::sleep(WHOLE_AFTER).await;
        }
        loop {
            let peers = *changed.borrow_and_update();
            let direct = || swarm.address_of(self.node).map(Path::Direct);
            let path = match direct() {
                None if peers > 0 && self.is_only_relayed(swarm).await => {
                    Some(direct().unwrap_or(Path::Relayed))
                }
                path => path,
            };
            self.state.set(path.map_or(Reach::Connecting, Reach::Reached));
            let again = match path {
                // Another one of its connections may have proved to be the better one.
                Some(Path::Direct(_)) => tokio::time::timeout(LOOK_AGAIN, changed.changed()).await,
                Some(Path::Relayed) | None => Ok(changed.changed().await),
            };
            if let Ok(Err(_)) = again {
                return;
            }
        }
    }

    /// Waits whether the provider itself connects; false: all peers left meanwhile.
    async fn is_only_relayed(&self, swarm: &SwarmHandle) -> bool {
        let mut changed = swarm.peers_changed();
        let connected = async {
            while changed.changed().await.is_ok() {
                if swarm.is_connected(self.node) || *changed.borrow_and_update() == 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(RELAY_AFTER, connected).await.is_err() || swarm.is_connected(self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::transfer::keys::RequestKey;
    use crate::store::Store;
    use hyperswarm::crypto::KeyPair;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn wanted_data_is_noted_in_the_table_of_transfer_swarms() {
        let folder = tempfile::tempdir().unwrap();
        let transfers = Transfers::without_peers(Store::open(folder.path()).unwrap()).await;
        let (peer, dialect) = (PeerKey(KeyPair::from_seed(&[2; 32]).public()), Dialect::V021);
        let changed = Arc::new(Notify::new());
        let origin = Origin { host: None, neighbour: peer, own: true };
        let source = Source::open(transfers.clone(), (peer, origin), dialect, changed.clone());
        changed.notified().await;
        let (inbox, _arrivals) = mpsc::channel(1);
        let sink = Sink { inbox, request: RequestKey(1) };
        let asked = source.request(Sha1([7; 20]), Ask::Whole, sink).expect("its swarm is joined");
        let silent_since = || transfers.silent_since(dialect.protocol(), source.node);
        assert_eq!(silent_since(), None);
        asked.note_data();
        assert!(silent_since().is_some());
    }
}
