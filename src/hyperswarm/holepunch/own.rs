//! The socket of ours to which holes are punched, and what others see of it.
//!
//! It is the client's socket of the DHT node. Every answer that arrives there says how its sender sees us, so its NAT is
//! usually known before a peer asks. Upstream opens a socket for each attempt and has to find out each time.

use std::time::{Duration, Instant};

use super::classify::{Classifier, ENOUGH_SAMPLES, Reachability};
use crate::codec::v4::{Command, Firewall};
use crate::dht::hyperdht::{Hyperdht, Plain, RequestId};
use crate::dht::v4::CLIENT;

/// Answers older than this say nothing: routers forget mappings after 30 s and more.
const FRESH: Duration = Duration::from_secs(60);

/// Asks nodes how they see our socket, if too few have said so of late.
#[derive(Default)]
pub(super) struct OwnSocket {
    /// Pings that are not answered yet.
    pings: Vec<RequestId>,
    /// Nodes were asked twice at most for one need, as upstream.
    rounds: usize,
}

impl OwnSocket {
    /// What is known now.
    pub(super) fn reachability(&self, now: Instant, dht: &Hyperdht) -> Reachability {
        let node = dht.node();
        if !node.is_firewalled() {
            let address = node.remote_address().or_else(|| node.seen().address());
            return Reachability { firewall: Firewall::OPEN, addresses: Some(address.into_iter().collect()) };
        }
        classify(now, dht).found().clone()
    }

    /// True if it is not worth to wait for more answers.
    pub(super) fn is_settled(&self, now: Instant, dht: &Hyperdht) -> bool {
        !dht.node().is_firewalled() || self.pings.is_empty() || classify(now, dht).is_settled()
    }

    /// Sees to it that enough nodes say how they see us.
    pub(super) fn ask(&mut self, now: Instant, dht: &mut Hyperdht) {
        if dht.node().is_firewalled() && self.pings.is_empty() && !classify(now, dht).is_settled() {
            self.rounds = 0;
            self.ping(now, dht);
        }
    }

    /// A request has ended; false if it was none of ours.
    pub(super) fn ended(&mut self, now: Instant, dht: &mut Hyperdht, request: RequestId) -> bool {
        let before = self.pings.len();
        self.pings.retain(|ping| *ping != request);
        let ours = self.pings.len() < before;
        if ours && self.pings.is_empty() && self.rounds < 2 && !classify(now, dht).is_settled() {
            self.ping(now, dht);
        }
        ours
    }

    fn ping(&mut self, now: Instant, dht: &mut Hyperdht) {
        self.rounds += 1;
        let said: Vec<_> = dht.node().samples(now, FRESH).map(|(responder, _)| responder).collect();
        let silent = dht.node().known().filter(|node| !said.contains(node));
        // In the second round, those that did not answer the first one come last.
        let skip = if self.rounds > 1 { ENOUGH_SAMPLES } else { 0 };
        let silent: Vec<_> = silent.skip(skip).take(ENOUGH_SAMPLES).collect();
        for node in silent {
            let plain = Plain { via: Some(CLIENT), tries: 1, ..Plain::new(node, Command::PING) };
            self.pings.push(dht.request(now, plain));
        }
    }
}

fn classify(now: Instant, dht: &Hyperdht) -> Classifier {
    let mut classifier = Classifier::default();
    for (responder, address) in dht.node().samples(now, FRESH) {
        classifier.add(address, responder);
    }
    classifier
}
