//! Datagrams on their way into the system, which may take only part of them at a time.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;

use crate::limits::{UDP_BURST_BYTES, UDP_SEND_SLOTS};

thread_local! {
    /// Empty, with the allocations of the last burst.
    static SPARE: Cell<Option<Outgoing>> = const { Cell::new(None) };
}

/// How a datagram leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    /// Like most.
    #[default]
    Plain,
    /// It may be cut into IP fragments, by the system and (IPv4) by routers. Linux only; elsewhere it leaves like any
    /// other.
    InFragments,
    /// It passes at most so many routers.
    Ttl(u8),
}

/// Takes datagrams: [`super::datagrams::Datagrams`], or a test.
pub(super) trait Outlet {
    /// How many datagrams of `segment` bytes one send may carry now.
    fn datagrams_per_send(&self, segment: usize) -> usize;
    /// Sends datagrams of `segment` bytes, the last one possibly shorter.
    fn send(&self, to: SocketAddr, contents: &[u8], segment: usize, way: Way) -> io::Result<()>;
    /// Sends several datagrams; returns how many of them, the first ones. An error concerns the very first.
    fn send_each(&self, datagrams: &[(SocketAddr, &[u8])], way: Way) -> io::Result<usize>;
}

/// How a burst fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it is gone: sent, or refused by the system and so as good as lost.
    Done,
    /// The system's buffer is full; the rest waits.
    Blocked,
}

/// A burst of datagrams: filled by the protocols of a socket, then emptied by [`advance`](Self::advance).
#[derive(Default)]
pub(crate) struct Outgoing {
    buffer: Vec<u8>,
    parts: Vec<Part>,
    /// Parts that are gone.
    gone: usize,
}

/// Datagrams of one size to one destination.
#[derive(Clone, Copy)]
struct Part {
    to: SocketAddr,
    /// Where what is left of them is in the buffer.
    start: usize,
    end: usize,
    segment: usize,
    way: Way,
}

impl Part {
    fn is_single(&self) -> bool {
        self.end - self.start <= self.segment
    }
}

impl Outgoing {
    /// An empty one, with the allocations that this thread has left from the last one.
    pub(super) fn take() -> Self {
        SPARE.take().unwrap_or_default()
    }

    /// Gives the allocations of an empty one back to the thread.
    pub(super) fn give_back(self) {
        SPARE.set(Some(self));
    }

    /// True if nothing more should be added before this has left.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= UDP_BURST_BYTES || self.parts.len() >= UDP_SEND_SLOTS
    }

    /// True if there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Adds a datagram, which may have no bytes at all.
    pub(crate) fn push(&mut self, to: SocketAddr, datagram: &[u8], way: Way) {
        self.push_with(|buffer| {
            buffer.extend_from_slice(datagram);
            Some((to, datagram.len(), way))
        });
    }

    /// Adds the datagrams that `make` appends to the buffer, if it makes any; it says where they go, how many bytes each
    /// but the last has, and how they leave. True if it made some.
    pub(crate) fn push_with(
        &mut self,
        make: impl FnOnce(&mut Vec<u8>) -> Option<(SocketAddr, usize, Way)>,
    ) -> bool {
        let start = self.buffer.len();
        let Some((to, segment, way)) = make(&mut self.buffer) else { return false };
        self.parts.push(Part { to, start, end: self.buffer.len(), segment: segment.max(1), way });
        true
    }

    /// Sends what the system takes. Errors other than a full buffer are the network's losses: a datagram too long
    /// for the interface, no route, a firewall. The protocols find out by themselves that nothing arrives.
    pub(super) fn advance(&mut self, outlet: &impl Outlet) -> Progress {
        while let Some(part) = self.parts.get(self.gone).copied() {
            let run = self.run();
            let sent = match run > 1 {
                true => self.send_run(outlet, run),
                false => self.send_part(outlet, part),
            };
            if sent == Progress::Blocked {
                return Progress::Blocked;
            }
        }
        self.buffer.clear();
        self.parts.clear();
        self.gone = 0;
        Progress::Done
    }

    /// Parts from the next one on that are a single datagram each and leave the same way.
    fn run(&self) -> usize {
        let rest = self.parts.get(self.gone..).unwrap_or_default();
        let Some(first) = rest.first() else { return 0 };
        rest.iter().take(UDP_SEND_SLOTS).take_while(|part| part.is_single() && part.way == first.way).count()
    }

    fn send_run(&mut self, outlet: &impl Outlet, run: usize) -> Progress {
        let parts = self.parts.get(self.gone..self.gone + run).unwrap_or_default();
        let datagram = |part: &Part| (part.to, self.buffer.get(part.start..part.end).unwrap_or_default());
        let datagrams: Vec<_> = parts.iter().map(datagram).collect();
        let way = parts.first().map_or(Way::Plain, |part| part.way);
        match outlet.send_each(&datagrams, way) {
            Ok(count) => self.gone += count.max(1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Blocked,
            Err(error) => {
                tracing::trace!(%error, "datagram not sent");
                self.gone += 1;
            }
        }
        Progress::Done
    }

    fn send_part(&mut self, outlet: &impl Outlet, part: Part) -> Progress {
        let Part { to, mut start, end, segment, way } = part;
        loop {
            let per_send = if way == Way::Plain { outlet.datagrams_per_send(segment) } else { 1 };
            let length = (end - start).min(segment.saturating_mul(per_send));
            let contents = self.buffer.get(start..start + length).unwrap_or_default();
            match outlet.send(to, contents, segment, way) {
                Ok(()) => start += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Some(part) = self.parts.get_mut(self.gone) {
                        part.start = start;
                    }
                    return Progress::Blocked;
                }
                // The system just learnt that this interface cannot cut batches: the same again, one by one.
                Err(_) if way == Way::Plain && outlet.datagrams_per_send(segment) < per_send => continue,
                Err(error) => {
                    tracing::trace!(%to, length, %error, "datagrams not sent");
                    start += length;
                }
            }
            if start >= end {
                self.gone += 1;
                return Progress::Done;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A system that cuts batches until it notices that it cannot, and has room for some sends.
    struct System {
        per_send: Cell<usize>,
        batches_fail: bool,
        room: Cell<usize>,
        refuse_longer_than: usize,
        sent: RefCell<Vec<Vec<u8>>>,
        calls: RefCell<Vec<Way>>,
    }

    impl System {
        fn new(per_send: usize) -> Self {
            Self {
                per_send: Cell::new(per_send),
                batches_fail: false,
                room: Cell::new(usize::MAX),
                refuse_longer_than: usize::MAX,
                sent: RefCell::default(),
                calls: RefCell::default(),
            }
        }
    }

    impl Outlet for System {
        fn datagrams_per_send(&self, _segment: usize) -> usize {
            self.per_send.get()
        }

        fn send(&self, _to: SocketAddr, contents: &[u8], segment: usize, way: Way) -> io::Result<()> {
            if self.room.get() == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.calls.borrow_mut().push(way);
            if self.batches_fail && contents.len() > segment {
                self.per_send.set(1);
                return Err(io::Error::from_raw_os_error(5));
            }
            if segment.min(contents.len()) > self.refuse_longer_than {
                return Err(io::Error::other("message too long"));
            }
            self.room.set(self.room.get() - 1);
            let empty = contents.is_empty().then(Vec::new);
            self.sent.borrow_mut().extend(contents.chunks(segment).map(<[u8]>::to_vec).chain(empty));
            Ok(())
        }

        /// Takes half of them at least.
        fn send_each(&self, datagrams: &[(SocketAddr, &[u8])], way: Way) -> io::Result<usize> {
            let mut count = 0;
            for (to, datagram) in datagrams.iter().take(datagrams.len().div_ceil(2)) {
                match self.send(*to, datagram, datagram.len().max(1), way) {
                    Ok(()) => count += 1,
                    Err(error) if count == 0 => return Err(error),
                    Err(_) => break,
                }
            }
            Ok(count)
        }
    }

    fn to() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn burst(way: Way) -> (Outgoing, Vec<Vec<u8>>) {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut outgoing = Outgoing::default();
        outgoing.push_with(|buffer| {
            buffer.extend_from_slice(&bytes);
            Some((to(), 50, way))
        });
        (outgoing, bytes.chunks(50).map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn a_batch_leaves_in_as_few_sends_as_the_system_allows() {
        for per_send in [1, 2, 5, 6, 64] {
            let (mut outgoing, datagrams) = burst(Way::Plain);
            let system = System::new(per_send);
            system.room.set(datagrams.len().div_ceil(per_send));
            assert_eq!(outgoing.advance(&system), Progress::Done, "{per_send} per send");
            assert_eq!(*system.sent.borrow(), datagrams);
            assert!(outgoing.is_empty());
        }
    }

    #[test]
    fn what_may_be_cut_by_routers_leaves_one_by_one() {
        let (mut outgoing, datagrams) = burst(Way::InFragments);
        let system = System::new(64);
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), datagrams);
        assert_eq!(*system.calls.borrow(), vec![Way::InFragments; datagrams.len()]);
    }

    #[test]
    fn a_system_that_cannot_cut_batches_gets_every_datagram_alone() {
        let (mut outgoing, datagrams) = burst(Way::Plain);
        let system = System { batches_fail: true, ..System::new(64) };
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), datagrams);
    }

    #[test]
    fn what_did_not_fit_the_systems_buffer_leaves_later_and_nothing_leaves_twice() {
        let (mut outgoing, mut datagrams) = burst(Way::Plain);
        for byte in 0..5 {
            outgoing.push(to(), &[byte], Way::Plain);
            datagrams.push(vec![byte]);
        }
        let system = System::new(2);
        for room in [1, 0, 2, 1, 1] {
            system.room.set(room);
            assert_eq!(outgoing.advance(&system), Progress::Blocked);
        }
        system.room.set(9);
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), datagrams);
    }

    #[test]
    fn a_datagram_the_system_refuses_is_lost_and_holds_nothing_up() {
        let (mut outgoing, datagrams) = burst(Way::Plain);
        outgoing.push(to(), b"longer than that", Way::Plain);
        outgoing.push(to(), b"short", Way::Plain);
        let system = System { refuse_longer_than: 10, ..System::new(1) };
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), [&datagrams[5][..], b"short"]);
    }

    #[test]
    fn single_datagrams_share_a_call_with_those_that_leave_the_same_way() {
        let mut outgoing = Outgoing::default();
        let ways = [Way::Plain, Way::Plain, Way::Ttl(5), Way::Ttl(5), Way::Ttl(64), Way::Plain];
        for (byte, way) in (0..).zip(ways) {
            outgoing.push(to(), &[byte], way);
        }
        let system = System::new(64);
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), [[0], [1], [2], [3], [4], [5]]);
        assert_eq!(*system.calls.borrow(), ways);
    }

    #[test]
    fn a_datagram_without_bytes_leaves_too() {
        let mut outgoing = Outgoing::default();
        outgoing.push(to(), &[], Way::Ttl(5));
        let system = System::new(64);
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), [Vec::<u8>::new()]);
    }

    #[test]
    fn a_burst_is_full_with_so_many_datagrams_or_bytes() {
        let mut outgoing = Outgoing::default();
        for _ in 1..UDP_SEND_SLOTS {
            outgoing.push(to(), b"x", Way::Plain);
        }
        assert!(!outgoing.is_full());
        outgoing.push(to(), b"x", Way::Plain);
        assert!(outgoing.is_full());
        let mut outgoing = Outgoing::default();
        outgoing.push(to(), &vec![0; UDP_BURST_BYTES - 1], Way::Plain);
        assert!(!outgoing.is_full());
        outgoing.push(to(), b"x", Way::Plain);
        assert!(outgoing.is_full());
    }
}
