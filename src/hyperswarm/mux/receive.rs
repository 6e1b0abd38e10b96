//! What received frames do to a [`Mux`].

use bytes::Bytes;

use super::input::{Item, take_uint};
use super::machine::{Local, Mux, Pending, Remote, charge, wire};
use super::output::Control;
use super::pairing::{GroupId, Key};
use super::{ChannelId, CloseReason, Error, Event, IncomingId};
use crate::codec::compact::{DecodeError, Reader};
use crate::limits::{MUX_CHANNELS, MUX_HANDSHAKE_BYTES, MUX_NAME_BYTES, MUX_SHARED_BYTES, MUX_UNDECIDED};

/// An open as it was sent.
struct Open {
    channel: u64,
    protocol: String,
    id: Bytes,
    handshake: Bytes,
}

impl Mux {
    /// Does what the next item of the input says.
    pub(super) fn receive_next(&mut self) -> Result<(), Error> {
        match self.input.next()? {
            Item::None => {}
            Item::EndOfCork => self.output.uncork(),
            Item::Frame { channel, mut rest, cork } => {
                if cork {
                    self.output.cork();
                }
                let kind = take_uint(&mut rest, "message type")?;
                match (channel, kind) {
                    (0, 0) => self.input.enter_batch(rest)?,
                    (0, 1) => self.on_open(&rest)?,
                    (0, 2) => self.on_reject(take_uint(&mut rest, "reject: channel id")?)?,
                    (0, 3) => self.on_close(take_uint(&mut rest, "close: channel id")?),
                    (0, _) => {}
                    _ => self.on_message(channel, kind, &rest),
                }
            }
        }
        Ok(())
    }

    /// Messages of closed and unknown channels are ignored: the peer may not know yet.
    fn on_message(&mut self, channel: u64, kind: u64, body: &Bytes) {
        let Some(entry) = slot(channel).and_then(|slot| self.remote.get_mut(slot)).and_then(Option::as_mut)
        else {
            return;
        };
        match entry {
            Remote::Pending(pending) => {
                let body = Bytes::copy_from_slice(body);
                let charge = charge(&body);
                pending.messages.push((kind, body));
                pending.charge += charge;
                self.buffered += charge;
            }
            Remote::Paired(slot) => {
                let slot = *slot;
                if let Some(Local::Open(of)) = self.local.get(slot)
                    && kind < of.message_types
                {
                    let channel = ChannelId { slot, serial: of.serial };
                    let body = self.detach(body, MUX_SHARED_BYTES);
                    self.events.push_back(Event::Message { channel, kind, body });
                }
            }
        }
    }

    /// `_onopensession`.
    fn on_open(&mut self, rest: &Bytes) -> Result<(), Error> {
        let open = self.read_open(rest)?;
        let Some(slot) = slot(open.channel).filter(|slot| *slot <= self.remote.len()) else {
            return Err(Error::InvalidOpen { channel: open.channel, protocol: open.protocol });
        };
        match self.remote.get(slot) {
            Some(None) => {}
            Some(Some(_)) => {
                return Err(Error::InvalidOpen { channel: open.channel, protocol: open.protocol });
            }
            None if slot >= MUX_CHANNELS => return Err(Error::TooManyChannels { protocol: open.protocol }),
            None => self.remote.push(None),
        }
        let bytes = open.handshake.len();
        if bytes > MUX_HANDSHAKE_BYTES {
            return Err(Error::HandshakeTooLong { channel: open.channel, protocol: open.protocol, bytes });
        }
        let key = Key { protocol: open.protocol, id: open.id };
        let group = self.groups.find(&key);
        if let Some((group, own)) =
            group.and_then(|id| Some((id, self.groups.group(id)?.outgoing.pop_front()?)))
        {
            self.answered(own, slot, open.handshake, group);
        } else if self.is_welcome(&key) {
            self.keep_undecided(slot, key, open.handshake);
        } else {
            self.output.control(&Control::Reject { channel: wire(slot) }, true);
        }
        Ok(())
    }

    /// Reads an open. Names too long to be those of any channel are cut, so that they match none and are kept by
    /// nothing.
    fn read_open(&self, rest: &Bytes) -> Result<Open, DecodeError> {
        let mut reader = Reader::new(rest);
        let channel = reader.uint("open: channel id")?;
        let protocol = reader.buffer("open: protocol")?;
        let id = reader.buffer("open: id")?;
        let handshake = reader.raw();
        let shown = protocol.get(..protocol.len().min(MUX_NAME_BYTES + 1)).unwrap_or_default();
        Ok(Open {
            channel,
            protocol: String::from_utf8_lossy(shown).into_owned(),
            id: Bytes::copy_from_slice(id.get(..id.len().min(MUX_NAME_BYTES + 1)).unwrap_or_default()),
            handshake: self.detach(&rest.slice_ref(handshake), 0),
        })
    }

    /// The peer has opened what we opened before.
    fn answered(&mut self, own: usize, remote: usize, handshake: Bytes, group: GroupId) {
        if let Some(Local::Open(_)) = self.local.get(own) {
            self.paired(own, remote, handshake);
        } else {
            // Closed by us in the meantime. The original does not tell the peer again, whose channel then stays
            // open for ever if our close came while it was deciding; a close too many does no harm.
            self.output.control(&Control::Close { channel: wire(own) }, true);
            self.free_slot(own);
            self.groups.collect(group);
        }
    }

    /// True if the owner wants to decide about an open. When too many wait for that, further ones are rejected.
    fn is_welcome(&self, key: &Key) -> bool {
        let any = Key { protocol: key.protocol.clone(), id: Bytes::new() };
        let named = key.protocol.len() <= MUX_NAME_BYTES && key.id.len() <= MUX_NAME_BYTES;
        named && self.undecided < MUX_UNDECIDED && (self.pairs.contains(key) || self.pairs.contains(&any))
    }

    fn keep_undecided(&mut self, slot: usize, key: Key, handshake: Bytes) {
        let group = self.groups.find_or_create(&key, &[]);
        if let Some(group) = self.groups.group(group) {
            group.incoming.push_back(slot);
        }
        let serial = self.serial();
        let charge = charge(&handshake);
        self.buffered += charge;
        self.undecided += 1;
        self.events.push_back(Event::RemoteOpen {
            incoming: IncomingId { slot, serial },
            protocol: key.protocol.clone(),
            id: key.id.clone(),
            handshake: handshake.clone(),
        });
        let pending = Pending { serial, group, key, handshake, messages: Vec::new(), charge };
        if let Some(entry) = self.remote.get_mut(slot) {
            *entry = Some(Remote::Pending(Box::new(pending)));
        }
    }

    /// `_onrejectsession`: only a channel that waits for the peer's answer can be rejected.
    fn on_reject(&mut self, channel: u64) -> Result<(), Error> {
        let Some(slot) = slot(channel) else { return Err(Error::InvalidReject(channel)) };
        let group = match self.local.get(slot) {
            Some(Local::Closing(group)) => *group,
            Some(Local::Open(channel)) if channel.remote.is_none() => channel.group,
            _ => return Err(Error::InvalidReject(channel)),
        };
        if let Some(serial) = self.release(slot) {
            let channel = ChannelId { slot, serial };
            self.events.push_back(Event::Closed { channel, reason: CloseReason::Rejected });
        }
        if let Some(group) = self.groups.group(group) {
            group.outgoing.retain(|outgoing| *outgoing != slot);
        }
        self.groups.collect(group);
        self.free_slot(slot);
        Ok(())
    }

    /// `_onclosesession`; numbers that are not in use are ignored. Where we have not decided yet, the original
    /// ignores the close too and later opens a channel that nobody is at the other end of.
    fn on_close(&mut self, channel: u64) {
        let Some(slot) = slot(channel) else { return };
        match self.remote.get(slot) {
            Some(Some(Remote::Paired(own))) => {
                let own = *own;
                if let Some(serial) = self.release(own) {
                    let channel = ChannelId { slot: own, serial };
                    self.events.push_back(Event::Closed { channel, reason: CloseReason::Remote });
                }
            }
            Some(Some(Remote::Pending(pending))) => {
                let incoming = IncomingId { slot, serial: pending.serial };
                self.reject_slot(slot);
                self.events.push_back(Event::Withdrawn { incoming });
            }
            _ => {}
        }
    }

    /// A part of the message at hand that does not keep all of it in memory: a small part of a long message is
    /// copied, so that a peer cannot make us keep 16 MiB for every byte that waits to be read.
    fn detach(&self, part: &Bytes, shared: usize) -> Bytes {
        let whole = self.input.length();
        if whole > shared && part.len() < whole / 2 { Bytes::copy_from_slice(part) } else { part.clone() }
    }
}

/// The slot of a number on the wire; 0 is the control channel.
fn slot(channel: u64) -> Option<usize> {
    usize::try_from(channel.checked_sub(1)?).ok()
}
