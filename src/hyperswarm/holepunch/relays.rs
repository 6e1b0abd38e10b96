//! Relays through which peers were reached before (hyperdht `_relayAddressesCache`).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;

use crate::crypto::PublicKey;
use crate::limits::v4::{MAX_NAMED_RELAYS, MAX_PEERS_WITH_RELAYS};

/// The relays of the peers that were met last.
#[derive(Default)]
pub(super) struct KnownRelays {
    of: BTreeMap<PublicKey, Vec<SocketAddrV4>>,
    /// The oldest first.
    order: VecDeque<PublicKey>,
}

impl KnownRelays {
    pub(super) fn of(&self, peer: &PublicKey) -> Vec<SocketAddrV4> {
        self.of.get(peer).cloned().unwrap_or_default()
    }

    pub(super) fn learn(&mut self, peer: PublicKey, relays: &[SocketAddrV4]) {
        let relays: Vec<_> = relays.iter().copied().take(MAX_NAMED_RELAYS).collect();
        if relays.is_empty() {
            return;
        }
        if self.of.insert(peer, relays).is_some() {
            self.order.retain(|known| *known != peer);
        }
        self.order.push_back(peer);
        if self.order.len() > MAX_PEERS_WITH_RELAYS
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1);

    fn peer(number: usize) -> PublicKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        PublicKey(key)
    }

    #[test]
    fn the_peer_that_was_met_first_is_forgotten_first() {
        let mut known = KnownRelays::default();
        (0..MAX_PEERS_WITH_RELAYS).for_each(|number| known.learn(peer(number), &[RELAY]));
        known.learn(peer(0), &[RELAY]);
        known.learn(peer(MAX_PEERS_WITH_RELAYS), &[RELAY]);
        assert_eq!(known.of(&peer(0)), [RELAY]);
        assert!(known.of(&peer(1)).is_empty());
        assert_eq!(known.of.len(), MAX_PEERS_WITH_RELAYS);
    }

    #[test]
    fn no_more_relays_are_kept_than_may_be_named() {
        let mut known = KnownRelays::default();
        known.learn(peer(1), &[RELAY; 100]);
        assert_eq!(known.of(&peer(1)).len(), MAX_NAMED_RELAYS);
    }
}
