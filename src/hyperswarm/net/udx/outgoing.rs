//! A batch of datagrams on its way into the system, which may take only part of it at a time.

use std::io;
use std::net::SocketAddr;

use crate::udx::Transmit;

/// Takes datagrams: [`super::datagrams::Datagrams`], or a test.
pub(super) trait Outlet {
    /// How many datagrams of `segment` bytes one send may carry now.
    fn datagrams_per_send(&self, segment: usize) -> usize;
    /// Sends datagrams of `segment` bytes, the last one possibly shorter.
    fn send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()>;
    /// Sends one datagram, which the system and the routers may cut into IP fragments.
    fn send_in_fragments(&self, destination: SocketAddr, contents: &[u8]) -> io::Result<()>;
}

impl Outlet for super::datagrams::Datagrams {
    fn datagrams_per_send(&self, segment: usize) -> usize {
        self.datagrams_per_send(segment)
    }

    fn send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        self.send(destination, contents, segment)
    }

    fn send_in_fragments(&self, destination: SocketAddr, contents: &[u8]) -> io::Result<()> {
        self.send_in_fragments(destination, contents)
    }
}

/// How a batch fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it is gone: sent, or refused by the system and so as good as lost.
    Done,
    /// The system's buffer is full; the rest waits.
    Blocked,
}

/// The batch.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Filled by the machine; emptied by [`advance`](Self::advance). Its allocation is used again.
    pub(super) buffer: Vec<u8>,
    sent: usize,
    to: Option<Transmit>,
}

impl Outgoing {
    /// Says where the buffer's contents go, and in which datagrams.
    pub(super) fn address(&mut self, batch: &Transmit) {
        self.to = Some(Transmit { segment_size: batch.segment_size.max(1), ..*batch });
        self.sent = 0;
    }

    /// Sends what the system takes. Errors other than a full buffer are the network's losses: a datagram too long
    /// for the interface, no route, a firewall. The machine finds out by itself that nothing arrives.
    pub(super) fn advance(&mut self, outlet: &impl Outlet) -> Progress {
        let Some(batch) = self.to else { return Progress::Done };
        let Transmit { destination, segment_size: segment, may_fragment, .. } = batch;
        while let Some(rest) = self.buffer.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let per_send = if may_fragment { 1 } else { outlet.datagrams_per_send(segment) };
            let length = rest.len().min(segment.saturating_mul(per_send));
            let part = rest.get(..length).unwrap_or(rest);
            let sent = match may_fragment {
                true => outlet.send_in_fragments(destination, part),
                false => outlet.send(destination, part, segment),
            };
            match sent {
                Ok(()) => self.sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Blocked,
                // The system just learnt that this interface cannot cut batches: the same again, one by one.
                Err(_) if outlet.datagrams_per_send(segment) < per_send => {}
                Err(error) => {
                    tracing::trace!(%destination, length, %error, "datagrams not sent");
                    self.sent += length;
                }
            }
        }
        self.buffer.clear();
        self.to = None;
        Progress::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A system that cuts batches until it notices that it cannot, and has room for some sends.
    struct System {
        per_send: Cell<usize>,
        batches_fail: bool,
        room: Cell<usize>,
        refuse_longer_than: usize,
        sent: RefCell<Vec<Vec<u8>>>,
        in_fragments: Cell<usize>,
    }

    impl System {
        fn new(per_send: usize) -> Self {
            Self {
                per_send: Cell::new(per_send),
                batches_fail: false,
                room: Cell::new(usize::MAX),
                refuse_longer_than: usize::MAX,
                sent: RefCell::default(),
                in_fragments: Cell::new(0),
            }
        }
    }

    impl Outlet for System {
        fn datagrams_per_send(&self, _segment: usize) -> usize {
            self.per_send.get()
        }

        fn send(&self, _destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
            if self.room.get() == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if self.batches_fail && contents.len() > segment {
                self.per_send.set(1);
                return Err(io::Error::from_raw_os_error(5));
            }
            if segment.min(contents.len()) > self.refuse_longer_than {
                return Err(io::Error::other("message too long"));
            }
            self.room.set(self.room.get() - 1);
            self.sent.borrow_mut().extend(contents.chunks(segment).map(<[u8]>::to_vec));
            Ok(())
        }

        fn send_in_fragments(&self, destination: SocketAddr, contents: &[u8]) -> io::Result<()> {
            self.in_fragments.set(self.in_fragments.get() + 1);
            self.send(destination, contents, contents.len())
        }
    }

    fn batch() -> (Outgoing, Vec<Vec<u8>>) {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut outgoing = Outgoing { buffer: bytes.clone(), ..Outgoing::default() };
        let destination = SocketAddr::from(([127, 0, 0, 1], 9));
        let length = bytes.len();
        outgoing.address(&Transmit { destination, segment_size: 50, length, may_fragment: false });
        (outgoing, bytes.chunks(50).map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn a_batch_leaves_in_as_few_sends_as_the_system_allows() {
        for per_send in [1, 2, 5, 6, 64] {
            let (mut outgoing, datagrams) = batch();
            let system = System::new(per_send);
            system.room.set(datagrams.len().div_ceil(per_send));
            assert_eq!(outgoing.advance(&system), Progress::Done, "{per_send} per send");
            assert_eq!(*system.sent.borrow(), datagrams);
            assert!(outgoing.buffer.is_empty());
        }
    }

    #[test]
    fn what_may_be_cut_by_routers_leaves_one_by_one() {
        let (mut outgoing, datagrams) = batch();
        outgoing.to.as_mut().unwrap().may_fragment = true;
        let system = System::new(64);
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!((&*system.sent.borrow(), system.in_fragments.get()), (&datagrams, datagrams.len()));
    }

    #[test]
    fn a_system_that_cannot_cut_batches_gets_every_datagram_alone() {
        let (mut outgoing, datagrams) = batch();
        let system = System { batches_fail: true, ..System::new(64) };
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), datagrams);
    }

    #[test]
    fn what_did_not_fit_the_systems_buffer_leaves_later_and_nothing_leaves_twice() {
        let (mut outgoing, datagrams) = batch();
        let system = System::new(2);
        system.room.set(1);
        assert_eq!(outgoing.advance(&system), Progress::Blocked);
        assert_eq!(outgoing.advance(&system), Progress::Blocked);
        system.room.set(9);
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), datagrams);
    }

    #[test]
    fn a_datagram_the_system_refuses_is_lost_and_holds_nothing_up() {
        let (mut outgoing, datagrams) = batch();
        let system = System { refuse_longer_than: 10, ..System::new(1) };
        assert_eq!(outgoing.advance(&system), Progress::Done);
        assert_eq!(*system.sent.borrow(), datagrams[5..], "only the short one at the end");
    }
}
