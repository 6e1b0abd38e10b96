//! Files that peers wait for and that were never verified: which one is verified next.
//!
//! Small files go first, and a file gains with the time that it waits. That time begins anew for all that a peer waits
//! for when one of its files was verified, and in comparison with other addresses for all that its address waits for. So
//! many files, or many identities at one address, keep nobody waiting for longer than a few of them take.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::limits;
use crate::node::peer::PeerKey;
use crate::store::Sha1;

/// An interest is kept so long after its last request: twice the longest rest of an asker that hears busy.
const KEPT: Duration = Duration::from_secs(16);
/// A file that is so many bytes larger is verified first if it waits for a second longer.
const BYTES_PER_SECOND_WAITED: u64 = 10_000_000;

/// The peer that asks, and its address if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) peer: PeerKey,
    /// None: it asks through others. All these count as one address.
    pub(crate) host: Option<IpAddr>,
}

/// The files that wait, each once for every peer that wants it.
#[derive(Default)]
pub(super) struct Line {
    interests: Vec<Interest>,
}

/// A peer wants a file.
struct Interest {
    sha1: Sha1,
    asker: Asker,
    /// What the file's size weighs against the time that it waits.
    handicap: Duration,
    /// Since when it waits: in comparison with other peers at its address, and with other addresses.
    in_host: Instant,
    in_all: Instant,
    /// Requests that wait for it. Each is one of the requests that are served, so these are bounded.
    requests: usize,
    /// When the last of them ended.
    left: Instant,
}

impl Interest {
    fn is(&self, sha1: Sha1, asker: Asker) -> bool {
        self.sha1 == sha1 && self.asker == asker
    }
}

impl Line {
    /// A request begins to wait. Leave must be called when it ends.
    pub(super) fn ask(&mut self, now: Instant, sha1: Sha1, size: u64, asker: Asker) {
        if let Some(interest) = self.interests.iter_mut().find(|interest| interest.is(sha1, asker)) {
            interest.requests += 1;
            return;
        }
        let handicap = Duration::from_millis(size / (BYTES_PER_SECOND_WAITED / 1000));
        let (in_host, in_all) = (now, now);
        self.interests.push(Interest { sha1, asker, handicap, in_host, in_all, requests: 1, left: now });
    }

    /// A request waits no more. The interest is kept for a while, so that the file may be verified when the request is
    /// repeated, unless too many are kept for its asker.
    pub(super) fn leave(&mut self, now: Instant, sha1: Sha1, asker: Asker) {
        self.prune(now);
        let Some(at) = self.interests.iter().position(|interest| interest.is(sha1, asker)) else { return };
        let kept = |of: &dyn Fn(&Asker) -> bool| {
            self.interests.iter().filter(|other| other.requests == 0 && of(&other.asker)).count()
        };
        let has_place = kept(&|_| true) < limits::VERIFICATIONS_KEPT
            && kept(&|other| other.host == asker.host) < limits::ADDRESS_VERIFICATIONS_KEPT
            && kept(&|other| other.peer == asker.peer) == 0;
        let Some(interest) = self.interests.get_mut(at) else { return };
        interest.requests = interest.requests.saturating_sub(1);
        interest.left = now;
        if interest.requests == 0 && !has_place {
            self.interests.swap_remove(at);
        }
    }

    /// The file to verify next, and the asker whose turn that is; from now on nobody waits for it here.
    pub(super) fn take_next(&mut self, now: Instant) -> Option<(Sha1, Asker)> {
        self.prune(now);
        let host = self.interests.iter().min_by_key(|each| each.in_all + each.handicap)?.asker.host;
        let there = self.interests.iter().filter(|interest| interest.asker.host == host);
        let next = there.min_by_key(|interest| interest.in_host + interest.handicap)?;
        let (sha1, asker) = (next.sha1, next.asker);
        self.interests.retain(|interest| interest.sha1 != sha1);
        Some((sha1, asker))
    }

    /// A verification that was the turn of this asker has ended.
    pub(super) fn had_turn(&mut self, now: Instant, asker: Asker) {
        for interest in &mut self.interests {
            if interest.asker.host == asker.host {
                interest.in_all = now;
            }
            if interest.asker.peer == asker.peer {
                interest.in_host = now;
            }
        }
    }

    /// True if nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.interests.is_empty()
    }

    fn prune(&mut self, now: Instant) {
        let is_kept = |left| now.saturating_duration_since(left) < KEPT;
        self.interests.retain(|interest| interest.requests > 0 || is_kept(interest.left));
    }
}

#[cfg(test)]
mod tests;
