//! The machine, shared by the tasks of its sockets and by those that use its streams.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Instant;

use super::user::User;
use crate::limits::UDX_DIRECT_SEND_BYTES;
use crate::net::udp::{Batch, Handle, Haste, Outgoing, Protocol, SocketId, Way};
use crate::udx::{CloseReason, Config, Disposition, Endpoint, Event, StreamId};

/// See the module.
pub(crate) struct Instance {
    core: Mutex<Core>,
}

/// What the lock protects. It is held for as long as the machine works, never across a system call or an `await`.
pub(super) struct Core {
    pub(super) endpoint: Endpoint,
    pub(super) streams: HashMap<StreamId, User>,
    /// Streams that were written to since a socket's task last ran: their partial packets leave then.
    unflushed: Vec<StreamId>,
    sockets: HashMap<SocketId, Weak<Handle>>,
    /// When a socket's task will look at the deadlines at the latest.
    armed: Option<Instant>,
}

/// What is to be done, outside the lock, so that what was written leaves.
pub(super) struct Nudge {
    socket: Option<Arc<Handle>>,
    /// Send now: there is enough for a full batch.
    at_once: bool,
    /// Let the socket's task run after the writer's turn.
    task: bool,
}

impl Nudge {
    pub(super) fn act(self, instance: &Instance) {
        let Some(socket) = self.socket else { return };
        let unarmed = self.at_once && instance.send(&socket);
        if self.task || unarmed {
            socket.wake();
        }
    }
}

impl Instance {
    /// An instance without sockets and streams.
    pub(crate) fn new([a, b, c, d, e, f, g, h, ..]: [u8; 32], receive_budget: usize) -> Self {
        let config = Config { receive_budget, ..Config::default() };
        let endpoint = Endpoint::new(config, u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        let core = Core {
            endpoint,
            streams: HashMap::new(),
            unflushed: Vec::new(),
            sockets: HashMap::new(),
            armed: None,
        };
        Self { core: Mutex::new(core) }
    }

    /// Runs `work` under the lock and nothing else.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Core) -> T) -> T {
        // A panic under the lock was reported where it happened; other streams should not die of it.
        work(&mut self.core.lock())
    }

    /// Streams may use this socket from now on. It must have this instance among its protocols.
    pub(super) fn add_socket(&self, socket: &Arc<Handle>) {
        self.with(|core| core.sockets.insert(socket.id(), Arc::downgrade(socket)));
    }

    /// Sends what there is for this socket, as a user of a stream. True if the socket's task should look at the deadlines
    /// after that, as one has come closer than any task knows.
    pub(super) fn send(&self, socket: &Handle) -> bool {
        socket.transmit();
        self.with(|core| core.unarmed().is_some())
    }

    /// Runs `work` under the lock, then wakes those whom its events concern, and sends on other sockets what it caused
    /// there. `on` sends by itself.
    pub(super) fn turn<T>(&self, on: Option<SocketId>, work: impl FnOnce(&mut Core) -> T) -> T {
        let mut awake = Vec::new();
        let (result, others) = self.with(|core| {
            let result = work(core);
            core.dispatch(&mut awake);
            (result, core.sockets_with_work(on))
        });
        awake.into_iter().for_each(Waker::wake);
        others.iter().for_each(|socket| socket.transmit());
        result
    }
}

/// The streams of a socket come first among its protocols: a packet is theirs if it names one of them.
impl Protocol for Instance {
    fn receive(&self, now: Instant, socket: SocketId, batch: &mut Batch<'_>) -> Haste {
        let mut awake = Vec::new();
        let (mut seen, mut taken) = (0, 0);
        let (others, reads) = self.with(|core| {
            batch.offer(|from, datagram| {
                let took = core.endpoint.handle_datagram(now, socket, from, datagram) == Disposition::Handled;
                seen += 1;
                taken += usize::from(took);
                took
            });
            let reads = taken > 0 && core.dispatch(&mut awake);
            (core.sockets_with_work(Some(socket)), reads)
        });
        awake.into_iter().for_each(Waker::wake);
        others.iter().for_each(|other| other.transmit());
        // A single packet for a waiting reader is probably a request.
        let request = seen == 1 && reads;
        if request || taken == 0 { Haste::Soon } else { Haste::Now }
    }

    fn poll_transmit(&self, now: Instant, socket: SocketId, out: &mut Outgoing) {
        self.with(|core| {
            let mut more = true;
            while more && !out.is_full() {
                more = out.push_with(|buffer| {
                    let made = core.endpoint.poll_transmit(now, socket, MOST_DATAGRAMS, buffer)?;
                    let way = if made.may_fragment { Way::InFragments } else { Way::Plain };
                    Some((made.destination, made.segment_size, way))
                });
            }
        });
    }

    fn turn(&self, now: Instant, socket: SocketId) -> bool {
        self.turn(Some(socket), |core| {
            let due = core.endpoint.poll_timeout().is_some_and(|deadline| deadline <= now);
            let flushed = core.flush();
            if due {
                core.endpoint.handle_timeout(now);
            }
            due || flushed
        })
    }

    fn arm(&self) -> Option<Instant> {
        self.with(Core::arm)
    }

    fn disarm(&self, at: Instant) {
        self.with(|core| core.armed.take_if(|armed| *armed == at));
    }

    fn lingers_until(&self, socket: SocketId) -> Option<Instant> {
        self.with(|core| core.endpoint.lingers_until(socket))
    }

    fn closed(&self, socket: SocketId, died: bool) {
        let mut awake = Vec::new();
        let others = self.with(|core| {
            // If the task has died, the machine may be what it died of.
            if !died {
                core.endpoint.forget_socket(socket);
            }
            core.abandon(socket, &mut awake);
            core.all_sockets()
        });
        awake.into_iter().for_each(Waker::wake);
        others.iter().for_each(|other| other.wake());
    }
}

/// Datagrams in a batch; Linux cuts at most so many.
const MOST_DATAGRAMS: usize = 64;

impl Core {
    /// A socket's task has ended: nothing will move on its streams any more.
    fn abandon(&mut self, id: SocketId, awake: &mut Vec<Waker>) {
        let on_it = |user: &&mut User| user.socket.id() == id && user.progress.closed.is_none();
        for user in self.streams.values_mut().filter(on_it) {
            user.close(CloseReason::SocketClosed, awake);
        }
        self.sockets.remove(&id);
    }

    /// A socket that is still open.
    pub(super) fn socket(&self, id: SocketId) -> Option<Arc<Handle>> {
        self.sockets.get(&id)?.upgrade()
    }

    /// Every socket that is still open.
    fn all_sockets(&self) -> Vec<Arc<Handle>> {
        self.sockets.values().filter_map(Weak::upgrade).collect()
    }

    /// Sockets other than `except` on which something may leave now.
    fn sockets_with_work(&self, except: Option<SocketId>) -> Vec<Arc<Handle>> {
        let due = self.endpoint.sockets_with_transmits().filter(|id| Some(*id) != except);
        due.filter_map(|id| self.socket(id)).collect()
    }

    /// The socket of a stream, if something may leave there now or its task has to look at the deadlines.
    pub(super) fn due(&self, id: StreamId) -> Option<Arc<Handle>> {
        let socket = &self.streams.get(&id)?.socket;
        (self.endpoint.wants_transmit(socket.id()) || self.unarmed().is_some()).then(|| Arc::clone(socket))
    }

    /// The socket of a stream, if something may leave there now.
    pub(super) fn waiting(&self, id: StreamId) -> Option<Arc<Handle>> {
        let socket = &self.streams.get(&id)?.socket;
        self.endpoint.wants_transmit(socket.id()).then(|| Arc::clone(socket))
    }

    /// The next deadline, if no task will see to it in time.
    fn unarmed(&self) -> Option<Instant> {
        self.endpoint.poll_timeout().filter(|next| self.armed.is_none_or(|armed| *next < armed))
    }

    /// The same; from now on the caller sees to it.
    fn arm(&mut self) -> Option<Instant> {
        let next = self.unarmed()?;
        self.armed = Some(next);
        Some(next)
    }

    /// `bytes` were written to a stream.
    pub(super) fn written(&mut self, id: StreamId, bytes: usize) -> Nudge {
        let Some(user) = self.streams.get_mut(&id) else {
            return Nudge { socket: None, at_once: false, task: false };
        };
        user.unsent += bytes;
        let at_once = user.unsent >= UDX_DIRECT_SEND_BYTES;
        if at_once {
            user.unsent = 0;
        }
        let task = !std::mem::replace(&mut user.unflushed, true);
        if task {
            self.unflushed.push(id);
        }
        Nudge { socket: (at_once || task).then(|| Arc::clone(&user.socket)), at_once, task }
    }

    /// The writers' turns are over: partial packets may leave. True if somebody had written.
    fn flush(&mut self) -> bool {
        let any = !self.unflushed.is_empty();
        while let Some(id) = self.unflushed.pop() {
            if let Some(user) = self.streams.get_mut(&id) {
                (user.unflushed, user.unsent) = (false, 0);
            }
            if let Some(mut stream) = self.endpoint.stream(id) {
                stream.flush();
            }
        }
        any
    }

    /// Takes the machine's events and collects whom to wake. True if a reader that waited is among them.
    fn dispatch(&mut self, awake: &mut Vec<Waker>) -> bool {
        let mut reads = false;
        while let Some((id, event)) = self.endpoint.poll_event() {
            if let Some(user) = self.streams.get_mut(&id) {
                reads |= event == Event::Readable && user.reader.is_some();
                user.tell(event, awake);
            }
        }
        reads
    }

    /// The path other than its own on which a stream was last heard, once.
    pub(super) fn take_other_path(&mut self, id: StreamId) -> Option<(SocketId, SocketAddr)> {
        let path = self.streams.get_mut(&id)?.progress.other_path.take();
        if path.is_some()
            && let Some(mut stream) = self.endpoint.stream(id)
        {
            stream.forget_other_path();
        }
        path
    }
}
