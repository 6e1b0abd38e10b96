//! Who sent wrong bytes lately: not asked again for a while, for no file, as long as others can be asked.
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

/// A liar that is the only one who offers a file may be asked again after this, twice as long after each further lie.
const PAUSE: Duration = Duration::from_secs(2);
/// Lies after which the pause becomes no longer.
const LONGEST_AFTER: u32 = 3;

/// How long a liar rests after so many lies, even if nobody else has the file.
pub(crate) fn pause_after(lies: u32) -> Duration {
    PAUSE * (1 << lies.clamp(1, LONGEST_AFTER).saturating_sub(1))
}

/// Known liars, by key (so that the other style of its ID does not help it) and address.
#[derive(Debug, Default)]
pub(crate) struct Reputation {
    liars: HashMap<(PeerKey, IpAddr), Lies>,
}

#[derive(Clone, Copy, Debug)]
struct Lies {
    count: u32,
    last: Instant,
}

impl Reputation {
    /// It sent wrong bytes. When the table is full the oldest entry gives way.
    pub(crate) fn add_liar(&mut self, key: PeerKey, address: IpAddr, now: Instant) {
        let liar = (key, address);
        let full = self.liars.len() >= limits::REMEMBERED_LIARS && !self.liars.contains_key(&liar);
        let oldest = self.liars.iter().min_by_key(|(_, lies)| lies.last).map(|(liar, _)| *liar);
        if let Some(oldest) = oldest.filter(|_| full) {
            self.liars.remove(&oldest);
        }
        let lies = self.liars.entry(liar).or_insert(Lies { count: 0, last: now });
        *lies = Lies { count: lies.count.saturating_add(1), last: now };
    }

    /// True if it is to be left alone.
    pub(crate) fn is_liar(&self, key: PeerKey, address: IpAddr, now: Instant) -> bool {
        let lies = self.liars.get(&(key, address));
        lies.is_some_and(|lies| now.saturating_duration_since(lies.last) < BANNED)
    }

    /// True if it may be asked while nobody else can be.
    pub(crate) fn has_rested(&self, key: PeerKey, address: IpAddr, now: Instant) -> bool {
        let lies = self.liars.get(&(key, address));
        lies.is_none_or(|lies| now.saturating_duration_since(lies.last) >= pause_after(lies.count))
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
    fn a_liar_rests_for_two_seconds_then_four_and_eight_at_most() {
        let mut now = Instant::now();
        let mut reputation = Reputation::default();
        for pause in [2, 4, 8, 8].map(Duration::from_secs) {
            reputation.add_liar(key(1), HERE, now);
            assert!(!reputation.has_rested(key(1), HERE, now + pause - Duration::from_millis(1)));
            assert!(reputation.has_rested(key(1), HERE, now + pause));
            now += pause;
        }
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
