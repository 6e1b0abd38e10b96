//! Who sent wrong bytes lately: not asked again for a while, for no file.
//!
//! Connections of the 2020 protocol prove no key: a stranger in the middle can pass on what the owner of a key signs, in
//! another order. So a liar is a key at an address. Where the key is met at another address it is asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::limits;
use crate::node::peer::PeerKey;

/// How long a liar is left alone.
const BANNED: Duration = Duration::from_secs(3600);

/// Known liars, by key (so that the other style of its ID does not help it) and address.
#[derive(Debug, Default)]
pub(crate) struct Reputation {
    liars: HashMap<(PeerKey, IpAddr), Instant>,
}

impl Reputation {
    /// It sent wrong bytes. When the table is full the oldest entry gives way.
    pub(crate) fn add_liar(&mut self, key: PeerKey, address: IpAddr, now: Instant) {
        let liar = (key, address);
        let full = self.liars.len() >= limits::REMEMBERED_LIARS && !self.liars.contains_key(&liar);
        let oldest = self.liars.iter().min_by_key(|(_, since)| **since).map(|(liar, _)| *liar);
        if let Some(oldest) = oldest.filter(|_| full) {
            self.liars.remove(&oldest);
        }
        self.liars.insert(liar, now);
    }

    /// True if it is to be left alone.
    pub(crate) fn is_liar(&self, key: PeerKey, address: IpAddr, now: Instant) -> bool {
        self.liars.get(&(key, address)).is_some_and(|since| now.saturating_duration_since(*since) < BANNED)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use hyperswarm::crypto::PublicKey;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn key(number: usize) -> PeerKey {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        PeerKey(PublicKey(bytes))
    }

    #[test]
    fn a_liar_is_left_alone_for_an_hour() {
        let now = Instant::now();
        let mut reputation = Reputation::default();
        reputation.add_liar(key(1), HERE, now);
        assert!(reputation.is_liar(key(1), HERE, now + Duration::from_secs(3599)));
        assert!(!reputation.is_liar(key(1), HERE, now + BANNED));
        assert!(!reputation.is_liar(key(2), HERE, now));
    }

    #[test]
    fn a_key_that_a_stranger_may_have_used_is_asked_at_another_address() {
        let now = Instant::now();
        let mut reputation = Reputation::default();
        reputation.add_liar(key(1), HERE, now);
        assert!(!reputation.is_liar(key(1), ELSEWHERE, now));
    }

    #[test]
    fn the_table_of_liars_is_bounded() {
        let now = Instant::now();
        let mut reputation = Reputation::default();
        for number in 0..=limits::REMEMBERED_LIARS {
            reputation.add_liar(key(number), HERE, now + Duration::from_millis(number as u64));
        }
        assert_eq!(reputation.liars.len(), limits::REMEMBERED_LIARS);
        let later = now + Duration::from_secs(10);
        assert!(!reputation.is_liar(key(0), HERE, later));
        assert!(reputation.is_liar(key(limits::REMEMBERED_LIARS), HERE, later));
    }
}
