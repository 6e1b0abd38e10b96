//! Congestion control: how many bytes may be under way, and how fast they leave.
//!
//! The stream machine measures (round trips, delivery rates, losses) and tells a [`Controller`]; the controller
//! answers with a window and a pacing rate. It knows nothing of packets' contents or of the peer's receive window.

pub mod bbr;

use std::time::{Duration, Instant};

/// What an acknowledgement taught, after all packets it newly acknowledged (by number or by SACK) were counted.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When it arrived.
    pub now: Instant,
    /// Payload and header bytes newly acknowledged by it.
    pub acked: u64,
    /// Bytes acknowledged in the stream's life, these included.
    pub delivered: u64,
    /// [`delivered`](Self::delivered) as it stood when the latest of the newly acknowledged packets was sent: when it
    /// reaches the value of the previous round's end, a round trip has passed.
    pub prior_delivered: u64,
    /// Round trip of the latest newly acknowledged packet, if that was never retransmitted.
    pub rtt: Option<Duration>,
    /// Bytes per second at which the network delivered, sampled over the latest packet's flight (send and ack spans
    /// compared, the longer taken, as in draft-cheng-iccrg-delivery-rate-estimation); none if the span is zero.
    pub delivery_rate: Option<u64>,
    /// Whether the sample was limited by the sender having nothing to send or by the peer's window.
    pub app_limited: bool,
    /// Bytes under way after this acknowledgement.
    pub in_flight: u64,
    /// Bytes found lost while this acknowledgement was processed.
    pub lost: u64,
}

/// What became clear to be lost.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// When it became clear.
    pub now: Instant,
    /// Bytes.
    pub lost: u64,
    /// Bytes still under way, the lost ones not counted.
    pub in_flight: u64,
    /// Whether the retransmission timer found it: nothing was heard for a whole RTO.
    pub timeout: bool,
}

/// Decides how much may be under way. All byte counts are of UDX packets, their 20-byte headers included.
pub trait Controller: Send {
    /// `bytes` left; `in_flight` counts them already.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64);
    /// An acknowledgement was processed. Losses found by it were told before, with [`on_loss`](Self::on_loss).
    fn on_ack(&mut self, ack: &Ack);
    /// Packets were found lost.
    fn on_loss(&mut self, loss: &Loss);
    /// Recovery is over: everything that was under way when the first loss was found has been acknowledged.
    fn on_recovered(&mut self, now: Instant);
    /// The path's datagram size changed: bytes of one packet of full size, header included.
    fn on_packet_size(&mut self, bytes: u64);
    /// Bytes that may be under way.
    fn window(&self) -> u64;
    /// Bytes per second at which packets may leave; none: as fast as the window allows.
    fn pacing_rate(&self) -> Option<u64>;
}
