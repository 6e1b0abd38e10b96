//! One claimed size of a file, with a task of its own: drives a [`Plan`], sends its requests, writes what comes, commits.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hyperswarm::net::sleep_until;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::clock::{Rate, ReadingClock, now};
use super::{EMPTY_CLAIM, TICK};
use crate::node::error::LoadError;
use crate::node::peer::{Origin, Path, Unit};
use crate::node::runtime::disk::{Disk, Verdict};
use crate::node::runtime::environment::Environment;
use crate::node::runtime::inbox::Sink;
use crate::node::runtime::source::{Asked, Source};
use crate::node::transfer::failure::Failure;
use crate::node::transfer::keys::{ProviderKey, RequestKey};
use crate::node::transfer::plan::{Action, Outlook, Plan};
use crate::node::transfer::{Arrival, Ask, AskFailure, Offer, Reach};
use crate::store::{Sha1, StoreError, Stored};

/// Arrivals that wait for the attempt. When full, connections wait.
const INBOX: usize = 8;

/// A provider that is looked for.
pub(super) struct Member {
    pub(super) offer: Offer,
    pub(super) origin: Origin,
    pub(super) source: Source,
    environment: Arc<Environment>,
    /// The address at which it was found to be no known liar. A ban from another download does not end this one.
    accepted: Mutex<Option<IpAddr>>,
    unit: Mutex<Unit>,
    /// It said that it had too much to do.
    pub(super) was_busy: AtomicBool,
}

/// What the download wants of an attempt. Whenever this is touched, the attempt looks at its members again.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    /// Providers of this size, in the order in which they were reached.
    pub(super) members: Vec<Arc<Member>>,
    /// Nobody is asked while this is set.
    pub(super) paused: bool,
    /// Nobody is asked when so many new bytes came.
    pub(super) most: u64,
    /// No more of this size is wanted for now. What has at most so many bytes on disk is thrown away.
    pub(super) ended: Option<u64>,
}

impl Member {
    pub(super) fn open(
        environment: &Arc<Environment>,
        (offer, origin): (Offer, Origin),
        changed: Arc<Notify>,
    ) -> Self {
        Self {
            offer,
            origin,
            source: Source::open(environment, offer, origin, changed),
            environment: environment.clone(),
            accepted: Mutex::default(),
            unit: Mutex::new(offer.unit()),
            was_busy: AtomicBool::new(false),
        }
    }

    /// How it can be asked now: not at an address from which wrong bytes came under its key.
    pub(super) fn reach(&self) -> Reach {
        match self.source.reach() {
            Reach::Reached(Path::Direct(address)) if !self.accepts(address) => Reach::Connecting,
            reach => reach,
        }
    }

    /// True if it is connected, and not asked because of what came from there.
    pub(super) fn is_shunned(&self) -> bool {
        matches!(self.source.reach(), Reach::Reached(_)) && !self.is_reached()
    }

    /// It is to be asked in spite of what came from there, once it has rested.
    pub(super) fn forgive(&self) {
        if let Reach::Reached(Path::Direct(address)) = self.source.reach()
            && self.environment.has_rested(self.offer.peer, address)
        {
            *self.accepted.lock() = Some(address);
        }
    }

    /// Where it is, and who told us of it.
    pub(super) fn place(&self) -> Origin {
        let host = match self.source.reach() {
            Reach::Reached(Path::Direct(address)) => Some(address),
            _ => None,
        };
        Origin { host, ..self.origin }
    }

    fn accepts(&self, address: IpAddr) -> bool {
        let mut accepted = self.accepted.lock();
        if *accepted != Some(address) && !self.environment.is_liar(self.offer.peer, address) {
            *accepted = Some(address);
        }
        *accepted == Some(address)
    }

    /// More became known of what it can be asked for.
    pub(super) fn set_unit(&self, unit: Unit) {
        *self.unit.lock() = unit;
    }

    /// True if it can be asked now.
    pub(super) fn is_reached(&self) -> bool {
        matches!(self.reach(), Reach::Reached(_))
    }
}

/// What the download is told of an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes on disk.
    pub(super) bytes: u64,
    /// New bytes that came over the network.
    pub(super) downloaded: u64,
    /// Providers in use.
    pub(super) providers: usize,
    /// Bytes per second.
    pub(super) rate: u64,
    /// The hash is being compared.
    pub(super) verifying: bool,
}

/// How an attempt ended.
pub(super) enum End {
    Done(Stored, u64),
    /// No provider of this size is left, or it was told to end.
    Exhausted,
    /// The size cannot be that of any file.
    Impossible(String),
    /// The disk of the store can never hold so much.
    TooLarge(String),
    Failed(LoadError),
}

/// Why a provider is not used any more.
pub(super) struct Dropped(pub(super) Offer, pub(super) Failure);

/// What an attempt is made of.
pub(super) struct Setup {
    pub(super) environment: Arc<Environment>,
    pub(super) sha1: Sha1,
    pub(super) size: u64,
    pub(super) wanted: watch::Receiver<Wanted>,
    pub(super) progress: watch::Sender<Progress>,
    /// The download takes these at once.
    pub(super) dropped: mpsc::Sender<Dropped>,
}

/// A member, and what the plan was told of it.
struct Known {
    member: Arc<Member>,
    path: Option<Path>,
    unit: Unit,
}

struct Attempt {
    setup: Setup,
    plan: Plan,
    disk: Disk,
    clock: ReadingClock,
    members: HashMap<ProviderKey, Known>,
    /// Providers that the plan dropped. The download names them among the wanted ones until it has heard of that.
    dropped: HashSet<Offer>,
    /// Requests under way.
    requests: HashMap<RequestKey, Asked>,
    inbox: mpsc::Receiver<Arrival>,
    sender: mpsc::Sender<Arrival>,
    downloaded: u64,
    /// More than this is not wanted now.
    most: u64,
    rate: Rate,
}

impl Setup {
    /// Runs the attempt to its end.
    pub(super) async fn run(self) -> End {
        #[cfg(test)]
        self.environment.stage.attempts.fetch_add(1, Ordering::Relaxed);
        if self.size == 0 {
            return End::Impossible(EMPTY_CLAIM.to_owned());
        }
        let disk = match Disk::open(&self.environment, self.sha1, self.size).await {
            Ok(disk) => disk,
            Err(error) => return failed(self.size, error),
        };
        Attempt::new(self, disk).run().await
    }
}

impl Attempt {
    fn new(setup: Setup, disk: Disk) -> Self {
        let (sender, inbox) = mpsc::channel(INBOX);
        let now = now();
        Self {
            plan: Plan::new(setup.size, &disk.present, now),
            setup,
            disk,
            clock: ReadingClock::default(),
            members: HashMap::new(),
            dropped: HashSet::new(),
            requests: HashMap::new(),
            inbox,
            sender,
            downloaded: 0,
            most: u64::MAX,
            rate: Rate::new(now),
        }
    }

    async fn run(mut self) -> End {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look_at_members();
        loop {
            // In every round, however fast the inbox fills: no provider can put off the time-outs of others.
            if self.timeout().is_some_and(|at| at <= now()) {
                self.plan.handle_timeout(self.clock.now());
            }
            self.perform().await;
            match self.plan.outlook() {
                Outlook::Complete => match self.commit().await {
                    Some(end) => return end,
                    None => continue,
                },
                Outlook::Exhausted => return self.leave(0).await,
                Outlook::Working | Outlook::Waiting => {}
            }
            let timeout = self.timeout();
            // Not biased: each branch that is ready has its turn.
            tokio::select! {
                Ok(error) = &mut self.disk.failed => return failed(self.setup.size, error),
                Some(ranges) = self.disk.damaged.recv() => {
                    self.plan.on_damaged(&ranges, self.clock.now());
                }
                Some(arrival) = self.inbox.recv() => self.arrived(arrival).await,
                changed = self.setup.wanted.changed() => match changed {
                    Ok(()) => {
                        let ended = self.setup.wanted.borrow_and_update().ended;
                        if let Some(junk) = ended {
                            return self.leave(junk).await;
                        }
                        self.look_at_members();
                    }
                    Err(_) => return self.leave(0).await,
                },
                () = sleep_until(timeout) => {}
                _ = tick.tick() => {
                    // Also lets whole-file providers in when range providers do not come.
                    self.plan.handle_timeout(self.clock.now());
                    self.tell(false);
                }
            }
        }
    }

    /// Ends; what has more than `junk` bytes on disk is kept for another attempt.
    async fn leave(self, junk: u64) -> End {
        match self.plan.bytes() <= junk {
            true => self.disk.discard().await,
            false => self.disk.close().await,
        }
        End::Exhausted
    }

    /// When the plan wants to be called, by the clock of the timers.
    fn timeout(&self) -> Option<Instant> {
        self.plan.poll_timeout().map(|at| self.clock.real(at))
    }

    /// Tells the plan who there is, and how the providers can be reached now.
    fn look_at_members(&mut self) {
        let now = self.clock.now();
        let wanted = self.setup.wanted.borrow_and_update().clone();
        self.most = wanted.most;
        let paused = wanted.paused || self.downloaded >= self.most;
        for member in &wanted.members {
            if self.dropped.contains(&member.offer) {
                continue;
            }
            if !self.members.values().any(|known| Arc::ptr_eq(&known.member, member)) {
                let unit = *member.unit.lock();
                let key = self.plan.add_provider(unit, now);
                self.members.insert(key, Known { member: member.clone(), path: None, unit });
            }
        }
        for (key, known) in &mut self.members {
            let unit = *known.member.unit.lock();
            if std::mem::replace(&mut known.unit, unit) != unit {
                self.plan.set_kind(*key, unit);
            }
            match known.member.reach() {
                Reach::Reached(path) => {
                    if known.path.replace(path) != Some(path) {
                        self.plan.set_path(*key, path, now);
                    }
                    self.plan.set_reachable(*key, !paused, now);
                }
                Reach::Opening | Reach::Connecting => self.plan.set_reachable(*key, false, now),
                Reach::Unusable(why) => self.plan.drop_provider(*key, Failure::Refused(why), now),
            }
        }
    }

    async fn arrived(&mut self, arrival: Arrival) {
        let now = self.clock.now();
        match arrival {
            Arrival::Data(request, data) => self.data(request, data, now).await,
            Arrival::Finished(request) => {
                self.requests.remove(&request);
                self.plan.on_finished(request, now);
            }
            Arrival::Failed(request, why) => {
                self.requests.remove(&request);
                match why {
                    AskFailure::Silent => self.plan.on_silence(request, now),
                    AskFailure::Left => self.plan.on_lost(request, now),
                    AskFailure::Busy => {
                        let owner = self.plan.on_busy(request, now);
                        if let Some(known) = owner.and_then(|owner| self.members.get(&owner)) {
                            known.member.was_busy.store(true, Ordering::Relaxed);
                        }
                    }
                    AskFailure::TooMuch => self.plan.on_error(request, Failure::Long, now),
                    AskFailure::Refused(text) => self.plan.on_error(request, Failure::Refused(text), now),
                }
            }
        }
        if self.rate.is_due(now) {
            self.tell(false);
        }
    }

    async fn data(&mut self, request: RequestKey, data: Bytes, now: Instant) {
        let pieces = self.plan.on_data(request, &data, now);
        let pieces: Vec<_> = pieces.into_iter().map(|(at, piece)| (at, data.slice_ref(piece))).collect();
        if let Some(asked) = self.requests.get(&request).filter(|_| !pieces.is_empty()) {
            asked.note_data();
        }
        for (offset, piece) in pieces {
            let bytes = piece.len() as u64;
            self.downloaded += bytes;
            self.setup.environment.add_downloaded(bytes);
            self.rate.add(bytes);
            self.clock.stand_while(self.disk.write(offset, piece)).await;
            if self.downloaded >= self.most {
                self.look_at_members();
            }
        }
    }

    async fn perform(&mut self) {
        while let Some(action) = self.plan.poll_action() {
            match action {
                Action::Request { request, provider, start, end, whole } => {
                    let ask = if whole { Ask::Whole } else { Ask::Range(start, end) };
                    self.request(request, provider, ask);
                }
                Action::Abandon { request } => drop(self.requests.remove(&request)),
                Action::Drop { provider, why } => self.drop_member(provider, why).await,
                Action::Forget { start, end } => {
                    self.clock.stand_while(self.disk.forget(start, end)).await;
                }
            }
        }
    }

    fn request(&mut self, request: RequestKey, provider: ProviderKey, ask: Ask) {
        let Some(known) = self.members.get(&provider) else { return };
        let sink = Sink { inbox: self.sender.clone(), request };
        if let Some(asked) = known.member.source.request(self.setup.sha1, ask, sink) {
            self.requests.insert(request, asked);
        }
    }

    async fn drop_member(&mut self, key: ProviderKey, why: Failure) {
        let Some(known) = self.members.remove(&key) else { return };
        let offer = known.member.offer;
        self.dropped.insert(offer);
        tracing::info!(sha1 = %self.setup.sha1, node = offer.id(), %why, "a provider is not used any more");
        if let (true, Some(Path::Direct(address))) = (why.is_lie(), known.path) {
            self.setup.environment.add_liar(offer.peer, address);
        }
        // The download has ended otherwise.
        let _ = self.setup.dropped.send(Dropped(offer, why)).await;
    }

    async fn commit(&mut self) -> Option<End> {
        self.tell(true);
        match self.clock.stand_while(self.disk.commit()).await {
            Verdict::Stored(stored) => {
                self.plan.on_right_hash();
                self.perform().await;
                Some(End::Done(stored, self.downloaded))
            }
            Verdict::Missing(ranges) => {
                // What was told before the commit is in there.
                while self.disk.damaged.try_recv().is_ok() {}
                self.plan.on_damaged(&ranges, self.clock.now());
                None
            }
            Verdict::WrongHash => {
                let (sha1, size) = (self.setup.sha1, self.setup.size);
                tracing::warn!(%sha1, size, "the received bytes have another hash; looking for the liar");
                self.plan.on_wrong_hash(self.clock.now());
                None
            }
            Verdict::Failed(error) => Some(failed(self.setup.size, error)),
        }
    }

    fn tell(&mut self, verifying: bool) {
        let rate = self.rate.sample(self.clock.now());
        self.setup.progress.send_replace(Progress {
            bytes: self.plan.bytes(),
            downloaded: self.downloaded,
            providers: self.plan.active(),
            rate,
            verifying,
        });
    }
}

/// The end of an attempt at this size that the store refused: the claimed size may be to blame, not the disk.
fn failed(size: u64, error: StoreError) -> End {
    use std::io::ErrorKind as Kind;
    let why = format!("claims {size} bytes, which cannot be kept: {error}");
    match &error {
        StoreError::TooManyPieces => End::Impossible(why),
        StoreError::Io { source, .. } if source.kind() == Kind::InvalidInput => End::Impossible(why),
        StoreError::Io { source, .. } if source.kind() == Kind::FileTooLarge => End::TooLarge(why),
        _ => End::Failed(error.into()),
    }
}
