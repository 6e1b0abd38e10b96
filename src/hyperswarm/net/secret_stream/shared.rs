//! What the handles of one stream share.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::task::AtomicWaker;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::error::StreamError;
use super::transport::Transport;
use crate::crypto::PublicKey;
use crate::crypto::noise::Keys;
use crate::secret_stream::{Error, KeepAlive, MessageOpener, MessageSealer, MessageTooLong, Sender};

/// How much went over a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames sent after the header, keep-alives included.
    pub frames_sent: u64,
    /// Frames received after the header, keep-alives included.
    pub frames_received: u64,
    /// Bytes given to the transport or waiting for it, after the handshake.
    pub bytes_sent: u64,
    /// Bytes taken from the transport, after the handshake.
    pub bytes_received: u64,
}

pub(super) struct Shared<T> {
    pub(super) transport: T,
    writing: Mutex<Writing>,
    wakers: Arc<Wakers>,
    /// Wakes everybody in `wakers`.
    waker: Waker,
    pub(super) initiator: bool,
    pub(super) peer: PublicKey,
    pub(super) handshake_hash: [u8; 64],
    frames_received: AtomicU64,
    bytes_received: AtomicU64,
    pub(super) sealer: Mutex<MessageSealer>,
    pub(super) opener: MessageOpener,
    pub(super) keeper: OnceLock<AbortHandle>,
}

/// The sending side. Whoever holds the lock may seal and write.
struct Writing {
    sender: Sender,
    /// Sealed, and not taken by the transport yet. Senders wait until it is empty, so that it holds what one of them
    /// sealed and possibly a keep-alive.
    pending: VecDeque<Bytes>,
    keep_alive: KeepAlive,
    over: Option<Over>,
    bytes_sent: u64,
}

/// Why nothing can be sent any more.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Finished,
    Destroyed,
    Protocol(Error),
    TimedOut(Duration),
    /// The transport.
    Failed(io::ErrorKind),
}

/// Who waits for room in the transport.
#[derive(Default)]
struct Wakers {
    sender: AtomicWaker,
    keeper: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.sender.wake();
        self.keeper.wake();
    }
}

/// Who asks for progress.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Sender,
    Keeper,
}

impl<T: Transport> Shared<T> {
    pub(super) fn new(
        transport: T,
        keys: &Keys,
        (sender, header): (Sender, Bytes),
        sealer: MessageSealer,
        keep_alive: Option<Duration>,
    ) -> Arc<Self> {
        let wakers = Arc::new(Wakers::default());
        let writing = Writing {
            sender,
            bytes_sent: header.len() as u64,
            pending: VecDeque::from([header]),
            keep_alive: KeepAlive::new(Instant::now().into_std(), keep_alive),
            over: None,
        };
        Arc::new(Self {
            transport,
            writing: Mutex::new(writing),
            waker: Waker::from(Arc::clone(&wakers)),
            wakers,
            initiator: keys.initiator,
            peer: keys.remote,
            handshake_hash: keys.handshake_hash,
            frames_received: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            sealer: Mutex::new(sealer),
            opener: MessageOpener::new(keys),
            keeper: OnceLock::new(),
        })
    }

    /// Seals with `seal` when everything sealed before is gone, and gives as much of it to the transport as that
    /// takes.
    pub(super) fn poll_seal<R>(
        &self,
        context: &mut Context<'_>,
        seal: impl FnOnce(&mut Sender, &mut Vec<u8>) -> Result<R, MessageTooLong>,
    ) -> Poll<Result<R, StreamError>> {
        self.register(Asker::Sender, context);
        let mut writing = self.writing.lock();
        ready!(self.drive(&mut writing))?;
        let result = writing.seal(seal)?;
        // What does not fit waits; an error shows with the next call.
        let _ = self.drive(&mut writing);
        Poll::Ready(Ok(result))
    }

    /// As [`poll_seal`](Self::poll_seal), for who waited with [`poll_drained`](Self::poll_drained) before. The rest of
    /// it goes with the next call, or with the keeper.
    pub(super) fn seal<R>(
        &self,
        seal: impl FnOnce(&mut Sender, &mut Vec<u8>) -> Result<R, MessageTooLong>,
    ) -> Result<R, StreamError> {
        let mut writing = self.writing.lock();
        if let Some(over) = writing.over {
            return Err(self.explain(over));
        }
        let result = writing.seal(seal)?;
        // What does not fit waits; an error shows with the next call.
        let _ = self.drive(&mut writing);
        Ok(result)
    }

    /// Waits until the transport has everything that was sealed.
    pub(super) fn poll_drained(&self, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.register(Asker::Sender, context);
        self.drive(&mut self.writing.lock())
    }

    pub(super) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        ready!(self.poll_drained(context))?;
        self.transport.poll_flush(&mut Context::from_waker(&self.waker)).map_err(StreamError::from)
    }

    /// Ends the own direction; completes when the transport has done so.
    pub(super) fn poll_finish(&self, context: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.register(Asker::Sender, context);
        {
            let mut writing = self.writing.lock();
            if !matches!(writing.over, Some(Over::Finished)) {
                ready!(self.drive(&mut writing))?;
                writing.keep_alive.stop();
                writing.over = Some(Over::Finished);
            }
        }
        self.transport.poll_finish(&mut Context::from_waker(&self.waker)).map_err(StreamError::from)
    }

    /// Sends what is pending, and an empty message if it is time. Returns when to come back without being woken, or
    /// `None` when there is nothing to do any more.
    pub(super) fn keep(&self, context: &mut Context<'_>) -> Option<Keep> {
        self.register(Asker::Keeper, context);
        let mut writing = self.writing.lock();
        match self.drive(&mut writing) {
            Poll::Ready(Err(_)) => return None,
            Poll::Ready(Ok(())) if writing.keep_alive.is_due(Instant::now().into_std()) => {
                writing.seal(|sender, out| sender.seal(&[], out)).ok()?;
                if let Poll::Ready(Ok(())) = self.drive(&mut writing) {
                    // It is for now, not for when more is written. Errors show with the next call.
                    let _ = self.transport.poll_flush(&mut Context::from_waker(&self.waker));
                }
            }
            // While something waits for room, the peer is being sent to.
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        match writing.keep_alive.deadline() {
            Some(deadline) if writing.pending.is_empty() => Some(Keep::Until(deadline.into())),
            _ => Some(Keep::WhenWoken),
        }
    }

    /// Sends an empty message, if nothing waits to be sent anyway.
    pub(super) fn keep_alive_now(&self) {
        let mut writing = self.writing.lock();
        if let Poll::Ready(Ok(())) = self.drive(&mut writing)
            && writing.seal(|sender, out| sender.seal(&[], out)).is_ok()
            && let Poll::Ready(Ok(())) = self.drive(&mut writing)
        {
            // Errors show with the next call.
            let _ = self.transport.poll_flush(&mut Context::from_waker(&self.waker));
        }
    }

    /// Ends both directions. The first reason stays.
    pub(super) fn destroy(&self, reason: Over) {
        {
            let mut writing = self.writing.lock();
            writing.keep_alive.stop();
            writing.pending.clear();
            if matches!(writing.over, None | Some(Over::Finished)) {
                writing.over = Some(reason);
            }
        }
        self.transport.destroy();
        self.waker.wake_by_ref();
    }

    pub(super) fn received_bytes(&self, bytes: usize) {
        self.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received_frames(&self, frames: u64) {
        self.frames_received.store(frames, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> Counters {
        let writing = self.writing.lock();
        Counters {
            frames_sent: writing.sender.frames(),
            frames_received: self.frames_received.load(Ordering::Relaxed),
            bytes_sent: writing.bytes_sent,
            bytes_received: self.bytes_received.load(Ordering::Relaxed),
        }
    }

    /// What a receiver reports once the stream was destroyed from elsewhere.
    pub(super) fn destroyed(&self) -> Option<StreamError> {
        match self.writing.lock().over {
            None | Some(Over::Finished) => None,
            Some(over) => Some(self.explain(over)),
        }
    }

    fn explain(&self, over: Over) -> StreamError {
        match over {
            Over::Finished => StreamError::Finished,
            Over::Destroyed => StreamError::Destroyed,
            Over::Protocol(error) => StreamError::Protocol { peer: self.peer, error },
            Over::TimedOut(after) => StreamError::TimedOut(after),
            Over::Failed(kind) => StreamError::Transport(kind.into()),
        }
    }

    /// Before trying, so that no wake-up falls between the attempt and the registration.
    fn register(&self, asker: Asker, context: &mut Context<'_>) {
        match asker {
            Asker::Sender => self.wakers.sender.register(context.waker()),
            Asker::Keeper => self.wakers.keeper.register(context.waker()),
        }
    }

    /// Gives the transport what is pending.
    fn drive(&self, writing: &mut Writing) -> Poll<Result<(), StreamError>> {
        if let Some(over) = writing.over {
            return Poll::Ready(Err(self.explain(over)));
        }
        let mut context = Context::from_waker(&self.waker);
        while let Some(chunk) = writing.pending.front_mut() {
            if chunk.is_empty() {
                writing.pending.pop_front();
            } else {
                ready!(self.transport.poll_write_chunk(&mut context, chunk))?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// When the keeper has to look again.
pub(super) enum Keep {
    Until(Instant),
    WhenWoken,
}

impl Writing {
    fn seal<R>(
        &mut self,
        seal: impl FnOnce(&mut Sender, &mut Vec<u8>) -> Result<R, MessageTooLong>,
    ) -> Result<R, MessageTooLong> {
        let mut out = Vec::new();
        let result = seal(&mut self.sender, &mut out)?;
        self.bytes_sent += out.len() as u64;
        self.pending.push_back(out.into());
        self.keep_alive.sent(Instant::now().into_std());
        Ok(result)
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}
