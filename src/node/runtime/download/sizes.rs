//! The claimed sizes of a file that are tried side by side.
//!
//! A stranger can claim any number of sizes under as many names, and be silent, or trickle, once it is asked. So sizes
//! take turns by the places of those who claim them: networks, hosts, and at one host the neighbours that told us of them
//! have shares. While others wait, an attempt to which little comes is left after a second. Each further turn of a size is
//! twice as long as the one before, so that a slow honest provider finishes in the end; but no longer than the first one
//! if somebody waits whose place had fewer turns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::attempt::{Dropped, End, Member, Progress, Setup, Wanted};
use super::clock::now;
use crate::limits;
use crate::node::error::LoadError;
use crate::node::peer::Origin;
use crate::node::runtime::environment::Environment;
use crate::node::transfer::plan::pace::ByteClock;
use crate::node::transfer::shares::Shares;
use crate::node::types::LoadEvent;
use crate::store::Sha1;

/// While other sizes wait for their turn, one that will not be there first is left after this long, in its first turn.
const TURN: Duration = Duration::from_secs(5);
/// While other sizes wait, one that is this far behind [`LIVELY`] is left, in its first turn.
const QUIET: Duration = Duration::from_secs(1);
/// Bytes per second at which a size keeps its turn. One that will be there first needs only [`limits::MINIMUM_RATE`].
const LIVELY: u64 = 16 * limits::MINIMUM_RATE;
/// The turns of a size do not become longer after so many.
const MOST_DOUBLINGS: u32 = 6;

/// Attempts at other sizes have this long to clean up when the download is done.
const PARTING: Duration = Duration::from_secs(1);

/// All attempts of a download.
pub(super) struct Sizes {
    environment: Arc<Environment>,
    sha1: Sha1,
    drops: mpsc::Sender<Dropped>,
    running: BTreeMap<u64, Running>,
    tasks: JoinSet<(u64, End)>,
    /// Turns that each size had.
    turns: BTreeMap<u64, u32>,
    /// Turns by the places from which the sizes were claimed.
    turns_at: Shares,
    /// New bytes of attempts that have ended.
    ended_bytes: u64,
}

struct Running {
    wanted: watch::Sender<Wanted>,
    progress: watch::Receiver<Progress>,
    began: Instant,
    /// From where the size was claimed when its turn began.
    places: BTreeSet<Origin>,
    /// How often this turn is twice as long as the first one of a size.
    doublings: u32,
    /// Lags while new bytes come at less than [`LIVELY`] although they are asked for.
    clock: ByteClock,
    /// New bytes that the clock was told of.
    counted: u64,
    /// Bytes per second while it was not paused.
    rate: u64,
    /// It was told to end, and still does something.
    stopped: bool,
}

impl Running {
    fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Milliseconds until it is there, as things stand. None: that cannot be told.
    fn remaining(&self, size: u64) -> Option<u64> {
        let missing = size.saturating_sub(self.progress().bytes);
        (self.rate > 0).then(|| missing.saturating_mul(1000) / self.rate)
    }

    /// Looks at what came since the last time.
    fn count(&mut self, now: Instant) {
        let progress = self.progress();
        self.clock.add(progress.downloaded.saturating_sub(self.counted), LIVELY, now);
        self.counted = progress.downloaded;
        let asks = {
            let wanted = self.wanted.borrow();
            !wanted.paused && progress.downloaded < wanted.most
        };
        if asks {
            self.rate = progress.rate;
        }
        if !asks || progress.verifying {
            self.clock = ByteClock::new(now);
        }
    }

    /// True if it is to be left while others wait. `first`: it is the one that will be there first; `crowded`: those that
    /// wait had fewer turns where they are.
    fn is_over(&self, first: bool, crowded: bool, now: Instant) -> bool {
        let longer = if crowded { 1 } else { 1 << self.doublings };
        let quiet = self.clock.lag(now) >= QUIET * longer;
        let long = now.saturating_duration_since(self.began) >= TURN * longer;
        match first {
            true => quiet && self.rate < limits::MINIMUM_RATE,
            false => quiet || long,
        }
    }
}

impl Sizes {
    pub(super) fn new(environment: Arc<Environment>, sha1: Sha1, drops: mpsc::Sender<Dropped>) -> Self {
        Self {
            environment,
            sha1,
            drops,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            turns: BTreeMap::new(),
            turns_at: Shares::default(),
            ended_bytes: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Begins attempts at these sizes, the number of peers beside each, as far as there is room: those first that are
    /// claimed from a place that had fewest turns, of these those that had fewest turns, and of these those that are
    /// claimed from most places.
    pub(super) fn start(&mut self, backed: &BTreeMap<u64, usize>, members: &[Arc<Member>]) {
        let claimed = places(members);
        let at = |size: &u64| claimed.get(size).into_iter().flatten().copied();
        let mut waiting: Vec<_> =
            backed.iter().filter(|(size, _)| !self.running.contains_key(size)).collect();
        waiting.sort_by_cached_key(|(size, peers)| {
            // A size without a place has just lost its last peer.
            let turns_at = at(size).map(|place| self.turns_at.rank(place)).min().unwrap_or([usize::MAX; 4]);
            (turns_at, self.turns.get(size), Reverse(at(size).count()), Reverse(**peers))
        });
        let next = waiting.first().map(|(size, _)| at(size).collect()).unwrap_or_default();
        self.stop_for(waiting.len(), &next);
        let room = limits::SIZES_AT_ONCE.saturating_sub(self.running.len());
        for size in waiting.into_iter().take(room).map(|(size, _)| *size) {
            self.turns_at.add(at(&size));
            self.start_one(size, at(&size).collect(), of_size(members, size));
        }
    }

    /// True while one of these sizes had no turn yet, or only just began its first one.
    pub(super) fn has_untried(&self, backed: &BTreeMap<u64, usize>) -> bool {
        backed.keys().any(|size| match self.running.get(size) {
            Some(running) => {
                running.doublings == 0 && now().saturating_duration_since(running.began) < 2 * QUIET
            }
            None => !self.turns.contains_key(size),
        })
    }

    fn start_one(&mut self, size: u64, places: BTreeSet<Origin>, members: Vec<Arc<Member>>) {
        let (wanted, wanted_seen) = watch::channel(Wanted { members, paused: true, most: 0, ended: None });
        let (progress, progress_seen) = watch::channel(Progress::default());
        let setup = Setup {
            environment: self.environment.clone(),
            sha1: self.sha1,
            size,
            wanted: wanted_seen,
            progress,
            dropped: self.drops.clone(),
        };
        self.tasks.spawn(async move { (size, setup.run().await) });
        let now = now();
        let turns = self.turns.entry(size).or_default();
        let running = Running {
            wanted,
            progress: progress_seen,
            began: now,
            places,
            doublings: (*turns).min(MOST_DOUBLINGS),
            clock: ByteClock::new(now),
            counted: 0,
            rate: 0,
            stopped: false,
        };
        *turns += 1;
        self.running.insert(size, running);
    }

    /// Makes room for as many sizes that wait, the first of them claimed from the places `next`, as far as turns are over.
    fn stop_for(&mut self, waiting: usize, next: &BTreeSet<Origin>) {
        let room = limits::SIZES_AT_ONCE.saturating_sub(self.running.len());
        let leaving = self.running.values().filter(|running| running.stopped).count();
        for _ in room + leaving..waiting {
            if !self.stop_one(next) {
                return;
            }
        }
    }

    /// Leaves the attempt that is furthest from its end, of those whose turn is over. False: there is none.
    fn stop_one(&mut self, next: &BTreeSet<Origin>) -> bool {
        let (first, now, turns_at) = (self.first(), now(), &self.turns_at);
        let crowded = |running: &Running| {
            let yields = |place: &Origin| next.iter().any(|other| turns_at.must_yield(*place, *other));
            running.places.iter().all(yields)
        };
        let over = self.running.iter_mut().filter(|(size, running)| {
            !running.stopped && running.is_over(Some(**size) == first, crowded(running), now)
        });
        let last = over.max_by_key(|(size, running)| running.remaining(**size).unwrap_or(u64::MAX));
        let Some((_, running)) = last else { return false };
        running.stopped = true;
        running.wanted.send_modify(|wanted| wanted.ended = Some(limits::JUNK_PER_SIZE));
        true
    }

    /// The size that will be there first, as things stand; a size that is tried alone is.
    fn first(&self) -> Option<u64> {
        if let (1, Some(size)) = (self.running.len(), self.running.keys().next()) {
            return Some(*size);
        }
        let known =
            self.running.iter().filter_map(|(size, running)| Some((running.remaining(*size)?, *size)));
        known.min().map(|(_, size)| size)
    }

    /// Tells the attempts whom to ask, and all but the one that will be there first how much they may bring: if it is
    /// junk, no more of it is to be kept.
    pub(super) fn arrange(&mut self, members: &[Arc<Member>], paused: bool) {
        let now = now();
        self.running.values_mut().for_each(|running| running.count(now));
        let first = self.first();
        for (size, running) in &self.running {
            let most = if Some(*size) == first { u64::MAX } else { limits::JUNK_PER_SIZE };
            // Also when nothing is new here: a provider may be reached in another way.
            running.wanted.send_modify(|wanted| {
                wanted.paused = paused;
                wanted.most = most;
                wanted.members = of_size(members, *size);
            });
        }
    }

    /// Another size has the hash: ends all attempts, and leaves nothing of them.
    pub(super) async fn discard(&mut self) {
        for running in self.running.values() {
            running.wanted.send_modify(|wanted| wanted.ended = Some(u64::MAX));
        }
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        // What is left then is removed by the store when it is old.
        let _ = tokio::time::timeout(PARTING, ended).await;
    }

    /// The next attempt that has ended, with its size. Pending while none runs.
    pub(super) async fn ended(&mut self) -> (u64, End) {
        match self.tasks.join_next().await {
            Some(Ok((size, end))) => {
                if let Some(running) = self.running.remove(&size) {
                    self.ended_bytes += running.progress().downloaded;
                }
                (size, end)
            }
            Some(Err(panic)) => {
                self.running.clear();
                (0, End::Failed(LoadError::Fault(panic.to_string())))
            }
            None => std::future::pending().await,
        }
    }

    /// New bytes of all attempts.
    pub(super) fn downloaded(&self) -> u64 {
        self.ended_bytes + self.running.values().map(|running| running.progress().downloaded).sum::<u64>()
    }

    /// True if some attempt compares the hash.
    pub(super) fn is_verifying(&self) -> bool {
        self.running.values().any(|running| running.progress().verifying)
    }

    /// What to tell of the download: of the attempt that is to be there first, else of the one with most bytes.
    pub(super) fn event(&self) -> Option<LoadEvent> {
        let most = self.running.iter().max_by_key(|(_, running)| running.progress().bytes);
        let size = self.first().or(most.map(|(size, _)| *size))?;
        let Progress { bytes, providers, rate, verifying, .. } = self.running.get(&size)?.progress();
        Some(match verifying {
            true => LoadEvent::Verifying,
            false => LoadEvent::Downloading { bytes, size, providers, rate },
        })
    }
}

/// The places of those that can be asked, by the size they claim.
fn places(members: &[Arc<Member>]) -> BTreeMap<u64, BTreeSet<Origin>> {
    let mut places: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for member in members.iter().filter(|member| member.is_reached()) {
        places.entry(member.offer.size).or_default().insert(member.place());
    }
    places
}

/// Those that can be asked and claim this size.
fn of_size(members: &[Arc<Member>], size: u64) -> Vec<Arc<Member>> {
    members.iter().filter(|member| member.offer.size == size && member.is_reached()).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::runtime::legacy::transfers::Transfers;
    use crate::store::Store;

    #[tokio::test]
    async fn as_many_sizes_as_allowed_are_tried_at_once_and_the_next_waits() {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path()).expect("store");
        let transfers = Transfers::without_peers(store.clone()).await;
        let (drops, _dropped) = mpsc::channel(1);
        let mut sizes = Sizes::new(Arc::new(Environment::new(store, transfers)), Sha1([7; 20]), drops);
        let backed: BTreeMap<_, _> =
            (1..=limits::SIZES_AT_ONCE as u64 + 1).map(|size| (size, size as usize)).collect();
        sizes.start(&backed, &[]);
        assert_eq!(sizes.running.len(), limits::SIZES_AT_ONCE);
        assert!(!sizes.running.contains_key(&1), "fewest peers claim it");
        // Nobody can be asked, so one ends, and the one that had no turn is next.
        sizes.ended().await;
        sizes.start(&backed, &[]);
        assert!(sizes.running.contains_key(&1));
        assert_eq!(sizes.running.len(), limits::SIZES_AT_ONCE);
    }
}
