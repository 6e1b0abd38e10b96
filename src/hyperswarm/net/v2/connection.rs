//! A connection as the application gets it: bytes, and a place among the swarm's peers that it holds until it is dropped.

use std::io;
use std::net::SocketAddrV4;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::swarm::v2::{Slot, Standing};

/// A byte stream to a peer. The swarm counts it until its `stream` is dropped, and then dials the peer again after a
/// while if it was the one who dialled.
pub struct Connection {
    /// The bytes.
    pub stream: Pin<Box<dyn Duplex>>,
    /// The other end. Of an accepted connection it is not where the peer listens.
    pub remote: SocketAddrV4,
    /// We dialled.
    pub initiator: bool,
    /// The acceptor of this transport sends nothing until it has read something (uTP).
    pub initiator_speaks_first: bool,
    /// Outlives the stream in the hands of the part that decides about the peer.
    pub ban: Ban,
    /// Say here when the connection is of use. When all places of the swarm are taken, the one that is of the least use
    /// may lose its place to a newcomer; reading its stream then fails with [`io::ErrorKind::ConnectionAborted`].
    pub standing: Standing,
}

/// Keeps the swarm from dialling the address of a connection again.
#[derive(Clone, Debug, Default)]
pub struct Ban(Arc<AtomicBool>);

impl Ban {
    /// Do not dial this address again once the connection is closed: it is ourselves, or somebody who lied. Changes
    /// nothing for accepted connections, whose listening address nobody knows.
    pub fn ban(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_banned(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A readable and writable byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Duplex for T {}

impl Connection {
    /// The connection, and what makes its stream fail when its place is given to another.
    pub(super) fn tcp(
        stream: TcpStream,
        remote: SocketAddrV4,
        initiator: bool,
        (slot, standing): (Slot, Standing),
        closed: mpsc::Sender<Closed>,
    ) -> (Self, oneshot::Sender<()>) {
        let ban = Ban::default();
        let guard = Guard { slot, ban: ban.clone(), closed };
        let (displace, displaced) = oneshot::channel();
        let place = Place::Taken(displaced);
        let stream = Box::pin(Counted { stream, place, _guard: guard });
        (Self { stream, remote, initiator, initiator_speaks_first: false, ban, standing }, displace)
    }
}

/// Tells the swarm which slot is free again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) slot: Slot,
    pub(super) banned: bool,
}

/// Says so exactly once, when it is dropped.
struct Guard {
    slot: Slot,
    ban: Ban,
    /// Holds as many messages as there can be connections, so it is never full; closed when the swarm has ended.
    closed: mpsc::Sender<Closed>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let closed = Closed { slot: self.slot, banned: self.ban.is_banned() };
        let _ = self.closed.try_send(closed);
    }
}

struct Counted {
    stream: TcpStream,
    place: Place,
    _guard: Guard,
}

/// The place of a connection in the swarm.
enum Place {
    Taken(oneshot::Receiver<()>),
    /// The swarm has ended, and its connections go on without places.
    Kept,
    /// Somebody else has it.
    Lost,
}

impl Place {
    /// Fails if the place is lost. Else the task is woken when that happens.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Self::Taken(displaced) = self
            && let Poll::Ready(result) = Pin::new(displaced).poll(context)
        {
            *self = if result.is_ok() { Self::Lost } else { Self::Kept };
        }
        match self {
            Self::Lost => {
                let message = "the swarm gave the place of this connection to another one";
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, message))
            }
            Self::Taken(_) | Self::Kept => Ok(()),
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.place.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
