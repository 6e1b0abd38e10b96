//! The machine, shared by the tasks of its sockets and by its users.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

use super::connection::NO_SOCKET;
use super::links::{Job, Links};
use super::waiting::{Status, Waiting};
use crate::dht::hyperdht::{Event, Hyperdht};
use crate::dht::rpc::Via;
use crate::holepunch::{Action, Connector, Transmit};
use crate::limits::MAX_DHT_TRANSMITS;
use crate::net::udp::{Batch, Handle, Haste, Outgoing, Protocol, SocketId, Way};
use crate::net::udx::UdxSocket;

/// First bytes of what is for the machine: messages of dht-rpc (version 3, a request or a reply), and packets of streams
/// that are not open yet. Probes have one byte or none.
const FIRST_BYTES: [u8; 3] = [0x03, 0x13, 0xff];

/// The time since 1970.
pub(super) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// See the module.
pub(super) struct Instance {
    /// None before the start and after the end: then it takes nothing.
    core: Mutex<Option<Core>>,
    /// What is to be done with streams, in this order. Added to under the lock of `core`.
    jobs: Mutex<VecDeque<Job>>,
    /// Held by whoever does it.
    worker: Mutex<()>,
    status: watch::Receiver<Status>,
    waiting: watch::Sender<Status>,
}

/// What the lock protects. It is held for as long as the machine works, never across a system call or an `await`.
struct Core {
    machine: Connector,
    waiting: Waiting,
    links: Links,
    sockets: BTreeMap<Via, Place>,
    by_id: BTreeMap<SocketId, Via>,
    /// When a socket's task will look at the deadlines at the latest.
    armed: Option<Instant>,
}

/// A socket, and what is to leave there. It may have yet to be bound.
#[derive(Default)]
struct Place {
    socket: Weak<Handle>,
    /// When full, datagrams are dropped, as a network may.
    to_send: VecDeque<Transmit>,
}

impl Instance {
    pub(super) fn new() -> Self {
        let (waiting, status) = watch::channel(Status { firewalled: true, ..Status::default() });
        let (core, jobs) = (Mutex::new(None), Mutex::default());
        Self { core, jobs, worker: Mutex::new(()), status, waiting }
    }

    pub(super) fn start(&self, machine: Connector, sockets: [(Via, &UdxSocket); 2]) {
        let waiting = Waiting::new(self.waiting.clone());
        waiting.publish(machine.dht());
        let links = Links::new(sockets.map(|(_, socket)| socket.clone()));
        let (sockets_by_via, by_id) = (BTreeMap::new(), BTreeMap::new());
        let mut core = Core { machine, waiting, links, sockets: sockets_by_via, by_id, armed: None };
        sockets.into_iter().for_each(|(via, socket)| core.add(via, socket.handle()));
        *self.core.lock() = Some(core);
        // What it has to say by now leaves.
        self.with(|_, _, _| {});
    }

    /// Nothing is taken or sent any more, and nobody gets an answer.
    pub(super) fn close(&self) {
        // Outside the lock: what is in it may send when it is dropped.
        let core = self.core.lock().take();
        drop(core);
    }

    pub(super) fn status(&self) -> &watch::Receiver<Status> {
        &self.status
    }

    pub(super) fn take_events(&self) -> Option<mpsc::Receiver<Event>> {
        self.core.lock().as_mut()?.waiting.events()
    }

    /// The machine has asked for a socket, and this is it.
    pub(super) fn add_socket(&self, via: Via, socket: &Arc<Handle>) {
        if let Some(core) = self.core.lock().as_mut() {
            core.add(via, socket);
        }
        // What was to leave there before it was bound.
        socket.transmit();
    }

    /// The machine has asked for a socket, and there is none.
    pub(super) fn no_socket(&self, via: Via) {
        if let Some(core) = self.core.lock().as_mut() {
            core.sockets.remove(&via);
            core.machine.socket_closed(via);
        }
    }

    /// Runs `work` on the machine and on what waits, as one of its users.
    ///
    /// # Panics
    /// The node is closed: the caller must hold what keeps it open.
    #[allow(clippy::expect_used, reason = "see there")]
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Hyperdht, &mut Waiting, Instant) -> T) -> T {
        self.try_with(work).expect("a node that is open")
    }

    /// The same; None if the node is closed.
    pub(super) fn try_with<T>(
        &self,
        work: impl FnOnce(&mut Hyperdht, &mut Waiting, Instant) -> T,
    ) -> Option<T> {
        let now = Instant::now();
        self.act(|core| {
            let waiting = &mut core.waiting;
            core.machine.with_dht(now, |dht| work(dht, waiting, now))
        })
    }

    /// The number of an open socket.
    pub(super) fn via(&self, socket: SocketId) -> Via {
        let core = self.core.lock();
        core.as_ref().and_then(|core| core.by_id.get(&socket).copied()).unwrap_or(NO_SOCKET)
    }

    /// Runs `work` on the connections, as one of their users; None if the node is closed.
    pub(super) fn connect<T>(
        &self,
        work: impl FnOnce(&mut Connector, &mut Links, Instant) -> T,
    ) -> Option<T> {
        let now = Instant::now();
        self.act(|core| work(&mut core.machine, &mut core.links, now))
    }

    fn act<T>(&self, work: impl FnOnce(&mut Core) -> T) -> Option<T> {
        self.run(None, |core| {
            let result = work(core);
            // A task that knows of the new deadline is needed: that of any socket will do.
            let unarmed = core.unarmed().is_some();
            let task = core.sockets.values().filter(|_| unarmed).find_map(|place| place.socket.upgrade());
            (result, task)
        })
        .map(|(result, task)| {
            task.inspect(|task| task.wake());
            result
        })
    }

    /// Only what waits, without the machine; None if the node is closed.
    pub(super) fn waiting<T>(&self, work: impl FnOnce(&mut Waiting) -> T) -> Option<T> {
        self.core.lock().as_mut().map(|core| work(&mut core.waiting))
    }

    /// Runs `work` under the lock, then wakes those whom its events concern, and sends on all sockets what it caused
    /// there. `on` sends by itself.
    fn run<T>(&self, on: Option<SocketId>, work: impl FnOnce(&mut Core) -> T) -> Option<T> {
        let mut awake = Vec::new();
        let (result, others) = {
            let mut core = self.core.lock();
            let core = core.as_mut()?;
            let result = work(core);
            core.dispatch(&mut awake, &self.jobs);
            (result, core.sockets_with_work(on))
        };
        awake.into_iter().for_each(Waker::wake);
        others.iter().for_each(|socket| socket.transmit());
        self.work();
        Some(result)
    }

    /// Does what is to be done with streams. It takes their lock, and that of the machine again, so no lock may be held. If
    /// somebody does it already, that one sees what was added when it lets go of `worker` at the latest.
    fn work(&self) {
        let next = || self.jobs.lock().pop_front();
        while !self.jobs.lock().is_empty()
            && let Some(worker) = self.worker.try_lock()
        {
            while let Some(job) = next() {
                job.run(self);
            }
            drop(worker);
        }
    }
}

impl Protocol for Instance {
    fn receive(&self, now: Instant, socket: SocketId, batch: &mut Batch<'_>) -> Haste {
        let taken = self.run(Some(socket), |core| {
            let mut taken = false;
            let Some(via) = core.by_id.get(&socket).copied() else { return taken };
            batch.offer(|from, datagram| {
                let its_own =
                    datagram.len() <= 1 || datagram.first().is_some_and(|byte| FIRST_BYTES.contains(byte));
                if let (true, SocketAddr::V4(from)) = (its_own, from) {
                    core.machine.handle_datagram(now, via, from, datagram);
                }
                taken |= its_own;
                its_own
            });
            taken
        });
        if taken == Some(true) { Haste::Now } else { Haste::Soon }
    }

    fn poll_transmit(&self, _now: Instant, socket: SocketId, out: &mut Outgoing) {
        let mut core = self.core.lock();
        let Some(core) = core.as_mut() else { return };
        let Some(place) = core.by_id.get(&socket).and_then(|via| core.sockets.get_mut(via)) else { return };
        while !out.is_full()
            && let Some(Transmit { to, payload, hops, .. }) = place.to_send.pop_front()
        {
            out.push(to.into(), &payload, hops.map_or(Way::Plain, Way::Ttl));
        }
    }

    fn turn(&self, now: Instant, socket: SocketId) -> bool {
        let work = self.run(Some(socket), |core| {
            let due = core.machine.poll_timeout().is_some_and(|deadline| deadline <= now);
            if due {
                core.machine.set_unix_time(now, unix_time());
                core.machine.handle_timeout(now);
            }
            due
        });
        work == Some(true)
    }

    fn arm(&self) -> Option<Instant> {
        let mut core = self.core.lock();
        let core = core.as_mut()?;
        let next = core.unarmed()?;
        core.armed = Some(next);
        Some(next)
    }

    fn disarm(&self, at: Instant) {
        if let Some(core) = self.core.lock().as_mut() {
            core.armed.take_if(|armed| *armed == at);
        }
    }

    fn closed(&self, socket: SocketId, _died: bool) {
        let mut others: Vec<Arc<Handle>> = Vec::new();
        if let Some(core) = self.core.lock().as_mut() {
            if let Some(via) = core.by_id.remove(&socket) {
                core.sockets.remove(&via);
                core.machine.socket_closed(via);
            }
            others.extend(core.sockets.values().filter_map(|place| place.socket.upgrade()));
        }
        others.iter().for_each(|other| other.wake());
    }
}

impl Core {
    /// Hands out what the machine tells: collects whom to wake, and what is to be done outside the lock.
    fn dispatch(&mut self, awake: &mut Vec<Waker>, jobs: &Mutex<VecDeque<Job>>) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                crate::holepunch::Event::Dht(event) => {
                    if let Event::Listening(target) = &event {
                        self.links.listening(target);
                    }
                    self.waiting.tell(event, awake);
                }
                event => jobs.lock().extend(self.links.tell(event)),
            }
        }
        self.waiting.publish_if_changed(self.machine.dht());
        while let Some(action) = self.machine.poll_action() {
            if let Action::OpenSocket(via) = action {
                self.sockets.insert(via, Place::default());
            }
            jobs.lock().extend(self.links.job(action));
        }
    }

    fn add(&mut self, via: Via, socket: &Arc<Handle>) {
        self.by_id.insert(socket.id(), via);
        self.sockets.entry(via).or_default().socket = Arc::downgrade(socket);
    }

    /// The next deadline, if no task will see to it in time.
    fn unarmed(&self) -> Option<Instant> {
        self.machine.poll_timeout().filter(|next| self.armed.is_none_or(|armed| *next < armed))
    }

    /// Gives each socket what the machine wants to leave there. Sockets other than `except` on which something may leave
    /// now.
    fn sockets_with_work(&mut self, except: Option<SocketId>) -> Vec<Arc<Handle>> {
        let own = except.and_then(|id| self.by_id.get(&id).copied());
        let mut others: Vec<Via> = Vec::new();
        while let Some(transmit) = self.machine.poll_transmit() {
            let via = transmit.via;
            if let Some(place) = self.sockets.get_mut(&via)
                && place.to_send.len() < MAX_DHT_TRANSMITS
            {
                place.to_send.push_back(transmit);
                if own != Some(via) && !others.contains(&via) {
                    others.push(via);
                }
            }
        }
        let socket = |via| self.sockets.get(&via)?.socket.upgrade();
        others.into_iter().filter_map(socket).collect()
    }
}
