//! Answers to the seekings and requests of peers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::super::provide::{Asker, NotServed, Provider};
use super::swarm::SwarmHandle;
use crate::limits;
use crate::node::legacy::{BUSY, Dialect, FileRequest, NodeId, Reply, RequestKey, Room};
use crate::node::peer::PeerKey;
use crate::store::Sha1;

/// Read from disk at once for a peer that takes a message of that size.
const PIECE: u64 = limits::DATA_PIECE as u64;
/// Read from disk at once for a 0.1.2 peer, which gets it in messages of 378 bytes.
const SMALL_PIECE: u64 = 8 << 10;

/// Why a request is not served to its end. The peer is told in the words of 0.2.1, where that has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum ServeError {
    #[error("{}", told(*.0))]
    NotServed(#[from] NotServed),
    #[error("Range ends at {end}, beyond the end of the file: {size}")]
    BeyondEnd { end: u64, size: u64 },
    #[error("The data was not taken in time.")]
    NotTaken,
}

fn told(why: NotServed) -> &'static str {
    match why {
        NotServed::NotFound => "Unable to find file.",
        NotServed::Busy => BUSY,
        NotServed::Unreadable => "Unable to read file.",
    }
}

/// How long a request waits for the verification of its file. An asker of 0.1.x hears no refusal, so that waiting for as
/// long as it waits itself is all that helps.
fn patience(dialect: Dialect) -> Duration {
    match dialect {
        Dialect::V021 => limits::VERIFICATION_PATIENCE,
        Dialect::V012 | Dialect::V016 => limits::SILENCE,
    }
}

impl SwarmHandle {
    /// Says that we have the file, if we do.
    pub(super) fn answer(self: &Arc<Self>, from: NodeId, dialect: Dialect, sha1: Sha1) {
        let Some(turn) = self.provider.look(PeerKey(from.key)) else {
            tracing::debug!(%from, "too many seekings at once; one dropped");
            return;
        };
        let swarm = self.clone();
        tokio::spawn(async move {
            if let Some((size, unverified)) = swarm.provider.size_of(sha1).await {
                swarm.provide(dialect, sha1, size);
                if unverified {
                    swarm.provider.verify_ahead(sha1).await;
                }
            }
            drop(turn);
        });
    }

    /// Serves a request in pieces, each read when there is room for it.
    pub(super) fn serve(
        self: &Arc<Self>,
        key: RequestKey,
        dialect: Dialect,
        request: FileRequest,
        room: Arc<Notify>,
    ) {
        let swarm = self.clone();
        let asker = Asker { peer: PeerKey(key.from.key), host: self.address_of(key.from) };
        tokio::spawn(async move {
            let respond = |data| swarm.respond(&key, data);
            let end = tokio::select! {
                result = send(&swarm.provider, asker, dialect, request, &room, respond) => match result {
                    Ok(true) => Reply::Finished,
                    Ok(false) => return,
                    Err(why) => Reply::Error(why.to_string()),
                },
                () = swarm.ended.cancelled() => return,
            };
            let _: Room = swarm.respond(&key, end);
        });
    }
}

/// Hands what was asked for to `respond`, again after waiting for `room` when that is full. False: the asker has left.
/// Nothing is held open meanwhile: each piece is read from the file that is open, or opened for it.
async fn send(
    provider: &Provider,
    asker: Asker,
    dialect: Dialect,
    request: FileRequest,
    room: &Notify,
    respond: impl Fn(Reply) -> Room,
) -> Result<bool, ServeError> {
    let sha1 = request.sha1();
    let _in_use = provider.begin();
    let patience = patience(dialect);
    let size = provider.open(sha1, asker, patience).await?.size();
    let (mut at, end) = match request {
        FileRequest::Whole { .. } => (0, size),
        FileRequest::Range { start, end, .. } => (start, end),
    };
    if end > size {
        return Err(ServeError::BeyondEnd { end, size });
    }
    let piece = if dialect == Dialect::V012 { SMALL_PIECE } else { PIECE };
    while at < end {
        let length = piece.min(end - at);
        let file = provider.open(sha1, asker, patience).await?;
        let bytes = provider.read(file, asker, at, length as usize).await?;
        loop {
            match respond(Reply::Data(bytes.clone())) {
                Room::More => break,
                Room::Full => match tokio::time::timeout(limits::SERVE_STALL, room.notified()).await {
                    Ok(()) => {}
                    Err(_) => return Err(ServeError::NotTaken),
                },
                Room::Gone => return Ok(false),
            }
        }
        at += length;
        provider.add_served(length);
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
