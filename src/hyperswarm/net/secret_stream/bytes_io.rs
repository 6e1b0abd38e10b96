//! Secret streams as streams of bytes: what is written is cut into frames of 64 KiB.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::receiver::SecretReceiver;
use super::sender::SecretSender;
use super::stream::SecretStream;
use super::transport::Transport;
use crate::limits::SECRET_WRITE_BYTES;

impl<T: Transport> AsyncRead for SecretReceiver<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.poll_message(context)) {
                Some(message) => self.rest = message?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.rest.len().min(out.remaining());
        out.put_slice(&self.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for SecretSender<T> {
    /// Completes when the bytes are sealed; what the transport has no room for yet is sent without further calls.
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = bytes.get(..SECRET_WRITE_BYTES).unwrap_or(bytes);
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sealed = ready!(self.shared.poll_seal(context, |sender, out| {
            sender.seal_bytes(bytes, out);
            Ok(bytes.len())
        }));
        Poll::Ready(Ok(sealed?))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.poll_flush(context).map_err(io::Error::from)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.poll_finish(context).map_err(io::Error::from)
    }
}

impl<T: Transport> AsyncRead for SecretStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.halves().1).poll_read(context, out)
    }
}

impl<T: Transport> AsyncWrite for SecretStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.halves().0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.halves().0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.halves().0).poll_shutdown(context)
    }
}
