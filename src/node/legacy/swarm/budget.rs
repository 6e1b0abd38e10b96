//! How many signatures of others a node verifies, in all its swarms: each costs 0.1 to 0.2 ms before anything of it can be
//! refused, and signing is no dearer to a stranger. A node that gets little of a processor verifies fewer ([`Pace`]).
//!
//! A request costs its answer as well, however few bytes it asks for: at least three messages, which we sign and write, or
//! verify and pass on.
//!
//! What answers a request of ours is free. Everything else takes from what the node has for everybody, so that nothing is
//! counted by connection or address while there is enough. Under pressure each connection lives on its share: every address
//! gets the same, and of that every connection at the address. What a node says itself and what it relays are paid from two
//! purses, or a flood that passes through an honest neighbour would drown that neighbour's own words.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::limits;

/// How a bucket is filled.
#[derive(Clone, Copy)]
pub(super) struct Rate {
    pub(super) per_second: usize,
    /// Between so many buckets.
    pub(super) among: usize,
    pub(super) burst: usize,
}

/// New seekings of a node.
pub(super) const SEEKINGS: Rate =
    Rate { per_second: limits::SEEKINGS_PER_SECOND, among: 1, burst: limits::SEEKINGS_BURST };

/// The part of what a processor of its own could do that a node can do now, in steps of one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace(u32);

/// What a new connection has at the slowest pace: enough to greet and to ask for something. It may save up more, but
/// strangers who connect again and again must not have a full purse each time.
const LEAST_BURST: usize = 4;

impl Pace {
    const SLOWEST: u32 = 3;

    /// After it was seen how late the node's tasks are: more than [`limits::LATE`] is too late, and half of it is in time.
    pub(crate) fn after(self, late: Duration) -> Self {
        match late {
            late if late > limits::LATE => Self((self.0 + 1).min(Self::SLOWEST)),
            late if late < limits::LATE / 4 => Self(self.0.saturating_sub(1)),
            _ => self,
        }
    }

    fn part_of(self, whole: usize) -> usize {
        whole >> self.0
    }

    /// So much longer something takes.
    pub(crate) fn times(self, time: Duration) -> Duration {
        time * (1 << self.0)
    }

    /// Verifications for everybody.
    fn common(self) -> Rate {
        Rate {
            per_second: self.part_of(limits::VERIFICATIONS_PER_SECOND),
            among: 1,
            burst: self.part_of(limits::VERIFICATIONS_BURST),
        }
    }

    /// Those of one of so many connections.
    fn share(self, among: usize) -> Rate {
        Rate {
            per_second: self.part_of(limits::VERIFICATIONS_PER_SECOND),
            among,
            burst: limits::CONNECTION_VERIFICATIONS_BURST,
        }
    }
}

/// What a message costs us.
#[derive(Clone, Copy, Debug)]
pub(super) struct Price {
    /// Of the neighbour, and if it is relayed another of its originator.
    pub(super) signatures: usize,
    /// It is somebody else's.
    pub(super) is_relayed: bool,
    /// Our answer to a request, in signatures.
    pub(super) answer: usize,
}

/// The messages of the smallest answer: Received, Response, Finished.
const ANSWER: usize = 3;
/// So many times a message is written while another one is signed.
const WRITES_PER_SIGNATURE: usize = 4;

/// The price of an answer that goes to so many neighbours.
pub(super) fn answer_to(neighbours: usize) -> usize {
    ANSWER + ANSWER * neighbours.saturating_sub(1) / WRITES_PER_SIGNATURE
}

/// Things that may still be done, refilled with time.
pub(super) struct Bucket {
    /// In billionths, so that no part of one is lost in a refill.
    left: u64,
    refilled: Option<Instant>,
}

impl Bucket {
    const ONE: u64 = 1_000_000_000;

    pub(super) fn full(rate: Rate) -> Self {
        Self { left: rate.burst as u64 * Self::ONE, refilled: None }
    }

    /// Takes so many off; false: there are fewer, and none is taken.
    pub(super) fn take(&mut self, now: Instant, count: usize, rate: Rate) -> bool {
        let since = self.refilled.replace(now).map_or(0, |at| now.saturating_duration_since(at).as_nanos());
        let refill = since.saturating_mul(rate.per_second as u128) / rate.among.max(1) as u128;
        let refill = u64::try_from(refill).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(refill).min(rate.burst as u64 * Self::ONE);
        let rest = self.left.checked_sub(count as u64 * Self::ONE);
        self.left = rest.unwrap_or(self.left);
        rest.is_some()
    }
}

/// What one connection has left of its share.
pub(super) struct Purses {
    own: Bucket,
    relayed: Bucket,
}

impl Purses {
    fn new(pace: Pace) -> Self {
        let burst = limits::CONNECTION_VERIFICATIONS_BURST;
        let burst = if pace == Pace::default() { burst } else { LEAST_BURST };
        let full = || Bucket::full(Rate { burst, ..pace.share(1) });
        Self { own: full(), relayed: full() }
    }
}

/// The verifications of a node: its swarms share it.
#[derive(Clone, Default)]
pub struct SharedBudget(Arc<Mutex<Budget>>);

impl SharedBudget {
    pub(super) fn lock(&self) -> MutexGuard<'_, Budget> {
        self.0.lock()
    }

    /// How much of a processor the node gets now.
    pub(crate) fn pace(&self) -> Pace {
        self.lock().pace
    }

    pub(crate) fn set_pace(&self, pace: Pace) {
        self.lock().pace = pace;
    }
}

/// What there is to spend.
pub(super) struct Budget {
    pace: Pace,
    common: Bucket,
    /// Connections of each address.
    hosts: HashMap<IpAddr, usize>,
}

impl Default for Budget {
    fn default() -> Self {
        let pace = Pace::default();
        Self { pace, common: Bucket::full(pace.common()), hosts: HashMap::new() }
    }
}

impl Budget {
    /// A connection to this address has its own purses from now on.
    pub(super) fn connected(&mut self, host: IpAddr) -> Purses {
        *self.hosts.entry(host).or_default() += 1;
        Purses::new(self.pace)
    }

    pub(super) fn closed(&mut self, host: IpAddr) {
        if let Some(count) = self.hosts.get_mut(&host) {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(&host);
            }
        }
    }

    /// Pays for a message on a connection of this address. False: it is to be dropped.
    pub(super) fn pay(&mut self, now: Instant, host: IpAddr, purses: &mut Purses, price: Price) -> bool {
        let cost = price.signatures + price.answer;
        // The purse is filled even when nothing is taken from it.
        let among = self.hosts.len() * self.hosts.get(&host).copied().unwrap_or(1);
        let purse = if price.is_relayed { &mut purses.relayed } else { &mut purses.own };
        let share = self.pace.share(among);
        self.common.take(now, cost, self.pace.common()) || purse.take(now, cost, share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    /// One connection from each of these addresses.
    fn budget(hosts: &[u8]) -> (Budget, Vec<(IpAddr, Purses)>) {
        let mut budget = Budget::default();
        let purses = hosts.iter().map(|number| (host(*number), budget.connected(host(*number)))).collect();
        (budget, purses)
    }

    fn paid(budget: &mut Budget, now: Instant, from: &mut (IpAddr, Purses), count: usize) -> usize {
        (0..count).filter(|_| budget.pay(now, from.0, &mut from.1, MESSAGE)).count()
    }

    const MESSAGE: Price = Price { signatures: 1, is_relayed: false, answer: 0 };
    const RELAYED: Price = Price { signatures: 2, is_relayed: true, answer: 0 };
    const AT_ONCE: usize = limits::VERIFICATIONS_BURST + limits::CONNECTION_VERIFICATIONS_BURST;

    #[test]
    fn one_connection_may_take_the_whole_burst_and_its_own_and_no_more() {
        let (mut budget, mut from) = budget(&[1]);
        assert_eq!(paid(&mut budget, Instant::now(), &mut from[0], 2 * AT_ONCE), AT_ONCE);
    }

    #[test]
    fn what_is_relayed_costs_two_signatures() {
        let (mut budget, mut from) = budget(&[1]);
        let (host, purses) = &mut from[0];
        let now = Instant::now();
        let relayed = (0..AT_ONCE).filter(|_| budget.pay(now, *host, purses, RELAYED)).count();
        assert_eq!(relayed, AT_ONCE / 2);
        let own = (0..AT_ONCE).filter(|_| budget.pay(now, *host, purses, MESSAGE)).count();
        assert_eq!(own, limits::CONNECTION_VERIFICATIONS_BURST, "its own words have their own purse");
    }

    #[test]
    fn a_request_costs_its_answer_and_one_through_others_all_the_copies_of_it() {
        let now = Instant::now();
        for (signatures, neighbours, cost) in [(1, 1, 4), (2, 24, 22)] {
            let (mut budget, mut from) = budget(&[1]);
            let (host, purses) = &mut from[0];
            let (is_relayed, answer) = (signatures > 1, answer_to(neighbours));
            let price = Price { signatures, is_relayed, answer };
            let paid = (0..AT_ONCE).filter(|_| budget.pay(now, *host, purses, price)).count();
            let bursts = [limits::VERIFICATIONS_BURST, limits::CONNECTION_VERIFICATIONS_BURST];
            assert_eq!(paid, bursts.map(|burst| burst / cost).iter().sum::<usize>(), "{neighbours}");
        }
    }

    #[test]
    fn a_flood_leaves_every_other_connection_its_burst_and_its_share() {
        let (mut budget, mut from) = budget(&[1, 2]);
        let began = Instant::now();
        paid(&mut budget, began, &mut from[0], 2 * AT_ONCE);
        let burst = paid(&mut budget, began, &mut from[1], AT_ONCE);
        assert_eq!(burst, limits::CONNECTION_VERIFICATIONS_BURST);
        let mut heard = 0;
        let ticks = 1000;
        for tick in 1..=ticks {
            let now = began + Duration::from_millis(tick);
            paid(&mut budget, now, &mut from[0], 30);
            heard += paid(&mut budget, now, &mut from[1], 30);
        }
        let share = limits::VERIFICATIONS_PER_SECOND / 2;
        assert!((share - 2..=share + 2).contains(&heard), "{heard} in a second, its share is {share}");
    }

    #[test]
    fn a_flood_over_many_connections_of_one_address_has_the_share_of_one_address() {
        let (mut budget, mut from) = budget(&[[1; 9].as_slice(), &[2]].concat());
        let began = Instant::now();
        from.iter_mut().for_each(|from| _ = paid(&mut budget, began, from, 2 * AT_ONCE));
        let mut heard = [0; 2];
        for tick in 1..=1000 {
            let now = began + Duration::from_millis(tick);
            for (at, from) in from.iter_mut().enumerate() {
                heard[usize::from(at == 9)] += paid(&mut budget, now, from, 10);
            }
        }
        let (rate, share) = (limits::VERIFICATIONS_PER_SECOND, limits::VERIFICATIONS_PER_SECOND / 2);
        // The flood also takes what there is for everybody.
        assert!(heard[0] <= rate + share + 10, "{heard:?}");
        assert!(heard[1] >= share - 2, "{heard:?}");
    }

    #[test]
    fn sixty_nodes_behind_one_address_are_not_held_to_a_share_while_there_is_enough() {
        let (mut budget, mut from) = budget(&[1; 60]);
        let each = limits::VERIFICATIONS_BURST / 60;
        let now = Instant::now();
        assert!(from.iter_mut().all(|from| paid(&mut budget, now, from, each) == each));
    }

    #[test]
    fn a_node_whose_tasks_are_late_slows_down_to_a_part_and_recovers() {
        let late = limits::LATE;
        let mut pace = Pace::default();
        (0..10).for_each(|_| pace = pace.after(late));
        assert_eq!(pace, Pace::default(), "it is just in time");
        (0..10).for_each(|_| pace = pace.after(late + Duration::from_millis(1)));
        assert_eq!(pace, Pace(Pace::SLOWEST));
        assert_eq!(pace.common().per_second, limits::VERIFICATIONS_PER_SECOND / 8);
        assert_eq!(pace.times(limits::UNREAD_PAUSE), limits::UNREAD_PAUSE * 8);
        assert_eq!(pace.after(late / 2), pace);
        (0..10).for_each(|_| pace = pace.after(late / 5));
        assert_eq!(pace, Pace::default());
    }

    #[test]
    fn the_swarms_of_a_node_spend_from_one_budget() {
        let (node, now) = (SharedBudget::default(), Instant::now());
        let swarms = [node.clone(), node];
        let paid = swarms.map(|swarm| {
            let mut purses = swarm.lock().connected(host(1));
            (0..2 * AT_ONCE).filter(|_| swarm.lock().pay(now, host(1), &mut purses, MESSAGE)).count()
        });
        assert_eq!(paid, [AT_ONCE, limits::CONNECTION_VERIFICATIONS_BURST]);
    }

    #[test]
    fn a_slow_node_verifies_fewer_and_of_new_connections_hardly_any() {
        let ((mut budget, mut from), now) = (budget(&[1]), Instant::now());
        budget.pace = Pace(3);
        let (common, own) = (limits::VERIFICATIONS_BURST / 8, limits::CONNECTION_VERIFICATIONS_BURST);
        assert_eq!(paid(&mut budget, now, &mut from[0], 2 * AT_ONCE), common + own);
        let mut new = (host(2), budget.connected(host(2)));
        assert_eq!(paid(&mut budget, now, &mut new, AT_ONCE), LEAST_BURST);
    }

    #[test]
    fn the_budget_counts_only_addresses_that_have_a_connection() {
        let (mut budget, _) = budget(&[1, 1, 2]);
        [1, 2, 2].into_iter().for_each(|number| budget.closed(host(number)));
        assert_eq!(budget.hosts, HashMap::from([(host(1), 1)]));
    }
}
