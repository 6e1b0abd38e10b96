//! A UDP socket with the DHT node behind it. uTP will be the second machine behind it.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use tokio::net::UdpSocket;

use super::demux::{Protocol, protocol};
use crate::dht::v2::Node;
use crate::limits::MAX_DHT_DATAGRAM_BYTES;
use crate::limits::v2::UDP_BATCH;

pub(super) struct Endpoint {
    socket: UdpSocket,
    pub(super) node: Node,
    buffer: Box<[u8]>,
}

impl Endpoint {
    pub(super) fn new(socket: UdpSocket, node: Node) -> Self {
        Self { socket, node, buffer: vec![0; MAX_DHT_DATAGRAM_BYTES + 1].into() }
    }

    /// Resolves when there is something to [`Endpoint::receive`]. May be dropped and called again at any time.
    pub(super) async fn readable(&self) {
        // An error here would be that the socket is not registered with the runtime, which it always is.
        let _ = self.socket.readable().await;
    }

    /// Gives the waiting datagrams to the machines, a bounded number, so that a flood cannot keep the task from its
    /// other work. Returns how many there were.
    pub(super) fn receive(&mut self, now: Instant) -> usize {
        for handled in 0..UDP_BATCH {
            let (length, from) = match self.socket.try_recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return handled,
                // Some systems report here what happened to datagrams sent earlier.
                Err(_) => continue,
            };
            // One byte more than the largest datagram: what fills it was cut off.
            let (SocketAddr::V4(from), Some(bytes)) =
                (from, self.buffer.get(..length.min(MAX_DHT_DATAGRAM_BYTES + 1)))
            else {
                continue;
            };
            if length > MAX_DHT_DATAGRAM_BYTES || from.port() == 0 {
                continue;
            }
            match protocol(bytes) {
                Some(Protocol::Dht) => self.node.handle_datagram(now, from, bytes),
                // Nobody listens for uTP yet, and silence tells the other side what a RESET would, only later.
                Some(Protocol::Utp) | None => {}
            }
        }
        UDP_BATCH
    }

    /// Sends what the node has to send. A datagram that cannot be sent is lost, as any other may be.
    pub(super) async fn transmit(&mut self) {
        while let Some(transmit) = self.node.poll_transmit() {
            if let Err(error) = self.socket.send_to(&transmit.payload, transmit.to).await {
                tracing::debug!(to = %transmit.to, %error, "could not send a DHT message");
            }
        }
    }
}
