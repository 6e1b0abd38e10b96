//! One stream: its public interface, and what a datagram or a deadline does to it.
//!
//! * The receiving half, `receive` (`buffer`, `window`, `budget`): packets into order, for the reader.
//! * The sending half, `sending`: `queue` (`frames`), `send`, `flight` (bytes written, into packets, under way); `ack`,
//!   `recovery`, `rate`, `timers` (what acknowledgements and silence teach); `mtu`, `path` (sizes, remotes).
//! * `close`: the end of both.

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
mod sending;
mod timers;
mod window;

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

pub(super) use self::budget::Budget;
pub(super) use self::close::Farewell;
use self::close::Life;
use self::receive::{Accepted, Receiver};
use self::send::{Control, With};
use self::sending::{Notes, Sending};
use super::packet::{Extension, Packet, flag};
use super::types::{
    CloseReason, Config, Event, Firewall, MessageError, Remote, SocketId, StateError, Stats, StreamId,
    StreamOptions, Transmit,
};
use crate::limits::{MAX_UDX_MESSAGE_BYTES, MAX_UDX_MESSAGES};

/// One side of a stream. Reached through [`Endpoint::stream`](super::Endpoint::stream); what is called here takes
/// effect at the endpoint's next `poll_transmit` and `poll_event`.
pub struct Stream {
    id: StreamId,
    life: Life,
    firewall: Firewall,
    relay: Option<StreamId>,
    sending: Sending,
    receiver: Receiver,
    notes: Notes,
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
        Self {
            id,
            life: Life::default(),
            relay: None,
            sending: Sending::new(now, config, &options, seed),
            receiver: Receiver::new(config.initial_sequence, budget),
            notes: Notes::default(),
            firewall: options.firewall,
        }
    }

    /// The local id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Gives the stream its peer. Nothing is sent but an acknowledgement of what arrived before.
    pub fn connect(&mut self, now: Instant, socket: SocketId, remote: Remote) -> Result<(), StateError> {
        self.check_open()?;
        if self.sending.paths.current().is_some() {
            return Err(StateError::Connected(self.id));
        }
        self.sending.paths.connect(socket, remote);
        self.sending.mtu.set_path(&remote);
        self.sending.timers.touch_keep_alive(now);
        self.notes.wake();
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
        if self.sending.paths.current().is_none() {
            return Err(StateError::NotConnected(self.id));
        }
        self.sending.paths.change(socket, remote, self.sending.flight.next());
        if self.sending.paths.forget_old(self.sending.flight.base()) {
            self.notes.events.push(Event::RemoteChanged);
        }
        self.sending.mtu.set_path(&remote);
        self.sending.on_packet_size();
        self.sending.timers.touch_keep_alive(now);
        self.notes.wake();
        Ok(())
    }

    /// Sends all that is under way again, if nothing was heard of the peer yet: its NAT or ours may have opened since. That
    /// says nothing about congestion.
    pub fn nudge(&mut self, now: Instant) {
        if self.life.is_closed() || self.notes.counters.received > 0 {
            return;
        }
        self.sending.repeat_all(now);
        self.notes.wake();
    }

    /// As [`change_remote`](Self::change_remote), for a stream that has heard nothing of its peer: all that is under way was
    /// lost on the old way, and is sent again on the new one.
    pub fn reroute(&mut self, now: Instant, socket: SocketId, remote: Remote) -> Result<(), StateError> {
        if self.notes.counters.received > 0 {
            return self.change_remote(now, socket, remote);
        }
        self.check_open()?;
        self.sending.paths.connect(socket, remote);
        self.sending.mtu.set_path(&remote);
        self.sending.on_packet_size();
        self.nudge(now);
        Ok(())
    }

    /// The peer, once connected.
    pub fn remote(&self) -> Option<(SocketId, Remote)> {
        self.sending.paths.current().map(|path| (path.socket, path.remote))
    }

    /// Tells of a path again on which the peer was heard before: see [`Event::OtherPath`].
    pub fn forget_other_path(&mut self) {
        self.sending.paths.forget_heard();
    }

    /// Queues bytes; they are not copied before they are put into packets. Full packets may leave at once, the rest
    /// with [`flush`](Self::flush). Writing before connecting is allowed: it waits. Bytes written to a stream that is
    /// closed or finished are dropped.
    pub fn write(&mut self, now: Instant, chunk: Bytes) {
        if self.life.is_closed() || self.sending.ending.wanted {
            return;
        }
        self.sending.queue.push(chunk);
        self.sending.probe_window(now, &mut self.notes);
        self.notes.wake();
    }

    /// Bytes that should be written at most now. [`Event::Writable`] follows once this was 0.
    pub fn send_room(&mut self) -> usize {
        self.sending.queue.room()
    }

    /// What was written may leave even if it does not fill a packet: libudx does so at the end of an event loop's
    /// turn.
    pub fn flush(&mut self) {
        self.sending.queue.flush();
        self.notes.wake();
    }

    /// Ends the writing direction once everything written has been sent.
    pub fn finish(&mut self, now: Instant) {
        if self.life.is_closed() || self.sending.ending.wanted {
            return;
        }
        self.sending.ending.wanted = true;
        self.sending.queue.flush();
        self.sending.probe_window(now, &mut self.notes);
        self.notes.wake();
    }

    /// Closes at once and tells the peer, in one packet that may be lost. What was not acknowledged is given up.
    pub fn destroy(&mut self) {
        self.close(CloseReason::Destroyed);
    }

    /// Sends a message on the side: unordered, unacknowledged, lost silently.
    pub fn send_message(&mut self, message: Bytes) -> Result<(), MessageError> {
        self.check_open()?;
        if self.sending.paths.current().is_none() {
            return Err(StateError::NotConnected(self.id).into());
        }
        let (stream, limit) = (self.id, self.sending.mtu.payload());
        if message.len() > limit {
            return Err(MessageError::TooLong { stream, length: message.len(), limit });
        }
        let waiting: usize = self.sending.messages.iter().map(Bytes::len).sum();
        if self.sending.messages.len() >= MAX_UDX_MESSAGES || waiting + message.len() > MAX_UDX_MESSAGE_BYTES
        {
            return Err(MessageError::Full { stream, waiting: self.sending.messages.len() });
        }
        self.sending.messages.push_back(message);
        self.notes.wake();
        Ok(())
    }

    /// Up to `max` bytes in order; none if there are none now. Reading opens the window.
    pub fn read(&mut self, max: usize) -> Option<Bytes> {
        let (bytes, update) = self.receiver.read(max);
        if update && !self.life.is_closed() {
            self.notes.control.ack = true;
            self.notes.wake();
        }
        bytes
    }

    /// Bytes that can be read now.
    pub fn unread(&self) -> usize {
        self.receiver.unread()
    }

    /// True if the peer's end was reached: nothing follows what can be read now.
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
        self.sending.timers.set_keep_alive(now, interval, self.sending.paths.current().is_some());
    }

    /// How it fares.
    pub fn stats(&self) -> Stats {
        Stats {
            rtt: self.sending.recovery.rtt.smoothed(),
            mtu: self.sending.mtu.mtu(),
            congestion_window: self.sending.controller.window(),
            in_flight: self.sending.flight.bytes(),
            peer_window: self.sending.peer_window.bytes,
            window: self.receiver.free(),
            buffered: self.receiver.held(),
            packets_sent: self.notes.counters.sent,
            packets_received: self.notes.counters.received,
            packets_lost: self.notes.counters.lost,
            packets_retransmitted: self.notes.counters.retransmitted,
            packets_ignored: self.notes.counters.ignored,
        }
    }

    /// True if a packet from there may be looked at (`udx__process_packet`): anything on the socket of a connected
    /// stream, else what the firewall lets in.
    pub(super) fn admits(&mut self, socket: SocketId, from: SocketAddr) -> bool {
        let current = self.sending.paths.current();
        if current.is_some_and(|path| path.socket == socket) {
            return true;
        }
        let connected = current.is_some();
        let accepted = self.firewall.accepts(from);
        if accepted && !connected {
            self.notes.events.contact(socket, from);
        }
        accepted
    }

    /// A packet for this stream, let in and not to be relayed. `length` is the datagram's.
    pub(super) fn handle_packet_from(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        packet: &Packet<'_>,
        length: usize,
    ) {
        let ignored = self.notes.counters.ignored;
        self.handle_packet(now, packet, length);
        // One that is ignored (it acknowledges what was never sent, say) is not the peer's.
        let credible = self.notes.counters.ignored == ignored && !self.life.is_closed();
        if credible && self.sending.paths.hear(socket, from) {
            self.notes.events.push(Event::OtherPath { socket, from });
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: &Packet<'_>, length: usize) {
        let header = &packet.header;
        self.notes.counters.received += 1;
        if header.has(flag::HEARTBEAT) {
            self.receiver.tune(now, self.sending.recovery.rtt.smoothed());
            self.notes.control.ack = true;
            self.notes.wake();
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
                true => self.notes.events.push(Event::Message),
                false => self.notes.counters.ignored += 1,
            }
        }
        if !self.sending.handle_acknowledgement(now, packet, &mut self.notes) {
            self.notes.counters.ignored += 1;
            return;
        }
        if sequenced {
            self.notes.control.ack = true;
            self.notes.wake();
        }
        self.close_if_done();
    }

    fn handle_data(&mut self, now: Instant, packet: &Packet<'_>) {
        self.receiver.tune(now, self.sending.recovery.rtt.smoothed());
        let ended = self.receiver.ended();
        match self.receiver.accept(packet.header.seq, packet.header.flags, packet.payload) {
            Accepted::InOrder if !packet.payload.is_empty() || self.receiver.unread() > 0 => {
                self.notes.events.push(Event::Readable);
            }
            Accepted::InOrder | Accepted::Kept => {}
            Accepted::Refused => self.notes.counters.ignored += 1,
        }
        if !ended && self.receiver.ended() {
            self.notes.events.push(Event::Ended);
        }
    }

    fn handle_extension(&mut self, extension: Extension, length: usize) {
        match extension {
            Extension::Announce(largest) => {
                self.sending.mtu.on_announced(largest);
                self.sending.queue.ignore_frames();
            }
            // Only a probe that arrived whole is answered; the answer is never larger than the probe.
            Extension::Probe(size) if usize::from(size) == length => self.notes.control.reply = Some(size),
            Extension::Probe(_) => {}
            Extension::Reply(size) => {
                if self.sending.mtu.on_reply(size) {
                    self.sending.on_packet_size();
                }
            }
        }
        self.notes.wake();
    }

    /// A packet that makes no sense.
    pub(super) fn ignore(&mut self) {
        self.notes.counters.ignored += 1;
    }

    /// There may be more to send after what was just taken.
    pub(super) fn stay_awake(&mut self) {
        self.notes.wake();
    }

    fn check_open(&self) -> Result<(), StateError> {
        if self.life.is_closed() { Err(StateError::Closed(self.id)) } else { Ok(()) }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sending.deadline()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(reason) = self.sending.handle_timeout(now, &mut self.notes) {
            self.close(reason);
            self.notes.wake();
        }
    }

    /// True if there may be something to send; asking resets it.
    pub(super) fn take_awake(&mut self) -> bool {
        std::mem::take(&mut self.notes.awake)
    }

    /// The next packets from this socket, appended to `out`.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        socket: SocketId,
        max: usize,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if self.life.is_closed() {
            return None;
        }
        let with = &mut With { receiver: &mut self.receiver, notes: &mut self.notes };
        self.sending.transmit(now, socket, max, out, with)
    }
}
