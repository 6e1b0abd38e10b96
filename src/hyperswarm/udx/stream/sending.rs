//! The sending half: everything between the writer and the acknowledgement. Its functions stand where they belong:
//! `send` (packets out), `ack` (acknowledgements in), `recovery` (losses), `timers`.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::ack::PeerWindow;
use super::close::Events;
use super::flight::Flight;
use super::mtu::Discovery;
use super::path::Paths;
use super::queue::SendQueue;
use super::rate::RateSampler;
use super::recovery::Recovery;
use super::send::Control;
use super::timers::Timers;
use crate::udx::congestion::Controller;
use crate::udx::pacing::Pacer;
use crate::udx::types::{Config, StreamOptions};

pub(super) struct Sending {
    /// Number on the wire of the first packet, of both sides.
    pub(super) first: u32,
    pub(super) largest_datagram: u16,
    pub(super) paths: Paths,
    pub(super) queue: SendQueue,
    pub(super) flight: Flight,
    pub(super) peer_window: PeerWindow,
    /// Offset up to which the peer has everything.
    pub(super) acknowledged: u64,
    pub(super) ending: Ending,
    pub(super) messages: VecDeque<Bytes>,
    pub(super) recovery: Recovery,
    pub(super) rate: RateSampler,
    pub(super) controller: Box<dyn Controller>,
    pub(super) pacer: Pacer,
    pub(super) mtu: Discovery,
    pub(super) timers: Timers,
}

/// The end of what is written.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The writer is done.
    pub(super) wanted: bool,
    /// Number of the packet that carries the end, once sent.
    pub(super) number: Option<u64>,
    /// The peer has the end.
    pub(super) arrived: bool,
}

/// What both halves leave for the stream's owner, and for the next packet.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) events: Events,
    pub(super) control: Control,
    pub(super) counters: Counters,
    /// Something may be there to send: the endpoint has to ask.
    pub(super) awake: bool,
}

/// Packets.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) retransmitted: u64,
    pub(super) ignored: u64,
}

impl Notes {
    pub(super) fn wake(&mut self) {
        self.awake = true;
    }
}

impl Sending {
    pub(super) fn new(now: Instant, config: &Config, options: &StreamOptions, seed: u64) -> Self {
        let first = config.initial_sequence;
        let mtu = Discovery::new();
        Self {
            first,
            largest_datagram: config.largest_datagram,
            paths: Paths::default(),
            queue: SendQueue::new(options.framed),
            flight: Flight::default(),
            peer_window: PeerWindow::new(first),
            acknowledged: 0,
            ending: Ending::default(),
            messages: VecDeque::new(),
            recovery: Recovery::new(),
            rate: RateSampler::new(now),
            controller: (config.controller)(mtu.packet() as u64, seed),
            pacer: Pacer::new(now),
            mtu,
            timers: Timers::new(options.keep_alive),
        }
    }

    /// The path's packet size changed.
    pub(super) fn on_packet_size(&mut self) {
        self.controller.on_packet_size(self.mtu.packet() as u64);
    }

    /// The number of a packet, as it is on the wire.
    pub(super) fn wire(&self, number: u64) -> u32 {
        self.first.wrapping_add(number as u32)
    }

    /// The stream is over: nothing leaves any more.
    pub(super) fn clear(&mut self) {
        self.timers.clear();
        self.mtu = Discovery::new();
        self.queue = SendQueue::default();
        self.flight = Flight::default();
        self.messages.clear();
    }
}
