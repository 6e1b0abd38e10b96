//! A UDP socket as the users of its streams have it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::error::StreamError;
use super::instance::Instance;
use super::stream::UdxStream;
use super::user::User;
use crate::limits::UDX_RECEIVE_BUDGET_BYTES;
use crate::net::random;
use crate::net::udp::{Driver, Handle, Offload, Protocols, SocketId};
use crate::udx::{Remote, StreamId, StreamOptions};

/// How to bind a [`UdxSocket`].
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// True if the system may cut what is sent into datagrams.
    pub offload: Offload,
    /// Bytes that all streams of this socket and its siblings together hold for readers that do not read: 64 MiB by
    /// default. A [sibling](UdxSocket::bind_sibling) shares the budget of the first socket, whatever this says.
    pub receive_budget: usize,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self { offload: Offload::default(), receive_budget: UDX_RECEIVE_BUDGET_BYTES }
    }
}

/// A bound UDP socket. Cheap to clone; closed when the last clone and the last stream on it are dropped.
#[derive(Clone)]
pub struct UdxSocket {
    pub(super) instance: Arc<Instance>,
    pub(super) guard: Arc<Handle>,
}

impl UdxSocket {
    /// Binds to `address` and starts the socket's task. Needs a tokio runtime.
    pub fn bind(address: SocketAddr, options: BindOptions) -> io::Result<Self> {
        let instance = Instance::new(random::seed()?, options.receive_budget);
        let instance = Arc::new(instance);
        let protocols: Protocols = Arc::new([Arc::clone(&instance) as _]);
        Self::start(instance, protocols, address, options)
    }

    /// Binds another socket for the same streams: they are looked up by id whatever socket a packet comes in on, and
    /// can move from one to the other.
    pub fn bind_sibling(&self, address: SocketAddr, options: BindOptions) -> io::Result<Self> {
        let protocols = Arc::clone(self.guard.protocols());
        Self::start(Arc::clone(&self.instance), protocols, address, options)
    }

    fn start(
        instance: Arc<Instance>,
        protocols: Protocols,
        address: SocketAddr,
        options: BindOptions,
    ) -> io::Result<Self> {
        let (socket, driver) = Self::assemble(instance, protocols, address, options)?;
        tokio::spawn(driver);
        Ok(socket)
    }

    /// A socket and its task, which has yet to be started. The instance must be one of the protocols.
    pub(crate) fn assemble(
        instance: Arc<Instance>,
        protocols: Protocols,
        address: SocketAddr,
        options: BindOptions,
    ) -> io::Result<(Self, Driver)> {
        let (guard, driver) = Handle::bind(address, options.offload, protocols)?;
        instance.add_socket(&guard);
        Ok((Self { instance, guard }, driver))
    }

    /// Where it is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.guard.local_address()
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.guard
    }

    pub(crate) fn id(&self) -> SocketId {
        self.guard.id()
    }

    /// Opens a stream that will use this socket. Packets may arrive for it at once, see
    /// [`UdxStream::first_contact`]; it can send after [`UdxStream::connect`].
    pub fn open(&self, options: StreamOptions) -> io::Result<UdxStream> {
        let id = self.instance.with(|core| {
            self.check_open()?;
            let id = core.endpoint.open(Instant::now(), options)?;
            core.streams.insert(id, User::new(Arc::clone(&self.guard)));
            Ok::<_, StreamError>(id)
        })?;
        Ok(UdxStream::new(Arc::clone(&self.instance), id))
    }

    /// See [`Stream::nudge`](crate::udx::Stream::nudge). Nothing happens if there is no such stream any more.
    pub(crate) fn nudge(&self, stream: u32) {
        self.instance.turn(None, |core| {
            if let Some(mut stream) = core.endpoint.stream(StreamId(stream)) {
                stream.nudge(Instant::now());
            }
        });
    }

    /// The stream, which has heard nothing of its peer yet, uses this socket from now on, and the peer is at `remote`: see
    /// [`Stream::reroute`](crate::udx::Stream::reroute).
    pub(crate) fn reroute(&self, stream: u32, remote: Remote) {
        let before = self.instance.turn(None, |core| {
            let mut guard = core.endpoint.stream(StreamId(stream))?;
            guard.reroute(Instant::now(), self.id(), remote).ok()?;
            drop(guard);
            let user = core.streams.get_mut(&StreamId(stream))?;
            Some(std::mem::replace(&mut user.socket, Arc::clone(&self.guard)))
        });
        // Outside the lock: it may be the last handle of that socket.
        drop(before);
    }

    /// Completes when there is no such stream any more, or it is over.
    pub(crate) async fn stream_closed(&self, stream: u32) {
        poll_fn(|context| {
            self.instance.with(|core| match core.streams.get_mut(&StreamId(stream)) {
                Some(user) if user.progress.closed.is_none() => {
                    user.wake_other(context.waker());
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            })
        })
        .await;
    }

    /// Gives a packet to the stream that it names, as if it had arrived on this socket now.
    pub(crate) fn deliver(&self, from: SocketAddr, packet: &[u8]) {
        self.instance.turn(None, |core| {
            core.endpoint.handle_datagram(Instant::now(), self.id(), from, packet);
        });
    }

    /// An error if the socket's task has ended, so that nothing would ever leave or arrive.
    pub(super) fn check_open(&self) -> Result<(), StreamError> {
        self.guard.is_open().then_some(()).ok_or(StreamError::SocketClosed)
    }
}

impl std::fmt::Debug for UdxSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UdxSocket({})", self.local_address())
    }
}
