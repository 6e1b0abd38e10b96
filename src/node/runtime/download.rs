//! Drives one [`Plan`]: looks for the providers, sends the plan's requests, writes what comes, commits.
//!
//! Providers may claim different sizes. Each claimed size is an attempt of its own (with its own partial file); the
//! size that most providers claim goes first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyperswarm::net::sleep_until;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::disk::{Disk, Verdict};
use super::environment::Environment;
use super::inbox::Sink;
use super::source::{Asked, Source};
use crate::node::error::LoadError;
use crate::node::transfer::candidates::Candidates;
use crate::node::transfer::failure::Failure;
use crate::node::transfer::plan::{Action, Outlook, Plan, ProviderKey, RequestKey};
use crate::node::transfer::{Arrival, Ask, AskFailure, Offer, Reach};
use crate::node::types::{LoadEvent, Loaded};
use crate::store::{Sha1, Stored};

/// The SHA-1 of no bytes: nobody need be asked for them.
pub(crate) const EMPTY_FILE: Sha1 = Sha1([
    0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18, 0x90, 0xaf,
    0xd8, 0x07, 0x09,
]);
/// Time-outs are looked at, and progress is told, this often.
const TICK: Duration = Duration::from_millis(250);
/// Arrivals that wait for the download. When full, connections wait.
const INBOX: usize = 8;
/// With several claimed sizes: after this long without a reachable provider the next size has its turn.
const TURN: Duration = Duration::from_secs(10);
/// So often; then, as with a single size, the best one is waited for as long as the download waits. Twice, because a
/// provider that is connected to slowly is there at the second turn: its transfer swarm is kept meanwhile.
const TURNS: u32 = 2;

/// One download.
pub(crate) struct Download {
    pub(crate) sha1: Sha1,
    pub(crate) timeout: Duration,
    pub(crate) environment: Arc<Environment>,
    /// Who has it, as the search finds them; closed when the search is over.
    pub(crate) offers: mpsc::Receiver<Offer>,
    pub(crate) searching: bool,
    pub(crate) candidates: Candidates,
    pub(crate) events: watch::Sender<LoadEvent>,
}

enum End {
    Done(Stored, u64),
    /// No provider of this size is left.
    Exhausted,
    /// No provider of this size can be reached, and other sizes are claimed.
    Unreachable,
    Failed(LoadError),
}

impl Download {
    /// Runs to the end. None: nobody has it.
    pub(crate) async fn run(mut self) -> Option<Result<Loaded, LoadError>> {
        if self.sha1 == EMPTY_FILE {
            return Some(self.store_empty().await);
        }
        let mut last_found = now();
        loop {
            let Some(size) = self.candidates.best_size() else {
                let patience = self.timeout.saturating_sub(now().saturating_duration_since(last_found));
                if !self.searching || patience.is_zero() {
                    return self.candidates.verdict().map(Err);
                }
                match tokio::time::timeout(patience, self.offers.recv()).await {
                    Ok(Some(candidate)) => {
                        last_found = now();
                        self.add_candidate(candidate);
                    }
                    Ok(None) => self.searching = false,
                    Err(_) => return self.candidates.verdict().map(Err),
                }
                continue;
            };
            match self.attempt(size).await {
                End::Done(stored, downloaded) => {
                    return Some(Ok(Loaded { path: stored.path, size: stored.size, downloaded }));
                }
                End::Failed(error) => return Some(Err(error)),
                End::Exhausted => {
                    self.candidates.give_up(size);
                    last_found = now();
                }
                End::Unreachable => self.candidates.postpone(size),
            }
        }
    }

    async fn store_empty(&self) -> Result<Loaded, LoadError> {
        let disk = Disk::open(self.environment.store.clone(), self.sha1, 0).await?;
        match disk.commit().await {
            Verdict::Stored(stored) => Ok(Loaded { path: stored.path, size: 0, downloaded: 0 }),
            Verdict::WrongHash | Verdict::Missing(_) => {
                Err(LoadError::Fault("the empty file has a wrong hash".to_owned()))
            }
            Verdict::Failed(error) => Err(error.into()),
        }
    }

    fn add_candidate(&mut self, candidate: Offer) -> bool {
        let liar = self.environment.is_liar(&candidate.peer);
        self.candidates.add(candidate, liar)
    }

    /// Whether other sizes are claimed, and this one can do without its turn.
    fn others_may_try(&self, size: u64) -> bool {
        self.candidates.another_size(size) && self.candidates.turns(size) < TURNS
    }

    async fn attempt(&mut self, size: u64) -> End {
        if size == 0 {
            self.candidates.refuse_size(0, "claims that the file is empty");
            return End::Exhausted;
        }
        let disk = match Disk::open(self.environment.store.clone(), self.sha1, size).await {
            Ok(disk) => disk,
            Err(why) if self.candidates.another_size(size) => {
                self.candidates
                    .refuse_size(size, &format!("claims {size} bytes, which cannot be kept: {why}"));
                return End::Exhausted;
            }
            Err(error) => return End::Failed(error.into()),
        };
        let attempt = Attempt::new(self.environment.clone(), self.sha1, size, disk);
        attempt.run(self).await
    }
}

/// What is known of a provider in an attempt.
struct Member {
    candidate: Offer,
    source: Source,
}

struct Attempt {
    environment: Arc<Environment>,
    sha1: Sha1,
    size: u64,
    plan: Plan,
    disk: Disk,
    members: HashMap<ProviderKey, Member>,
    /// Requests under way.
    requests: HashMap<RequestKey, Asked>,
    /// A provider can be reached in another way.
    reach_changed: Arc<Notify>,
    inbox: mpsc::Receiver<Arrival>,
    sender: mpsc::Sender<Arrival>,
    downloaded: u64,
    rate: Rate,
}

impl Attempt {
    fn new(environment: Arc<Environment>, sha1: Sha1, size: u64, disk: Disk) -> Self {
        let (sender, inbox) = mpsc::channel(INBOX);
        let now = now();
        Self {
            environment,
            sha1,
            size,
            plan: Plan::new(size, &disk.present, now),
            disk,
            members: HashMap::new(),
            requests: HashMap::new(),
            reach_changed: Arc::default(),
            inbox,
            sender,
            downloaded: 0,
            rate: Rate::new(now),
        }
    }

    async fn run(mut self, download: &mut Download) -> End {
        for candidate in download.candidates.of_size(self.size) {
            self.add(candidate);
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting_since = None;
        loop {
            self.perform(download).await;
            match self.plan.outlook() {
                Outlook::Complete => match self.commit(download).await {
                    Some(end) => return end,
                    None => continue,
                },
                Outlook::Exhausted if download.candidates.another_size(self.size) || !download.searching => {
                    self.disk.close().await;
                    return End::Exhausted;
                }
                Outlook::Working => waiting_since = None,
                Outlook::Exhausted | Outlook::Waiting => {
                    let since = *waiting_since.get_or_insert_with(now);
                    if now().saturating_duration_since(since) > TURN && download.others_may_try(self.size) {
                        self.disk.close().await;
                        return End::Unreachable;
                    }
                }
            }
            if now().saturating_duration_since(self.plan.last_progress()) > download.timeout {
                return self.give_up(download).await;
            }
            tokio::select! {
                biased;
                Ok(error) = &mut self.disk.failed => return End::Failed(error.into()),
                Some(ranges) = self.disk.damaged.recv() => self.plan.on_damaged(&ranges, now()),
                () = self.reach_changed.notified() => self.look_at_members(),
                Some(arrival) = self.inbox.recv() => self.arrived(arrival, download).await,
                offer = download.offers.recv(), if download.searching => match offer {
                    Some(candidate) => {
                        if download.add_candidate(candidate) && candidate.size == self.size {
                            self.add(candidate);
                        }
                    }
                    None => download.searching = false,
                },
                () = sleep_until(self.plan.poll_timeout()) => self.plan.handle_timeout(now()),
                _ = tick.tick() => {
                    // Also lets whole-file providers in when range providers do not come.
                    self.plan.handle_timeout(now());
                    self.tell(download);
                }
            }
        }
    }

    /// Nothing came for too long.
    async fn give_up(self, download: &mut Download) -> End {
        let seconds = download.timeout.as_secs();
        for (key, member) in &self.members {
            if self.plan.is_usable(*key) {
                let why = match member.source.reach() {
                    Reach::Reached(_) => format!("sent nothing for {seconds} s"),
                    Reach::Connecting => format!("no connection to it within {seconds} s"),
                    Reach::Opening => format!("its transfer swarm was not joined within {seconds} s"),
                    Reach::Unusable(why) => why,
                };
                download.candidates.note(&member.candidate, why);
            }
        }
        download.candidates.note_postponed(TURN);
        let timeout = download.timeout;
        self.disk.close().await;
        End::Failed(download.candidates.verdict().unwrap_or(LoadError::Timeout(timeout)))
    }

    fn add(&mut self, candidate: Offer) {
        let key = self.plan.add_provider(candidate.unit(), now());
        let source = Source::open(&self.environment, candidate, self.reach_changed.clone());
        self.members.insert(key, Member { candidate, source });
    }

    /// Tells the plan how the providers can be reached now.
    fn look_at_members(&mut self) {
        let now = now();
        for (key, member) in &self.members {
            match member.source.reach() {
                Reach::Reached(_) => self.plan.set_reachable(*key, true, now),
                Reach::Opening | Reach::Connecting => self.plan.set_reachable(*key, false, now),
                Reach::Unusable(why) => self.plan.drop_provider(*key, Failure::Refused(why), now),
            }
        }
    }

    async fn arrived(&mut self, arrival: Arrival, download: &mut Download) {
        let now = now();
        match arrival {
            Arrival::Data(request, data) => {
                let pieces: Vec<(u64, Bytes)> = self
                    .plan
                    .on_data(request, &data, now)
                    .into_iter()
                    .map(|(at, p)| (at, data.slice_ref(p)))
                    .collect();
                for (offset, piece) in pieces {
                    self.downloaded += piece.len() as u64;
                    self.environment.add_downloaded(piece.len() as u64);
                    self.rate.add(piece.len() as u64);
                    self.disk.write(offset, piece).await;
                }
            }
            Arrival::Finished(request) => {
                self.requests.remove(&request);
                self.plan.on_finished(request, now);
            }
            Arrival::Failed(request, why) => {
                self.requests.remove(&request);
                match why {
                    AskFailure::Silent => self.plan.on_silence(request, now),
                    AskFailure::Left => self.plan.on_lost(request, now),
                    AskFailure::TooMuch => self.plan.on_error(request, Failure::Long, now),
                    AskFailure::Refused(text) => self.plan.on_error(request, Failure::Refused(text), now),
                }
            }
        }
        if self.rate.is_due(now) {
            self.tell(download);
        }
    }

    async fn perform(&mut self, download: &mut Download) {
        while let Some(action) = self.plan.poll_action() {
            match action {
                Action::Request { request, provider, start, end, whole } => {
                    self.request(request, provider, start, end, whole);
                }
                Action::Abandon { request } => drop(self.requests.remove(&request)),
                Action::Drop { provider, why } => self.drop_member(provider, &why, download),
                Action::Forget { start, end } => self.disk.forget(start, end).await,
            }
        }
    }

    fn request(&mut self, request: RequestKey, provider: ProviderKey, start: u64, end: u64, whole: bool) {
        let Some(Member { source, .. }) = self.members.get(&provider) else { return };
        let ask = if whole { Ask::Whole } else { Ask::Range(start, end) };
        let sink = Sink { inbox: self.sender.clone(), request };
        if let Some(asked) = source.request(self.sha1, ask, sink) {
            self.requests.insert(request, asked);
        }
    }

    fn drop_member(&mut self, key: ProviderKey, why: &Failure, download: &mut Download) {
        let Some(member) = self.members.remove(&key) else { return };
        let candidate = member.candidate;
        download.candidates.drop_one(&candidate);
        tracing::info!(sha1 = %self.sha1, node = candidate.id(), %why, "a provider is not used any more");
        if why.is_lie() {
            self.environment.add_liar(candidate.peer);
        }
        match why {
            Failure::WrongBytes => download.candidates.note_liar(&candidate),
            why => download.candidates.note(&candidate, why.to_string()),
        }
    }

    async fn commit(&mut self, download: &mut Download) -> Option<End> {
        download.events.send_replace(LoadEvent::Verifying);
        match self.disk.commit().await {
            Verdict::Stored(stored) => {
                self.plan.on_right_hash();
                self.perform(download).await;
                Some(End::Done(stored, self.downloaded))
            }
            Verdict::Missing(ranges) => {
                // What was told before the commit is in there.
                while self.disk.damaged.try_recv().is_ok() {}
                self.plan.on_damaged(&ranges, now());
                None
            }
            Verdict::WrongHash => {
                tracing::warn!(sha1 = %self.sha1, "the received bytes have another hash; looking for the liar");
                self.plan.on_wrong_hash(now());
                None
            }
            Verdict::Failed(error) => Some(End::Failed(error.into())),
        }
    }

    fn tell(&mut self, download: &Download) {
        let now = now();
        let (bytes, size, providers) = (self.plan.bytes(), self.size, self.plan.active());
        let rate = self.rate.sample(now);
        download.events.send_replace(LoadEvent::Downloading { bytes, size, providers, rate });
    }
}

/// By the clock of the timers, which tests can turn.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Bytes per second over the last seconds.
struct Rate {
    since: Instant,
    bytes: u64,
    average: u64,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, average: 0 }
    }

    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= TICK
    }

    fn sample(&mut self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.since);
        if time >= TICK {
            let rate = (u128::from(self.bytes) * 1000 / time.as_millis().max(1)) as u64;
            self.average = if self.average == 0 { rate } else { (self.average * 3 + rate) / 4 };
            self.bytes = 0;
            self.since = now;
        }
        self.average
    }
}

#[cfg(test)]
mod tests;
