//! UDX streams as transports, with their unordered messages.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::transport::{Transport, Unordered};
use crate::net::udx::UdxStream;

impl Transport for UdxStream {
    fn poll_read_chunk(&self, context: &mut Context<'_>, max: usize) -> Poll<io::Result<Option<Bytes>>> {
        self.poll_read_chunk(context, max)
    }

    fn poll_write_chunk(&self, context: &mut Context<'_>, chunk: &mut Bytes) -> Poll<io::Result<()>> {
        self.poll_write_chunk(context, chunk)
    }

    fn poll_flush(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.flush_now())
    }

    fn poll_finish(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(context)
    }

    fn destroy(&self) {
        self.destroy();
    }
}

impl Unordered for UdxStream {
    fn send_message(&self, message: Bytes) -> io::Result<()> {
        self.send_message(message)
    }

    fn poll_receive_message(&self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.poll_receive_message(context)
    }
}
