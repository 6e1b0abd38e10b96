//! Acknowledgements: what they deliver, measure and set free.

use std::time::{Duration, Instant};

use super::flight::Sent;
use super::rate::{Newest, RateSampler};
use super::recovery::{Rack, Rtt};
use super::sending::{Notes, Sending};
use crate::limits::UDX_WINDOW_MAX_BYTES;
use crate::udx::congestion::Ack;
use crate::udx::packet::Packet;
use crate::udx::types::Event;

/// What the peer said it can take.
#[derive(Debug)]
pub(super) struct PeerWindow {
    /// Bytes.
    pub(super) bytes: u32,
    /// Offset in the stream that must not be passed.
    pub(super) limit: u64,
    /// Numbers of the packet that said so, to tell newer words from older ones.
    seq: u32,
    ack: u32,
}

impl PeerWindow {
    /// What libudx assumes before it hears from the peer; the first congestion window is far smaller.
    pub(super) fn new(first: u32) -> Self {
        Self { bytes: 4 << 20, limit: 4 << 20, seq: first, ack: first }
    }

    fn is_news(&self, seq: u32, ack: u32) -> bool {
        let newer = seq.wrapping_sub(self.seq) as i32;
        newer > 0 || (newer == 0 && ack.wrapping_sub(self.ack) as i32 >= 0)
    }
}

/// Collects what one acknowledgement delivers.
struct Delivery<'a> {
    now: Instant,
    rate: &'a mut RateSampler,
    rack: &'a mut Rack,
    rtt: &'a Rtt,
    bytes: u64,
    newest: Option<Newest>,
    sample: Option<(Instant, Duration)>,
    probe: Option<u32>,
}

impl Delivery<'_> {
    fn add(&mut self, number: u64, packet: &Sent) {
        self.bytes += u64::from(packet.size);
        self.rate.deliver(self.now, u64::from(packet.size));
        self.rack.deliver(self.now, number, packet, self.rtt.min());
        if self.newest.as_ref().is_none_or(|newest| newest.is_older_than(packet.sent_at, &packet.stamp)) {
            self.newest = Some(Newest { stamp: packet.stamp, sent_at: packet.sent_at });
        }
        if packet.transmissions == 1 && self.sample.is_none_or(|(sent_at, _)| packet.sent_at >= sent_at) {
            self.sample = Some((packet.sent_at, self.now.saturating_duration_since(packet.sent_at)));
        }
        if packet.probe {
            self.probe = Some(packet.size);
        }
    }
}

impl Sending {
    /// The acknowledging part of a packet; false if it acknowledges what was never sent.
    pub(super) fn handle_acknowledgement(
        &mut self,
        now: Instant,
        packet: &Packet<'_>,
        notes: &mut Notes,
    ) -> bool {
        let header = &packet.header;
        let base = self.flight.base();
        let distance = header.ack.wrapping_sub(self.wire(base)) as i32;
        if i64::from(distance) > self.flight.len() as i64 {
            return false;
        }
        let window =
            (distance >= 0 && self.peer_window.is_news(header.seq, header.ack)).then_some(header.window);
        let progress = self.deliver(now, base + u64::try_from(distance).unwrap_or(0), packet, notes);
        if let Some(bytes) = window {
            let bytes = bytes.min(UDX_WINDOW_MAX_BYTES as u32);
            let limit = self.acknowledged + u64::from(bytes);
            self.peer_window = PeerWindow { bytes, limit, seq: header.seq, ack: header.ack };
        }
        self.watch_window(now);
        if progress || window.is_some() {
            notes.wake();
        }
        true
    }

    /// Acknowledges cumulatively and selectively. True if anything was new.
    fn deliver(&mut self, now: Instant, ack: u64, packet: &Packet<'_>, notes: &mut Notes) -> bool {
        let base = self.flight.base();
        let blocks = packet.sack_blocks();
        let (first, next) = (self.first, self.flight.next());
        let mut delivery = Delivery {
            now,
            rate: &mut self.rate,
            rack: &mut self.recovery.rack,
            rtt: &self.recovery.rtt,
            bytes: 0,
            newest: None,
            sample: None,
            probe: None,
        };
        let offset = self.flight.acknowledge(ack, |number, sent| delivery.add(number, sent));
        for (start, end) in blocks {
            // Distances from the acknowledged number, as everything on the wire modulo 2^32.
            let from = i64::from(start.wrapping_sub(first.wrapping_add(base as u32)) as i32);
            let to = i64::from(end.wrapping_sub(first.wrapping_add(base as u32)) as i32);
            if from >= 0 && from < to && to <= (next - base) as i64 {
                let (start, end) = (base + from as u64, base + to as u64);
                self.flight.acknowledge_selectively(start, end, |number, sent| delivery.add(number, sent));
            }
        }
        let Delivery { bytes, newest, sample, probe, .. } = delivery;
        let cumulative = offset.is_some();
        if let Some(offset) = offset {
            self.on_cumulative(now, offset, notes);
        }
        let Some(newest) = newest else { return cumulative };
        let rtt = sample.map(|(_, rtt)| rtt);
        notes.counters.lost += self.on_delivered(now, bytes, &newest, rtt, probe);
        true
    }

    /// Everything before `offset` in the stream arrived.
    fn on_cumulative(&mut self, now: Instant, offset: u64, notes: &mut Notes) {
        self.acknowledged = offset;
        self.queue.release(offset);
        self.mtu.on_data_acknowledged();
        if self.paths.forget_old(self.flight.base()) {
            notes.events.push(Event::RemoteChanged);
        }
        self.timers.rto = (!self.flight.is_empty()).then(|| now + self.recovery.rtt.rto());
        if self.ending.number.is_some_and(|end| self.flight.base() > end) && !self.ending.arrived {
            self.ending.arrived = true;
            notes.events.push(Event::Finished);
            // libudx tells the peer once more what it has.
            notes.control.ack = true;
        }
    }

    /// Returns how many packets that showed to be lost.
    fn on_delivered(
        &mut self,
        now: Instant,
        acked: u64,
        newest: &Newest,
        rtt: Option<Duration>,
        probe: Option<u32>,
    ) -> u64 {
        if let Some(rtt) = rtt {
            self.recovery.rtt.sample(now, rtt);
        }
        self.recovery.tail_probes = Some(0);
        if probe.is_some_and(|size| self.mtu.probe_arrived(size)) {
            self.on_packet_size();
        }
        let (lost, packets_lost) = self.detect_losses(now);
        self.leave_recovery(now);
        let (delivery_rate, prior_delivered, app_limited) = self.rate.sample(newest, self.recovery.rtt.min());
        self.controller.on_ack(&Ack {
            now,
            acked,
            delivered: self.rate.delivered(),
            prior_delivered,
            rtt,
            delivery_rate,
            app_limited,
            in_flight: self.flight.bytes(),
            lost,
        });
        self.set_pace(now);
        self.timers.tail = self.recovery.tail_deadline(now, &self.flight, self.timers.rto);
        packets_lost
    }
}
