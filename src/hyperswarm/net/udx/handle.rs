//! A UDP socket with the streams, and the other protocols, that share it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::datagrams::{Datagrams, Offload};
use super::driver::Driver;
use super::error::StreamError;
use super::instance::{Instance, User};
use super::port::{Foreign, ForeignDatagram, SocketGuard};
use super::stream::UdxStream;
use crate::limits::UDX_RECEIVE_BUDGET_BYTES;
use crate::net::random;
use crate::udx::{SocketId, StreamOptions};

/// How to bind a [`UdxSocket`].
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// True if the system may cut what is sent into datagrams.
    pub offload: Offload,
    /// How many datagrams of other protocols wait at most for [`UdxSocket::take_foreign`]'s reader; 0: none are kept.
    pub foreign_queue: usize,
    /// Bytes that all streams of this socket and its siblings together hold for readers that do not read: 64 MiB by
    /// default. A [sibling](UdxSocket::bind_sibling) shares the budget of the first socket, whatever this says.
    pub receive_budget: usize,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self { offload: Offload::default(), foreign_queue: 0, receive_budget: UDX_RECEIVE_BUDGET_BYTES }
    }
}

/// A bound UDP socket. Cheap to clone; closed when the last clone and the last stream on it are dropped.
#[derive(Clone)]
pub struct UdxSocket {
    pub(super) instance: Arc<Instance>,
    pub(super) guard: Arc<SocketGuard>,
}

impl UdxSocket {
    /// Binds to `address` and starts the socket's task. Needs a tokio runtime.
    pub fn bind(address: SocketAddr, options: BindOptions) -> io::Result<Self> {
        let instance = Instance::new(random::seed()?, options.receive_budget);
        Self::start(Arc::new(instance), address, options)
    }

    /// Binds another socket for the same streams: they are looked up by id whatever socket a packet comes in on, and
    /// can move from one to the other.
    pub fn bind_sibling(&self, address: SocketAddr, options: BindOptions) -> io::Result<Self> {
        Self::start(Arc::clone(&self.instance), address, options)
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
        let guard = Arc::new(SocketGuard::new(id, datagrams, foreign_datagrams));
        let driver = Driver::new(Arc::clone(&instance), Arc::clone(&guard.state), foreign);
        instance.with(|core| core.add_socket(id, Arc::downgrade(&guard)));
        Ok((Self { instance, guard }, driver))
    }

    /// Where it is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.guard.state.datagrams.local_address()
    }

    pub(super) fn id(&self) -> SocketId {
        self.guard.state.id
    }

    /// Opens a stream that will use this socket. Packets may arrive for it at once, see
    /// [`UdxStream::first_contact`]; it can send after [`UdxStream::connect`].
    pub fn open(&self, options: StreamOptions) -> io::Result<UdxStream> {
        let id = self.instance.with(|core| {
            self.guard.check_open()?;
            let id = core.endpoint.open(Instant::now(), options)?;
            core.streams.insert(id, User::new(Arc::clone(&self.guard)));
            Ok::<_, StreamError>(id)
        })?;
        Ok(UdxStream::new(Arc::clone(&self.instance), id))
    }

    /// The datagrams of other protocols that come in on this socket; once. When its queue is full, datagrams are
    /// dropped, as the network may do.
    pub fn take_foreign(&self) -> Option<mpsc::Receiver<ForeignDatagram>> {
        self.guard.take_foreign()
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
