//! One download: looks for those who claim to have the file, tries the sizes they claim side by side, and ends with the
//! first that has the hash.
//!
//! A task runs [`Download::run`]; each claimed size that a reached peer backs is an [`attempt`] with a task and a partial
//! file of its own. The download tells an attempt whom to ask, and whether to ask at all, through a watch channel; the
//! attempt tells its progress through another, and whom it dropped through a bounded channel that the download empties
//! at once. A download takes one of the turns of the node while something can be transferred, not while it looks.

mod attempt;
mod clock;
mod sizes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyperswarm::net::sleep_until;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::MissedTickBehavior;

use self::attempt::{Dropped, End, Member};
use self::sizes::Sizes;
use super::disk::{Disk, Verdict};
use super::environment::Environment;
use super::inbox::Heard;
use super::turn::Turn;
use crate::limits;
use crate::node::error::LoadError;
use crate::node::transfer::candidates::Candidates;
use crate::node::transfer::failure::Failure;
use crate::node::transfer::plan::pace::ByteClock;
use crate::node::transfer::{Offer, Reach};
use crate::node::types::{LoadEvent, Loaded};
use crate::store::Sha1;

pub(super) use self::clock::now;

/// The SHA-1 of no bytes: nobody need be asked for them.
pub(super) const EMPTY_FILE: Sha1 = Sha1([
    0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18, 0x90, 0xaf,
    0xd8, 0x07, 0x09,
]);
/// What is told of peers that claim no bytes for another hash.
const EMPTY_CLAIM: &str = "claims that the file is empty";
/// What is told of peers that were not asked because of wrong bytes, also for another file.
const SHUNNED: &str = "sent wrong bytes not long ago";
/// Time-outs are looked at, and progress is told, this often.
const TICK: Duration = Duration::from_millis(250);
/// Providers that attempts dropped and that the download was not told of yet; it takes them at once.
const DROPPED: usize = 16;

/// What a download is made of.
pub(super) struct Setup {
    pub(super) sha1: Sha1,
    /// It ends after this long without progress, wherever it waits; after twice as long while a size that a reached
    /// peer claims had no turn yet.
    pub(super) timeout: Duration,
    /// When its time began.
    pub(super) began: Instant,
    pub(super) environment: Arc<Environment>,
    /// Who has it, as the search finds them; closed when the search is over.
    pub(super) offers: mpsc::Receiver<Heard>,
    pub(super) searching: bool,
    pub(super) candidates: Candidates,
    pub(super) events: watch::Sender<LoadEvent>,
    /// The turns of the node.
    pub(super) turns: Arc<Semaphore>,
}

/// One download.
pub(super) struct Download {
    setup: Setup,
    /// Peers that are looked for or reached.
    members: Vec<Arc<Member>>,
    sizes: Sizes,
    dropped: mpsc::Receiver<Dropped>,
    turn: Turn,
    /// A peer can be reached in another way.
    reach_changed: Arc<Notify>,
    /// Lags while new bytes come at less than [`limits::MINIMUM_RATE`].
    progress: ByteClock,
    counted: u64,
    /// Why the disk refused a size, while other sizes were tried.
    disk_error: Option<LoadError>,
}

impl Download {
    pub(super) fn new(setup: Setup) -> Self {
        let (drops, dropped) = mpsc::channel(DROPPED);
        Self {
            members: Vec::new(),
            sizes: Sizes::new(setup.environment.clone(), setup.sha1, drops),
            dropped,
            turn: Turn::new(setup.turns.clone()),
            reach_changed: Arc::default(),
            progress: ByteClock::new(setup.began),
            counted: 0,
            disk_error: None,
            setup,
        }
    }

    /// Runs to the end. None: nobody has it.
    pub(super) async fn run(mut self) -> Option<Result<Loaded, LoadError>> {
        if self.setup.sha1 == EMPTY_FILE {
            return Some(self.store_empty().await);
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.look();
            self.arrange();
            if let Some(end) = self.over() {
                return end.map(Err);
            }
            let deadline = self.deadline();
            // Not biased: each branch that is ready has its turn.
            tokio::select! {
                heard = self.setup.offers.recv(), if self.setup.searching => match heard {
                    Some(heard) => self.add_candidate(&heard),
                    None => self.setup.searching = false,
                },
                () = self.reach_changed.notified() => {}
                Some(Dropped(offer, why)) = self.dropped.recv() => self.drop_provider(&offer, &why),
                () = self.turn.come() => {}
                (size, end) = self.sizes.ended() => {
                    if let Some(result) = self.attempt_ended(size, end) {
                        if result.is_ok() {
                            self.sizes.discard().await;
                        }
                        return Some(result);
                    }
                }
                () = sleep_until(Some(deadline)) => self.count(),
                _ = tick.tick() => self.count(),
            }
        }
    }

    async fn store_empty(&self) -> Result<Loaded, LoadError> {
        let mut disk = Disk::open(&self.setup.environment, EMPTY_FILE, 0).await?;
        match disk.commit().await {
            Verdict::Stored(stored) => Ok(Loaded { path: stored.path, size: 0, downloaded: 0 }),
            Verdict::WrongHash | Verdict::Missing(_) => {
                Err(LoadError::Fault("the empty file has a wrong hash".to_owned()))
            }
            Verdict::Failed(error) => Err(error.into()),
        }
    }

    fn add_candidate(&mut self, heard: &Heard) {
        self.setup.candidates.add(heard.offer, heard.origin);
    }

    /// Looks for candidates, and at those that are looked for.
    fn look(&mut self) {
        let candidates = &mut self.setup.candidates;
        let over = candidates.end_turns(now());
        self.members.retain(|member| !over.contains(&member.offer));
        while let Some(next) = candidates.look_for_next(now()) {
            let member = Member::open(&self.setup.environment, next, self.reach_changed.clone());
            self.members.push(Arc::new(member));
        }
        // Shunning is for when there are others, and bytes come from them.
        let forgiving = !candidates.has_untainted() || self.progress.lag(now()) >= limits::SILENCE;
        for member in &self.members {
            member.set_unit(candidates.unit(&member.offer));
            if forgiving && member.is_shunned() {
                member.forgive();
            }
            candidates.shun(&member.offer, member.is_shunned());
            match member.reach() {
                Reach::Opening | Reach::Connecting => {}
                Reach::Reached(_) => candidates.reached(&member.offer),
                // An attempt that uses it finds out by itself.
                Reach::Unusable(why) => {
                    candidates.note(&member.offer, why);
                    candidates.drop_one(&member.offer);
                }
            }
        }
    }

    /// Starts, stops, feeds and pauses the attempts.
    fn arrange(&mut self) {
        let sizes = self.sizes_to_try();
        if !sizes.is_empty() {
            self.turn.want();
        }
        if self.turn.is_mine() {
            self.sizes.start(&sizes, &self.members);
        }
        let paused = !self.turn.may_transfer();
        self.sizes.arrange(&self.members, paused);
    }

    /// Backed sizes for which somebody can be asked now, with the number of peers that back each. An attempt that finds
    /// nobody to ask ends at once: without such peers, it would be started again and again.
    fn sizes_to_try(&self) -> BTreeMap<u64, usize> {
        let reached = self.members.iter().filter(|member| member.is_reached());
        let reached: BTreeSet<_> = reached.map(|member| member.offer.size).collect();
        let mut sizes = self.setup.candidates.backed_sizes();
        sizes.retain(|size, _| reached.contains(size));
        sizes
    }

    /// Counts what came since the last time, and tells it.
    fn count(&mut self) {
        let now = now();
        let came = self.sizes.downloaded() - self.counted;
        self.counted += came;
        self.progress.add(came, limits::MINIMUM_RATE, now);
        if self.sizes.is_verifying() {
            self.progress = ByteClock::new(now);
        }
        self.turn.check(came > 0 || self.sizes.is_verifying(), now);
        if let Some(event) = self.sizes.event() {
            self.setup.events.send_replace(event);
        }
    }

    /// When it ends if nothing comes until then. Strangers who claim other sizes cannot use up the time before the right
    /// one had its turn.
    fn deadline(&self) -> Instant {
        let untried = || self.sizes.has_untried(&self.sizes_to_try());
        let times = if self.turn.is_mine() && untried() { 2 } else { 1 };
        self.progress.at() + self.setup.timeout.saturating_mul(times)
    }

    /// Why it has ended, if it has. Some(None): nobody has it.
    fn over(&mut self) -> Option<Option<LoadError>> {
        if now() >= self.deadline() {
            return Some(self.give_up());
        }
        let hopeful = self.setup.searching || self.setup.candidates.is_hopeful() || !self.sizes.is_empty();
        (!hopeful).then(|| self.disk_error.take().or_else(|| self.setup.candidates.verdict()))
    }

    /// Nothing came for too long.
    fn give_up(&mut self) -> Option<LoadError> {
        let seconds = self.setup.timeout.as_secs();
        for offer in self.setup.candidates.left() {
            if self.setup.candidates.is_noted_liar(&offer) {
                continue;
            }
            let member = self.members.iter().find(|member| member.offer == offer);
            let why = match member.map(|member| member.reach()) {
                Some(Reach::Reached(_)) if self.turn.is_waiting() => {
                    format!("was not asked: other downloads took all {seconds} s")
                }
                Some(Reach::Reached(_)) => {
                    let busy = member.is_some_and(|member| member.was_busy.load(Ordering::Relaxed));
                    let said = if busy { ", and said that it has too much to do" } else { "" };
                    format!("sent too little for {seconds} s{said}")
                }
                Some(Reach::Unusable(why)) => why,
                Some(_) if member.is_some_and(|member| member.is_shunned()) => SHUNNED.to_owned(),
                Some(Reach::Opening | Reach::Connecting) | None => {
                    format!("no connection to it within {seconds} s")
                }
            };
            self.setup.candidates.note(&offer, why);
        }
        let waited = self.setup.timeout;
        let verdict = self.disk_error.take().or_else(|| self.setup.candidates.verdict());
        verdict.or((!self.sizes.is_empty()).then_some(LoadError::Timeout(waited)))
    }

    fn drop_provider(&mut self, offer: &Offer, why: &Failure) {
        self.members.retain(|member| member.offer != *offer);
        let candidates = &mut self.setup.candidates;
        match why {
            Failure::WrongBytes => candidates.note_liar(offer),
            why => candidates.note(offer, why.to_string()),
        }
        match why {
            Failure::WrongBytes | Failure::Garbled => candidates.lied(offer, now()),
            _ => candidates.drop_one(offer),
        }
    }

    /// The outcome of the download, if that decides it.
    fn attempt_ended(&mut self, size: u64, end: End) -> Option<Result<Loaded, LoadError>> {
        // Told before it ended.
        while let Ok(Dropped(offer, why)) = self.dropped.try_recv() {
            self.drop_provider(&offer, &why);
        }
        match end {
            End::Done(stored, downloaded) => {
                return Some(Ok(Loaded { path: stored.path, size: stored.size, downloaded }));
            }
            End::Exhausted => {}
            End::Impossible(why) => self.setup.candidates.refuse_size(size, &why),
            End::TooLarge(why) => self.setup.candidates.refuse_too_large(size, &why),
            End::Failed(error) if self.sizes.is_empty() => return Some(Err(error)),
            End::Failed(error) => {
                self.setup.candidates.refuse_size(size, &error.to_string());
                self.disk_error = Some(error);
            }
        }
        None
    }
}
