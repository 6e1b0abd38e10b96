//! A UDP socket with the streams, and the other protocols, that share it.

use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::task::AtomicWaker;
use tokio::sync::mpsc;

use super::datagrams::{Datagrams, Offload};
use super::driver::Driver;
use super::error::StreamError;
use super::instance::{Instance, User};
use super::outgoing::{Outgoing, Progress};
use super::stream::UdxStream;
use crate::limits::{MAX_FOREIGN_DATAGRAM_BYTES, UDP_TRANSMIT_BATCHES};
use crate::net::random;
use crate::udx::{SocketId, StreamOptions};

/// How to bind a [`UdxSocket`].
#[derive(Clone, Copy, Debug, Default)]
pub struct BindOptions {
    /// Whether the system may cut what is sent into datagrams.
    pub offload: Offload,
    /// How many datagrams of other protocols wait at most for [`UdxSocket::take_foreign`]'s reader; 0: none are kept.
    pub foreign_queue: usize,
}

/// A datagram that is none of UDX, with its sender.
pub type ForeignDatagram = (SocketAddr, Bytes);

/// A bound UDP socket. Cheap to clone; closed when the last clone and the last stream on it are dropped.
#[derive(Clone)]
pub struct UdxSocket {
    pub(super) guard: Arc<SocketGuard>,
}

impl UdxSocket {
    /// Binds to `address` and starts the socket's task. Needs a tokio runtime.
    pub fn bind(address: SocketAddr, options: BindOptions) -> io::Result<Self> {
        Self::start(Arc::new(Instance::with_seed(random::seed()?)), address, options)
    }

    /// Binds another socket for the same streams: they are looked up by id whatever socket a packet comes in on, and
    /// can move from one to the other.
    pub fn bind_sibling(&self, address: SocketAddr, options: BindOptions) -> io::Result<Self> {
        Self::start(Arc::clone(&self.guard.instance), address, options)
    }

    fn start(instance: Arc<Instance>, address: SocketAddr, options: BindOptions) -> io::Result<Self> {
        let (socket, driver) = Self::assemble(instance, address, options)?;
        tokio::spawn(driver);
        Ok(socket)
    }

    /// A socket and its task, which has yet to be started.
    pub(super) fn assemble(
        instance: Arc<Instance>,
        address: SocketAddr,
        options: BindOptions,
    ) -> io::Result<(Self, Driver)> {
        let datagrams = Datagrams::bind(address, options.offload)?;
        let (foreign, foreign_datagrams) = Foreign::new(options.foreign_queue);
        let id = instance.with(|core| core.next_socket());
        let state = Arc::new(SocketState {
            id,
            datagrams,
            sender: Mutex::default(),
            again: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        let driver = Driver::new(Arc::clone(&instance), Arc::clone(&state), foreign);
        let foreign_datagrams = Mutex::new(foreign_datagrams);
        let guard = Arc::new(SocketGuard { instance, state, foreign_datagrams });
        guard.instance.with(|core| core.add_socket(id, Arc::downgrade(&guard)));
        Ok((Self { guard }, driver))
    }

    /// Where it is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.guard.state.datagrams.local_address()
    }

    /// Opens a stream that will use this socket. Packets may arrive for it at once, see
    /// [`UdxStream::first_contact`]; it can send after [`UdxStream::connect`].
    pub fn open(&self, options: StreamOptions) -> io::Result<UdxStream> {
        let id = self.guard.instance.with(|core| {
            let id = core.endpoint.open(Instant::now(), options)?;
            core.streams.insert(id, User::new(Arc::clone(&self.guard)));
            Ok::<_, StreamError>(id)
        })?;
        Ok(UdxStream::new(Arc::clone(&self.guard.instance), id))
    }

    /// The datagrams of other protocols that come in on this socket; once. When its queue is full, datagrams are
    /// dropped, as the network may do.
    pub fn take_foreign(&self) -> Option<mpsc::Receiver<ForeignDatagram>> {
        self.guard.foreign_datagrams.lock().take()
    }

    /// Sends a datagram of another protocol. `WouldBlock` when the system's buffer is full.
    pub fn send_foreign(&self, destination: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.guard.state.datagrams.send(destination, datagram, datagram.len().max(1))
    }
}

impl std::fmt::Debug for UdxSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UdxSocket({})", self.local_address())
    }
}

/// Ends the socket's task with the last user of the socket.
pub(super) struct SocketGuard {
    pub(super) instance: Arc<Instance>,
    pub(super) state: Arc<SocketState>,
    foreign_datagrams: Mutex<Option<mpsc::Receiver<ForeignDatagram>>>,
}

impl SocketGuard {
    /// Sends what the machine has for this socket, as a user of a stream; whether the socket's task should look at
    /// the deadlines after that.
    pub(super) fn send(&self, instance: &Instance) -> bool {
        self.state.transmit(instance);
        instance.is_unarmed()
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::SeqCst);
        self.state.task.wake();
    }
}

/// A socket as its task and the writers of its streams share it.
pub(super) struct SocketState {
    pub(super) id: SocketId,
    pub(super) datagrams: Datagrams,
    /// Held while packets are made and sent, so that they leave in the order they were numbered.
    sender: Mutex<Sender>,
    /// Somebody has something to send: whoever holds `sender` looks again before letting go.
    again: AtomicBool,
    /// The system's buffer is full; the task waits for room.
    pub(super) blocked: AtomicBool,
    pub(super) closing: AtomicBool,
    /// The socket's task.
    pub(super) task: AtomicWaker,
}

#[derive(Default)]
struct Sender {
    outgoing: Outgoing,
}

impl SocketState {
    /// Sends what the machine has for this socket, a bounded amount; the socket's task does the rest. If somebody
    /// else is sending, that one does it.
    pub(super) fn transmit(&self, instance: &Instance) {
        self.again.store(true, Ordering::SeqCst);
        while self.again.load(Ordering::SeqCst) {
            // Whoever holds it sees `again` after letting go at the latest.
            let Some(mut sender) = self.sender.try_lock() else { return };
            if self.again.swap(false, Ordering::SeqCst) && self.transmit_batches(instance, &mut sender) {
                self.task.wake();
                return;
            }
        }
    }

    /// Whether the task has to be told that something is left.
    fn transmit_batches(&self, instance: &Instance, sender: &mut Sender) -> bool {
        let outgoing = &mut sender.outgoing;
        for _ in 0..UDP_TRANSMIT_BATCHES {
            if outgoing.advance(&self.datagrams) == Progress::Blocked {
                return self.block();
            }
            let batch = instance.with(|core| {
                core.endpoint.poll_transmit(Instant::now(), self.id, MOST_DATAGRAMS, &mut outgoing.buffer)
            });
            let Some(batch) = batch else { return false };
            outgoing.address(batch.destination, batch.segment_size);
        }
        outgoing.advance(&self.datagrams) == Progress::Done || self.block()
    }

    /// The task has to wait for room. Whether it has yet to be told: if it waits already, waking it, possibly by
    /// itself, would make it try again and again. After it has waited it tries once more, so nobody is forgotten.
    fn block(&self) -> bool {
        !self.blocked.swap(true, Ordering::SeqCst)
    }
}

/// Datagrams in a batch; Linux cuts at most so many.
const MOST_DATAGRAMS: usize = 64;

/// Where datagrams of other protocols go.
pub(super) struct Foreign(Option<mpsc::Sender<ForeignDatagram>>);

impl Foreign {
    fn new(queue: usize) -> (Self, Option<mpsc::Receiver<ForeignDatagram>>) {
        if queue == 0 {
            return (Self(None), None);
        }
        // Full: the datagram is dropped, as a network does.
        let (sender, receiver) = mpsc::channel(queue);
        (Self(Some(sender)), Some(receiver))
    }

    pub(super) fn offer(&self, from: SocketAddr, datagram: &[u8]) {
        if let Some(queue) = &self.0
            && datagram.len() <= MAX_FOREIGN_DATAGRAM_BYTES
            && let Ok(place) = queue.try_reserve()
        {
            place.send((from, Bytes::copy_from_slice(datagram)));
        }
    }
}
