//! What was received: slots that are used again and again, one set per thread.

use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

use crate::limits::{UDP_RECEIVE_SLOTS, UDP_SMALL_RECEIVE_SLOTS};

/// Bytes of a receive slot: more than any datagram (65,527 bytes) and any batch of coalesced ones (below 65,536),
/// so that a full slot can only mean one that was cut.
const SLOT_BYTES: usize = 65_536;
/// Mean bytes in a slot up to which the system does not coalesce what arrives.
const SMALL_BYTES: usize = 2048;

thread_local! {
    /// Taken for a turn of a socket's task.
    static SPARE: Cell<Option<Box<Received>>> = const { Cell::new(None) };
}

/// See the module.
pub(super) struct Received {
    buffer: Vec<u8>,
    slot_bytes: usize,
    meta: [RecvMeta; UDP_SMALL_RECEIVE_SLOTS],
    filled: usize,
    /// Slots that the next call may fill.
    slots: usize,
    /// Datagrams that the protocols so far have refused.
    left: Vec<Place>,
}

/// Where a datagram is.
#[derive(Clone, Copy)]
struct Place {
    slot: usize,
    start: usize,
    end: usize,
}

impl Received {
    /// Those of this thread, or new ones. The memory of slots that nothing has reached is never touched.
    pub(super) fn take() -> Box<Self> {
        SPARE.take().unwrap_or_else(|| Box::new(Self::with_slots_of(SLOT_BYTES)))
    }

    /// Gives them back to the thread.
    pub(super) fn give_back(self: Box<Self>) {
        SPARE.set(Some(self));
    }

    pub(super) fn with_slots_of(slot_bytes: usize) -> Self {
        Self {
            buffer: vec![0; slot_bytes * UDP_SMALL_RECEIVE_SLOTS],
            slot_bytes,
            meta: [RecvMeta::default(); UDP_SMALL_RECEIVE_SLOTS],
            filled: 0,
            slots: UDP_RECEIVE_SLOTS,
            left: Vec::new(),
        }
    }

    /// Receives. True if there may be more to receive.
    pub(super) fn fill(&mut self, state: &UdpSocketState, socket: UdpSockRef<'_>) -> io::Result<bool> {
        self.filled = 0;
        let mut free = self.buffer.chunks_exact_mut(self.slot_bytes);
        let mut slots: [IoSliceMut<'_>; UDP_SMALL_RECEIVE_SLOTS] =
            std::array::from_fn(|_| IoSliceMut::new(free.next().unwrap_or_default()));
        let offered = slots.get_mut(..self.slots).unwrap_or_default();
        self.filled = state.recv(socket, offered, &mut self.meta)?;
        let full = self.filled >= self.slots;
        let bulk = self.choose_slots(full);
        // More of what comes in bulk has probably arrived meanwhile.
        Ok(full || bulk)
    }

    /// Datagrams of one sender come in few slots, and more slots would only spread them over more memory than the
    /// processor's cache holds. Those of many senders take a slot each. True if it is the former.
    fn choose_slots(&mut self, full: bool) -> bool {
        let bytes: usize = self.meta.iter().take(self.filled).map(|meta| meta.len).sum();
        let bulk = bytes > self.filled * SMALL_BYTES;
        if bulk {
            self.slots = UDP_RECEIVE_SLOTS;
        } else if full {
            self.slots = UDP_SMALL_RECEIVE_SLOTS;
        }
        bulk
    }

    /// All of it, for the protocols.
    pub(super) fn batch(&mut self) -> Batch<'_> {
        let Self { buffer, slot_bytes, meta, filled, left, .. } = self;
        left.clear();
        let slots = Slots { buffer, slot_bytes: *slot_bytes, meta: meta.get(..*filled).unwrap_or_default() };
        Batch { slots, left, fresh: true }
    }
}

/// What has arrived with one system call.
#[derive(Clone, Copy)]
struct Slots<'a> {
    buffer: &'a [u8],
    slot_bytes: usize,
    meta: &'a [RecvMeta],
}

impl<'a> Slots<'a> {
    /// The datagrams, one by one. One that did not fit its slot is left out: a cut packet must not be taken for a whole
    /// one.
    fn places(self) -> impl Iterator<Item = Place> + 'a {
        let whole = self.meta.iter().enumerate().filter(move |(_, meta)| meta.len < self.slot_bytes);
        whole.flat_map(|(slot, meta)| {
            let (length, stride) = (meta.len, meta.stride.max(1));
            // An empty datagram is one too: hole punching uses them.
            let count = length.div_ceil(stride).max(1);
            (0..count).map(move |n| Place { slot, start: n * stride, end: length.min((n + 1) * stride) })
        })
    }

    fn at(self, place: Place) -> Option<(SocketAddr, &'a [u8])> {
        let start = place.slot * self.slot_bytes;
        let datagram = self.buffer.get(start + place.start..start + place.end)?;
        Some((canonical(self.meta.get(place.slot)?.addr), datagram))
    }
}

/// What has arrived with one system call, less what protocols have taken.
pub(crate) struct Batch<'a> {
    slots: Slots<'a>,
    left: &'a mut Vec<Place>,
    /// Nobody has looked at it: `left` would be all of it.
    fresh: bool,
}

impl Batch<'_> {
    /// Shows each datagram, with its sender, that no protocol has taken so far. `take` says if it takes it.
    pub(crate) fn offer(&mut self, mut take: impl FnMut(SocketAddr, &[u8]) -> bool) {
        let slots = self.slots;
        let mut refused =
            |place: Place| slots.at(place).is_some_and(|(from, datagram)| !take(from, datagram));
        if std::mem::replace(&mut self.fresh, false) {
            self.left.extend(slots.places().filter(|place| refused(*place)));
        } else {
            self.left.retain(|place| refused(*place));
        }
    }

    /// True if every datagram was taken.
    pub(super) fn is_over(&self) -> bool {
        !self.fresh && self.left.is_empty()
    }
}

/// An IPv4 sender seen through an IPv6 socket is the same sender.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(ip) => SocketAddr::new(unmapped(ip), address.port()),
        IpAddr::V4(_) => address,
    }
}

fn unmapped(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots that hold these batches, each with the length of its datagrams.
    fn received(batches: &[(&[u8], usize)]) -> Received {
        let mut received = Received::with_slots_of(16);
        for (slot, (batch, stride)) in batches.iter().enumerate() {
            received.buffer[slot * 16..][..batch.len()].copy_from_slice(batch);
            let addr = ([127, 0, 0, 1], slot as u16).into();
            let meta = &mut received.meta[slot];
            (meta.addr, meta.len, meta.stride) = (addr, batch.len(), *stride);
        }
        received.filled = batches.len();
        received
    }

    #[test]
    fn each_protocol_is_shown_what_those_before_it_refused() {
        let mut received = received(&[(b"aabbc", 2), (b"", 0), (b"dd", 2), (b"eeff", 2)]);
        let mut batch = received.batch();
        let mut shown = Vec::new();
        batch.offer(|from, datagram| {
            shown.push((from.port(), String::from_utf8_lossy(datagram).into_owned()));
            matches!(datagram, b"bb" | b"dd")
        });
        let all = [(0, "aa"), (0, "bb"), (0, "c"), (1, ""), (2, "dd"), (3, "ee"), (3, "ff")];
        assert_eq!(shown, all.map(|(from, text)| (from, text.to_owned())));
        assert!(!batch.is_over());
        let mut shown = Vec::new();
        batch.offer(|_, datagram| {
            shown.push(datagram.to_vec());
            !datagram.is_empty()
        });
        assert_eq!(shown, [&b"aa"[..], b"c", b"", b"ee", b"ff"]);
        let mut last = 0;
        batch.offer(|from, datagram| {
            last += 1;
            datagram.is_empty() && from.port() == 1
        });
        assert_eq!(last, 1);
        assert!(batch.is_over());
    }

    #[test]
    fn datagrams_of_many_senders_get_more_slots_and_bulk_gives_them_back() {
        let mut received = Received::with_slots_of(SLOT_BYTES);
        let mut call = |count: usize, bytes: usize| {
            received.filled = count;
            received.meta.iter_mut().take(count).for_each(|meta| meta.len = bytes);
            let bulk = received.choose_slots(count >= received.slots);
            assert_eq!(bulk, bytes > SMALL_BYTES);
            received.slots
        };
        assert_eq!(call(UDP_RECEIVE_SLOTS - 1, 100), UDP_RECEIVE_SLOTS);
        assert_eq!(call(UDP_RECEIVE_SLOTS, 100), UDP_SMALL_RECEIVE_SLOTS);
        assert_eq!(call(1, 100), UDP_SMALL_RECEIVE_SLOTS);
        assert_eq!(call(3, 60_000), UDP_RECEIVE_SLOTS);
    }
}
