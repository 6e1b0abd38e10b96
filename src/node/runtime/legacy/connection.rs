//! The two tasks of a connection.
//!
//! Reader: socket -> frames, JSON, signature -> machine -> downloads (waiting for them). Writer: frames of the
//! machine -> signatures, several at a time on blocking threads -> socket, in order. The writer ends when the machine
//! closes the connection, after writing what was queued; the reader ends on any error, and each ends the other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::future::Either;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::provide::Asker;
use super::swarm::{Deed, SwarmHandle};
use crate::limits;
use crate::node::legacy::reader::{Direction, Incoming};
use crate::node::legacy::{ConnectionId, ConnectionInfo, ConnectionReader, OutgoingFrame};
use crate::node::peer::PeerKey;
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

type Stream = std::pin::Pin<Box<dyn hyperswarm::net::v2::Duplex>>;

/// Runs a connection to its end.
pub(super) async fn run(swarm: Arc<SwarmHandle>, connection: Connection) {
    let direction = if connection.initiator { Direction::Dialled } else { Direction::Accepted };
    let info = ConnectionInfo {
        direction,
        utp: connection.initiator_speaks_first,
        remote: connection.remote.into(),
    };
    let host = info.remote.ip();
    let (id, outbox, closing) = swarm.connected_by(info, connection.ban);
    let (read_half, write_half) = tokio::io::split(connection.stream);
    let over = CancellationToken::new();
    let writer = write(swarm.clone(), (id, host), connection.standing.clone(), outbox, write_half);
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

/// Messages of one connection that were not even verified: they had to be parsed all the same.
#[derive(Default)]
struct Unread(usize);

impl Unread {
    /// True if that was one too many in a row, so that reading pauses.
    fn is_enough(&mut self, incoming: &Incoming) -> bool {
        self.0 += usize::from(matches!(incoming, Incoming::Unread(_)));
        let enough = self.0 >= limits::UNREAD_AT_ONCE;
        if enough {
            self.0 = 0;
        }
        enough
    }
}

/// How long nothing is read after messages that were not verified: longer on a slow node, but not from a neighbour that was
/// of use. It may pass on a flood, and what it says itself waits behind that.
fn pause(swarm: &SwarmHandle, standing: &Standing) -> Duration {
    match standing.is_of_use() {
        true => limits::UNREAD_PAUSE,
        false => swarm.budget.pace().times(limits::UNREAD_PAUSE),
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
    let mut unread = Unread::default();
    loop {
        loop {
            match reader.next_worthwhile(|claim| swarm.worth(id, claim)) {
                Ok(Some(incoming)) => {
                    if unread.is_enough(&incoming) {
                        tokio::time::sleep(pause(swarm, standing)).await;
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
    (id, host): (ConnectionId, IpAddr),
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
                    prepared.push_back(prepare(&swarm, id, host, frame).map(move |(weight, bytes)| (weight, bytes, is_data)));
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

/// The frame, ready to be written. A large one waits for its turn, and then is prepared even while its writer waits for
/// the peer: no peer keeps a turn by not reading.
fn prepare(
    swarm: &Arc<SwarmHandle>,
    id: ConnectionId,
    host: IpAddr,
    frame: Arc<OutgoingFrame>,
) -> impl Future<Output = (usize, Option<Bytes>)> + use<> {
    let weight = frame.weight();
    if weight < HEAVY || frame.is_prepared() {
        return Either::Left(std::future::ready((weight, frame.prepare(&swarm.signer))));
    }
    let swarm = swarm.clone();
    let work = tokio::spawn(async move {
        let peer = swarm.neighbour(id).map_or(swarm.signer.public(), |node| node.key);
        let peer = Asker { peer: PeerKey(peer), host: Some(host) };
        let turn = swarm.provider.turn_to_sign(peer, weight as u64).await;
        let work = move || {
            let _turn = turn;
            frame.prepare(&swarm.signer)
        };
        tokio::task::spawn_blocking(work).await
    });
    // A panic there means the frame cannot be sent.
    Either::Right(async move { (weight, work.await.ok().and_then(Result::ok).flatten()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_pauses_after_every_16_messages_that_were_not_verified_and_after_no_others() {
        let mut unread = Unread::default();
        let mut pauses =
            |count, message: fn() -> Incoming| (0..count).filter(|_| unread.is_enough(&message())).count();
        assert_eq!(pauses(10 * limits::UNREAD_AT_ONCE, || Incoming::Known), 0);
        assert_eq!(pauses(limits::UNREAD_AT_ONCE - 1, || Incoming::Unread("")), 0);
        assert_eq!(pauses(1, || Incoming::Unread("")), 1);
        assert_eq!(pauses(10 * limits::UNREAD_AT_ONCE, || Incoming::Unread("")), 10);
        assert!(
            limits::UNREAD_PAUSE * 40 <= Duration::from_secs(1),
            "640 a second at least can still be read"
        );
    }
}
