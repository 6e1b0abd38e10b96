//! A stream as its user has it.

mod byte_stream;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use tokio::task::coop::poll_proceed;

use super::error::StreamError;
use super::handle::UdxSocket;
use super::instance::{Core, Instance};
use super::path_mtu::path_mtu;
use super::user::Progress;
use crate::net::udp::{Handle, SocketId};
use crate::udx::{Closed, Firewall, Remote, StateError, Stats, StreamGuard, StreamId};

/// A reliable stream of bytes in both directions, with unordered messages beside it.
///
/// One task may read, one may write and one may wait for messages at the same time: the methods take `&self`. Who reads
/// more than a turn's worth yields to other tasks, as with tokio's own streams.
/// Dropping it destroys it: the peer sees a reset, unless both sides had ended. To end in order:
/// [`finish`](Self::finish), read to the end, drop; or [`close`](Self::close). The socket then stays bound for up to 3.5 s
/// after its last user has gone, for a peer that has missed our last acknowledgement.
pub struct UdxStream {
    instance: Arc<Instance>,
    id: StreamId,
}

/// Where a packet came from: the first one to a stream that was not connected, or one from elsewhere than its peer.
#[derive(Clone, Debug)]
pub struct Contact {
    /// The socket it came in on.
    pub socket: UdxSocket,
    /// Its sender.
    pub from: SocketAddr,
}

impl UdxStream {
    pub(super) fn new(instance: Arc<Instance>, id: StreamId) -> Self {
        Self { instance, id }
    }

    /// The id the peer has to know.
    pub fn id(&self) -> u32 {
        self.id.0
    }

    /// Says who the peer is: its id of the stream and its address. Nothing is sent by this alone, except
    /// acknowledgements of what came in before.
    pub fn connect(&self, remote_id: u32, address: SocketAddr) -> io::Result<()> {
        let socket = self.socket()?;
        self.connect_on(&self.with_instance(socket), remote_id, address)
    }

    /// As [`connect`](Self::connect), with another socket of the same instance; a socket of another one is refused.
    pub fn connect_on(&self, socket: &UdxSocket, remote_id: u32, address: SocketAddr) -> io::Result<()> {
        let remote = remote(socket, remote_id, address);
        self.change(socket, |stream, now| stream.connect(now, socket.id(), remote))
    }

    /// Moves the stream to another address, and possibly another socket of the same instance: new packets go there
    /// at once. Completes when the peer has everything that was sent to the old one.
    pub async fn change_remote(
        &self,
        socket: &UdxSocket,
        remote_id: u32,
        address: SocketAddr,
    ) -> io::Result<()> {
        let remote = remote(socket, remote_id, address);
        let before = self
            .instance
            .with(|core| core.streams.get(&self.id).map_or(0, |user| user.progress.remote_changes));
        self.change(socket, |stream, now| stream.change_remote(now, socket.id(), remote))?;
        poll_fn(|context| {
            self.poll_progress(context, |progress| (progress.remote_changes > before).then_some(()))
        })
        .await
    }

    /// Forwards every packet that arrives for this stream to the peer of `destination`, unchanged but for the id. Both
    /// must be of the same instance.
    pub fn relay_to(&self, destination: &UdxStream) -> io::Result<()> {
        self.check_instance(&destination.instance)?;
        self.act(|stream, _| {
            stream.relay_to(destination.id);
            Ok(())
        })
    }

    /// The first packet that came in before the stream was connected, as soon as there is one.
    pub async fn first_contact(&self) -> io::Result<Contact> {
        let path = poll_fn(|context| self.poll_progress(context, |progress| progress.contact)).await?;
        self.contact(path)
    }

    /// The next packet that comes from elsewhere than the peer's address, or on another socket than the stream's, and
    /// could be the peer's: see [`Event::OtherPath`](crate::udx::Event::OtherPath). A path is told of once; after that call
    /// again to hear of it, or of another one, again. One heard before the call is told of at once.
    ///
    /// It proves nothing: somebody who has seen packets of the stream can forge one. Prove the path before
    /// [`change_remote`](Self::change_remote).
    pub async fn other_path(&self) -> io::Result<Contact> {
        let path = poll_fn(|context| {
            loop {
                if let Some(path) = self.instance.with(|core| core.take_other_path(self.id)) {
                    return Poll::Ready(Ok::<_, io::Error>(path));
                }
                ready!(self.poll_progress(context, |progress| progress.other_path))?;
            }
        });
        self.contact(path.await?)
    }

    fn contact(&self, (socket, from): (SocketId, SocketAddr)) -> io::Result<Contact> {
        let guard = self.instance.with(|core| core.socket(socket)).map_or_else(|| self.socket(), Ok)?;
        Ok(Contact { socket: self.with_instance(guard), from })
    }

    /// The socket that it uses.
    pub(crate) fn socket_id(&self) -> SocketId {
        let socket = self.instance.with(|core| Some(core.streams.get(&self.id)?.socket.id()));
        socket.unwrap_or(SocketId(u32::MAX))
    }

    /// Completes when the first bytes of the peer, or its end, have arrived.
    pub(crate) async fn heard(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_progress(context, |progress| progress.heard.then_some(()))).await
    }

    /// Lets in other peers from now on: see [`StreamOptions::firewall`](crate::udx::StreamOptions::firewall).
    pub fn set_firewall(&self, firewall: Firewall) -> io::Result<()> {
        self.act(|stream, _| {
            stream.set_firewall(firewall);
            Ok(())
        })
    }

    /// The next bytes, without copying; none when the peer has ended.
    pub async fn read_chunk(&self) -> io::Result<Option<Bytes>> {
        poll_fn(|context| self.poll_read_chunk(context, usize::MAX)).await
    }

    /// As [`read_chunk`](Self::read_chunk): at most `max` bytes.
    pub fn poll_read_chunk(&self, context: &mut Context<'_>, max: usize) -> Poll<io::Result<Option<Bytes>>> {
        let coop = ready!(poll_proceed(context));
        let (outcome, due) = self.instance.with(|core| {
            // An acknowledgement that waits already leaves with this reader's answer, see `driver`.
            let waits = core.waiting(self.id).is_some();
            if let Some(bytes) = core.endpoint.stream(self.id).and_then(|mut stream| stream.read(max)) {
                // The peer may wait to hear that there is room again.
                return (Poll::Ready(Ok(Some(bytes))), if waits { None } else { core.due(self.id) });
            }
            let Some(user) = core.streams.get_mut(&self.id) else {
                return (Poll::Ready(Err(self.gone())), None);
            };
            if user.progress.ended {
                return (Poll::Ready(Ok(None)), None);
            }
            if let Some(reason) = user.progress.closed {
                return (Poll::Ready(Err(Closed { stream: self.id, reason }.into())), None);
            }
            set_waker(&mut user.reader, context);
            (Poll::Pending, core.waiting(self.id))
        });
        self.transmit(due);
        outcome.map(|result| {
            coop.made_progress();
            Ok(result?)
        })
    }

    /// Writes all of `chunk` without copying it; waits while the stream has no room.
    pub async fn write_chunk(&self, mut chunk: Bytes) -> io::Result<()> {
        while !chunk.is_empty() {
            poll_fn(|context| self.poll_write_chunk(context, &mut chunk)).await?;
        }
        Ok(())
    }

    /// Takes as much from the front of `chunk` as the stream has room for, at least a byte. It leaves by itself at
    /// the end of the caller's turn; full packets possibly before.
    pub fn poll_write_chunk(&self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        let outcome = self.poll_write_with(context, |room| chunk.split_to(room.min(chunk.len())));
        outcome.map(|result| result.map(drop))
    }

    /// Writes what `take` makes of the room there is; returns how much that was.
    fn poll_write_with(
        &self,
        context: &mut Context<'_>,
        take: impl FnOnce(usize) -> Bytes,
    ) -> Poll<io::Result<usize>> {
        let outcome = self.instance.with(|core| {
            if let Err(error) = self.writable(core) {
                return Poll::Ready(Err(error));
            }
            let Some(mut stream) = core.endpoint.stream(self.id) else {
                return Poll::Ready(Err(self.gone()));
            };
            let room = stream.send_room();
            if room == 0 {
                drop(stream);
                if let Some(user) = core.streams.get_mut(&self.id) {
                    set_waker(&mut user.writer, context);
                }
                return Poll::Pending;
            }
            let chunk = take(room);
            let length = chunk.len();
            stream.write(Instant::now(), chunk);
            drop(stream);
            Poll::Ready(Ok((length, core.written(self.id, length))))
        });
        outcome.map(|result| {
            let (length, nudge) = result?;
            nudge.act(&self.instance);
            Ok(length)
        })
    }

    /// Sends what was written, now.
    pub fn flush_now(&self) -> io::Result<()> {
        self.act(|stream, _| {
            stream.flush();
            Ok(())
        })
    }

    /// Ends the sending side after what was written; completes when the peer has it all. The other side goes on.
    pub async fn finish(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_finish(context)).await
    }

    /// See [`finish`](Self::finish).
    pub fn poll_finish(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.start_finish()?;
        self.poll_progress(context, |progress| (progress.finished || progress.over()).then_some(()))
    }

    /// Ends the sending side, throws away what else arrives, and waits until both sides have ended.
    pub async fn close(self) -> io::Result<()> {
        self.finish().await?;
        while self.read_chunk().await?.is_some() {}
        Ok(())
    }

    /// Completes when the stream is over: `Ok` if both sides ended.
    pub async fn closed(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_progress(context, |progress| progress.over().then_some(()))).await
    }

    /// Ends both directions at once; the peer is told, once. What was not acknowledged may be lost.
    pub fn destroy(&self) {
        // It fails if the stream is gone, which is what was wanted.
        let _ = self.act(|stream, _| {
            stream.destroy();
            Ok(())
        });
    }

    /// Sends an unordered message in a datagram of its own. It arrives once, several times or never.
    pub fn send_message(&self, message: Bytes) -> io::Result<()> {
        let due = self.instance.with(|core| {
            let mut stream = core.endpoint.stream(self.id).ok_or_else(|| self.gone())?;
            stream.send_message(message)?;
            drop(stream);
            Ok::<_, StreamError>(core.due(self.id))
        })?;
        self.transmit(due);
        Ok(())
    }

    /// The next unordered message.
    pub async fn receive_message(&self) -> io::Result<Bytes> {
        poll_fn(|context| self.poll_receive_message(context)).await
    }

    /// See [`receive_message`](Self::receive_message).
    pub fn poll_receive_message(&self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let coop = ready!(poll_proceed(context));
        let outcome = self.instance.with(|core| {
            if let Some(message) = core.endpoint.stream(self.id).and_then(|mut stream| stream.read_message())
            {
                return Poll::Ready(Ok(message));
            }
            let Some(user) = core.streams.get_mut(&self.id) else {
                return Poll::Ready(Err(self.gone().into()));
            };
            if let Some(reason) = user.progress.closed {
                return Poll::Ready(Err(StreamError::from(Closed { stream: self.id, reason }).into()));
            }
            set_waker(&mut user.messages, context);
            Poll::Pending
        });
        outcome.map(|result| {
            coop.made_progress();
            result
        })
    }

    /// How it fares.
    pub fn stats(&self) -> Stats {
        self.instance
            .with(|core| core.endpoint.stream(self.id).map(|stream| stream.stats()).unwrap_or_default())
    }

    /// Numbers of sockets and streams mean something else in another instance.
    fn check_instance(&self, other: &Arc<Instance>) -> Result<(), StreamError> {
        match Arc::ptr_eq(&self.instance, other) {
            true => Ok(()),
            false => Err(StreamError::OtherInstance(self.id)),
        }
    }

    fn with_instance(&self, guard: Arc<Handle>) -> UdxSocket {
        UdxSocket { instance: Arc::clone(&self.instance), guard }
    }

    /// The socket it sends on.
    fn socket(&self) -> Result<Arc<Handle>, StreamError> {
        self.instance
            .with(|core| core.streams.get(&self.id).map(|user| Arc::clone(&user.socket)))
            .ok_or_else(|| self.gone())
    }

    /// Runs an operation on the machine's stream and sends what it causes.
    fn act(
        &self,
        action: impl FnOnce(&mut StreamGuard<'_>, Instant) -> Result<(), StateError>,
    ) -> io::Result<()> {
        let due = self.instance.turn(None, |core| {
            let mut stream = core.endpoint.stream(self.id).ok_or_else(|| self.gone())?;
            action(&mut stream, Instant::now())?;
            drop(stream);
            Ok::<_, StreamError>(core.due(self.id))
        })?;
        self.transmit(due);
        Ok(())
    }

    /// Sets the stream's remote with `action`, from when on it uses `socket`.
    fn change(
        &self,
        socket: &UdxSocket,
        action: impl FnOnce(&mut StreamGuard<'_>, Instant) -> Result<(), StateError>,
    ) -> io::Result<()> {
        self.check_instance(&socket.instance)?;
        self.instance.turn(None, |core| {
            socket.check_open()?;
            let mut stream = core.endpoint.stream(self.id).ok_or_else(|| self.gone())?;
            let connected = stream.remote().is_some();
            action(&mut stream, Instant::now())?;
            drop(stream);
            if let Some(user) = core.streams.get_mut(&self.id) {
                let before = std::mem::replace(&mut user.socket, Arc::clone(&socket.guard));
                user.old = connected.then_some(before);
            }
            Ok::<_, StreamError>(())
        })?;
        self.transmit(Some(Arc::clone(&socket.guard)));
        Ok(())
    }

    fn start_finish(&self) -> io::Result<()> {
        let begun = self.instance.with(|core| {
            let user = core.streams.get_mut(&self.id)?;
            (user.progress.closed.is_none() && !std::mem::replace(&mut user.finishing, true)).then_some(())
        });
        match begun {
            Some(()) => self.act(|stream, now| {
                stream.finish(now);
                Ok(())
            }),
            None => Ok(()),
        }
    }

    /// Waits until `wanted` finds what it wants in the stream's progress, or the stream is over.
    fn poll_progress<T>(
        &self,
        context: &mut Context<'_>,
        wanted: impl FnOnce(&Progress) -> Option<T>,
    ) -> Poll<io::Result<T>> {
        self.instance.with(|core| {
            let Some(user) = core.streams.get_mut(&self.id) else {
                return Poll::Ready(Err(self.gone().into()));
            };
            if let Some(found) = wanted(&user.progress) {
                return Poll::Ready(Ok(found));
            }
            if let Some(reason) = user.progress.closed {
                return Poll::Ready(Err(StreamError::from(Closed { stream: self.id, reason }).into()));
            }
            user.wake_other(context.waker());
            Poll::Pending
        })
    }

    /// What keeps the stream from being written to.
    fn writable(&self, core: &Core) -> Result<(), StreamError> {
        let user = core.streams.get(&self.id).ok_or_else(|| self.gone())?;
        if let Some(reason) = user.progress.closed {
            return Err(Closed { stream: self.id, reason }.into());
        }
        if user.finishing {
            return Err(StreamError::Finished(self.id));
        }
        Ok(())
    }

    /// The machine does not know the stream any more.
    fn gone(&self) -> StreamError {
        StateError::Closed(self.id).into()
    }

    fn transmit(&self, due: Option<Arc<Handle>>) {
        if let Some(socket) = due
            && self.instance.send(&socket)
        {
            socket.wake();
        }
    }
}

impl Drop for UdxStream {
    fn drop(&mut self) {
        let user = self.instance.turn(None, |core| {
            core.endpoint.forget(self.id);
            core.streams.remove(&self.id)
        });
        let Some(user) = user else { return };
        let socket = Arc::clone(&user.socket);
        user.into_others().into_iter().for_each(Waker::wake);
        self.transmit(Some(socket));
    }
}

impl std::fmt::Debug for UdxStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UdxStream({})", self.id)
    }
}

fn remote(socket: &UdxSocket, id: u32, address: SocketAddr) -> Remote {
    Remote { id, address, path_mtu: path_mtu(socket.local_address().ip(), address) }
}

fn set_waker(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}
