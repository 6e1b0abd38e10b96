//! The machine, shared by the tasks of its sockets and by those that use its streams.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Instant;

use super::port::{Foreign, SocketGuard, SocketState};
use crate::limits::UDX_DIRECT_SEND_BYTES;
use crate::udx::{CloseReason, Config, Disposition, Endpoint, Event, SocketId, StreamId};

/// See the module.
pub(super) struct Instance {
    core: Mutex<Core>,
}

/// What the lock protects. It is held for as long as the machine works, never across a system call or an `await`.
pub(super) struct Core {
    pub(super) endpoint: Endpoint,
    pub(super) streams: HashMap<StreamId, User>,
    /// Streams that were written to since a socket's task last ran: their partial packets leave then.
    unflushed: Vec<StreamId>,
    sockets: Vec<(SocketId, Weak<SocketGuard>)>,
    last_socket: u32,
    /// When a socket's task will look at the deadlines at the latest.
    armed: Option<Instant>,
}

/// What the user of a stream waits for, and what it was told.
pub(super) struct User {
    /// The socket it sends on, kept open by it.
    pub(super) socket: Arc<SocketGuard>,
    /// The one before a change of remote, kept open until all that was sent there has arrived.
    pub(super) old: Option<Arc<SocketGuard>>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) messages: Option<Waker>,
    /// Of those who wait for anything else.
    pub(super) others: Vec<Waker>,
    pub(super) progress: Progress,
    /// Its sending side was finished.
    pub(super) finishing: bool,
    unflushed: bool,
    /// Bytes written since packets of them were last sent.
    unsent: usize,
}

/// What happened to a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) contact: Option<(SocketId, std::net::SocketAddr)>,
    pub(super) ended: bool,
    pub(super) finished: bool,
    pub(super) remote_changes: u64,
    pub(super) closed: Option<CloseReason>,
}

impl Progress {
    /// Whether both sides have ended.
    pub(super) fn over(&self) -> bool {
        self.closed == Some(CloseReason::Ended)
    }
}

/// What is to be done, outside the lock, so that what was written leaves.
pub(super) struct Nudge {
    socket: Option<Arc<SocketGuard>>,
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
            socket.state.task.wake();
        }
    }
}

impl Instance {
    /// An instance without sockets and streams.
    pub(super) fn new([a, b, c, d, e, f, g, h, ..]: [u8; 32], receive_budget: usize) -> Self {
        let config = Config { receive_budget, ..Config::default() };
        let endpoint = Endpoint::new(config, u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        let core = Core {
            endpoint,
            streams: HashMap::new(),
            unflushed: Vec::new(),
            sockets: Vec::new(),
            last_socket: 0,
            armed: None,
        };
        Self { core: Mutex::new(core) }
    }

    /// Runs `work` under the lock and nothing else.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Core) -> T) -> T {
        // A panic under the lock was reported where it happened; other streams should not die of it.
        work(&mut self.core.lock())
    }

    /// Sends what the machine has for this socket.
    pub(super) fn transmit(&self, socket: &SocketState) {
        socket.transmit(|most, buffer| {
            self.with(|core| core.endpoint.poll_transmit(Instant::now(), socket.id, most, buffer))
        });
    }

    /// The same, as a user of a stream. True if the socket's task should look at the deadlines after that, as one has
    /// come closer than any task knows.
    pub(super) fn send(&self, socket: &SocketGuard) -> bool {
        self.transmit(&socket.state);
        self.with(|core| core.unarmed().is_some())
    }

    /// Runs `work` under the lock, then wakes whoever its events concern, and sends on other sockets what it caused
    /// there. `on` sends by itself.
    pub(super) fn turn<T>(&self, on: Option<SocketId>, work: impl FnOnce(&mut Core) -> T) -> T {
        let mut awake = Vec::new();
        let (result, others) = self.with(|core| {
            let result = work(core);
            core.dispatch(&mut awake);
            (result, core.sockets_with_work(on))
        });
        awake.into_iter().for_each(Waker::wake);
        for socket in others {
            self.transmit(&socket.state);
        }
        result
    }
}

impl Core {
    /// A number for another socket.
    pub(super) fn next_socket(&mut self) -> SocketId {
        self.last_socket += 1;
        SocketId(self.last_socket)
    }

    pub(super) fn add_socket(&mut self, id: SocketId, socket: Weak<SocketGuard>) {
        self.sockets.push((id, socket));
    }

    /// A socket's task has ended: nothing will move on its streams any more. The machine is not asked, as it may be
    /// what the task died of.
    pub(super) fn abandon(&mut self, id: SocketId, awake: &mut Vec<Waker>) {
        let on_it = |user: &&mut User| user.socket.state.id == id && user.progress.closed.is_none();
        for user in self.streams.values_mut().filter(on_it) {
            user.close(CloseReason::SocketClosed, awake);
        }
        self.sockets.retain(|(other, _)| *other != id);
    }

    /// A socket that is still open.
    pub(super) fn socket(&self, id: SocketId) -> Option<Arc<SocketGuard>> {
        self.sockets.iter().find(|(other, _)| *other == id)?.1.upgrade()
    }

    /// Every socket that is still open.
    pub(super) fn all_sockets(&self) -> Vec<Arc<SocketGuard>> {
        self.sockets.iter().filter_map(|(_, socket)| socket.upgrade()).collect()
    }

    /// Sockets other than `except` on which something may leave now.
    pub(super) fn sockets_with_work(&self, except: Option<SocketId>) -> Vec<Arc<SocketGuard>> {
        let due = |id: SocketId| Some(id) != except && self.endpoint.wants_transmit(id);
        self.sockets.iter().filter(|(id, _)| due(*id)).filter_map(|(_, socket)| socket.upgrade()).collect()
    }

    /// The socket of a stream, if something may leave there now or its task has to look at the deadlines.
    pub(super) fn due(&self, id: StreamId) -> Option<Arc<SocketGuard>> {
        let socket = &self.streams.get(&id)?.socket;
        (self.endpoint.wants_transmit(socket.state.id) || self.unarmed().is_some())
            .then(|| Arc::clone(socket))
    }

    /// The socket of a stream, if something may leave there now.
    pub(super) fn waiting(&self, id: StreamId) -> Option<Arc<SocketGuard>> {
        let socket = &self.streams.get(&id)?.socket;
        self.endpoint.wants_transmit(socket.state.id).then(|| Arc::clone(socket))
    }

    /// The next deadline, if no task will see to it in time.
    fn unarmed(&self) -> Option<Instant> {
        self.endpoint.poll_timeout().filter(|next| self.armed.is_none_or(|armed| *next < armed))
    }

    /// The next deadline, if no task will see to it in time; from now on the caller does.
    pub(super) fn arm(&mut self) -> Option<Instant> {
        let next = self.unarmed()?;
        self.armed = Some(next);
        Some(next)
    }

    /// A task's timer has fired, or will not any more: whoever has the next turn sees to the deadlines.
    pub(super) fn disarm(&mut self, at: Instant) {
        self.armed.take_if(|armed| *armed == at);
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

    /// Gives one received datagram to the machine, or to whoever listens for others on `socket`.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        socket: SocketId,
        foreign: &Foreign,
        from: std::net::SocketAddr,
        datagram: &[u8],
    ) {
        match self.endpoint.handle_datagram(now, socket, from, datagram) {
            Disposition::NotUdx => foreign.offer(from, datagram),
            Disposition::Handled => {}
        }
    }

    /// The writers' turns are over: partial packets may leave. True if somebody had written.
    pub(super) fn flush(&mut self) -> bool {
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
    pub(super) fn dispatch(&mut self, awake: &mut Vec<Waker>) -> bool {
        let mut reads = false;
        while let Some((id, event)) = self.endpoint.poll_event() {
            let Some(user) = self.streams.get_mut(&id) else { continue };
            match event {
                Event::Readable => {
                    reads |= user.reader.is_some();
                    awake.extend(user.reader.take());
                }
                Event::Writable => awake.extend(user.writer.take()),
                Event::Message => awake.extend(user.messages.take()),
                Event::Ended => {
                    user.progress.ended = true;
                    awake.extend(user.reader.take());
                    awake.append(&mut user.others);
                }
                Event::FirstContact { socket, from } => {
                    user.progress.contact = Some((socket, from));
                    awake.append(&mut user.others);
                }
                Event::Finished => {
                    user.progress.finished = true;
                    awake.append(&mut user.others);
                }
                Event::RemoteChanged => {
                    user.old = None;
                    user.progress.remote_changes += 1;
                    awake.append(&mut user.others);
                }
                Event::Closed(reason) => user.close(reason, awake),
            }
        }
        reads
    }
}

impl User {
    pub(super) fn new(socket: Arc<SocketGuard>) -> Self {
        Self {
            socket,
            old: None,
            reader: None,
            writer: None,
            messages: None,
            others: Vec::new(),
            progress: Progress::default(),
            finishing: false,
            unflushed: false,
            unsent: 0,
        }
    }

    /// The stream is over.
    fn close(&mut self, reason: CloseReason, awake: &mut Vec<Waker>) {
        self.old = None;
        self.progress.closed = Some(reason);
        awake.extend([self.reader.take(), self.writer.take(), self.messages.take()].into_iter().flatten());
        awake.append(&mut self.others);
    }

    /// Wakes `waker` at the next change that is neither reading, writing nor a message.
    pub(super) fn wake_other(&mut self, waker: &Waker) {
        if !self.others.iter().any(|other| other.will_wake(waker)) {
            self.others.push(waker.clone());
        }
    }
}
