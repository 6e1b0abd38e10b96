//! One UDX instance: streams by local id, deadlines, and whose turn it is to send.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::id_map::IdMap;
use super::packet::{HEADER_BYTES, Header, Packet, flag};
use super::stream::{Budget, Farewell, Stream};
use super::types::{
    CloseReason, Config, Disposition, Event, OpenError, SocketId, StreamId, StreamOptions, Transmit,
};
use crate::limits::{MAX_UDX_LINGERING, MAX_UDX_LOOSE_BYTES, MAX_UDX_LOOSE_DATAGRAMS, MAX_UDX_STREAMS};

/// One UDX instance: all its streams, whatever sockets they use.
pub struct Endpoint {
    config: Config,
    rng: StdRng,
    budget: Budget,
    streams: IdMap<StreamId, Slot>,
    /// When each stream wants to be woken; the same as `Slot::deadline`, by stream.
    deadlines: BTreeSet<(Instant, StreamId)>,
    outboxes: IdMap<SocketId, Outbox>,
    /// Streams with events, each once.
    eventful: VecDeque<StreamId>,
    /// Streams that relay, by the stream whose peer they relay to.
    relays: IdMap<StreamId, Vec<StreamId>>,
    /// Streams ended by both sides, and when.
    lingering: IdMap<StreamId, (Farewell, Instant)>,
    /// The keys of `lingering`, oldest first; some may be gone.
    lingering_order: VecDeque<StreamId>,
    /// Datagrams in outboxes that belong to no stream, and their bytes.
    loose: usize,
    loose_bytes: usize,
    /// The latest time that the owner has told.
    now: Option<Instant>,
}

/// How long a peer may need to notice that our last acknowledgement was lost: its end is sent again with the probe for the
/// tail, and after one and three seconds.
const LINGER: Duration = Duration::from_millis(3500);

struct Slot {
    stream: Stream,
    deadline: Option<Instant>,
    /// Sockets in whose outbox the stream waits for its turn.
    queued: [Option<SocketId>; 2],
    eventful: bool,
    /// Where it is in `relays`.
    relaying: Option<StreamId>,
}

impl Slot {
    /// Gives up its turn on this socket; whether it had one.
    fn leave(&mut self, socket: SocketId) -> bool {
        let place = self.queued.iter_mut().find(|queued| **queued == Some(socket));
        place.is_some_and(|place| place.take().is_some())
    }
}

/// What waits for a socket.
#[derive(Default)]
struct Outbox {
    ready: VecDeque<StreamId>,
    loose: VecDeque<(SocketAddr, Bytes)>,
}

impl Outbox {
    /// The next datagrams that belong to no stream: those that follow one another to one destination, of one size. Also
    /// how many they are.
    fn take_loose(&mut self, most: usize, buffer: &mut Vec<u8>) -> Option<(Transmit, usize)> {
        let (destination, first) = self.loose.pop_front()?;
        buffer.extend_from_slice(&first);
        let segment_size = first.len();
        let (mut length, mut count) = (segment_size, 1);
        let fits = |(to, bytes): &mut (SocketAddr, Bytes)| *to == destination && bytes.len() <= segment_size;
        // A shorter one is the last of its batch.
        while count < most
            && length == count * segment_size
            && let Some((_, bytes)) = self.loose.pop_front_if(fits)
        {
            buffer.extend_from_slice(&bytes);
            length += bytes.len();
            count += 1;
        }
        Some((Transmit { destination, segment_size, length, may_fragment: false }, count))
    }
}

/// Access to a stream; what it then wants (deadlines, a turn to send, events) is noted when this is dropped.
pub struct StreamGuard<'a> {
    endpoint: &'a mut Endpoint,
    id: StreamId,
}

impl Endpoint {
    /// An endpoint without streams.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            rng: StdRng::seed_from_u64(seed),
            budget: Budget::new(config.receive_budget),
            streams: IdMap::default(),
            deadlines: BTreeSet::new(),
            outboxes: IdMap::default(),
            eventful: VecDeque::new(),
            relays: IdMap::default(),
            lingering: IdMap::default(),
            lingering_order: VecDeque::new(),
            loose: 0,
            loose_bytes: 0,
            now: None,
        }
    }

    /// A new stream, not connected.
    pub fn open(&mut self, now: Instant, options: StreamOptions) -> Result<StreamId, OpenError> {
        if self.streams.len() >= MAX_UDX_STREAMS {
            return Err(OpenError::TooMany(MAX_UDX_STREAMS));
        }
        let id = match options.id.map(StreamId) {
            Some(id) if self.streams.contains_key(&id) => return Err(OpenError::InUse(id)),
            Some(id) => id,
            None => self.unused_id(),
        };
        self.lingering.remove(&id);
        let stream = Stream::new(now, id, &self.config, options, self.rng.random(), self.budget.clone());
        let slot = Slot { stream, deadline: None, queued: [None; 2], eventful: false, relaying: None };
        self.streams.insert(id, slot);
        Ok(id)
    }

    /// The stream with this local id, closed ones included.
    pub fn stream(&mut self, id: StreamId) -> Option<StreamGuard<'_>> {
        self.streams.contains_key(&id).then_some(StreamGuard { endpoint: self, id })
    }

    /// Frees a stream; one that is not closed is destroyed.
    pub fn forget(&mut self, id: StreamId) {
        let Some(mut stream) = self.stream(id) else { return };
        stream.destroy();
        drop(stream);
        self.close_relays(id);
        let Some(slot) = self.streams.remove(&id) else { return };
        self.note_relay(id, slot.relaying, None);
        if let Some(at) = slot.deadline {
            self.deadlines.remove(&(at, id));
        }
    }

    /// A socket is closed: nothing will leave it any more.
    pub fn forget_socket(&mut self, socket: SocketId) {
        if let Some(outbox) = self.outboxes.remove(&socket) {
            self.loose -= outbox.loose.len();
            self.loose_bytes -= outbox.loose.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        }
        self.lingering.retain(|_, (farewell, _)| farewell.path.socket != socket);
        let waiting = self.streams.iter_mut().filter_map(|(id, slot)| slot.leave(socket).then_some(*id));
        for id in waiting.collect::<Vec<_>>() {
            self.settle(id);
        }
    }

    /// Until when peers of streams that used this socket, and were ended by both sides, may need our last acknowledgement
    /// again. A socket that is closed before lets them run into a time-out.
    pub fn lingers_until(&self, socket: SocketId) -> Option<Instant> {
        let on_it = self.lingering.values().filter(|(farewell, _)| farewell.path.socket == socket);
        on_it.map(|(_, ended)| *ended + LINGER).max()
    }

    /// Streams, closed ones included.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Bytes that all streams hold for their readers now.
    pub fn held(&self) -> usize {
        self.budget.held()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// A datagram from a socket, cut out of its batch.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Disposition {
        self.now = Some(now);
        let Ok(header) = Header::decode(datagram) else { return Disposition::NotUdx };
        let id = StreamId(header.stream);
        let Some(slot) = self.streams.get_mut(&id).filter(|slot| slot.stream.closed().is_none()) else {
            return self.answer_late(&header);
        };
        if !slot.stream.admits(socket, from) {
            return Disposition::Handled;
        }
        if let Some(destination) = slot.stream.relay() {
            self.relay(id, destination, &header, datagram);
        } else if let Ok(packet) = Packet::decode(datagram) {
            slot.stream.handle_packet_from(now, socket, from, &packet, datagram.len());
        } else {
            slot.stream.ignore();
        }
        self.settle(id);
        Disposition::Handled
    }

    /// The time has come that [`poll_timeout`](Self::poll_timeout) named.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = Some(now);
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now {
                return;
            }
            self.deadlines.pop_first();
            if let Some(slot) = self.streams.get_mut(&id) {
                slot.deadline = None;
                // A deadline that has moved since is only noted again.
                if slot.stream.deadline().is_some_and(|at| at <= now) {
                    slot.stream.handle_timeout(now);
                }
            }
            self.settle(id);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called next. Calling it earlier or later is harmless.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The next datagrams for this socket, appended to `buffer`: up to `max_datagrams` of one size, the last possibly
    /// shorter, to one destination. Streams take turns.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        socket: SocketId,
        max_datagrams: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        loop {
            let outbox = self.outboxes.get_mut(&socket)?;
            if let Some((transmit, count)) = outbox.take_loose(max_datagrams, buffer) {
                self.loose -= count;
                self.loose_bytes -= transmit.length;
                return Some(transmit);
            }
            let Some(id) = outbox.ready.pop_front() else {
                self.outboxes.remove(&socket);
                return None;
            };
            let Some(slot) = self.streams.get_mut(&id) else { continue };
            slot.leave(socket);
            let transmit = slot.stream.transmit(now, socket, max_datagrams, buffer);
            if transmit.is_some() {
                slot.stream.stay_awake();
            }
            self.settle(id);
            if transmit.is_some() {
                return transmit;
            }
        }
    }

    /// Whether something may leave this socket now: then [`poll_transmit`](Self::poll_transmit) is due.
    pub fn wants_transmit(&self, socket: SocketId) -> bool {
        self.outboxes.contains_key(&socket)
    }

    /// The sockets from which something may leave now.
    pub fn sockets_with_transmits(&self) -> impl Iterator<Item = SocketId> + '_ {
        self.outboxes.keys().copied()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<(StreamId, Event)> {
        while let Some(&id) = self.eventful.front() {
            if let Some(slot) = self.streams.get_mut(&id) {
                if let Some(event) = slot.stream.take_event() {
                    return Some((id, event));
                }
                slot.eventful = false;
            }
            self.eventful.pop_front();
        }
        None
    }

    fn unused_id(&mut self) -> StreamId {
        loop {
            let id = StreamId(self.rng.random());
            if !self.streams.contains_key(&id) && !self.lingering.contains_key(&id) {
                return id;
            }
        }
    }

    /// Notes what a stream wants after it was touched.
    fn settle(&mut self, id: StreamId) {
        let Some(slot) = self.streams.get_mut(&id) else { return };
        let wanted = slot.stream.deadline();
        // A later deadline waits for the earlier one to pass: most are put off again and again.
        let keep = matches!((slot.deadline, wanted), (Some(noted), Some(wanted)) if noted <= wanted);
        if !keep && slot.deadline != wanted {
            if let Some(at) = slot.deadline {
                self.deadlines.remove(&(at, id));
            }
            slot.deadline = wanted;
            self.deadlines.extend(wanted.map(|at| (at, id)));
        }
        if !slot.eventful && slot.stream.has_events() {
            slot.eventful = true;
            self.eventful.push_back(id);
        }
        if slot.stream.take_awake() {
            let (current, old) = slot.stream.ways();
            for socket in [current, old].into_iter().flatten().map(|path| path.socket) {
                if slot.queued.contains(&Some(socket)) {
                    continue;
                }
                if let Some(free) = slot.queued.iter_mut().find(|queued| queued.is_none()) {
                    *free = Some(socket);
                    self.outboxes.entry(socket).or_default().ready.push_back(id);
                } else {
                    // It waits for two sockets it has left since. The next of these turns makes a place.
                    slot.stream.stay_awake();
                }
            }
        }
        let (destination, closed) = (slot.stream.relay(), slot.stream.closed().is_some());
        if destination != slot.relaying {
            let before = std::mem::replace(&mut slot.relaying, destination);
            self.note_relay(id, before, destination);
        }
        if closed {
            self.on_closed(id);
        }
    }

    /// Sends a closed stream's last packet, remembers it if it may have to be repeated, closes what relays to it.
    fn on_closed(&mut self, id: StreamId) {
        let farewell = self.streams.get_mut(&id).and_then(|slot| slot.stream.take_farewell());
        if let Some(farewell) = farewell {
            if farewell.due {
                self.push_farewell(&farewell);
            }
            if farewell.linger {
                self.linger(id, farewell);
            }
        }
        self.close_relays(id);
    }

    fn push_farewell(&mut self, farewell: &Farewell) {
        let path = farewell.path;
        self.push_loose(path.socket, path.remote.address, Bytes::copy_from_slice(&farewell.packet));
    }

    /// When full, the datagram is dropped, as a network may.
    fn push_loose(&mut self, socket: SocketId, destination: SocketAddr, datagram: Bytes) {
        let bytes = self.loose_bytes + datagram.len();
        if self.loose < MAX_UDX_LOOSE_DATAGRAMS && bytes <= MAX_UDX_LOOSE_BYTES {
            self.loose += 1;
            self.loose_bytes = bytes;
            self.outboxes.entry(socket).or_default().loose.push_back((destination, datagram));
        }
    }

    fn linger(&mut self, id: StreamId, farewell: Farewell) {
        while self.lingering_order.len() >= MAX_UDX_LINGERING {
            if let Some(oldest) = self.lingering_order.pop_front() {
                self.lingering.remove(&oldest);
            }
        }
        let Some(now) = self.now else { return };
        if self.lingering.insert(id, (farewell, now)).is_none() {
            self.lingering_order.push_back(id);
        }
    }

    /// A packet of a stream that is over. If its peer sends data or its end again, our last acknowledgement was lost.
    /// libudx does not repeat it, so there such a peer runs into a time-out; for the sockets of others this is none of
    /// our packets either way.
    fn answer_late(&mut self, header: &Header) -> Disposition {
        let Some((farewell, _)) = self.lingering.get(&StreamId(header.stream)).copied() else {
            return Disposition::NotUdx;
        };
        if header.has(flag::DATA | flag::END) {
            self.push_farewell(&farewell);
        }
        Disposition::Handled
    }

    /// Passes a datagram on, with the id that the other peer knows; drops it while that peer is not known.
    fn relay(&mut self, id: StreamId, destination: StreamId, header: &Header, datagram: &[u8]) {
        let path = self.streams.get(&destination).and_then(|slot| slot.stream.ways().0);
        if let Some(path) = path {
            let mut bytes = Vec::with_capacity(datagram.len());
            bytes.extend_from_slice(&Header { stream: path.remote.id, ..*header }.encode());
            bytes.extend_from_slice(datagram.get(HEADER_BYTES..).unwrap_or_default());
            self.push_loose(path.socket, path.remote.address, bytes.into());
        }
        if header.has(flag::DESTROY)
            && let Some(slot) = self.streams.get_mut(&id)
        {
            slot.stream.close(CloseReason::Reset);
        }
    }

    /// A stream relays to another destination than before, or no more.
    fn note_relay(&mut self, id: StreamId, before: Option<StreamId>, after: Option<StreamId>) {
        if let Some(list) = before.and_then(|before| self.relays.get_mut(&before)) {
            list.retain(|other| *other != id);
        }
        if let Some(after) = after {
            self.relays.entry(after).or_default().push(id);
        }
    }

    /// Closes the streams that relay to this one, and those that relay to them.
    fn close_relays(&mut self, closed: StreamId) {
        let mut ends = vec![closed];
        while let Some(end) = ends.pop() {
            for id in self.relays.remove(&end).unwrap_or_default() {
                let Some(slot) = self.streams.get_mut(&id) else { continue };
                if slot.stream.closed().is_none() {
                    slot.stream.close(CloseReason::RelayClosed(end));
                    self.settle_closed(id);
                    ends.push(id);
                }
            }
        }
    }

    /// Like [`settle`](Self::settle) for a stream that was closed because of another one.
    fn settle_closed(&mut self, id: StreamId) {
        let Some(slot) = self.streams.get_mut(&id) else { return };
        if let Some(at) = slot.deadline.take() {
            self.deadlines.remove(&(at, id));
        }
        if !slot.eventful && slot.stream.has_events() {
            slot.eventful = true;
            self.eventful.push_back(id);
        }
    }
}

impl Deref for StreamGuard<'_> {
    type Target = Stream;

    #[allow(clippy::expect_used)] // `Endpoint::stream` looked, and the guard borrows the endpoint since.
    fn deref(&self) -> &Stream {
        &self.endpoint.streams.get(&self.id).expect("stream of a guard").stream
    }
}

impl DerefMut for StreamGuard<'_> {
    #[allow(clippy::expect_used)] // `Endpoint::stream` looked, and the guard borrows the endpoint since.
    fn deref_mut(&mut self) -> &mut Stream {
        &mut self.endpoint.streams.get_mut(&self.id).expect("stream of a guard").stream
    }
}

impl Drop for StreamGuard<'_> {
    fn drop(&mut self) {
        self.endpoint.settle(self.id);
    }
}
