//! UDX endpoints that are handed each other's datagrams at once: for tests in which the network does nothing.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use crate::udx::{Config, Endpoint, Event, OpenError, Remote, SocketId, StateError, StreamId, StreamOptions};

/// Some endpoints, by number, each with one socket.
pub struct Endpoints {
    /// The virtual time; the test lets it pass.
    pub now: Instant,
    ends: Vec<(SocketAddr, Endpoint)>,
    /// Kept for its allocation.
    buffer: Vec<u8>,
}

/// Why [`Endpoints::open`] did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetUpError {
    /// There is no endpoint of this number.
    #[error("no endpoint {0}")]
    Unknown(usize),
    /// The stream was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It was not connected.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Endpoints {
    /// The socket of every endpoint.
    pub const SOCKET: SocketId = SocketId(0);

    /// Endpoints at these addresses; each gets its number as its seed.
    pub fn new(now: Instant, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let ends = (0..).zip(addresses).map(|(seed, at)| (at, Endpoint::new(Config::default(), seed)));
        Self { now, ends: ends.collect(), buffer: Vec::with_capacity(1 << 16) }
    }

    /// The endpoint of this number.
    pub fn get(&mut self, number: usize) -> Option<&mut Endpoint> {
        self.ends.get_mut(number).map(|(_, end)| end)
    }

    /// Bytes of the buffer for datagrams.
    pub fn buffered(&self) -> usize {
        self.buffer.capacity()
    }

    /// Opens a stream, and connects it to a stream of another endpoint: `(number, id)`.
    pub fn open(&mut self, end: usize, id: u32, remote: Option<(usize, u32)>) -> Result<(), SetUpError> {
        let remote = match remote {
            None => None,
            Some((number, id)) => {
                let (address, _) = self.ends.get(number).ok_or(SetUpError::Unknown(number))?;
                Some(Remote { id, address: *address, path_mtu: 1500 })
            }
        };
        let now = self.now;
        let end = self.get(end).ok_or(SetUpError::Unknown(end))?;
        let id = end.open(now, StreamOptions { id: Some(id), ..StreamOptions::default() })?;
        if let (Some(remote), Some(mut stream)) = (remote, end.stream(id)) {
            stream.connect(now, Self::SOCKET, remote)?;
        }
        Ok(())
    }

    /// Writes and flushes; to a stream that is not there, nothing.
    pub fn write(&mut self, end: usize, id: u32, chunk: Bytes) {
        let now = self.now;
        if let Some(mut stream) = self.get(end).and_then(|end| end.stream(StreamId(id))) {
            stream.write(now, chunk);
            stream.flush();
        }
    }

    /// Everything that is due at one endpoint: timers, then datagrams, in batches of at most `batch`, which arrive at
    /// once. `hop` sees each of them, `event` the events at the receivers. True if anything left.
    pub fn turn(
        &mut self,
        from: usize,
        batch: usize,
        mut hop: impl FnMut(usize, &[u8]),
        mut event: impl FnMut(Instant, &mut Endpoint, StreamId, Event),
    ) -> bool {
        let (now, mut any) = (self.now, false);
        if let Some((_, end)) = self.ends.get_mut(from) {
            end.handle_timeout(now);
        }
        loop {
            self.buffer.clear();
            let Some((source, end)) = self.ends.get_mut(from) else { return any };
            let source = *source;
            let Some(sent) = end.poll_transmit(now, Self::SOCKET, batch, &mut self.buffer) else {
                return any;
            };
            any = true;
            let to = self.ends.iter_mut().find(|(at, _)| *at == sent.destination);
            let mut to = to.map(|(_, end)| end);
            for datagram in self.buffer.chunks(sent.segment_size) {
                hop(from, datagram);
                if let Some(to) = &mut to {
                    to.handle_datagram(now, Self::SOCKET, source, datagram);
                }
            }
            while let Some(to) = &mut to
                && let Some((id, happened)) = to.poll_event()
            {
                event(now, to, id, happened);
            }
        }
    }
}
