//! Multicast DNS for all topics of the process: the mDNS half of `@hyperswarm/discovery` 1.11.5, whose instances each
//! had a socket of their own.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::codec::v2::mdns::{InstanceId, Message, Query, Response, Service, TopicName};
use crate::limits::v2::{MDNS_EVENTS, MDNS_SERVICES_PER_PACKET};
use crate::topic::Topic;

/// Between two queries for a topic; as much again at random.
const PERIOD: Duration = Duration::from_secs(30);
/// Between two answers of a topic. One multicast answer serves all who asked meanwhile, so nobody is left without, and
/// a flood of questions cannot make us flood the network.
const ANSWER_GAP: Duration = Duration::from_millis(100);

/// One registered topic instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Registration(u64);

/// A peer that another host (or another process here) has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    /// Whose topic it is for.
    pub registration: Registration,
    /// Where the peer listens (TCP).
    pub addr: SocketAddrV4,
    /// Who sent the packet.
    pub sender: Ipv4Addr,
}

struct Entry {
    registration: Registration,
    name: TopicName,
    port: u16,
    id: InstanceId,
    next_query: Instant,
    /// Not before this; whether and by whom one is wanted is in `asked`.
    next_answer: Instant,
    asked: Option<Ipv4Addr>,
}

/// Asks, answers and listens for all registered topics.
pub struct LocalDiscovery {
    entries: Vec<Entry>,
    count: u64,
    transmits: VecDeque<Vec<u8>>,
    events: VecDeque<LocalPeer>,
    rng: StdRng,
}

impl LocalDiscovery {
    /// `seed` decides ids and periods.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            entries: Vec::new(),
            count: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            rng: StdRng::from_seed(seed),
        }
    }

    /// Starts asking for a topic, answering for it, and says once unasked that we are there.
    pub fn register(&mut self, now: Instant, topic: Topic, port: u16) -> Registration {
        self.count += 1;
        let entry = Entry {
            registration: Registration(self.count),
            name: topic.into(),
            port,
            id: InstanceId(self.rng.random()),
            next_query: now,
            next_answer: now,
            asked: None,
        };
        let unasked = Response { services: vec![entry.service()], asker: None };
        self.entries.push(entry);
        self.send_queries(now);
        self.transmits.push_back(Message::Response(unasked).encode());
        if let Some(entry) = self.entries.last_mut() {
            entry.next_answer = now + ANSWER_GAP;
        }
        Registration(self.count)
    }

    /// Keeps only the registrations for which `keep` holds: the others have left.
    pub fn retain(&mut self, mut keep: impl FnMut(Registration) -> bool) {
        self.entries.retain(|e| keep(e.registration));
    }

    /// A datagram of the group. The driver vouches for `from` being in one of our local networks.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddrV4, bytes: &[u8]) {
        match Message::decode(bytes) {
            Ok(Message::Query(query)) => self.handle_query(now, *from.ip(), &query),
            Ok(Message::Response(response)) => self.handle_response(*from.ip(), &response),
            // Other programs use the group for what they like.
            Err(_) => {}
        }
    }

    /// Call when [`LocalDiscovery::poll_timeout`] says so.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.send_queries(now);
        self.send_answers(now);
    }

    /// A packet to multicast now.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// A peer was named. Not deduplicated: every answer on the network names everybody who answers.
    pub fn poll_event(&mut self) -> Option<LocalPeer> {
        self.events.pop_front()
    }

    /// When the next question or postponed answer is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.entries.iter().map(Entry::deadline).min()
    }

    fn handle_query(&mut self, now: Instant, asker: Ipv4Addr, query: &Query) {
        for entry in &mut self.entries {
            if query.questions.contains(&entry.name) && !query.known.contains(&(entry.name, entry.id)) {
                entry.asked = Some(asker);
            }
        }
        self.send_answers(now);
    }

    fn handle_response(&mut self, sender: Ipv4Addr, response: &Response) {
        for service in &response.services {
            // Our instances hear each other by loopback; none of them is a peer.
            let own = |e: &Entry| service.id == Some(e.id);
            let Some(host) = service_host(sender, service.target) else { continue };
            if service.port == 0 || self.entries.iter().any(own) {
                continue;
            }
            for entry in self.entries.iter().filter(|e| e.name == service.name) {
                // The driver collects events after every datagram. More than this from one packet are dropped and
                // heard again within a minute.
                if self.events.len() < MDNS_EVENTS {
                    let addr = SocketAddrV4::new(host, service.port);
                    self.events.push_back(LocalPeer { registration: entry.registration, addr, sender });
                }
            }
        }
    }

    fn send_queries(&mut self, now: Instant) {
        for entry in self.entries.iter_mut().filter(|e| e.next_query <= now) {
            entry.next_query = now + PERIOD.mul_f64(self.rng.random_range(1.0..2.0));
            let query = Query { questions: vec![entry.name], known: Vec::new() };
            self.transmits.push_back(Message::Query(query).encode());
        }
    }

    /// One packet for all that were asked and may answer; what does not fit goes into the next one.
    fn send_answers(&mut self, now: Instant) {
        let mut services = Vec::new();
        let mut asker = None;
        for entry in &mut self.entries {
            if entry.next_answer <= now
                && let Some(asked) = entry.asked.take()
            {
                entry.next_answer = now + ANSWER_GAP;
                services.push(entry.service());
                asker = Some(asked);
            }
        }
        for part in services.chunks(MDNS_SERVICES_PER_PACKET) {
            let response = Response { services: part.to_vec(), asker };
            self.transmits.push_back(Message::Response(response).encode());
        }
    }
}

impl Entry {
    fn service(&self) -> Service {
        Service { name: self.name, port: self.port, target: Ipv4Addr::UNSPECIFIED, id: Some(self.id) }
    }

    fn deadline(&self) -> Instant {
        if self.asked.is_some() { self.next_query.min(self.next_answer) } else { self.next_query }
    }
}

/// The address a record stands for. Upstream dials whatever a packet names; a packet of the local network has no
/// business with addresses outside private ranges, nor with our loopback interface.
fn service_host(sender: Ipv4Addr, target: Ipv4Addr) -> Option<Ipv4Addr> {
    if target.is_unspecified() || target == sender {
        return Some(sender);
    }
    (target.is_private() || target.is_link_local()).then_some(target)
}
