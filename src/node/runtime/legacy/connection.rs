//! The two tasks of a connection.
//!
//! Reader: socket -> frames, JSON, signature -> machine -> downloads (waiting for them). Writer: frames of the
//! machine -> signatures, several at a time on blocking threads -> socket, in order. The writer ends when the machine
//! closes the connection, after writing what was queued; the reader ends on any error, and each ends the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::future::Either;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::swarm::{Deed, SwarmHandle};
use crate::node::legacy::reader::{Direction, Incoming};
use crate::node::legacy::{ConnectionId, ConnectionInfo, ConnectionReader, OutgoingFrame};
use hyperswarm::net::v2::{Connection, Standing};

/// Frames of one connection that are prepared at the same time.
const PREPARED_AT_ONCE: usize = 4;
/// Frames of more bytes are prepared on a blocking thread: a signature over them takes longer than the way there.
const HEAVY: usize = 8 << 10;
/// Read at once from a busy connection.
const BUSY_READ: usize = 256 << 10;
/// Read at once from a quiet connection, which so needs little memory.
const QUIET_READ: usize = 4 << 10;
/// What is queued when a connection is to be closed gets this long.
const LINGER: Duration = Duration::from_secs(1);

/// After so many messages that were not even verified nothing is read from their connection for [`BREATH`]: they had to be
/// parsed. 640 a second, more than a daemon of ours can have verified and relayed.
const UNREAD_AT_ONCE: usize = 16;
const BREATH: Duration = Duration::from_millis(25);

type Stream = std::pin::Pin<Box<dyn hyperswarm::net::v2::Duplex>>;

/// Runs a connection to its end.
pub(super) async fn run(swarm: Arc<SwarmHandle>, connection: Connection) {
    let direction = if connection.initiator { Direction::Dialled } else { Direction::Accepted };
    let info = ConnectionInfo {
        direction,
        utp: connection.initiator_speaks_first,
        remote: connection.remote.into(),
    };
    let (id, outbox, closing) = swarm.connected_by(info, connection.ban);
    let (read_half, write_half) = tokio::io::split(connection.stream);
    let over = CancellationToken::new();
    let writer = write(swarm.clone(), id, connection.standing.clone(), outbox, write_half);
    let writer = tokio::spawn({
        let over = over.clone();
        async move {
            tokio::select! {
                () = writer => {}
                () = over.cancelled() => {}
            }
            over.cancel();
        }
    });
    let reader = ConnectionReader::new(swarm.protocol, swarm.signer.public(), direction);
    tokio::select! {
        () = read(&swarm, id, &connection.standing, reader, read_half) => {}
        () = over.cancelled() => {}
        () = closing.cancelled() => {}
        () = swarm.ended.cancelled() => {}
    }
    swarm.closed(id);
    // The writer's queue is closed now: it ends by itself, or is ended.
    if tokio::time::timeout(LINGER, writer).await.is_err() {
        over.cancel();
    }
}

async fn read(
    swarm: &Arc<SwarmHandle>,
    id: ConnectionId,
    standing: &Standing,
    mut reader: ConnectionReader,
    mut half: ReadHalf<Stream>,
) {
    let mut room = QUIET_READ;
    let mut unread = 0;
    loop {
        loop {
            match reader.next_worthwhile(|claim| swarm.worth(id, claim)) {
                Ok(Some(incoming)) => {
                    unread += usize::from(matches!(incoming, Incoming::Unread(_)));
                    if unread >= UNREAD_AT_ONCE {
                        unread = 0;
                        tokio::time::sleep(BREATH).await;
                    }
                    match &incoming {
                        Incoming::Broadcast(broadcast) if swarm.is_sought(broadcast) => {
                            standing.used(Instant::now());
                        }
                        Incoming::Broadcast(_) | Incoming::Known | Incoming::Ready | Incoming::KeepAlive => {
                            standing.greeted()
                        }
                        _ => {}
                    }
                    let deeds = swarm.incoming(id, incoming);
                    if deeds.iter().any(|deed| matches!(deed, Deed::Deliver(..))) {
                        standing.proven(Instant::now());
                    }
                    swarm.perform_patiently(id, deeds).await;
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(purpose = %swarm.label(), %error, "closing a connection");
                    return;
                }
            }
        }
        let buffer = reader.buffer();
        if room == QUIET_READ && buffer.is_empty() && buffer.capacity() > QUIET_READ {
            *buffer = BytesMut::new();
        }
        buffer.reserve(room);
        match half.read_buf(buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => room = if count >= QUIET_READ { BUSY_READ } else { QUIET_READ },
        }
    }
}

async fn write(
    swarm: Arc<SwarmHandle>,
    id: ConnectionId,
    standing: Standing,
    mut outbox: mpsc::Receiver<Arc<OutgoingFrame>>,
    mut half: WriteHalf<Stream>,
) {
    let mut prepared = FuturesOrdered::new();
    let mut open = true;
    while open || !prepared.is_empty() {
        tokio::select! {
            biased;
            frame = outbox.recv(), if open && prepared.len() < PREPARED_AT_ONCE => match frame {
                Some(frame) => {
                    let is_data = frame.is_own_data();
                    prepared.push_back(prepare(&swarm, frame).map(move |(weight, bytes)| (weight, bytes, is_data)));
                }
                None => open = false,
            },
            Some((weight, bytes, is_data)) = prepared.next() => {
                if let Some(bytes) = bytes && half.write_all(&bytes).await.is_err() {
                    return;
                }
                if is_data {
                    standing.used(Instant::now());
                }
                swarm.written(id, weight);
            }
        }
    }
    // Best effort: the peer sees an orderly end.
    let _ = half.shutdown().await;
}

fn prepare(
    swarm: &Arc<SwarmHandle>,
    frame: Arc<OutgoingFrame>,
) -> impl Future<Output = (usize, Option<Bytes>)> + use<> {
    let weight = frame.weight();
    let signer = swarm.signer.clone();
    if weight < HEAVY {
        return Either::Left(std::future::ready((weight, frame.prepare(&signer))));
    }
    let work = tokio::task::spawn_blocking(move || frame.prepare(&signer));
    // A panic there means the frame cannot be sent.
    Either::Right(async move { (weight, work.await.unwrap_or(None)) })
}
