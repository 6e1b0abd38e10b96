//! A stream for everything that reads and writes bytes with tokio.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::UdxStream;

/// Bytes copied from a writer's buffer at a time.
const COPIED_AT_ONCE: usize = 64 * 1024;

impl AsyncRead for UdxStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(chunk) = ready!(self.poll_read_chunk(context, into.remaining()))? {
            into.put_slice(&chunk);
        }
        Poll::Ready(Ok(()))
    }
}

/// Flushing sends what was written, without waiting for it to arrive; shutting down waits until the peer has it all.
impl AsyncWrite for UdxStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_write_with(context, |room| {
            let length = bytes.len().min(room).min(COPIED_AT_ONCE);
            Bytes::copy_from_slice(bytes.get(..length).unwrap_or(bytes))
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.flush_now())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(context)
    }
}
