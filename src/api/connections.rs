//! The table of open connections, bounded, and who has to go when it is full.
//!
//! A connection either waits for its client (a request's head or body is still to come, or the client does not
//! read its answer) or works for it. When the table is full, the connection that has kept us waiting longest is closed
//! for the newcomer; so clients that trickle bytes can occupy the table, but never keep a real client out. Connections
//! at work are not closed; `state` lets fewer long requests begin than the table has places.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// An answer nobody reads makes its connection a candidate only after this long: a busy disk at the other end is
/// no attack.
const STALL_GRACE: Duration = Duration::from_secs(10);

/// All open connections.
pub(crate) struct Connections {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last_id: u64,
    patience: HashMap<u64, Arc<Patience>>,
}

impl Connections {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: Mutex::default() })
    }

    /// A place for a new connection, made if need be by closing another. None: all are at work.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Slot> {
        let now = Instant::now();
        let mut open = self.open.lock();
        if open.patience.len() >= self.limit {
            let (id, _) = open
                .patience
                .iter()
                .filter_map(|(id, patience)| Some((*id, patience.waiting_since(now)?)))
                .min_by_key(|(id, since)| (*since, *id))?;
            if let Some(closed) = open.patience.remove(&id) {
                closed.closed.cancel();
            }
        }
        open.last_id += 1;
        let id = open.last_id;
        let patience = Arc::new(Patience {
            waits: Mutex::new(Waits { request: Some(now), reader: None }),
            closed: CancellationToken::new(),
        });
        open.patience.insert(id, patience.clone());
        Some(Slot { id, table: self.clone(), patience })
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.open.lock().patience.len()
    }
}

/// A place in the table, given back when dropped.
pub(crate) struct Slot {
    id: u64,
    table: Arc<Connections>,
    /// What this connection is waiting for.
    pub(crate) patience: Arc<Patience>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.table.open.lock().patience.remove(&self.id);
    }
}

/// What one connection is waiting for.
pub(crate) struct Patience {
    waits: Mutex<Waits>,
    closed: CancellationToken,
}

struct Waits {
    /// For (the rest of) a request, since then.
    request: Option<Instant>,
    /// For the client to read, since then.
    reader: Option<Instant>,
}

impl Patience {
    /// The request is complete: from now on the client waits for us, until the answer's body is gone.
    pub(crate) fn working(self: &Arc<Self>) -> Working {
        self.waits.lock().request = None;
        Working { patience: self.clone() }
    }

    /// Resolves when the place was given to somebody else.
    pub(crate) async fn taken(&self) {
        self.closed.cancelled().await;
    }

    fn waiting_since(&self, now: Instant) -> Option<Instant> {
        let waits = self.waits.lock();
        waits.request.or(waits.reader.filter(|since| now.duration_since(*since) >= STALL_GRACE))
    }

    fn reader_is_slow(&self, slow: bool) {
        let mut waits = self.waits.lock();
        match (slow, waits.reader) {
            (true, None) => waits.reader = Some(Instant::now()),
            (false, Some(_)) => waits.reader = None,
            _ => {}
        }
    }
}

/// Held while a request is answered; afterwards the connection waits for its next request.
pub(crate) struct Working {
    patience: Arc<Patience>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.patience.waits.lock().request = Some(Instant::now());
    }
}

/// A socket that notes in its [`Patience`] when the other end does not read.
pub(crate) struct Watched<S> {
    pub(crate) socket: S,
    pub(crate) patience: Arc<Patience>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.patience.reader_is_slow(written.is_pending());
        written
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.patience.reader_is_slow(written.is_pending());
        written
    }
    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(slot: &Slot) -> bool {
        slot.patience.closed.is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_closes_whoever_waited_longest() {
        let table = Connections::new(3);
        let mut slots = Vec::new();
        for _ in 0..3 {
            slots.push(table.admit().unwrap());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(!slots.iter().any(is_taken), "at the limit everybody stays");
        // The oldest is at work, so the second has to go.
        let _working = slots[0].patience.working();
        let newcomer = table.admit().unwrap();
        assert_eq!(slots.iter().map(is_taken).collect::<Vec<_>>(), [false, true, false]);
        assert!(!is_taken(&newcomer));
        assert_eq!(table.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_at_work_is_closed_until_its_client_stops_reading() {
        let table = Connections::new(1);
        let slot = table.admit().unwrap();
        let working = slot.patience.working();
        assert!(table.admit().is_none(), "the only one is at work");
        slot.patience.reader_is_slow(true);
        tokio::time::advance(STALL_GRACE - Duration::from_millis(1)).await;
        assert!(table.admit().is_none(), "a short pause is no attack");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(table.admit().is_some());
        assert!(is_taken(&slot));
        drop(working);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_comes_back_when_its_connection_ends() {
        let table = Connections::new(1);
        let slot = table.admit().unwrap();
        let _working = slot.patience.working();
        drop(slot);
        assert!(table.admit().is_some());
    }
}
