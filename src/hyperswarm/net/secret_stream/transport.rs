//! What a secret stream runs on.

use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::io::poll_read_buf;

/// Bytes read at first; doubled when a read fills them, halved when it leaves most of them.
const SMALLEST_READ: usize = 4096;

/// Ordered bytes in both directions. Methods take `&self`, so that one task may read while another writes; of each
/// kind, only the task that polled last is woken.
pub trait Transport: Send + Sync + 'static {
    /// The next bytes, at most `max`; none when the peer has ended.
    fn poll_read_chunk(&self, context: &mut Context<'_>, max: usize) -> Poll<io::Result<Option<Bytes>>>;

    /// Takes at least a byte from the front of `chunk`, which is not empty.
    fn poll_write_chunk(&self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>>;

    /// Lets what was written leave without waiting for more.
    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends the own direction after what was written.
    fn poll_finish(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Ends both directions at once; the peer hears of it if the transport can tell.
    fn destroy(&self);
}

/// A transport that carries messages beside the ordered bytes, each arriving once, several times or never.
pub trait Unordered: Transport {
    /// Sends a message.
    fn send_message(&self, message: Bytes) -> io::Result<()>;

    /// The next message that arrived.
    fn poll_receive_message(&self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>>;
}

/// Anything that is read and written, as a transport: TCP, pipes in memory.
pub struct ByteStream<S> {
    reading: Mutex<Option<Reading<S>>>,
    writing: Mutex<Option<WriteHalf<S>>>,
    /// Who waits for bytes: dropping a stream wakes nobody.
    reader: AtomicWaker,
}

struct Reading<S> {
    stream: ReadHalf<S>,
    buffer: BytesMut,
    next_read: usize,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> ByteStream<S> {
    /// Takes the stream over.
    pub fn new(stream: S) -> Self {
        let (stream, writing) = tokio::io::split(stream);
        let reading = Reading { stream, buffer: BytesMut::new(), next_read: SMALLEST_READ };
        Self {
            reading: Mutex::new(Some(reading)),
            writing: Mutex::new(Some(writing)),
            reader: AtomicWaker::new(),
        }
    }

    fn write<T>(
        &self,
        action: impl FnOnce(Pin<&mut WriteHalf<S>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.writing.lock() {
            Some(stream) => action(Pin::new(stream)),
            None => Poll::Ready(Err(destroyed())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Transport for ByteStream<S> {
    fn poll_read_chunk(&self, context: &mut Context<'_>, max: usize) -> Poll<io::Result<Option<Bytes>>> {
        self.reader.register(context.waker());
        match &mut *self.reading.lock() {
            Some(reading) => reading.poll(context, max),
            None => Poll::Ready(Err(destroyed())),
        }
    }

    fn poll_write_chunk(&self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        self.write(|stream| {
            stream.poll_write(context, chunk).map(|written| match written? {
                0 => Err(io::ErrorKind::WriteZero.into()),
                written => {
                    chunk.advance(written);
                    Ok(())
                }
            })
        })
    }

    fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|stream| stream.poll_flush(context))
    }

    fn poll_finish(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|stream| stream.poll_shutdown(context))
    }

    /// Closes it. TCP tells the peer by a reset if something was not read, else by an ordinary end.
    fn destroy(&self) {
        let halves = (self.reading.lock().take(), self.writing.lock().take());
        drop(halves);
        self.reader.wake();
    }
}

impl<S: AsyncRead> Reading<S> {
    fn poll(&mut self, context: &mut Context<'_>, max: usize) -> Poll<io::Result<Option<Bytes>>> {
        let room = self.next_read.min(max);
        // Takes the same memory again if the last chunk is not in use any more, and may make more room than asked.
        self.buffer.reserve(room);
        let mut limited = (&mut self.buffer).limit(room);
        let read = match poll_read_buf(Pin::new(&mut self.stream), context, &mut limited) {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                // An idle stream keeps no buffer.
                self.buffer = BytesMut::new();
                return Poll::Pending;
            }
        };
        if read == room {
            self.next_read = self.next_read.saturating_mul(2).min(max);
        } else if read < self.next_read / 4 {
            self.next_read = (self.next_read / 2).max(SMALLEST_READ);
        }
        Poll::Ready(Ok((read > 0).then(|| self.buffer.split().freeze())))
    }
}

fn destroyed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "stream was destroyed")
}
