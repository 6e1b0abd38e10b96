//! What the parts of the machine share while one thing happens.

use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;

use super::connector::{Action, Event};
use super::own::OwnSocket;
use super::puncher::{Probe, Puncher};
use crate::dht::hyperdht::Hyperdht;
use crate::dht::rpc::Via;
use crate::limits::v4::PUNCH_SOCKETS;

/// Pause between two bursts of probes: as upstream, two thirds of the time at most are spent on them.
const BURST_PAUSE: Duration = Duration::from_secs(2);

/// What the parts of the machine share while one thing happens.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) dht: &'a mut Hyperdht,
    pub(super) own: &'a mut OwnSocket,
    pub(super) bursts: &'a mut Bursts,
    pub(super) out: &'a mut Out,
    pub(super) hosts: &'a [Ipv4Addr],
    pub(super) server_port: u16,
    pub(super) rng: &'a mut StdRng,
}

impl Context<'_> {
    /// The server's socket in our local networks.
    pub(super) fn local_addresses(&self) -> Vec<SocketAddrV4> {
        self.hosts.iter().map(|host| SocketAddrV4::new(*host, self.server_port)).collect()
    }

    /// A hole punch has ended: closes the sockets that were opened for it, but for the one that is used.
    pub(super) fn finish(&mut self, puncher: &Puncher, used: Option<Via>) {
        if puncher.is_burst() {
            self.bursts.ended(self.now);
        }
        for via in puncher.sockets().iter().skip(1).filter(|via| Some(**via) != used) {
            self.out.close_socket(*via);
        }
    }
}

/// Bursts of probes: one at a time, as each is a nuisance to the network.
#[derive(Default)]
pub(super) struct Bursts {
    running: usize,
    last: Option<Instant>,
}

impl Bursts {
    pub(super) fn may_start(&self, now: Instant) -> bool {
        self.running == 0 && self.last.is_none_or(|last| now >= last + BURST_PAUSE)
    }

    pub(super) fn started(&mut self) {
        self.running += 1;
    }

    fn ended(&mut self, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.last = Some(now);
    }
}

/// What the owner is told.
#[derive(Default)]
pub(super) struct Out {
    pub(super) actions: VecDeque<Action>,
    pub(super) events: VecDeque<Event>,
    pub(super) probes: VecDeque<Probe>,
    /// Sockets that are open for hole punches, and their connections.
    open: BTreeSet<Via>,
    last: u16,
}

/// Sockets of hole punches are numbered from here on: those of the DHT node come before.
const FIRST_SOCKET: u16 = 2;

impl Out {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn probe(&mut self, probe: Probe) {
        self.probes.push_back(probe);
    }

    /// Sockets for a hole punch, besides the one that is there.
    pub(super) fn open_sockets(&mut self) -> Vec<Via> {
        let numbers = (1..=u16::MAX).map(|step| self.last.wrapping_add(step));
        let free = numbers.map(Via).filter(|via| via.0 >= FIRST_SOCKET && !self.open.contains(via));
        let fresh: Vec<_> = free.take(PUNCH_SOCKETS - 1).collect();
        self.last = fresh.last().map_or(self.last, |via| via.0);
        for via in &fresh {
            self.open.insert(*via);
            self.act(Action::OpenSocket(*via));
        }
        fresh
    }

    /// A socket is not used any more.
    pub(super) fn close_socket(&mut self, via: Via) {
        self.open.remove(&via);
        self.act(Action::CloseSocket(via));
    }

    /// The owner has closed a socket.
    pub(super) fn socket_closed(&mut self, via: Via) {
        self.open.remove(&via);
    }
}
