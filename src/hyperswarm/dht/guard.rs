//! What strangers may make us send. Every answer goes to an address that may be forged, so a host that has proved
//! nothing gets little more than it sent; hosts that showed us a token or answered a request of ours get answers
//! without that limit. Holepunch relaying, which makes us send to third parties, is limited by who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

mod senders;

pub use self::senders::Senders;
use crate::limits::v2::HOLEPUNCH_BURST;
use crate::limits::v4::{DOWN_HINTS_PER_MINUTE, FORWARDED_BYTES_PER_MINUTE};
use crate::limits::{MAX_VALIDATED_HOSTS, RATE_CELLS, RATE_FEW_HOSTS, UNVALIDATED_BURST_BYTES};

/// The allowance in bytes refills completely in this time: with the burst, 16 KiB in any minute.
const BYTES_REFILL: Duration = Duration::from_secs(180);
/// The allowance of holepunches refills completely in this time.
const PUNCHES_REFILL: Duration = Duration::from_secs(60);
/// How long a proof of receiving counts.
const VALIDATED_FOR: Duration = Duration::from_secs(600);
/// Answers may be this many times as long as the requests, without end.
const AMPLIFICATION: u32 = 3;

/// The limits of one node.
pub struct Guard {
    bytes: Cells,
    punches: Cells,
    hints: Cells,
    forwards: Cells,
    validated: Validated,
}

impl Guard {
    /// Nobody has proved anything; `rng` decides which hosts share a count.
    pub fn new(now: Instant, rng: &mut StdRng) -> Self {
        Self {
            bytes: Cells::new(now, UNVALIDATED_BURST_BYTES, BYTES_REFILL, rng),
            punches: Cells::new(now, HOLEPUNCH_BURST, PUNCHES_REFILL, rng),
            hints: Cells::new(now, DOWN_HINTS_PER_MINUTE, Duration::from_secs(60), rng),
            forwards: Cells::new(now, FORWARDED_BYTES_PER_MINUTE, Duration::from_secs(60), rng),
            validated: Validated::default(),
        }
    }

    /// A datagram of so many bytes came from `host`.
    pub fn received(&mut self, now: Instant, host: Ipv4Addr, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).saturating_mul(AMPLIFICATION);
        self.bytes.credit(now, host, bytes);
    }

    /// `host` receives what we send to it: it showed a token, or answered.
    pub fn validated(&mut self, now: Instant, host: Ipv4Addr) {
        self.validated.insert(now, host);
    }

    /// True if a datagram of so many bytes may go to `host` because a stranger asked for it.
    pub fn may_send(&mut self, now: Instant, host: Ipv4Addr, bytes: usize) -> bool {
        self.is_validated(now, host) || self.bytes.take(now, host, u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    fn is_validated(&self, now: Instant, host: Ipv4Addr) -> bool {
        let proven = |at| now.saturating_duration_since(at) < VALIDATED_FOR;
        // Nobody outside can send from a loopback address.
        host.is_loopback() || self.validated.at(host).is_some_and(proven)
    }

    /// Whether one more holepunch message may be sent because `asker` wants it.
    pub fn may_punch(&mut self, now: Instant, asker: Ipv4Addr) -> bool {
        self.punches.take(now, asker, 1)
    }

    /// True if so many bytes may be passed on to somebody because `asker` wants it.
    pub fn may_forward(&mut self, now: Instant, asker: Ipv4Addr, bytes: usize) -> bool {
        self.forwards.take(now, asker, u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// True if what `informant` says about one more node that is down is looked into.
    pub fn may_hint(&mut self, now: Instant, informant: Ipv4Addr) -> bool {
        self.hints.take(now, informant, 1)
    }
}

/// True if an address somebody told us of may be sent to: an ordinary unicast address with a port, and on our own
/// machine only if `informant` is there too.
pub fn is_sane(addr: SocketAddrV4, informant: Ipv4Addr) -> bool {
    let ip = addr.ip();
    let [first, ..] = ip.octets();
    // 0/8 is "this network", 224/4 multicast, 240/4 reserved and broadcast.
    addr.port() != 0 && first != 0 && first < 224 && (!ip.is_loopback() || informant.is_loopback())
}

/// True for an address that only means something to those inside the same network: private, shared (carrier-grade NAT),
/// link-local or loopback.
pub fn is_near(host: Ipv4Addr) -> bool {
    let shared = host.octets().first() == Some(&100) && host.to_bits() >> 22 == 0x6440_0000 >> 22;
    host.is_private() || shared || host.is_link_local() || host.is_loopback()
}

/// True if `informant` can honestly know of `host`. Nobody far away meets hosts of our private network, so one who names
/// them would have us speak to our own printers and routers. Link-local addresses, where clouds keep their secrets,
/// and loopback ones reach no further than one link and one machine.
pub fn can_be_meant(host: Ipv4Addr, informant: Ipv4Addr) -> bool {
    if host.is_loopback() {
        informant.is_loopback()
    } else if host.is_link_local() {
        informant.is_link_local() || informant.is_loopback()
    } else {
        !is_near(host) || is_near(informant)
    }
}

/// Hosts that receive what we send to them, and when each proved it last.
#[derive(Default)]
struct Validated {
    hosts: BTreeMap<Ipv4Addr, Instant>,
    /// The same in the order of their proofs, so that the oldest is found without looking at the others: a stranger
    /// could make us look once for each address it has.
    by_age: BTreeSet<(Instant, Ipv4Addr)>,
}

impl Validated {
    fn at(&self, host: Ipv4Addr) -> Option<Instant> {
        self.hosts.get(&host).copied()
    }

    fn insert(&mut self, now: Instant, host: Ipv4Addr) {
        if let Some(before) = self.hosts.insert(host, now) {
            self.by_age.remove(&(before, host));
        }
        self.by_age.insert((now, host));
        if self.hosts.len() > MAX_VALIDATED_HOSTS
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.hosts.remove(&oldest);
        }
    }
}

/// Token buckets: one for each of a few hosts, and when more take from them at a time, a fixed number that all share by
/// a secret hash. Most nodes never need these.
struct Cells {
    few: BTreeMap<Ipv4Addr, Cell>,
    /// When there are more of them, the full ones are dropped.
    most_few: u8,
    /// Empty while there are few.
    many: Vec<Cell>,
    capacity: u32,
    refill: Duration,
    start: Instant,
    key: u64,
}

/// So many buckets are kept without a look at them.
const FEW: usize = 8;

/// A bucket. All zero is an untouched, full one: memory for many of those is taken zeroed from the system and costs
/// nothing until it is touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    /// What has been taken and not refilled.
    missing: u32,
    /// When that was so, in tenths of a second since the start.
    at: u32,
}

impl Cells {
    fn new(now: Instant, capacity: u32, refill: Duration, rng: &mut StdRng) -> Self {
        let (few, many) = (BTreeMap::new(), Vec::new());
        Self { few, most_few: FEW as u8, many, capacity, refill, start: now, key: rng.next_u64() }
    }

    /// Takes so much, all or nothing.
    fn take(&mut self, now: Instant, host: Ipv4Addr, amount: u32) -> bool {
        let mut cell = self.of(now, host);
        let Some(missing) = cell.missing.checked_add(amount).filter(|after| *after <= self.capacity) else {
            return false;
        };
        cell.missing = missing;
        self.put(now, host, cell);
        true
    }

    fn credit(&mut self, now: Instant, host: Ipv4Addr, amount: u32) {
        let mut cell = self.of(now, host);
        if cell.missing > 0 {
            cell.missing = cell.missing.saturating_sub(amount);
            self.put(now, host, cell);
        }
    }

    /// The bucket of a host, with what has come back since it was last looked at.
    fn of(&self, now: Instant, host: Ipv4Addr) -> Cell {
        let cell = match self.many.get(self.index(host)) {
            Some(cell) => *cell,
            None => self.few.get(&host).copied().unwrap_or_default(),
        };
        self.refilled(self.tenths(now), cell)
    }

    fn refilled(&self, now: u32, cell: Cell) -> Cell {
        let refill = u32::try_from(self.refill.as_millis() / 100).unwrap_or(u32::MAX);
        let elapsed = u64::from(now.saturating_sub(cell.at).min(refill));
        match elapsed * u64::from(self.capacity) / u64::from(refill.max(1)) {
            // What has come back is not lost to rounding when it is looked at too often.
            0 => cell,
            amount => Cell { missing: cell.missing.saturating_sub(amount as u32), at: now },
        }
    }

    fn put(&mut self, now: Instant, host: Ipv4Addr, cell: Cell) {
        if self.many.is_empty() {
            self.few.insert(host, cell);
            if self.few.len() <= usize::from(self.most_few) {
                return;
            }
            let now = self.tenths(now);
            let mut few = std::mem::take(&mut self.few);
            few.retain(|_, cell| self.refilled(now, *cell).missing > 0);
            if few.len() <= RATE_FEW_HOSTS {
                self.most_few = (2 * few.len()).clamp(FEW, RATE_FEW_HOSTS) as u8;
                self.few = few;
                return;
            }
            self.many = vec![Cell::default(); RATE_CELLS];
            few.into_iter().for_each(|(host, cell)| self.share(host, cell));
            return;
        }
        let index = self.index(host);
        if let Some(shared) = self.many.get_mut(index) {
            *shared = cell;
        }
    }

    /// Adds what a host has taken to its shared bucket.
    fn share(&mut self, host: Ipv4Addr, cell: Cell) {
        let (capacity, index) = (self.capacity, self.index(host));
        if let Some(shared) = self.many.get_mut(index) {
            shared.missing = shared.missing.saturating_add(cell.missing).min(capacity);
            shared.at = shared.at.max(cell.at);
        }
    }

    fn index(&self, host: Ipv4Addr) -> usize {
        (mix(u64::from(host.to_bits()) ^ self.key) % RATE_CELLS as u64) as usize
    }

    fn tenths(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.start).as_millis() / 100).unwrap_or(u32::MAX)
    }
}

/// Spreads hosts over cells in an order that depends on a secret (the finish of SplitMix64, twice).
fn mix(mut x: u64) -> u64 {
    for _ in 0..2 {
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

    fn guard() -> (Guard, Instant) {
        let now = Instant::now();
        (Guard::new(now, &mut StdRng::seed_from_u64(1)), now)
    }

    #[test]
    fn an_unproven_host_gets_its_burst_and_not_a_byte_more() {
        let (mut guard, now) = guard();
        assert!(guard.may_send(now, HOST, UNVALIDATED_BURST_BYTES as usize));
        assert!(!guard.may_send(now, HOST, 1));
    }

    #[test]
    fn what_a_host_sends_counts_three_times() {
        let (mut guard, now) = guard();
        assert!(guard.may_send(now, HOST, UNVALIDATED_BURST_BYTES as usize));
        guard.received(now, HOST, 100);
        assert!(guard.may_send(now, HOST, 300));
        assert!(!guard.may_send(now, HOST, 1));
    }

    #[test]
    fn in_no_minute_more_than_16_kib_beyond_three_times_the_input() {
        let (mut guard, mut now) = guard();
        let mut sent = Vec::new();
        for _ in 0..6000 {
            now += Duration::from_millis(100);
            while guard.may_send(now, HOST, 100) {
                sent.push(now);
            }
        }
        let minute = Duration::from_secs(60);
        let most = (0..sent.len())
            .map(|first| sent[first..].iter().take_while(|at| **at < sent[first] + minute).count())
            .max()
            .expect("something was sent");
        assert!(most * 100 <= 16 * 1024, "{} bytes in a minute", most * 100);
        assert!(most * 100 > 12 * 1024, "the allowance is used: {}", most * 100);
    }

    #[test]
    fn a_proof_lifts_the_limit_for_ten_minutes() {
        let (mut guard, now) = guard();
        guard.validated(now, HOST);
        assert!((0..100).all(|_| guard.may_send(now + Duration::from_secs(599), HOST, 1400)));
        assert!(!(0..100).all(|_| guard.may_send(now + Duration::from_secs(600), HOST, 1400)));
    }

    #[test]
    fn the_oldest_proof_makes_room_for_a_new_one() {
        let (mut guard, now) = guard();
        for n in 0..=MAX_VALIDATED_HOSTS {
            let at = now + Duration::from_millis(n as u64);
            guard.validated(at, Ipv4Addr::from(0x0b00_0000 + n as u32));
        }
        assert_eq!(guard.validated.hosts.len(), MAX_VALIDATED_HOSTS);
        assert_eq!(guard.validated.at(Ipv4Addr::from(0x0b00_0000)), None);
        assert!(guard.validated.at(Ipv4Addr::from(0x0b00_0001)).is_some());
    }

    #[test]
    fn every_proven_host_stands_once_in_the_order_of_proofs() {
        let (mut guard, now) = guard();
        for n in 0..3 * MAX_VALIDATED_HOSTS as u32 {
            let at = now + Duration::from_millis(n.into());
            // Every second host proves itself again and again.
            let host = if n % 2 == 0 { n % 64 } else { n };
            guard.validated(at, Ipv4Addr::from(0x0b00_0000 + host));
            // The order is what `insert` takes the oldest from; it could not without it but by a search.
            assert_eq!(guard.validated.by_age.len(), guard.validated.hosts.len());
        }
        let newest_first: Vec<_> = guard.validated.by_age.iter().map(|(at, host)| (*host, *at)).collect();
        let hosts: BTreeMap<_, _> = newest_first.into_iter().collect();
        assert_eq!(hosts, guard.validated.hosts);
        assert!(guard.validated.at(Ipv4Addr::from(0x0b00_0000)).is_some(), "proven again, so not the oldest");
    }

    #[test]
    fn holepunches_are_counted_by_asker() {
        let (mut guard, now) = guard();
        assert!((0..HOLEPUNCH_BURST).all(|_| guard.may_punch(now, HOST)));
        assert!(!guard.may_punch(now, HOST));
        assert!(guard.may_punch(now, Ipv4Addr::new(198, 51, 100, 7)));
        assert!(guard.may_punch(now + Duration::from_secs(1), HOST), "refilled");
    }

    #[test]
    fn so_many_bytes_are_passed_on_for_one_host() {
        let (mut guard, now) = guard();
        let forwarded = (0..20_000).filter(|_| guard.may_forward(now, HOST, 1000)).count();
        assert_eq!(forwarded, FORWARDED_BYTES_PER_MINUTE as usize / 1000);
        assert!(guard.may_forward(now, Ipv4Addr::new(198, 51, 100, 7), 1000));
        assert!(guard.may_forward(now + Duration::from_secs(1), HOST, 1000), "refilled");
    }

    #[test]
    fn one_host_is_believed_so_many_hints_a_minute() {
        let (mut guard, now) = guard();
        let believed = (0..3 * DOWN_HINTS_PER_MINUTE).filter(|_| guard.may_hint(now, HOST)).count();
        assert_eq!(believed, DOWN_HINTS_PER_MINUTE as usize);
        assert!(guard.may_hint(now, Ipv4Addr::new(198, 51, 100, 7)));
        assert!(guard.may_hint(now + Duration::from_secs(6), HOST), "refilled");
    }

    #[test]
    fn a_flood_of_spoofed_hosts_neither_grows_the_cells_nor_washes_a_count_away() {
        let (mut guard, now) = guard();
        assert!(guard.may_send(now, HOST, UNVALIDATED_BURST_BYTES as usize));
        for n in 0..100_000u32 {
            guard.may_send(now, Ipv4Addr::from(n.wrapping_mul(2_654_435_761)), 100);
        }
        assert_eq!((guard.bytes.many.len(), guard.bytes.few.len()), (RATE_CELLS, 0));
        assert!(!guard.may_send(now, HOST, 100));
    }

    #[test]
    fn a_few_strangers_at_a_time_need_no_cells_however_many_come() {
        let (mut guard, now) = guard();
        let host = |n: u32| Ipv4Addr::from(0x0b00_0000 + n);
        for n in 0..10_000 {
            // Their allowance has come back before so many others have come.
            let now = now + Duration::from_secs(n.into()) * 180 / RATE_FEW_HOSTS as u32;
            assert!(guard.may_send(now, host(n), 1000));
        }
        assert!(guard.bytes.many.is_empty() && guard.bytes.few.len() <= RATE_FEW_HOSTS);
        (0..RATE_FEW_HOSTS as u32).for_each(|n| assert!(guard.may_punch(now, host(n))));
        assert!(guard.punches.many.is_empty());
        assert!(guard.may_punch(now, HOST));
        assert!(guard.punches.few.is_empty() && !guard.punches.many.is_empty());
        let left = (0..HOLEPUNCH_BURST).filter(|_| guard.may_punch(now, host(0))).count();
        assert!(left > 0 && left < HOLEPUNCH_BURST as usize, "what was taken before counts: {left}");
    }

    #[test]
    fn only_ordinary_unicast_addresses_are_sane() {
        let outside = Ipv4Addr::new(198, 51, 100, 7);
        let sane = |text: &str, by: Ipv4Addr| is_sane(text.parse().expect("an address"), by);
        assert!(sane("203.0.113.9:49737", outside));
        assert!(sane("10.1.2.3:1", outside));
        for insane in [
            "203.0.113.9:0",
            "0.0.0.0:5",
            "0.1.2.3:5",
            "224.0.0.251:5353",
            "255.255.255.255:9",
            "240.0.0.1:9",
        ] {
            assert!(!sane(insane, outside), "{insane}");
            assert!(!sane(insane, Ipv4Addr::LOCALHOST), "{insane}");
        }
        assert!(!sane("127.0.0.1:20431", outside), "loopback named from outside");
        assert!(sane("127.0.0.1:20431", Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn hosts_of_private_networks_are_meant_only_by_those_who_are_inside() {
        let meant = |host: &str, informant: &str| {
            can_be_meant(host.parse().expect("an address"), informant.parse().expect("an address"))
        };
        for inside in ["10.0.0.9", "172.31.0.9", "192.168.1.1", "100.64.0.1", "100.127.255.255"] {
            assert!(!meant(inside, "203.0.113.9"), "{inside}");
            assert!(meant(inside, "10.0.0.1") && meant(inside, "127.0.0.1"), "{inside}");
        }
        assert!(meant("203.0.113.9", "198.51.100.7") && meant("203.0.113.9", "10.0.0.1"));
        assert!(meant("100.63.255.255", "203.0.113.9") && meant("100.128.0.0", "203.0.113.9"));
        for informant in ["203.0.113.9", "10.0.0.1"] {
            assert!(!meant("169.254.169.254", informant) && !meant("127.0.0.1", informant), "{informant}");
        }
        assert!(meant("169.254.1.2", "169.254.1.3") && meant("127.0.0.1", "127.0.0.1"));
    }
}
