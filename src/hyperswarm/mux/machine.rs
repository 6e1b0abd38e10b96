use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::input::Input;
use super::output::{self, Control, Output};
use super::pairing::{GroupId, Groups, Key};
use super::{ChannelId, ChannelOptions, CloseReason, Error, Event, IncomingId, OpenError, SendError};
use crate::limits::{
    MUX_BUFFERED_BYTES, MUX_CHANNELS, MUX_HANDSHAKE_BYTES, MUX_NAME_BYTES, MUX_PENDING_OVERHEAD,
    MUX_REPLY_BYTES,
};

/// One end of a connection that carries channels (`Protomux`). See the [module](super) for how it is driven.
#[derive(Debug, Default)]
pub struct Mux {
    /// Channel `n` on the wire is slot `n - 1`, here and in `remote`.
    pub(super) local: Vec<Local>,
    /// Slots of `local` to use again, the one freed last at the end.
    pub(super) free: Vec<usize>,
    /// The peer's channels; none if closed or rejected.
    pub(super) remote: Vec<Option<Remote>>,
    pub(super) groups: Groups,
    /// Protocols whose incoming opens are decided by the owner.
    pub(super) pairs: BTreeSet<Key>,
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) events: VecDeque<Event>,
    /// Bytes of messages and handshakes that wait for a decision, and their overhead.
    pub(super) buffered: usize,
    /// Channels of the peer that wait for a decision.
    pub(super) undecided: usize,
    next_serial: u64,
    /// Nothing is sent or received any more.
    pub(super) closed: bool,
}

/// What one of our channel numbers is used for.
#[derive(Debug)]
pub(super) enum Local {
    Free,
    /// Closed by us before the peer answered the open: it may be used again when the answer is here.
    Closing(GroupId),
    Open(Channel),
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) serial: u64,
    pub(super) protocol: String,
    pub(super) group: GroupId,
    pub(super) message_types: u64,
    /// Slot of the peer's channel, once it has opened it.
    pub(super) remote: Option<usize>,
}

/// A channel opened by the peer.
#[derive(Debug)]
pub(super) enum Remote {
    /// Not by us so far.
    Pending(Box<Pending>),
    /// Our slot for it.
    Paired(usize),
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) serial: u64,
    pub(super) group: GroupId,
    pub(super) key: Key,
    pub(super) handshake: Bytes,
    pub(super) messages: Vec<(u64, Bytes)>,
    /// What it takes of `buffered`.
    pub(super) charge: usize,
}

impl Mux {
    /// A connection without channels.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets opens of `protocol` with this id (any id, if empty) become [`Event::RemoteOpen`]; others that we have
    /// not opened are rejected (`Protomux.pair`).
    pub fn pair(&mut self, protocol: &str, id: &[u8]) {
        self.pairs.insert(Key { protocol: protocol.to_owned(), id: Bytes::copy_from_slice(id) });
    }

    /// Undoes [`pair`](Self::pair). What waits for a decision keeps waiting.
    pub fn unpair(&mut self, protocol: &str, id: &[u8]) {
        self.pairs.remove(&Key { protocol: protocol.to_owned(), id: Bytes::copy_from_slice(id) });
    }

    /// Opens a channel (`createChannel` and `Channel.open`). An empty id is none. Messages may follow at once; if
    /// the peer rejects the channel, they are lost.
    pub fn open(
        &mut self,
        protocol: &str,
        id: &[u8],
        options: ChannelOptions,
    ) -> Result<ChannelId, OpenError> {
        self.check_open(protocol, id, &options)?;
        let key = Key { protocol: protocol.to_owned(), id: Bytes::copy_from_slice(id) };
        let group_id = self.groups.find_or_create(&key, &options.aliases);
        let room = !self.free.is_empty() || self.local.len() < MUX_CHANNELS;
        let group = self.groups.group(group_id);
        let unique = !options.unique || group.is_none_or(|group| group.opened == 0);
        if !room || !unique {
            self.groups.collect(group_id);
            return Err(if room { OpenError::NotUnique } else { OpenError::TooManyChannels });
        }
        let slot = self.free.pop().unwrap_or(self.local.len());
        let serial = self.serial();
        let channel = Channel {
            serial,
            protocol: key.protocol,
            group: group_id,
            message_types: options.message_types,
            remote: None,
        };
        match self.local.get_mut(slot) {
            Some(local) => *local = Local::Open(channel),
            None => self.local.push(Local::Open(channel)),
        }
        let handshake = &options.handshake;
        let answers = self.groups.group(group_id).is_some_and(|group| !group.incoming.is_empty());
        self.output.control(&Control::Open { channel: wire(slot), protocol, id, handshake }, answers);
        let incoming = self.groups.group(group_id).and_then(|group| {
            group.opened += 1;
            let incoming = group.incoming.pop_front();
            if incoming.is_none() {
                group.outgoing.push_back(slot);
            }
            incoming
        });
        if let Some(remote) = incoming {
            self.decide_for(slot, remote);
        }
        Ok(ChannelId { slot, serial })
    }

    /// Opens the channel that the peer has opened. The aliases in `options` are of no use here.
    pub fn accept(&mut self, incoming: IncomingId, options: ChannelOptions) -> Result<ChannelId, OpenError> {
        let pending = self.pending(incoming).ok_or(OpenError::Gone)?;
        let (key, group) = (pending.key.clone(), pending.group);
        let first = self.groups.group(group).and_then(|group| group.incoming.front().copied());
        if first != Some(incoming.slot) {
            return Err(OpenError::OutOfTurn);
        }
        self.open(&key.protocol, &key.id, options)
    }

    /// Tells the peer that we do not want the channel it has opened. Nothing if it is gone.
    pub fn reject(&mut self, incoming: IncomingId) {
        if self.pending(incoming).is_some() {
            self.reject_slot(incoming.slot);
        }
    }

    /// Closes a channel; no event of it follows. Nothing if it is closed.
    pub fn close(&mut self, channel: ChannelId) {
        if self.channel(channel).is_some() {
            self.output.control(&Control::Close { channel: wire(channel.slot) }, false);
            self.release(channel.slot);
            self.events.retain(|event| {
                !matches!(event,
                Event::Opened { channel: of, .. } | Event::Message { channel: of, .. } if *of == channel)
            });
        }
    }

    /// Sends a message of type `kind`. Whether there is room for more: if not, [`Event::Drained`] will tell when.
    /// Nothing is refused for want of room.
    pub fn send(&mut self, channel: ChannelId, kind: u64, body: &[u8]) -> Result<bool, SendError> {
        if self.channel(channel).is_none() {
            return Err(SendError::Closed);
        }
        if !output::fits(body) {
            return Err(SendError::TooLong);
        }
        self.output.data(wire(channel.slot), kind, body);
        Ok(self.output.has_room())
    }

    /// Collects what is sent into one message, until the matching [`uncork`](Self::uncork) or 8 MiB.
    pub fn cork(&mut self) {
        self.output.cork();
    }

    /// See [`cork`](Self::cork).
    pub fn uncork(&mut self) {
        self.output.uncork();
    }

    /// Whether the owner may send without building up a queue.
    pub fn has_room(&self) -> bool {
        self.output.has_room()
    }

    /// Whether the next received message may be handed over: the one before is done with, the peer's undecided
    /// channels have not sent too much ahead, and it takes the answers it causes.
    pub fn wants_message(&self) -> bool {
        !self.closed && self.input.is_empty() && self.events.is_empty() && !self.is_paused()
    }

    /// Hands over a received message; [`poll_event`](Self::poll_event) says what it brings. Gives it back unless
    /// [`wants_message`](Self::wants_message).
    pub fn handle_message(&mut self, message: Bytes) -> Result<(), Bytes> {
        if !self.wants_message() {
            return Err(message);
        }
        self.input.start(message);
        Ok(())
    }

    /// What happened next. While a batch is taken apart, what the owner sends is corked into a batch as well, until the
    /// next [`poll_transmit`](Self::poll_transmit).
    pub fn poll_event(&mut self) -> Option<Event> {
        while self.events.is_empty() && !self.closed && !self.input.is_empty() && !self.is_paused() {
            if let Err(error) = self.receive_next() {
                self.fail(error);
            }
        }
        self.events.pop_front()
    }

    /// The next message to be sent.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if !self.input.is_empty() {
            // A batch that waits for its readers, or for its answers to leave, must not keep back what is sent
            // meanwhile.
            self.output.send_batch();
        }
        let (message, drained) = self.output.pop()?;
        if drained && !self.events.contains(&Event::Drained) {
            self.events.push_back(Event::Drained);
        }
        Some(message)
    }

    /// Gives the connection up because of what came in on a channel: the last event will say so.
    pub fn destroy(&mut self, channel: ChannelId, reason: &str) {
        if let Some(of) = self.channel(channel) {
            let protocol = of.protocol.clone();
            self.fail(Error::Channel { channel: wire(channel.slot), protocol, reason: reason.to_owned() });
        }
    }

    /// The connection is over: every channel is closed. What has not been sent yet may still be.
    pub fn end(&mut self) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.input.clear();
        for slot in 0..self.local.len() {
            if let Some(serial) = self.release(slot) {
                let channel = ChannelId { slot, serial };
                self.events.push_back(Event::Closed { channel, reason: CloseReason::Connection });
            }
        }
        self.remote.clear();
        self.groups = Groups::default();
        self.buffered = 0;
        self.undecided = 0;
        self.output.uncork_all();
    }

    /// Whether the connection has ended or failed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the channel is open on our side.
    pub fn is_open(&self, channel: ChannelId) -> bool {
        self.channel(channel).is_some()
    }

    /// Bytes waiting to be sent.
    pub fn pending_bytes(&self) -> usize {
        self.output.pending()
    }

    fn check_open(&self, protocol: &str, id: &[u8], options: &ChannelOptions) -> Result<(), OpenError> {
        let names = options.aliases.iter().map(String::len).chain([protocol.len(), id.len()]);
        if self.closed {
            Err(OpenError::Closed)
        } else if names.max() > Some(MUX_NAME_BYTES) {
            Err(OpenError::NameTooLong)
        } else if options.handshake.len() > MUX_HANDSHAKE_BYTES {
            Err(OpenError::HandshakeTooLong)
        } else {
            Ok(())
        }
    }

    fn is_paused(&self) -> bool {
        self.buffered > MUX_BUFFERED_BYTES || self.output.replies() > MUX_REPLY_BYTES
    }

    pub(super) fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    fn channel(&self, id: ChannelId) -> Option<&Channel> {
        match self.local.get(id.slot) {
            Some(Local::Open(channel)) if channel.serial == id.serial => Some(channel),
            _ => None,
        }
    }

    fn pending(&self, id: IncomingId) -> Option<&Pending> {
        match self.remote.get(id.slot) {
            Some(Some(Remote::Pending(pending))) if pending.serial == id.serial => Some(pending),
            _ => None,
        }
    }

    /// Takes a channel out of its slot, the first half of every close (`_close`), and gives its serial number. The
    /// slot can be used again if the peer has answered the open; otherwise its answer frees it.
    pub(super) fn release(&mut self, slot: usize) -> Option<u64> {
        let local = self.local.get_mut(slot).filter(|local| matches!(local, Local::Open(_)))?;
        let Local::Open(channel) = std::mem::replace(local, Local::Free) else { return None };
        if let Some(group) = self.groups.group(channel.group) {
            group.opened = group.opened.saturating_sub(1);
        }
        match channel.remote {
            None => *local = Local::Closing(channel.group),
            Some(remote) => {
                self.free.push(slot);
                if let Some(entry) = self.remote.get_mut(remote) {
                    *entry = None;
                }
            }
        }
        self.groups.collect(channel.group);
        Some(channel.serial)
    }

    pub(super) fn free_slot(&mut self, slot: usize) {
        if let Some(local) = self.local.get_mut(slot) {
            *local = Local::Free;
            self.free.push(slot);
        }
    }

    /// Sends a reject for an undecided channel and forgets it (`_rejectSession`).
    pub(super) fn reject_slot(&mut self, slot: usize) {
        if let Some(pending) = self.take_pending(slot) {
            if let Some(group) = self.groups.group(pending.group) {
                group.incoming.retain(|incoming| *incoming != slot);
            }
            self.groups.collect(pending.group);
            self.output.control(&Control::Reject { channel: wire(slot) }, true);
        }
    }

    fn take_pending(&mut self, slot: usize) -> Option<Box<Pending>> {
        let entry = self.remote.get_mut(slot)?;
        match entry.take() {
            Some(Remote::Pending(pending)) => {
                self.buffered = self.buffered.saturating_sub(pending.charge);
                self.undecided = self.undecided.saturating_sub(1);
                Some(pending)
            }
            other => {
                *entry = other;
                None
            }
        }
    }

    /// Pairs our new channel with one that waited for it, and delivers what the peer has sent there.
    fn decide_for(&mut self, slot: usize, remote: usize) {
        if let Some(pending) = self.take_pending(remote) {
            self.paired(slot, remote, pending.handshake);
            let Some(Local::Open(Channel { serial, message_types, .. })) = self.local.get(slot) else {
                return;
            };
            let channel = ChannelId { slot, serial: *serial };
            let known = pending.messages.into_iter().filter(|(kind, _)| kind < message_types);
            self.events.extend(known.map(|(kind, body)| Event::Message { channel, kind, body }));
        }
    }

    /// Both sides have opened the channel (`_fullyOpen`).
    pub(super) fn paired(&mut self, slot: usize, remote: usize, handshake: Bytes) {
        let Some(Local::Open(channel)) = self.local.get_mut(slot) else { return };
        channel.remote = Some(remote);
        let channel = ChannelId { slot, serial: channel.serial };
        if let Some(entry) = self.remote.get_mut(remote) {
            *entry = Some(Remote::Paired(slot));
        }
        self.events.push_back(Event::Opened { channel, handshake });
    }

    fn fail(&mut self, error: Error) {
        self.end();
        self.output.clear();
        self.events.push_back(Event::Failed(error));
    }
}

/// The number on the wire of a slot.
pub(super) fn wire(slot: usize) -> u64 {
    slot as u64 + 1
}

/// What a buffered message or handshake takes of the buffer.
pub(super) fn charge(bytes: &[u8]) -> usize {
    bytes.len() + MUX_PENDING_OVERHEAD
}
