//! How often one host is dialled. Anybody in the DHT can name any number of ports of anybody, and so have us scan a
//! stranger.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::limits::v2::{DIALLED_HOSTS, DIALS_PER_HOST, FAILED_DIALS_PER_HOST};

/// Time that gives one failed dial back.
const REFILL: Duration = Duration::from_secs(1);

/// Dials of each host that were neither answered nor given back.
#[derive(Debug, Default)]
pub(super) struct Dials {
    hosts: BTreeMap<Ipv4Addr, Host>,
}

#[derive(Clone, Copy, Debug)]
struct Host {
    running: usize,
    /// Dials begun, less those that succeeded and those that time has given back.
    spent: u32,
    since: Instant,
}

impl Host {
    fn refill(&mut self, now: Instant) {
        while self.spent > 0 && now.saturating_duration_since(self.since) >= REFILL {
            self.spent -= 1;
            self.since += REFILL;
        }
    }
}

impl Dials {
    /// True if the host may be dialled now.
    pub(super) fn has_left(&self, now: Instant, host: Ipv4Addr) -> bool {
        match self.hosts.get(&host) {
            Some(known) => {
                let mut known = *known;
                known.refill(now);
                known.spent < FAILED_DIALS_PER_HOST && known.running < DIALS_PER_HOST
            }
            None => self.hosts.len() < DIALLED_HOSTS,
        }
    }

    /// A dial begins.
    pub(super) fn start(&mut self, now: Instant, host: Ipv4Addr) {
        let known = self.hosts.entry(host).or_insert(Host { running: 0, spent: 0, since: now });
        known.refill(now);
        if known.spent == 0 {
            known.since = now;
        }
        known.spent += 1;
        known.running += 1;
    }

    /// A dial has ended. One that was answered costs nothing.
    pub(super) fn end(&mut self, host: Ipv4Addr, connected: bool) {
        if let Some(known) = self.hosts.get_mut(&host) {
            known.running = known.running.saturating_sub(1);
            known.spent = known.spent.saturating_sub(connected.into());
        }
    }

    /// Gives back what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.hosts.retain(|_, host| {
            host.refill(now);
            host.spent > 0 || host.running > 0
        });
    }

    /// When a host that has no dials left gets one back.
    pub(super) fn spaced_until(&self, host: Ipv4Addr) -> Option<Instant> {
        let known = self.hosts.get(&host)?;
        (known.spent >= FAILED_DIALS_PER_HOST).then_some(known.since + REFILL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

    /// Dials the host as often as allowed.
    fn fail(dials: &mut Dials, now: Instant) -> u32 {
        let mut count = 0;
        while dials.has_left(now, HOST) {
            dials.start(now, HOST);
            dials.end(HOST, false);
            count += 1;
        }
        count
    }

    #[test]
    fn failed_dials_are_few_and_then_one_a_second() {
        let (now, mut dials) = (Instant::now(), Dials::default());
        assert_eq!(fail(&mut dials, now), FAILED_DIALS_PER_HOST);
        assert_eq!(dials.spaced_until(HOST), Some(now + REFILL));
        for second in 1..100 {
            let now = now + REFILL * second;
            dials.handle_timeout(now);
            assert_eq!(fail(&mut dials, now), 1, "second {second}");
        }
        dials.handle_timeout(now + REFILL * 200);
        assert!(dials.hosts.is_empty() && dials.spaced_until(HOST).is_none());
    }

    #[test]
    fn dials_that_are_answered_cost_nothing() {
        let (now, mut dials) = (Instant::now(), Dials::default());
        for _ in 0..1000 {
            assert!(dials.has_left(now, HOST));
            dials.start(now, HOST);
            dials.end(HOST, true);
        }
    }

    #[test]
    fn one_host_is_dialled_twice_at_a_time() {
        let (now, mut dials) = (Instant::now(), Dials::default());
        for _ in 0..DIALS_PER_HOST {
            assert!(dials.has_left(now, HOST));
            dials.start(now, HOST);
        }
        assert!(!dials.has_left(now, HOST));
        dials.end(HOST, true);
        assert!(dials.has_left(now, HOST));
    }

    #[test]
    fn no_more_hosts_are_counted_than_the_limit() {
        let (now, mut dials) = (Instant::now(), Dials::default());
        for n in 0..DIALLED_HOSTS as u32 {
            let host = Ipv4Addr::from(0x0b00_0000 + n);
            assert!(dials.has_left(now, host));
            dials.start(now, host);
            dials.end(host, false);
        }
        assert!(!dials.has_left(now, HOST));
        dials.handle_timeout(now + REFILL);
        assert!(dials.has_left(now + REFILL, HOST));
    }
}
