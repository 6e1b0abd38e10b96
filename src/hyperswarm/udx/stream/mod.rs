//! One stream: its public interface, and what a datagram or a deadline does to it.
//!
//! * `receive` (`buffer`, `window`): packets into order, for the reader.
//! * `queue` (`frames`), `send`, `flight`: bytes written, into packets, under way.
//! * `ack`, `recovery`, `rate`: what acknowledgements teach.
//! * `mtu`, `path`, `close`: sizes, remotes, the end.

mod ack;
mod budget;
mod buffer;
mod close;
mod flight;
mod frames;
mod mtu;
mod path;
mod queue;
mod rate;
mod receive;
mod recovery;
mod send;
mod timers;
mod window;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use self::ack::PeerWindow;
pub(super) use self::budget::Budget;
pub(super) use self::close::Farewell;
use self::close::{Events, Life};
use self::flight::Flight;
use self::mtu::Discovery;
pub(super) use self::mtu::LARGEST_DATAGRAM;
use self::path::Paths;
use self::queue::SendQueue;
use self::rate::RateSampler;
use self::receive::{Accepted, Receiver};
use self::recovery::Recovery;
use self::send::Control;
use self::timers::Timers;
use super::congestion::Controller;
use super::endpoint::Config;
use super::pacing::Pacer;
use super::packet::{Extension, Packet, flag};
use super::types::{
    CloseReason, Event, Firewall, MessageError, Remote, SocketId, StateError, Stats, StreamId, StreamOptions,
};
use crate::limits::{MAX_UDX_MESSAGE_BYTES, MAX_UDX_MESSAGES, UDX_SEND_QUEUE_BYTES};

/// One side of a stream. Reached through [`Endpoint::stream`](super::Endpoint::stream); what is called here takes
/// effect at the endpoint's next `poll_transmit` and `poll_event`.
pub struct Stream {
    id: StreamId,
    /// Number on the wire of the first packet, of both sides.
    first: u32,
    largest_datagram: u16,
    life: Life,
    firewall: Firewall,
    relay: Option<StreamId>,
    paths: Paths,
    receiver: Receiver,
    queue: SendQueue,
    flight: Flight,
    peer_window: PeerWindow,
    /// Offset up to which the peer has everything.
    acknowledged: u64,
    /// The writer is done.
    finishing: bool,
    /// Number of the packet that carries the end, once sent.
    end: Option<u64>,
    /// The peer has the end.
    finished: bool,
    messages: VecDeque<Bytes>,
    recovery: Recovery,
    rate: RateSampler,
    controller: Box<dyn Controller>,
    pacer: Pacer,
    mtu: Discovery,
    timers: Timers,
    control: Control,
    events: Events,
    counters: Counters,
    /// A writer was told that there is no room.
    full: bool,
    /// Something may be there to send: the endpoint has to ask.
    awake: bool,
}

#[derive(Debug, Default)]
struct Counters {
    sent: u64,
    received: u64,
    lost: u64,
    retransmitted: u64,
    ignored: u64,
}

impl Stream {
    pub(super) fn new(
        now: Instant,
        id: StreamId,
        config: &Config,
        options: StreamOptions,
        seed: u64,
        budget: Budget,
    ) -> Self {
        let first = config.initial_sequence;
        let mtu = Discovery::new();
        let controller = (config.controller)(mtu.packet() as u64, seed);
        Self {
            id,
            first,
            largest_datagram: config.largest_datagram,
            life: Life::default(),
            firewall: options.firewall,
            relay: None,
            paths: Paths::default(),
            receiver: Receiver::new(first, budget),
            queue: SendQueue::new(options.framed),
            flight: Flight::default(),
            peer_window: PeerWindow::new(first),
            acknowledged: 0,
            finishing: false,
            end: None,
            finished: false,
            messages: VecDeque::new(),
            recovery: Recovery::new(),
            rate: RateSampler::new(now),
            controller,
            pacer: Pacer::new(now),
            mtu,
            timers: Timers::new(options.keep_alive),
            control: Control::default(),
            events: Events::default(),
            counters: Counters::default(),
            full: false,
            awake: false,
        }
    }

    /// The local id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Gives the stream its peer. Nothing is sent but an acknowledgement of what arrived before.
    pub fn connect(&mut self, now: Instant, socket: SocketId, remote: Remote) -> Result<(), StateError> {
        self.check_open()?;
        if self.paths.current().is_some() {
            return Err(StateError::Connected(self.id));
        }
        self.paths.connect(socket, remote);
        self.mtu.set_path(&remote);
        self.timers.touch_keep_alive(now);
        self.wake();
        Ok(())
    }

    /// The peer is at another address, or reached from another socket, or has another id there. New packets go there;
    /// those under way are repeated, if they must be, on the old way. [`Event::RemoteChanged`] tells when all of those
    /// are acknowledged.
    pub fn change_remote(
        &mut self,
        now: Instant,
        socket: SocketId,
        remote: Remote,
    ) -> Result<(), StateError> {
        self.check_open()?;
        if self.paths.current().is_none() {
            return Err(StateError::NotConnected(self.id));
        }
        self.paths.change(socket, remote, self.flight.next());
        if self.paths.forget_old(self.flight.base()) {
            self.events.push(Event::RemoteChanged);
        }
        self.mtu.set_path(&remote);
        self.on_packet_size();
        self.timers.touch_keep_alive(now);
        self.wake();
        Ok(())
    }

    /// The peer, once connected.
    pub fn remote(&self) -> Option<(SocketId, Remote)> {
        self.paths.current().map(|path| (path.socket, path.remote))
    }

    /// Queues bytes; they are not copied before they are put into packets. Full packets may leave at once, the rest
    /// with [`flush`](Self::flush). Writing before connecting is allowed: it waits. Bytes written to a stream that is
    /// closed or finished are dropped.
    pub fn write(&mut self, now: Instant, chunk: Bytes) {
        if self.life.is_closed() || self.finishing {
            return;
        }
        self.queue.push(chunk);
        self.probe_window(now);
        self.wake();
    }

    /// Bytes that should be written at most now. [`Event::Writable`] follows once this was 0.
    pub fn send_room(&mut self) -> usize {
        let room = UDX_SEND_QUEUE_BYTES.saturating_sub(self.queue.unsent());
        self.full |= room == 0;
        room
    }

    /// What was written may leave even if it does not fill a packet: libudx does so at the end of an event loop's
    /// turn.
    pub fn flush(&mut self) {
        self.queue.flush();
        self.wake();
    }

    /// Ends the writing direction once everything written has been sent.
    pub fn finish(&mut self, now: Instant) {
        if self.life.is_closed() || self.finishing {
            return;
        }
        self.finishing = true;
        self.queue.flush();
        self.probe_window(now);
        self.wake();
    }

    /// Closes at once and tells the peer, in one packet that may be lost. What was not acknowledged is given up.
    pub fn destroy(&mut self) {
        self.close(CloseReason::Destroyed);
    }

    /// Sends a message on the side: unordered, unacknowledged, lost silently.
    pub fn send_message(&mut self, message: Bytes) -> Result<(), MessageError> {
        self.check_open()?;
        if self.paths.current().is_none() {
            return Err(StateError::NotConnected(self.id).into());
        }
        let (stream, limit) = (self.id, self.mtu.payload());
        if message.len() > limit {
            return Err(MessageError::TooLong { stream, length: message.len(), limit });
        }
        let waiting: usize = self.messages.iter().map(Bytes::len).sum();
        if self.messages.len() >= MAX_UDX_MESSAGES || waiting + message.len() > MAX_UDX_MESSAGE_BYTES {
            return Err(MessageError::Full { stream, waiting: self.messages.len() });
        }
        self.messages.push_back(message);
        self.wake();
        Ok(())
    }

    /// Up to `max` bytes in order; none if there are none now. Reading opens the window.
    pub fn read(&mut self, max: usize) -> Option<Bytes> {
        let (bytes, update) = self.receiver.read(max);
        if update && !self.life.is_closed() {
            self.control.ack = true;
            self.wake();
        }
        bytes
    }

    /// Bytes that can be read now.
    pub fn unread(&self) -> usize {
        self.receiver.unread()
    }

    /// Whether the peer's end was reached: nothing follows what can be read now.
    pub fn is_ended(&self) -> bool {
        self.receiver.ended()
    }

    /// Why the stream is over, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.life.reason()
    }

    /// The next message, if one waits.
    pub fn read_message(&mut self) -> Option<Bytes> {
        self.receiver.read_message()
    }

    /// From now on every packet that arrives is passed on to the peer of `destination`, unread. Closing either stream
    /// closes this one.
    pub fn relay_to(&mut self, destination: StreamId) {
        self.relay = Some(destination);
    }

    /// Lets in other peers from now on: see [`StreamOptions::firewall`].
    pub fn set_firewall(&mut self, firewall: Firewall) {
        self.firewall = firewall;
    }

    /// Sends a heartbeat whenever nothing was sent for so long; none: never.
    pub fn keep_alive(&mut self, now: Instant, interval: Option<std::time::Duration>) {
        self.timers.set_keep_alive(now, interval, self.paths.current().is_some());
    }

    /// How it fares.
    pub fn stats(&self) -> Stats {
        Stats {
            rtt: self.recovery.rtt.smoothed(),
            mtu: self.mtu.mtu(),
            congestion_window: self.controller.window(),
            in_flight: self.flight.bytes(),
            peer_window: self.peer_window.bytes,
            window: self.receiver.free(),
            buffered: self.receiver.held(),
            packets_sent: self.counters.sent,
            packets_received: self.counters.received,
            packets_lost: self.counters.lost,
            packets_retransmitted: self.counters.retransmitted,
            packets_ignored: self.counters.ignored,
        }
    }

    /// Whether a packet from there may be looked at (`udx__process_packet`): anything on the socket of a connected
    /// stream, else what the firewall lets in.
    pub(super) fn admits(&mut self, socket: SocketId, from: SocketAddr) -> bool {
        let current = self.paths.current();
        if current.is_some_and(|path| path.socket == socket) {
            return true;
        }
        let connected = current.is_some();
        let accepted = self.firewall.accepts(from);
        if accepted && !connected {
            self.events.contact(socket, from);
        }
        accepted
    }

    /// A packet for this stream, let in and not to be relayed. `length` is the datagram's.
    pub(super) fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>, length: usize) {
        let header = &packet.header;
        self.counters.received += 1;
        if header.has(flag::HEARTBEAT) {
            self.receiver.tune(now, self.recovery.rtt.smoothed());
            self.control.ack = true;
            self.wake();
            return;
        }
        if header.data_offset > 0
            && let Some(extension) = packet.extension()
        {
            self.handle_extension(extension, length);
        }
        let sequenced = header.has(flag::DATA | flag::END);
        if self.receiver.distance(header.seq) >= 0 {
            if sequenced {
                self.handle_data(now, packet);
            }
            if header.has(flag::DESTROY) {
                self.close(CloseReason::Reset);
                return;
            }
        }
        if header.has(flag::MESSAGE) {
            match self.receiver.accept_message(packet.payload) {
                true => self.events.push(Event::Message),
                false => self.counters.ignored += 1,
            }
        }
        if !self.handle_acknowledgement(now, packet) {
            self.counters.ignored += 1;
            return;
        }
        if sequenced {
            self.control.ack = true;
            self.wake();
        }
        self.close_if_done();
    }

    fn handle_data(&mut self, now: Instant, packet: &Packet<'_>) {
        self.receiver.tune(now, self.recovery.rtt.smoothed());
        let ended = self.receiver.ended();
        match self.receiver.accept(packet.header.seq, packet.header.flags, packet.payload) {
            Accepted::InOrder if !packet.payload.is_empty() || self.receiver.unread() > 0 => {
                self.events.push(Event::Readable);
            }
            Accepted::InOrder | Accepted::Kept => {}
            Accepted::Refused => self.counters.ignored += 1,
        }
        if !ended && self.receiver.ended() {
            self.events.push(Event::Ended);
        }
    }

    fn handle_extension(&mut self, extension: Extension, length: usize) {
        match extension {
            Extension::Announce(largest) => {
                self.mtu.on_announced(largest);
                self.queue.ignore_frames();
            }
            // Only a probe that arrived whole is answered; the answer is never larger than the probe.
            Extension::Probe(size) if usize::from(size) == length => self.control.reply = Some(size),
            Extension::Probe(_) => {}
            Extension::Reply(size) => {
                if self.mtu.on_reply(size) {
                    self.on_packet_size();
                }
            }
        }
        self.wake();
    }

    /// The path's packet size changed.
    fn on_packet_size(&mut self) {
        self.controller.on_packet_size(self.mtu.packet() as u64);
    }

    /// A packet that makes no sense.
    pub(super) fn ignore(&mut self) {
        self.counters.ignored += 1;
    }

    /// There may be more to send after what was just taken.
    pub(super) fn stay_awake(&mut self) {
        self.wake();
    }

    fn check_open(&self) -> Result<(), StateError> {
        if self.life.is_closed() { Err(StateError::Closed(self.id)) } else { Ok(()) }
    }

    /// The number of a packet of ours, as it is on the wire.
    fn wire(&self, number: u64) -> u32 {
        self.first.wrapping_add(number as u32)
    }

    fn wake(&mut self) {
        self.awake = true;
    }
}
