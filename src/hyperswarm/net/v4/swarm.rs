//! A swarm on sockets (npm hyperswarm 4): joins topics, and hands out a connection to each peer that is found there.
//!
//! One task, `run`, does what the machine ([`crate::swarm::v4`]) wants: it starts walks and attempts as futures of its own,
//! and tells the machine how they went. Handles send it requests. The machine is behind a lock, as the server asks it, from
//! the task of a socket, whom to admit.
//!
//! Queues: requests of handles (8 wait at most; who sends more waits), connections for the user (64; while it is full, the
//! task waits, and so do all others that are made).

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::connection::{Connection, Server};
use super::operation::Found;
use super::{Dht, Operation, Status};
use crate::crypto::{KeyPair, PublicKey};
use crate::dht::hyperdht::ListenError;
use crate::dht::v4::health;
use crate::holepunch::{ConnectError, DialOptions, ListenOptions};
use crate::limits::v4::SWARM_UNTAKEN_CONNECTIONS;
use crate::net::secret_stream::Monitor;
use crate::net::udx::UdxStream;
use crate::net::{random, sleep_until};
use crate::swarm::v4::{Command, FlushId, LinkId, Mode, Options, SessionId, Swarm as Machine, Walk};
use crate::topic::Topic;

/// Time for our announcements to be removed when the swarm ends.
const LEAVE: Duration = Duration::from_secs(2);
/// Requests of handles that wait.
const REQUESTS: usize = 8;

/// A swarm. Dropping it leaves all topics; connections that were handed out go on.
pub struct Swarm {
    requests: mpsc::Sender<Request>,
    connections: mpsc::Receiver<Connection>,
    public_key: PublicKey,
    /// Dropped with the swarm, which tells the task to leave all topics and to end.
    _alive: oneshot::Sender<()>,
}

/// A topic that was joined; dropping it leaves the topic, unless somebody else has joined it too.
pub struct Joined {
    requests: mpsc::Sender<Request>,
    topic: Topic,
    session: SessionId,
}

impl Joined {
    /// The topic.
    pub fn topic(&self) -> Topic {
        self.topic
    }

    /// Goes on in another mode.
    pub async fn change(&self, mode: Mode) {
        // An error: the swarm has ended.
        let _ = self.requests.send(Request::Change(self.topic, self.session, mode)).await;
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let leave = Request::Leave(self.topic, self.session);
        if let Err(mpsc::error::TrySendError::Full(leave)) = self.requests.try_send(leave)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let requests = self.requests.clone();
            runtime.spawn(async move { requests.send(leave).await });
        }
    }
}

/// What a handle wants of the task.
enum Request {
    Join(Topic, Mode, oneshot::Sender<SessionId>),
    Change(Topic, SessionId, Mode),
    Leave(Topic, SessionId),
    JoinPeer(PublicKey),
    LeavePeer(PublicKey),
    Ban(PublicKey, bool),
    Flush(oneshot::Sender<()>),
}

impl Swarm {
    /// A swarm of the owner of `keys`, who listens under this key from now on.
    ///
    /// # Errors
    /// Somebody listens under this key on the same node already, or the system has no randomness.
    pub fn start(dht: Dht, keys: KeyPair, options: Options) -> Result<Self, StartError> {
        let public_key = keys.public();
        let machine = Machine::new(public_key, options, random::seed()?);
        let machine = Arc::new(Mutex::new(machine));
        let asked = Arc::clone(&machine);
        let admit = move |peer: &PublicKey, _| asked.lock().admits(peer);
        let server = dht.serve_if(keys.clone(), ListenOptions::default(), admit)?;
        let (requests, received) = mpsc::channel(REQUESTS);
        let (sender, connections) = mpsc::channel(SWARM_UNTAKEN_CONNECTIONS);
        let task = Task {
            machine,
            keys: Arc::new(keys),
            walks: HashMap::new(),
            last_walk: 0,
            links: BTreeMap::new(),
            ended: FuturesUnordered::new(),
            flushes: Vec::new(),
            ready: Vec::new(),
            connections: sender,
            dht,
        };
        let (_alive, dropped) = oneshot::channel();
        tokio::spawn(task.run(server, received, dropped));
        Ok(Self { requests, connections, public_key, _alive })
    }

    /// Our key.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The next connection, whoever has made it.
    pub async fn next(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }

    /// Joins a topic; None if the swarm has ended.
    pub async fn join(&self, topic: Topic, mode: Mode) -> Option<Joined> {
        let (sender, session) = oneshot::channel();
        self.requests.send(Request::Join(topic, mode, sender)).await.ok()?;
        Some(Joined { requests: self.requests.clone(), topic, session: session.await.ok()? })
    }

    /// Connects to a peer, and again whenever the connection is lost.
    pub async fn join_peer(&self, peer: PublicKey) {
        // An error, here and below: the swarm has ended.
        let _ = self.requests.send(Request::JoinPeer(peer)).await;
    }

    /// The peer is like any other from now on.
    pub async fn leave_peer(&self, peer: PublicKey) {
        let _ = self.requests.send(Request::LeavePeer(peer)).await;
    }

    /// Wants nothing of a peer any more, or again.
    pub async fn ban(&self, peer: PublicKey, banned: bool) {
        let _ = self.requests.send(Request::Ban(peer, banned)).await;
    }

    /// Waits until all topics were looked for, and every peer that was found has been tried.
    pub async fn flush(&self) {
        let (sender, flushed) = oneshot::channel();
        let _ = self.requests.send(Request::Flush(sender)).await;
        let _ = flushed.await;
    }
}

impl futures::Stream for Swarm {
    type Item = Connection;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Connection>> {
        self.connections.poll_recv(context)
    }
}

/// Why a swarm could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See there.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system has no randomness.
    #[error("no randomness: {0}")]
    Random(#[from] std::io::Error),
}

/// Something that the task waited for.
enum Ended {
    Walk(Topic, Box<Step>),
    Dial(LinkId, Result<Box<Connection>, ConnectError>),
    Connection(LinkId),
    Unannounced,
}

/// A walk, and what it has found next.
struct Step {
    number: u64,
    operation: Operation,
    found: Option<Found>,
}

type Waiting = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// What the task has of a link: dropping it ends an attempt.
enum Link {
    Dialling { _cancel: oneshot::Sender<()> },
    Open(Monitor<UdxStream>),
}

struct Task {
    machine: Arc<Mutex<Machine>>,
    dht: Dht,
    keys: Arc<KeyPair>,
    /// The running walk of each topic, by a number.
    walks: HashMap<Topic, u64>,
    last_walk: u64,
    links: BTreeMap<LinkId, Link>,
    ended: FuturesUnordered<Waiting>,
    flushes: Vec<(FlushId, oneshot::Sender<()>)>,
    /// For the user.
    ready: Vec<Connection>,
    connections: mpsc::Sender<Connection>,
}

impl Task {
    async fn run(
        mut self,
        mut server: Server,
        mut requests: mpsc::Receiver<Request>,
        mut dropped: oneshot::Receiver<()>,
    ) {
        let mut status = self.dht.watch();
        let mut online = true;
        loop {
            self.work(&server);
            for connection in std::mem::take(&mut self.ready) {
                if self.connections.send(connection).await.is_err() {
                    break;
                }
            }
            let deadline = self.machine.lock().poll_timeout();
            tokio::select! {
                _ = &mut dropped => break,
                Some(request) = requests.recv() => self.handle(request),
                Some(connection) = server.accept() => self.accepted(connection),
                Some(ended) = self.ended.next() => self.ended(ended),
                Ok(()) = status.changed() => {
                    let now_online = is_online(&status.borrow_and_update());
                    if now_online && !online {
                        self.machine.lock().network_changed(Instant::now());
                    }
                    online = now_online;
                }
                () = sleep_until(deadline) => self.machine.lock().handle_timeout(Instant::now()),
            }
        }
        let before = self.ended.len();
        self.machine.lock().suspend();
        self.work(&server);
        let mut leaving = self.ended.len() - before;
        let all = async {
            while leaving > 0
                && let Some(ended) = self.ended.next().await
            {
                leaving -= usize::from(matches!(ended, Ended::Unannounced));
            }
        };
        // What is not removed by then is forgotten by the nodes that store it.
        let _ = tokio::time::timeout(LEAVE, all).await;
    }

    fn handle(&mut self, request: Request) {
        let now = Instant::now();
        let mut machine = self.machine.lock();
        match request {
            Request::Join(topic, mode, sender) => {
                let session = machine.join(now, topic, mode);
                if sender.send(session).is_err() {
                    machine.leave(now, topic, session);
                }
            }
            Request::Change(topic, session, mode) => machine.change(now, topic, session, mode),
            Request::Leave(topic, session) => machine.leave(now, topic, session),
            Request::JoinPeer(peer) => machine.join_peer(now, peer),
            Request::LeavePeer(peer) => machine.leave_peer(&peer),
            Request::Ban(peer, banned) => machine.ban(now, peer, banned),
            Request::Flush(sender) => {
                let id = machine.flush(now);
                self.flushes.push((id, sender));
            }
        }
    }

    /// Does what the machine wants.
    fn work(&mut self, server: &Server) {
        loop {
            let Some(command) = self.machine.lock().poll_command() else { return };
            match command {
                Command::Walk(topic, walk) => self.walk(topic, walk, server),
                Command::Leave(topic, announced) => {
                    self.walks.remove(&topic);
                    if announced {
                        let removing = self.dht.unannounce(topic.0, &self.keys);
                        self.ended.push(Box::pin(async move {
                            removing.outcome().await;
                            Ended::Unannounced
                        }));
                    }
                }
                Command::Dial(link, peer, relay_addresses) => self.dial(link, peer, relay_addresses),
                Command::Close(link) => {
                    if let Some(Link::Open(monitor)) = self.links.remove(&link) {
                        monitor.destroy();
                    }
                }
                Command::KeepAlive(link) => {
                    if let Some(Link::Open(monitor)) = self.links.get(&link) {
                        monitor.keep_alive();
                    }
                }
                Command::Flushed(id) => {
                    for (_, sender) in self.flushes.extract_if(.., |(each, _)| *each == id) {
                        // Nobody waits any more.
                        let _ = sender.send(());
                    }
                }
            }
        }
    }

    fn walk(&mut self, topic: Topic, walk: Walk, server: &Server) {
        self.last_walk += 1;
        let number = self.last_walk;
        self.walks.insert(topic, number);
        let (dht, keys, announced) = (self.dht.clone(), Arc::clone(&self.keys), server.announced().clone());
        self.ended.push(Box::pin(async move {
            let operation = match walk {
                Walk { announce: true, clear } => {
                    // Who finds us there should be able to reach us.
                    announced.listening().await;
                    let relays = announced.relay_addresses();
                    dht.operation(|machine, now| machine.announce(now, topic.0, &keys, &relays, clear))
                }
                Walk { announce: false, clear: true } => dht.unannounce(topic.0, &keys),
                Walk { announce: false, clear: false } => dht.lookup(topic.0),
            };
            next_step(topic, number, operation).await
        }));
    }

    fn dial(&mut self, link: LinkId, peer: PublicKey, relay_addresses: Vec<std::net::SocketAddrV4>) {
        let options = DialOptions { relay_addresses, ..DialOptions::default() };
        let connecting = self.dht.connect(&self.keys, peer, options);
        let (cancel, cancelled) = oneshot::channel();
        self.links.insert(link, Link::Dialling { _cancel: cancel });
        self.ended.push(Box::pin(async move {
            tokio::select! {
                result = connecting => Ended::Dial(link, result.map(Box::new)),
                _ = cancelled => Ended::Connection(link),
            }
        }));
    }

    fn accepted(&mut self, connection: Connection) {
        let links = &self.links;
        let is_used = |link| match links.get(&link) {
            Some(Link::Open(monitor)) => {
                let counters = monitor.counters().unwrap_or_default();
                counters.frames_received > 0 && counters.frames_sent > 0
            }
            Some(Link::Dialling { .. }) | None => false,
        };
        let link = self.machine.lock().accept(Instant::now(), connection.remote(), is_used);
        // Not taken: dropping it resets the peer's end.
        if let Some(link) = link {
            self.keep(link, connection);
        }
    }

    /// A connection that stays.
    fn keep(&mut self, link: LinkId, mut connection: Connection) {
        connection.set_topics(self.machine.lock().topics_of(&connection.remote()));
        self.links.insert(link, Link::Open(connection.monitor()));
        let (socket, stream) = (self.dht.server_socket().clone(), connection.transport().id());
        self.ended.push(Box::pin(async move {
            socket.stream_closed(stream).await;
            Ended::Connection(link)
        }));
        self.ready.push(connection);
    }

    fn ended(&mut self, ended: Ended) {
        let now = Instant::now();
        match ended {
            Ended::Walk(topic, step) => {
                let Step { number, operation, found } = *step;
                // Another walk has begun, or nobody looks for the topic any more.
                if self.walks.get(&topic) != Some(&number) {
                    return;
                }
                match found {
                    Some(found) => {
                        if let Found::Peer(peer) = found {
                            let mut machine = self.machine.lock();
                            machine.found(now, topic, peer.public_key, &peer.relay_addresses);
                        }
                        self.ended.push(Box::pin(next_step(topic, number, operation)));
                    }
                    None => self.machine.lock().walked(now, topic),
                }
            }
            Ended::Dial(link, Ok(connection)) => {
                let wanted = self.machine.lock().opened(now, link);
                if wanted {
                    self.keep(link, *connection);
                } else {
                    self.links.remove(&link);
                }
            }
            Ended::Dial(link, Err(error)) => {
                tracing::debug!(%error, "could not connect");
                self.links.remove(&link);
                self.machine.lock().closed(now, link);
            }
            Ended::Connection(link) => {
                self.links.remove(&link);
                self.machine.lock().closed(now, link);
            }
            Ended::Unannounced => {}
        }
    }
}

/// Waits for what a walk finds next.
async fn next_step(topic: Topic, number: u64, mut operation: Operation) -> Ended {
    let found = operation.next().await;
    Ended::Walk(topic, Box::new(Step { number, operation, found }))
}

fn is_online(status: &Status) -> bool {
    status.network != health::State::Offline
}
