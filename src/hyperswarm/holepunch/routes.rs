//! Whom a client asks to pass its handshake on (hyperdht `findAndConnect`).

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use crate::dht::hyperdht::{OperationId, RequestId};
use crate::limits::v4::MAX_TRIED_RELAYS;

/// Relays that are asked at the same time. One that does not answer for a while does not count: upstream waits 4 s for
/// each dead one.
const AT_ONCE: usize = 2;
/// Time for an answer after which another relay is asked too.
const SLOW: Duration = Duration::from_millis(400);
/// Relays asked at the same time at most.
const MOST_AT_ONCE: usize = 8;

/// The relays of one connection attempt.
#[derive(Default)]
pub(super) struct Routes {
    waiting: VecDeque<SocketAddrV4>,
    tried: Vec<SocketAddrV4>,
    asked: Vec<Asked>,
    /// The running walk.
    pub(super) walk: Option<OperationId>,
    /// Another walk follows, from our own table.
    pub(super) walks_again: bool,
    /// Nodes said that they know the peer.
    pub(super) is_known: bool,
}

struct Asked {
    request: RequestId,
    relay: SocketAddrV4,
    at: Instant,
    slow: bool,
}

impl Routes {
    /// One more relay, unless it was tried.
    pub(super) fn add(&mut self, relay: SocketAddrV4) {
        if self.tried.len() < MAX_TRIED_RELAYS && !self.tried.contains(&relay) {
            self.tried.push(relay);
            self.waiting.push_back(relay);
        }
    }

    /// The next relay to ask.
    pub(super) fn next(&mut self, now: Instant) -> Option<SocketAddrV4> {
        self.asked.iter_mut().for_each(|asked| asked.slow |= now >= asked.at + SLOW);
        let slow = self.asked.iter().filter(|asked| asked.slow).count();
        let free = self.asked.len() < (AT_ONCE + slow).min(MOST_AT_ONCE);
        if free { self.waiting.pop_front() } else { None }
    }

    /// A relay was asked.
    pub(super) fn asked(&mut self, now: Instant, request: RequestId, relay: SocketAddrV4) {
        self.asked.push(Asked { request, relay, at: now, slow: false });
    }

    /// A request has ended: the relay, if it was one of these.
    pub(super) fn ended(&mut self, request: RequestId) -> Option<SocketAddrV4> {
        let at = self.asked.iter().position(|asked| asked.request == request)?;
        Some(self.asked.swap_remove(at).relay)
    }

    /// Relays that were asked, or are to be.
    pub(super) fn tried(&self) -> &[SocketAddrV4] {
        &self.tried
    }

    /// True if there is nobody left to ask, or to wait for.
    pub(super) fn are_exhausted(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty() && self.walk.is_none() && !self.walks_again
    }

    /// When another relay may be asked although nobody has answered.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let waits = !self.waiting.is_empty();
        self.asked.iter().filter(|asked| waits && !asked.slow).map(|asked| asked.at + SLOW).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relays() -> impl Iterator<Item = SocketAddrV4> {
        (1..=20).map(|port| SocketAddrV4::new([192, 0, 2, 1].into(), port))
    }

    /// Asks everybody who may be asked now.
    fn ask(routes: &mut Routes, now: Instant, ids: &mut impl Iterator<Item = RequestId>) -> usize {
        let mut count = 0;
        while let Some(relay) = routes.next(now) {
            routes.asked(now, ids.next().expect("an id"), relay);
            count += 1;
        }
        count
    }

    #[test]
    fn a_silent_relay_lets_another_one_be_asked() {
        let now = Instant::now();
        let mut ids = (1..).map(RequestId);
        let mut routes = Routes::default();
        relays().for_each(|relay| routes.add(relay));
        assert_eq!(ask(&mut routes, now, &mut ids), AT_ONCE);
        assert_eq!(routes.poll_timeout(), Some(now + SLOW));
        assert_eq!(ask(&mut routes, now + SLOW, &mut ids), AT_ONCE);
        assert_eq!(ask(&mut routes, now + SLOW * 9, &mut ids), AT_ONCE);
        let all = (10..20).map(|count| ask(&mut routes, now + SLOW * count, &mut ids)).sum::<usize>();
        assert_eq!(all, MOST_AT_ONCE - 3 * AT_ONCE);
    }

    #[test]
    fn each_relay_is_asked_once() {
        let now = Instant::now();
        let mut ids = (1..).map(RequestId);
        let mut routes = Routes::default();
        relays().chain(relays()).for_each(|relay| routes.add(relay));
        let mut asked = Vec::new();
        while let Some(relay) = routes.next(now) {
            let id = ids.next().expect("an id");
            routes.asked(now, id, relay);
            asked.push(relay);
            assert_eq!(routes.ended(id), Some(relay));
        }
        assert_eq!(asked, relays().collect::<Vec<_>>());
        assert!(routes.are_exhausted());
    }

    #[test]
    fn no_attempt_tries_more_relays_than_the_limit() {
        let mut routes = Routes::default();
        (1..=u16::MAX).for_each(|port| routes.add(SocketAddrV4::new([192, 0, 2, 1].into(), port)));
        assert_eq!(routes.tried().len(), MAX_TRIED_RELAYS);
    }
}
