//! Searches in all channels.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Inner;
use super::inbox::Heard;
use super::legacy::swarm::SwarmHandle;
use crate::limits;
use crate::node::legacy::SeekId;
use crate::node::types::{Find, Found};
use crate::store::Sha1;

/// Answers that wait to be looked at; when full, further ones are dropped.
const OFFERS: usize = 64;

/// A running search; ends when dropped.
pub(super) struct Search {
    /// Who has it. Providers may repeat. Ends at the time-out.
    offers: mpsc::Receiver<Heard>,
    until: Instant,
    /// Distinct nodes that were connected when it began.
    pub(super) asked: usize,
    seeks: Vec<(Arc<SwarmHandle>, SeekId)>,
}

impl Search {
    /// Asks now.
    pub(super) fn begin(inner: &Inner, sha1: Sha1, timeout: Duration) -> Self {
        let until = end_of_search(Instant::now(), timeout);
        let (sender, offers) = mpsc::channel(OFFERS);
        let asked = inner.connected_peers();
        let mut seeks = Vec::new();
        for swarm in inner.channel_swarms() {
            match swarm.seek(sha1, until, sender.clone()) {
                Some(id) => seeks.push((swarm, id)),
                None => tracing::warn!(%sha1, "too many searches are running in {}", swarm.label()),
            }
        }
        Self { offers, until, asked, seeks }
    }

    /// The next answer; None: the search has ended.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        if self.seeks.is_empty() {
            return None;
        }
        tokio::time::timeout_at(self.until.into(), self.offers.recv()).await.ok().flatten()
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.seeks.drain(..).for_each(|(swarm, id)| swarm.cancel_seek(id));
    }
}

/// A client's time-out, which may be any, keeps no search for ever.
fn end_of_search(now: Instant, timeout: Duration) -> Instant {
    now + timeout.min(limits::SEARCH_TIME)
}

/// The public form: each provider (by key) once.
pub(super) fn find(inner: &Arc<Inner>, sha1: Sha1, timeout: Duration) -> Find {
    let mut search = Search::begin(inner, sha1, timeout);
    let peers_asked = search.asked;
    // Full: the search waits for its reader.
    let (sender, found) = mpsc::channel(OFFERS);
    let inner = inner.clone();
    tokio::spawn(async move {
        let mut known = HashSet::new();
        loop {
            let heard = tokio::select! {
                heard = search.next() => heard,
                () = sender.closed() => return,
            };
            let Some(Heard { offer, channel }) = heard else { return };
            inner.remembered.add(sha1, offer);
            if known.len() >= limits::CANDIDATES || !known.insert(offer.peer) {
                continue;
            }
            let answer = Found {
                sha1,
                size: offer.size,
                node_id: offer.id(),
                protocol: offer.via.protocol(),
                channel: channel.to_string(),
            };
            if sender.send(answer).await.is_err() {
                return;
            }
        }
    });
    Find { found, peers_asked }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_search_is_longer_than_the_limit() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        for (timeout, time) in [
            (limits::SEARCH_TIME - second, limits::SEARCH_TIME - second),
            (limits::SEARCH_TIME, limits::SEARCH_TIME),
            (limits::SEARCH_TIME + second, limits::SEARCH_TIME),
            (Duration::MAX, limits::SEARCH_TIME),
        ] {
            assert_eq!(end_of_search(now, timeout), now + time);
        }
    }
}
