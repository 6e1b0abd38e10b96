//! Drives one [`Plan`]: joins the providers' transfer swarms, sends the plan's requests, writes what comes, commits.
//!
//! Providers may claim different sizes. Each claimed size is an attempt of its own (with its own partial file); the
//! size that most providers claim goes first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyperswarm::net::sleep_until;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::candidates::{Candidate, Candidates};
use super::disk::{Disk, Verdict};
use super::plan::{Action, Failure, Outlook, Plan, ProviderKey, RequestKey};
use super::{Arrival, Environment};
use crate::node::legacy::{FileRequest, NodeId, RequestFailure, WireId};
use crate::node::runtime::swarm::{Sink, SwarmHandle};
use crate::node::runtime::transfers::Lease;
use crate::node::{LoadError, LoadEvent, Loaded};
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
/// A provider that is not connected itself may be reached through other peers of its transfer swarm after this long.
const RELAY_AFTER: Duration = Duration::from_secs(3);
/// A whole-file provider is used only this long after it was found: a range provider may answer a little later.
const WHOLE_AFTER: Duration = Duration::from_millis(500);
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
    pub(crate) offers: mpsc::Receiver<Candidate>,
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
        let disk = Disk::open(self.environment.store.clone(), self.sha1, 0).await.map_err(LoadError::Disk)?;
        match disk.commit().await {
            Verdict::Stored(stored) => Ok(Loaded { path: stored.path, size: 0, downloaded: 0 }),
            Verdict::WrongHash => Err(LoadError::Disk("the empty file has a wrong hash".to_owned())),
            Verdict::Failed(why) => Err(LoadError::Disk(why)),
        }
    }

    fn add_candidate(&mut self, candidate: Candidate) -> bool {
        let liar = self.environment.is_liar(&candidate.node.key);
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
            Err(why) => return End::Failed(LoadError::Disk(why)),
        };
        let attempt = Attempt::new(self.environment.clone(), self.sha1, size, disk);
        attempt.run(self).await
    }
}

/// What is known of a provider in an attempt.
struct Member {
    candidate: Candidate,
    lease: Option<Lease>,
    agent: AbortHandle,
}

struct Attempt {
    environment: Arc<Environment>,
    sha1: Sha1,
    size: u64,
    plan: Plan,
    disk: Disk,
    members: HashMap<ProviderKey, Member>,
    requests: Requests,
    agents: JoinSet<()>,
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
            requests: Requests::default(),
            agents: JoinSet::new(),
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
                Ok(why) = &mut self.disk.failed => return End::Failed(LoadError::Disk(why)),
                Some(arrival) = self.inbox.recv() => self.arrived(arrival, download).await,
                offer = download.offers.recv(), if download.searching => match offer {
                    Some(candidate) => {
                        if download.add_candidate(candidate.clone()) && candidate.size == self.size {
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
                let why = match &member.lease {
                    Some(lease) if lease.swarm().is_connected(member.candidate.node) => {
                        format!("sent nothing for {seconds} s")
                    }
                    Some(_) => format!("no connection to it within {seconds} s"),
                    None => format!("its transfer swarm was not joined within {seconds} s"),
                };
                download.candidates.note(member.candidate.node, why);
            }
        }
        download.candidates.note_postponed(TURN);
        let timeout = download.timeout;
        self.disk.close().await;
        End::Failed(download.candidates.verdict().unwrap_or(LoadError::Timeout(timeout)))
    }

    fn add(&mut self, candidate: Candidate) {
        let key = self.plan.add_provider(candidate.kind(), now());
        let agent = Agent {
            key,
            candidate: candidate.clone(),
            environment: self.environment.clone(),
            inbox: self.sender.clone(),
        };
        let agent = self.agents.spawn(agent.run());
        self.members.insert(key, Member { candidate, lease: None, agent });
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
                self.requests.forget(request);
                self.plan.on_finished(request, now);
            }
            Arrival::Failed(request, why) => {
                self.requests.forget(request);
                match why {
                    RequestFailure::Unanswered | RequestFailure::Stopped => {
                        self.plan.on_silence(request, now)
                    }
                    RequestFailure::Left | RequestFailure::Lost => self.plan.on_lost(request, now),
                    RequestFailure::TooMuch => self.plan.on_error(request, Failure::Long, now),
                    RequestFailure::Refused(text) => self.plan.on_error(request, Failure::Refused(text), now),
                    RequestFailure::NoData => {
                        self.plan.on_error(
                            request,
                            Failure::Refused("a response without data".to_owned()),
                            now,
                        );
                    }
                }
            }
            Arrival::Joined(key, lease) => {
                if let Some(member) = self.members.get_mut(&key) {
                    member.lease = Some(lease);
                }
            }
            Arrival::Reachable(key, reachable) => {
                if let Some(lease) = self.members.get(&key).and_then(|member| member.lease.as_ref()) {
                    lease.set_reachable(reachable);
                }
                self.plan.set_reachable(key, reachable, now);
            }
            Arrival::Unusable(key, why) => self.plan.drop_provider(key, Failure::Refused(why), now),
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
                Action::Abandon { request } => self.requests.cancel(request),
                Action::Drop { provider, why } => self.drop_member(provider, &why, download),
                Action::Forget { start, end } => self.disk.forget(start, end).await,
            }
        }
    }

    fn request(&mut self, request: RequestKey, provider: ProviderKey, start: u64, end: u64, whole: bool) {
        let Some(Member { candidate, lease: Some(lease), .. }) = self.members.get(&provider) else { return };
        let sha1 = self.sha1;
        let body = if whole { FileRequest::Whole { sha1 } } else { FileRequest::Range { sha1, start, end } };
        let sink = Sink { inbox: self.sender.clone(), request };
        let id = lease.swarm().request(candidate.node, body, sink);
        self.requests.add(request, lease.swarm().clone(), id);
    }

    fn drop_member(&mut self, key: ProviderKey, why: &Failure, download: &mut Download) {
        let Some(member) = self.members.remove(&key) else { return };
        member.agent.abort();
        download.candidates.drop_one(&member.candidate);
        let node = member.candidate.node;
        tracing::info!(sha1 = %self.sha1, %node, %why, "a provider is not used any more");
        if why.is_lie() {
            self.environment.add_liar(node.key);
        }
        match why {
            Failure::WrongBytes => download.candidates.note_liar(node),
            why => download.candidates.note(node, why.to_string()),
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
            Verdict::WrongHash => {
                tracing::warn!(sha1 = %self.sha1, "the received bytes have another hash; looking for the liar");
                self.plan.on_wrong_hash(now());
                None
            }
            Verdict::Failed(why) => Some(End::Failed(LoadError::Disk(why))),
        }
    }

    fn tell(&mut self, download: &Download) {
        let now = now();
        let (bytes, size, providers) = (self.plan.bytes(), self.size, self.plan.active());
        let rate = self.rate.sample(now);
        download.events.send_replace(LoadEvent::Downloading { bytes, size, providers, rate });
    }
}

/// Requests under way; those left when this is dropped are cancelled.
#[derive(Default)]
struct Requests {
    open: HashMap<RequestKey, (Arc<SwarmHandle>, WireId)>,
}

impl Requests {
    fn add(&mut self, request: RequestKey, swarm: Arc<SwarmHandle>, id: WireId) {
        self.open.insert(request, (swarm, id));
    }

    /// It has ended by itself.
    fn forget(&mut self, request: RequestKey) {
        self.open.remove(&request);
    }

    fn cancel(&mut self, request: RequestKey) {
        if let Some((swarm, id)) = self.open.remove(&request) {
            swarm.cancel_request(id);
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        for (swarm, id) in self.open.values() {
            swarm.cancel_request(*id);
        }
    }
}

/// Joins a provider's transfer swarm and tells whether the provider can be reached there.
struct Agent {
    key: ProviderKey,
    candidate: Candidate,
    environment: Arc<Environment>,
    inbox: mpsc::Sender<Arrival>,
}

impl Agent {
    async fn run(self) {
        let transfers = &self.environment.transfers;
        loop {
            let acquired = transfers.acquire(self.candidate.protocol(), self.candidate.node).await;
            let lease = match acquired {
                Ok(lease) => lease,
                Err(why) => return drop(self.inbox.send(Arrival::Unusable(self.key, why)).await),
            };
            let swarm = lease.swarm().clone();
            if self.inbox.send(Arrival::Joined(self.key, lease)).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.watch(&swarm) => return,
                () = swarm.ended.cancelled() => {}
            }
            // It gave way to another one after a while without a connection (or its sockets failed): others first.
            if self.inbox.send(Arrival::Reachable(self.key, false)).await.is_err() {
                return;
            }
            tokio::time::sleep(TURN).await;
        }
    }

    /// Until the download has ended.
    async fn watch(&self, swarm: &SwarmHandle) {
        let node = self.candidate.node;
        let mut changed = swarm.peers_changed();
        if self.candidate.kind() == super::plan::ProviderKind::Whole {
            tokio::time::sleep(WHOLE_AFTER).await;
        }
        let mut told = false;
        loop {
            let peers = *changed.borrow_and_update();
            let reachable = swarm.is_connected(node) || (peers > 0 && self.only_relayed(swarm, node).await);
            if reachable != told {
                told = reachable;
                if self.inbox.send(Arrival::Reachable(self.key, told)).await.is_err() {
                    return;
                }
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits whether the provider itself connects.
    async fn only_relayed(&self, swarm: &SwarmHandle, node: NodeId) -> bool {
        let mut changed = swarm.peers_changed();
        let connected = async {
            while changed.changed().await.is_ok() {
                if swarm.is_connected(node) || *changed.borrow_and_update() == 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(RELAY_AFTER, connected).await.is_err() || swarm.is_connected(node)
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
