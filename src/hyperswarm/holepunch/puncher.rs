//! When which probes leave, once both ends punch (hyperdht `_consistentProbe`, `_randomProbes`, `_keepAliveRandomNat`).
//!
//! A probe is a datagram of one byte. One with a short life opens our own NAT and dies before the other end's, which might
//! shut out its sender for a while; the others are meant to arrive.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use super::strategy::{Plan, Target};
use crate::dht::rpc::Via;
use crate::limits::v4::PUNCH_SOCKETS;

/// What a probe contains (hyperdht `HOLEPUNCH`).
pub const PROBE: [u8; 1] = [0];
/// The life of a probe that only has to leave our own network, in hops.
pub const SHORT_LIFE: u8 = 5;

/// When consistent NATs are probed: as upstream once a second ten times, and more often at the beginning.
const PROBE_MILLIS: [u64; 14] =
    [0, 100, 250, 500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000];
/// Of these, the ones that also go to addresses that nobody has proved, as upstream twice: they may be a stranger's.
const UNPROVED: [usize; 2] = [4, 8];
/// Probes of random ports, as upstream: with 256 sockets at the other end, 999 in 1000 times one meets another.
const GUESSES: usize = 1750;
/// From one to the next. Upstream takes 20 ms, so that half of all tries need more than 3.5 s.
const GUESS_INTERVAL: Duration = Duration::from_millis(2);
/// How long the sockets of a random NAT stay open: an upstream peer needs up to 35 s for its guesses.
const SOCKETS_OPEN: Duration = Duration::from_secs(36);
/// After the burst, from one socket's probe to the next one's: each keeps its mapping alive with one in ten seconds.
const KEEP_INTERVAL: Duration = Duration::from_millis(40);
/// How long to wait for what the last probe brings.
const LAST_ANSWER: Duration = Duration::from_millis(1500);
/// The lowest port that is guessed.
const LOWEST_GUESS: u16 = 1000;
/// Probes in one go, if the caller comes late.
const MOST_AT_ONCE: usize = 16;

/// A probe to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The socket that sends it.
    pub via: Via,
    /// Where to.
    pub to: SocketAddrV4,
    /// True if it should die under way.
    pub short_lived: bool,
}

/// A hole punch under way.
#[derive(Debug)]
pub struct Puncher {
    plan: Plan,
    targets: Vec<Target>,
    /// The first is the one that both ends have spoken of.
    sockets: Vec<Via>,
    started: Instant,
    sent: usize,
    next: Option<Instant>,
}

impl Puncher {
    /// Begins. For [`Plan::OpenSockets`] the caller has opened the others of [`PUNCH_SOCKETS`].
    pub fn new(now: Instant, plan: Plan, targets: Vec<Target>, sockets: Vec<Via>) -> Self {
        debug_assert!(sockets.len() <= PUNCH_SOCKETS);
        Self { plan, targets, sockets, started: now, sent: 0, next: Some(now) }
    }

    /// All sockets.
    pub fn sockets(&self) -> &[Via] {
        &self.sockets
    }

    /// True if the burst is one that a node makes one at a time.
    pub fn is_burst(&self) -> bool {
        self.plan != Plan::Probe
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// The probes that are due.
    pub fn handle_timeout(&mut self, now: Instant, rng: &mut StdRng, out: &mut Vec<Probe>) {
        for _ in 0..MOST_AT_ONCE {
            let Some(next) = self.next.filter(|next| *next <= now) else { return };
            match self.plan {
                Plan::Probe => self.probe_targets(next, out),
                Plan::GuessPorts(to) => self.guess(next, rng, to, out),
                Plan::OpenSockets(to) => self.keep_open(next, to, out),
            }
            self.sent += 1;
        }
    }

    /// True if nothing can come of it any more.
    pub fn is_over(&self, now: Instant) -> bool {
        self.next.is_none() && now >= self.ends()
    }

    /// When it is over at the latest.
    pub fn ends(&self) -> Instant {
        let lasts = match self.plan {
            Plan::Probe => Duration::from_millis(PROBE_MILLIS.last().copied().unwrap_or_default()),
            Plan::GuessPorts(_) => GUESS_INTERVAL * GUESSES as u32,
            Plan::OpenSockets(_) => SOCKETS_OPEN,
        };
        self.started + lasts + LAST_ANSWER
    }

    fn probe_targets(&mut self, next: Instant, out: &mut Vec<Probe>) {
        if let Some(via) = self.sockets.first().copied() {
            let unproved = UNPROVED.contains(&self.sent);
            let due = self.targets.iter().filter(|target| target.verified || unproved);
            out.extend(due.map(|target| Probe { via, to: target.address, short_lived: false }));
        }
        let following = PROBE_MILLIS.get(self.sent + 1).map(|millis| Duration::from_millis(*millis));
        // Those that a late caller missed are left out, but for the last one.
        self.next = following.map(|offset| (self.started + offset).max(next));
    }

    fn guess(&mut self, next: Instant, rng: &mut StdRng, to: SocketAddrV4, out: &mut Vec<Probe>) {
        if let Some(via) = self.sockets.first().copied() {
            let to = SocketAddrV4::new(*to.ip(), rng.random_range(LOWEST_GUESS..=u16::MAX));
            out.push(Probe { via, to, short_lived: false });
        }
        self.next = (self.sent + 1 < GUESSES).then_some(next + GUESS_INTERVAL);
    }

    /// The first round opens our NAT at each socket; what comes later may arrive.
    fn keep_open(&mut self, next: Instant, to: SocketAddrV4, out: &mut Vec<Probe>) {
        let count = self.sockets.len().max(1);
        if let Some(via) = self.sockets.get(self.sent % count).copied() {
            out.push(Probe { via, to, short_lived: self.sent < count });
        }
        let interval = if self.sent < GUESSES { GUESS_INTERVAL } else { KEEP_INTERVAL };
        let opening = self.sent + 1 < count;
        let following = if opening { next } else { next + interval };
        self.next = (following < self.started + SOCKETS_OPEN).then_some(following);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().expect("an address")
    }

    /// Runs a punch to its end; every probe, and when it left.
    fn run(puncher: &mut Puncher, start: Instant) -> Vec<(Duration, Probe)> {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while let Some(next) = puncher.poll_timeout() {
            puncher.handle_timeout(next, &mut rng, &mut out);
            all.extend(out.drain(..).map(|probe| (next - start, probe)));
        }
        all
    }

    #[test]
    fn proved_addresses_are_probed_often_and_others_twice() {
        let start = Instant::now();
        let targets = vec![
            Target { address: at("192.0.2.1:1"), verified: true },
            Target { address: at("192.0.2.2:2"), verified: false },
        ];
        let mut puncher = Puncher::new(start, Plan::Probe, targets, vec![Via(0)]);
        let probes = run(&mut puncher, start);
        let count = |to: &str| probes.iter().filter(|(_, probe)| probe.to == at(to)).count();
        assert_eq!((count("192.0.2.1:1"), count("192.0.2.2:2")), (PROBE_MILLIS.len(), 2));
        assert!(!puncher.is_over(start + Duration::from_secs(10)));
        assert!(puncher.is_over(puncher.ends()));
    }

    #[test]
    fn guesses_leave_evenly_and_go_to_one_host() {
        let start = Instant::now();
        let plan = Plan::GuessPorts(at("192.0.2.1:0"));
        let mut puncher = Puncher::new(start, plan, Vec::new(), vec![Via(0)]);
        let probes = run(&mut puncher, start);
        assert_eq!(probes.len(), GUESSES);
        assert!(probes.iter().all(|(_, probe)| probe.to.ip() == at("192.0.2.1:0").ip()));
        assert_eq!(probes.last().map(|(at, _)| *at), Some(GUESS_INTERVAL * (GUESSES as u32 - 1)));
        let ports: BTreeSet<_> = probes.iter().map(|(_, probe)| probe.to.port()).collect();
        assert!(ports.len() > GUESSES * 9 / 10, "{}", ports.len());
    }

    #[test]
    fn each_socket_of_a_random_nat_first_opens_its_way_out() {
        let start = Instant::now();
        let sockets: Vec<_> = (0..PUNCH_SOCKETS as u16).map(Via).collect();
        let plan = Plan::OpenSockets(at("192.0.2.1:7"));
        let mut puncher = Puncher::new(start, plan, Vec::new(), sockets.clone());
        let probes = run(&mut puncher, start);
        let first: Vec<_> = probes.iter().take(PUNCH_SOCKETS).collect();
        assert!(first.iter().all(|(at, probe)| at.is_zero() && probe.short_lived));
        assert_eq!(first.iter().map(|(_, probe)| probe.via).collect::<Vec<_>>(), sockets);
        let later = probes.iter().skip(PUNCH_SOCKETS);
        assert!(later.clone().all(|(_, probe)| !probe.short_lived && probe.to == at("192.0.2.1:7")));
        let kept = later.map(|(at, _)| *at).max();
        assert!(kept.is_some_and(|kept| kept > Duration::from_secs(35)), "{kept:?}");
    }

    #[test]
    fn a_late_caller_gets_a_bounded_number_of_probes() {
        let start = Instant::now();
        let plan = Plan::GuessPorts(at("192.0.2.1:0"));
        let mut puncher = Puncher::new(start, plan, Vec::new(), vec![Via(0)]);
        let (mut rng, mut out) = (StdRng::seed_from_u64(1), Vec::new());
        puncher.handle_timeout(start + Duration::from_secs(60), &mut rng, &mut out);
        assert_eq!(out.len(), MOST_AT_ONCE);
    }
}
