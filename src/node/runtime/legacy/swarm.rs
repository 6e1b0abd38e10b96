//! One joined topic at work: the machine behind a lock, the tasks around it, and what they tell each other.
//!
//! The lock is held for microseconds (no signing, no I/O, no waiting under it). Whoever feeds the machine also takes
//! its outputs: frames go to the connections' writers at once, events are returned as [`Deed`]s and done after the
//! lock is released. File data is handed to its download by the reader that brought it, which waits when the
//! download is busy: so a slow disk slows the sender, and nothing piles up here.

use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::inbox::{Heard, Sink};
use super::super::provide::{Provider, refuses_connection};
use crate::limits;
use crate::node::legacy::reader::{Broadcast, Claim, Worth};
use crate::node::legacy::{
    BUSY, CloseReason, ConnectionId, ConnectionInfo, Dialect, Event, FileRequest, Incoming, LegacySwarm,
    NodeId, OutgoingFrame, Output, Protocol, Purpose, Reply, RequestFailure, RequestKey, Room, SeekId,
    SharedBudget, Signer, SwarmConfig, WireId,
};
use crate::node::peer::{Origin, PeerKey, Via};
use crate::node::transfer::{Arrival, AskFailure, Offer};
use crate::store::Sha1;
use hyperswarm::net::v2::{Ban, Connection, Swarm, SwarmStatus};
use hyperswarm::net::{random, sleep_until};

/// Numbers for the status are brought up to date this often.
const STATUS_REFRESH: Duration = Duration::from_secs(2);

/// One joined topic. Shared by its tasks and the node.
pub(crate) struct SwarmHandle {
    pub(crate) protocol: Protocol,
    pub(crate) purpose: Purpose,
    pub(super) signer: Signer,
    core: Mutex<Core>,
    /// The machine's next deadline may have changed.
    timer: Notify,
    /// Number of connected nodes; changes whenever one comes or goes.
    peers: watch::Sender<usize>,
    status: watch::Sender<SwarmStatus>,
    pub(super) provider: Arc<Provider>,
    pub(super) budget: SharedBudget,
    /// Ends all tasks of the swarm.
    pub(crate) ended: CancellationToken,
    /// Everything is closed and unannounced.
    left: CancellationToken,
}

struct Core {
    machine: LegacySwarm,
    next_connection: u64,
    outboxes: HashMap<ConnectionId, Outbox>,
    requests: HashMap<WireId, Sink>,
    seeks: Vec<Seek>,
    /// Jobs that answer requests; woken when there is room, or the asker left.
    serving: HashMap<RequestKey, Arc<Notify>>,
}

struct Outbox {
    frames: mpsc::Sender<Arc<OutgoingFrame>>,
    ban: Ban,
    /// Being taken out of the table closes the connection.
    _open: DropGuard,
}

impl Outbox {
    /// With the frames to write, and the token that is cancelled when the connection is to be closed. When its queue
    /// is full the connection is closed.
    fn new(ban: Ban) -> (Self, mpsc::Receiver<Arc<OutgoingFrame>>, CancellationToken) {
        let (frames, queue) = mpsc::channel(limits::CONNECTION_FRAMES);
        let closing = CancellationToken::new();
        (Self { frames, ban, _open: closing.clone().drop_guard() }, queue, closing)
    }
}

struct Seek {
    id: SeekId,
    sha1: Sha1,
    offers: mpsc::Sender<Heard>,
    /// What neighbours said of themselves.
    told: HashSet<Offer>,
}

/// What is to be done after the lock is released.
pub(crate) enum Deed {
    /// Tell a download.
    Deliver(mpsc::Sender<Arrival>, Arrival),
    /// Look whether we have a file.
    Answer(NodeId, Dialect, Sha1),
    /// Serve a request.
    Serve(RequestKey, Dialect, FileRequest, Arc<Notify>),
}

impl SwarmHandle {
    /// Starts the tasks of a joined swarm.
    pub(crate) fn start(
        swarm: Swarm,
        protocol: Protocol,
        purpose: Purpose,
        signer: Signer,
        provider: Arc<Provider>,
        budget: SharedBudget,
    ) -> std::io::Result<Arc<Self>> {
        let rng = StdRng::from_seed(random::seed()?);
        let config = SwarmConfig {
            protocol,
            purpose: purpose.clone(),
            own: signer.public(),
            rng,
            budget: budget.clone(),
        };
        let handle = Arc::new(Self {
            protocol,
            purpose,
            signer,
            core: Mutex::new(Core::new(config)),
            timer: Notify::new(),
            peers: watch::Sender::new(0),
            status: watch::Sender::new(swarm.status()),
            provider,
            budget,
            ended: CancellationToken::new(),
            left: CancellationToken::new(),
        });
        tokio::spawn(Self::accept(handle.clone(), swarm));
        tokio::spawn(Self::keep_time(handle.clone()));
        Ok(handle)
    }

    /// Asks all peers who has a file, also those that connect before `until`. When `offers` is full further ones are
    /// dropped. None: too many searches run.
    pub(crate) fn seek(
        self: &Arc<Self>,
        sha1: Sha1,
        until: Instant,
        offers: mpsc::Sender<Heard>,
    ) -> Option<SeekId> {
        let (id, deeds) = self.run(|core| {
            let id = core.machine.seek(Instant::now(), sha1, until)?;
            core.seeks.push(Seek { id, sha1, offers, told: HashSet::new() });
            Some(id)
        });
        self.perform(deeds);
        id
    }

    /// Ends a search.
    pub(crate) fn cancel_seek(self: &Arc<Self>, id: SeekId) {
        let ((), deeds) = self.run(|core| {
            core.machine.cancel_seek(id);
            core.seeks.retain(|seek| seek.id != id);
        });
        self.perform(deeds);
    }

    /// Requests data; everything that comes for it goes to the sink.
    pub(crate) fn request(self: &Arc<Self>, to: NodeId, request: FileRequest, sink: Sink) -> WireId {
        let (id, deeds) = self.run(|core| {
            let id = core.machine.request(Instant::now(), to, request);
            core.requests.insert(id, sink);
            id
        });
        self.perform(deeds);
        id
    }

    /// Forgets a request.
    pub(crate) fn cancel_request(self: &Arc<Self>, id: WireId) {
        let ((), deeds) = self.run(|core| {
            core.machine.cancel_request(id);
            core.requests.remove(&id);
        });
        self.perform(deeds);
    }

    /// Says that we have a file.
    pub(crate) fn provide(self: &Arc<Self>, dialect: Dialect, sha1: Sha1, size: u64) {
        let ((), deeds) = self.run(|core| core.machine.provide(Instant::now(), dialect.style(), sha1, size));
        self.perform(deeds);
    }

    /// Answers a request.
    pub(crate) fn respond(self: &Arc<Self>, key: &RequestKey, reply: Reply) -> Room {
        let (room, deeds) = self.run(|core| {
            let last = !matches!(reply, Reply::Data(_));
            let room = core.machine.respond(Instant::now(), key, reply);
            if last || room == Room::Gone {
                core.serving.remove(key);
            }
            room
        });
        self.perform(deeds);
        room
    }

    /// Changes whenever a node comes or goes.
    pub(crate) fn peers_changed(&self) -> watch::Receiver<usize> {
        self.peers.subscribe()
    }

    /// True if a node is connected.
    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.lock().machine.is_connected(node)
    }

    /// Where a connected node is.
    pub(crate) fn address_of(&self, node: NodeId) -> Option<IpAddr> {
        self.lock().machine.address_of(node)
    }

    /// The node that a connection leads to, as it says.
    pub(super) fn neighbour(&self, connection: ConnectionId) -> Option<NodeId> {
        self.lock().machine.neighbour(connection)
    }

    /// Judges if a message is worth the verification of its signatures.
    pub(super) fn worth(&self, connection: ConnectionId, claim: &Claim) -> Worth {
        self.lock().machine.worth(Instant::now(), connection, claim)
    }

    /// True if a broadcast answers a running search of ours.
    pub(super) fn is_sought(&self, broadcast: &Broadcast) -> bool {
        self.lock().machine.is_sought(broadcast)
    }

    /// Nodes with a ready connection.
    pub(crate) fn connected(&self) -> Vec<NodeId> {
        self.lock().machine.peers().collect()
    }

    /// Ports and numbers.
    pub(crate) fn status(&self) -> SwarmStatus {
        self.status.borrow().clone()
    }

    /// Closes all connections, unannounces. Returns when done.
    pub(crate) async fn leave(&self) {
        self.ended.cancel();
        self.left.cancelled().await;
    }

    /// What the connection's reader found; returns what to do after it.
    pub(super) fn incoming(&self, connection: ConnectionId, incoming: Incoming) -> Vec<Deed> {
        self.run(|core| core.machine.handle_incoming(Instant::now(), connection, incoming)).1
    }

    pub(super) fn written(self: &Arc<Self>, connection: ConnectionId, weight: usize) {
        let ((), deeds) = self.run(|core| core.machine.handle_written(Instant::now(), connection, weight));
        self.perform(deeds);
    }

    pub(super) fn closed(self: &Arc<Self>, connection: ConnectionId) {
        let ((), deeds) = self.run(|core| {
            core.outboxes.remove(&connection);
            core.machine.handle_closed(Instant::now(), connection);
        });
        self.perform(deeds);
    }

    /// A new connection: its ID, the frames to write, and the token that is cancelled when it is to be closed.
    pub(super) fn connected_by(
        self: &Arc<Self>,
        info: ConnectionInfo,
        ban: Ban,
    ) -> (ConnectionId, mpsc::Receiver<Arc<OutgoingFrame>>, CancellationToken) {
        let (outbox, queue, closing) = Outbox::new(ban);
        let (id, deeds) = self.run(|core| {
            let id = ConnectionId(core.next_connection);
            core.next_connection += 1;
            core.outboxes.insert(id, outbox);
            core.machine.handle_connected(Instant::now(), id, info);
            id
        });
        self.perform(deeds);
        (id, queue, closing)
    }

    /// Does what a reader's message led to, waiting for downloads that are busy: meanwhile nothing is read from its
    /// connection, and the peer's silence is our own.
    pub(super) async fn perform_patiently(self: &Arc<Self>, connection: ConnectionId, deeds: Vec<Deed>) {
        for deed in deeds {
            let Deed::Deliver(inbox, arrival) = deed else {
                self.perform_one(deed);
                continue;
            };
            // A download that has ended needs nothing.
            if let Err(mpsc::error::TrySendError::Full(arrival)) = inbox.try_send(arrival) {
                self.reading(connection, LegacySwarm::handle_reading_paused);
                let _ = inbox.send(arrival).await;
                self.reading(connection, LegacySwarm::handle_reading_resumed);
            }
        }
    }

    /// Tells the machine that its connection is not read, or is read again. One that ends meanwhile needs no second word.
    fn reading(
        self: &Arc<Self>,
        connection: ConnectionId,
        told: fn(&mut LegacySwarm, Instant, ConnectionId),
    ) {
        let ((), deeds) = self.run(|core| told(&mut core.machine, Instant::now(), connection));
        self.perform(deeds);
    }

    /// The same where waiting would hold up others.
    fn perform(self: &Arc<Self>, deeds: Vec<Deed>) {
        deeds.into_iter().for_each(|deed| self.perform_one(deed));
    }

    fn perform_one(self: &Arc<Self>, deed: Deed) {
        match deed {
            Deed::Deliver(inbox, arrival) => {
                if let Err(mpsc::error::TrySendError::Full(arrival)) = inbox.try_send(arrival) {
                    // At most one per request in flight: data comes through readers only.
                    tokio::spawn(async move { inbox.send(arrival).await });
                }
            }
            Deed::Answer(from, dialect, sha1) => self.answer(from, dialect, sha1),
            Deed::Serve(key, dialect, request, room) => self.serve(key, dialect, request, room),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic under the lock leaves the machine consistent enough to close connections.
        self.core.lock()
    }

    /// Feeds the machine and takes its outputs.
    fn run<T>(&self, feed: impl FnOnce(&mut Core) -> T) -> (T, Vec<Deed>) {
        let mut core = self.lock();
        let before = core.machine.poll_timeout();
        let result = feed(&mut core);
        let mut deeds = Vec::new();
        let mut peers_changed = false;
        while let Some(output) = core.machine.poll_output() {
            match output {
                Output::Send { connection, frame } => core.send(connection, frame),
                Output::Close { connection, reason } => {
                    tracing::debug!(purpose = %self.label(), %reason, "closing a connection");
                    // The writer still writes what is queued.
                    let outbox = core.outboxes.remove(&connection);
                    if let (Some(outbox), CloseReason::OwnNode) = (outbox, reason) {
                        outbox.ban.ban();
                    }
                }
                Output::Event(Event::PeerConnected(node)) => {
                    tracing::debug!(purpose = %self.label(), %node, "peer connected");
                    peers_changed = true;
                }
                Output::Event(Event::PeerGone(node)) => {
                    tracing::debug!(purpose = %self.label(), %node, "peer gone");
                    peers_changed = true;
                }
                Output::Event(event) => deeds.extend(core.deed(event, &self.purpose)),
            }
        }
        if peers_changed {
            self.peers.send_replace(core.machine.peers().count());
        }
        if core.machine.poll_timeout() != before {
            self.timer.notify_one();
        }
        (result, deeds)
    }

    /// For logs and the status: `channel NAME` or `transfer NODE`.
    pub(crate) fn label(&self) -> String {
        match &self.purpose {
            Purpose::Channel(name) => format!("channel {}", name.escape_debug()),
            Purpose::Transfer(node) => format!("transfer {node}"),
        }
    }

    /// Takes new connections until the swarm is left.
    async fn accept(self: Arc<Self>, mut swarm: Swarm) {
        let mut refresh = tokio::time::interval(STATUS_REFRESH);
        loop {
            tokio::select! {
                () = self.ended.cancelled() => break,
                connection = swarm.next() => match connection {
                    Some(connection) => self.connect(connection),
                    None => break,
                },
                _ = refresh.tick() => {}
            }
            self.status.send_replace(swarm.status());
        }
        self.ended.cancel();
        swarm.leave().await;
        self.left.cancel();
    }

    /// Runs a connection; refused, it is closed, and the peer comes again later.
    fn connect(self: &Arc<Self>, connection: Connection) {
        let own = |node: &NodeId| node.key == self.signer.public();
        let for_loads = matches!(&self.purpose, Purpose::Transfer(node) if !own(node));
        if refuses_connection(for_loads || connection.initiator) {
            tracing::debug!(purpose = %self.label(), "too many files are open: refused a connection");
            return;
        }
        tokio::spawn(super::connection::run(self.clone(), connection));
    }

    /// Wakes the machine at its deadlines.
    async fn keep_time(self: Arc<Self>) {
        loop {
            let deadline = self.lock().machine.poll_timeout();
            tokio::select! {
                () = self.ended.cancelled() => return,
                () = self.timer.notified() => continue,
                () = sleep_until(deadline) => {}
            }
            let ((), deeds) = self.run(|core| core.machine.handle_timeout(Instant::now()));
            self.perform(deeds);
        }
    }
}

impl Core {
    fn new(config: SwarmConfig) -> Self {
        Self {
            machine: LegacySwarm::new(config),
            next_connection: 0,
            outboxes: HashMap::new(),
            requests: HashMap::new(),
            seeks: Vec::new(),
            serving: HashMap::new(),
        }
    }

    fn send(&mut self, connection: ConnectionId, frame: Arc<OutgoingFrame>) {
        let Some(outbox) = self.outboxes.get(&connection) else { return };
        if outbox.frames.try_send(frame).is_err() {
            // The machine bounds the bytes; this many small frames mean that the peer does not read.
            self.outboxes.remove(&connection);
        }
    }

    fn deed(&mut self, event: Event, purpose: &Purpose) -> Option<Deed> {
        match event {
            Event::Seeking { from, dialect, sha1 } => return Some(Deed::Answer(from, dialect, sha1)),
            Event::Providing { from, by, dialect, sha1, size } => {
                let offer = Offer { peer: PeerKey(from.key), via: Via::Legacy(dialect), size };
                let neighbour = if self.machine.is_connected(from) { from } else { by };
                let (host, own) = (self.machine.address_of(neighbour), neighbour == from);
                let origin = Origin { host, neighbour: PeerKey(neighbour.key), own };
                self.offer(sha1, offer, origin, purpose);
            }
            Event::Requested { key, dialect, request } => {
                let room = Arc::new(Notify::new());
                self.serving.insert(key, room.clone());
                return Some(Deed::Serve(key, dialect, request, room));
            }
            Event::Writable(key) => {
                if let Some(room) = self.serving.get(&key) {
                    room.notify_one();
                }
            }
            Event::RequestAbandoned(key) => {
                if let Some(room) = self.serving.remove(&key) {
                    room.notify_one();
                }
            }
            Event::Data { request, data } => {
                let sink = self.requests.get(&request)?;
                return Some(Deed::Deliver(sink.inbox.clone(), Arrival::Data(sink.request, data)));
            }
            Event::Finished(request) => {
                let sink = self.requests.remove(&request)?;
                return Some(Deed::Deliver(sink.inbox, Arrival::Finished(sink.request)));
            }
            Event::RequestFailed { request, reason } => {
                let sink = self.requests.remove(&request)?;
                return Some(Deed::Deliver(sink.inbox, Arrival::Failed(sink.request, reason.into())));
            }
            Event::Dropped { neighbour, why } => {
                tracing::trace!(?neighbour, why, "dropped a message");
            }
            Event::Received(_) | Event::PeerConnected(_) | Event::PeerGone(_) => {}
        }
        None
    }

    /// Hands a claim to the searches for the file. One with more answers than it can look at drops those of a neighbour
    /// about others first, and those that repeat: strangers can make up any number of these.
    fn offer(&mut self, sha1: Sha1, offer: Offer, origin: Origin, purpose: &Purpose) {
        let Purpose::Channel(channel) = purpose else { return };
        for seek in self.seeks.iter_mut().filter(|seek| seek.sha1 == sha1) {
            let room = seek.offers.capacity();
            let is_new = origin.own && seek.told.len() < limits::CANDIDATES && seek.told.insert(offer);
            if is_new || room > seek.offers.max_capacity() / 2 {
                let channel = Arc::from(channel.as_str());
                let _ = seek.offers.try_send(Heard { offer, channel, origin });
            }
        }
    }
}

impl From<RequestFailure> for AskFailure {
    fn from(failure: RequestFailure) -> Self {
        match failure {
            RequestFailure::Unanswered | RequestFailure::Stopped => Self::Silent,
            RequestFailure::Left | RequestFailure::Lost => Self::Left,
            RequestFailure::TooMuch => Self::TooMuch,
            RequestFailure::NoData => Self::Refused("a response without data".to_owned()),
            RequestFailure::Refused(text) if text == BUSY => Self::Busy,
            RequestFailure::Refused(text) => Self::Refused(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::legacy::Direction;
    use hyperswarm::crypto::KeyPair;

    #[test]
    fn what_a_node_without_room_or_descriptors_answers_is_heard_as_busy_and_no_refusal() {
        let heard = |text: &str| AskFailure::from(RequestFailure::Refused(text.to_owned()));
        assert_eq!(heard("Too many requests at once, try again later."), AskFailure::Busy);
        assert!(matches!(heard("Unable to find file."), AskFailure::Refused(_)));
    }

    fn core() -> Core {
        let own = KeyPair::from_seed(&[1; 32]).public();
        let purpose = Purpose::Channel("one".to_owned());
        let rng = StdRng::seed_from_u64(1);
        let budget = SharedBudget::default();
        let config = SwarmConfig { protocol: Protocol::Daemon02, purpose, own, rng, budget };
        Core::new(config)
    }

    #[test]
    fn a_peer_that_reads_nothing_is_closed_at_the_first_frame_beyond_the_limit() {
        let mut core = core();
        let connection = ConnectionId(0);
        let (outbox, _queue, closing) = Outbox::new(Ban::default());
        core.outboxes.insert(connection, outbox);
        // A real frame: the greeting that the machine sends on a new connection.
        let remote = "192.0.2.1:4000".parse().unwrap();
        let info = ConnectionInfo { direction: Direction::Dialled, utp: false, remote };
        core.machine.handle_connected(Instant::now(), connection, info);
        let Some(Output::Send { frame, .. }) = core.machine.poll_output() else { panic!("no greeting") };
        for _ in 0..limits::CONNECTION_FRAMES {
            core.send(connection, frame.clone());
        }
        assert!(!closing.is_cancelled() && core.outboxes.contains_key(&connection));
        core.send(connection, frame);
        assert!(closing.is_cancelled() && core.outboxes.is_empty());
    }

    #[test]
    fn made_up_claims_leave_room_for_what_a_neighbour_says_of_itself_once() {
        let mut core = core();
        let purpose = Purpose::Channel("one".to_owned());
        let (offers, mut heard) = mpsc::channel(8);
        let sha1 = Sha1([7; 20]);
        let now = Instant::now();
        let id = core.machine.seek(now, sha1, now + Duration::from_secs(9)).expect("room");
        core.seeks.push(Seek { id, sha1, offers, told: HashSet::new() });
        let peer = |number| PeerKey(KeyPair::from_seed(&[number; 32]).public());
        let mut claim = |number, own| {
            let offer = Offer { peer: peer(number), via: Via::Legacy(Dialect::V021), size: 9 };
            let origin = Origin { host: None, neighbour: peer(if own { number } else { 99 }), own };
            core.offer(sha1, offer, origin, &purpose);
        };
        (10..30).for_each(|number| claim(number, false));
        (0..10).for_each(|_| claim(1, true));
        claim(2, true);
        let heard: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
        let own: Vec<_> =
            heard.iter().filter(|heard| heard.origin.own).map(|heard| heard.offer.peer).collect();
        assert_eq!((heard.len(), own), (6, vec![peer(1), peer(2)]));
    }
}
