//! How large packets may be. Up to 1500 bytes by data packets padded with zeros, as libudx does; beyond that only
//! towards peers that announced themselves as this program (npm's receivers cut datagrams at 2048 bytes), by probes
//! that carry no data. Sizes count IP, UDP and UDX headers.
//!
//! A path can shrink later, and a packet that has its number cannot be cut any more. So packets are no larger than
//! jumbo frames except on loopback, where nothing shrinks. When large packets vanish (a black hole: two retransmission
//! time-outs of one), the search starts again at the base, and what was sent larger is repeated in IP fragments.

use std::time::{Duration, Instant};

use crate::udx::packet::{Extension, HEADER_BYTES};
use crate::udx::types::{LARGEST_DATAGRAM, Remote};

const BASE: usize = 1200;
const STEP: usize = 32;
const ETHERNET: usize = 1500;
/// Common jumbo frames: the largest packets outside loopback, and tried if what the route promises does not get through.
const JUMBO_FRAME: usize = 9000;
const TRIES: u8 = 3;
/// The least a probe beyond 1500 bytes is waited for.
const MIN_WAIT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Discovery {
    mtu: usize,
    /// Bytes of IP and UDP headers.
    overhead: usize,
    /// What the route to the peer allows, as the operating system says.
    path: usize,
    search: Search,
    jumbo: Jumbo,
    /// What the peer announced: bytes of UDP payload.
    announced: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// No data was acknowledged yet.
    Base,
    Probing {
        size: usize,
        tries: u8,
        under_way: bool,
    },
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Jumbo {
    Off,
    /// A probe of so many bytes of UDP payload is to be sent.
    Due {
        size: u16,
        tries: u8,
    },
    Waiting {
        size: u16,
        tries: u8,
        until: Instant,
    },
}

impl Discovery {
    pub(super) fn new() -> Self {
        Self {
            mtu: BASE,
            overhead: 28,
            path: ETHERNET,
            search: Search::Base,
            jumbo: Jumbo::Off,
            announced: None,
        }
    }

    /// A new path: what was found out on the old one does not count.
    pub(super) fn set_path(&mut self, remote: &Remote) {
        let announced = self.announced;
        let path = if remote.path_mtu == 0 { ETHERNET } else { usize::from(remote.path_mtu) };
        let path = if remote.address.ip().is_loopback() { path } else { path.min(JUMBO_FRAME) };
        let overhead = if remote.address.is_ipv6() { 48 } else { 28 };
        *self = Self { overhead, path, announced, ..Self::new() };
    }

    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// Payload bytes of a full packet.
    pub(super) fn payload(&self) -> usize {
        self.packet() - HEADER_BYTES
    }

    /// Bytes of a full packet, UDX header included.
    pub(super) fn packet(&self) -> usize {
        self.mtu - self.overhead
    }

    /// True if a packet of so many bytes (UDX header included) is larger than the path is believed to take.
    pub(super) fn exceeded_by(&self, packet: usize) -> bool {
        packet > self.packet()
    }

    /// A packet of so many bytes (UDX header included) is lost again and again. True if it may be its size: packets are
    /// small from now on, until data and probes show that larger ones arrive.
    pub(super) fn on_black_hole(&mut self, packet: u32) -> bool {
        let suspected = packet as usize + self.overhead > BASE && self.mtu > BASE;
        if suspected {
            (self.mtu, self.search, self.jumbo) = (BASE, Search::Base, Jumbo::Off);
        }
        suspected
    }

    /// Data was acknowledged: larger packets may be tried.
    pub(super) fn on_data_acknowledged(&mut self) {
        if self.search == Search::Base {
            self.search = self.probing_from(BASE);
            self.start_jumbo();
        }
    }

    /// Zeros to put before `length` payload bytes so that the packet probes the next size.
    pub(super) fn padding(&self, length: usize) -> Option<u8> {
        let Search::Probing { size, under_way: false, .. } = self.search else { return None };
        let padding = (size - self.overhead - HEADER_BYTES).checked_sub(length)?;
        u8::try_from(padding).ok().filter(|padding| *padding > 0)
    }

    pub(super) fn probe_sent(&mut self) {
        if let Search::Probing { under_way, .. } = &mut self.search {
            *under_way = true;
        }
    }

    /// A probing packet of so many bytes (UDX header included) arrived. True if packets grow.
    pub(super) fn probe_arrived(&mut self, packet: u32) -> bool {
        let Search::Probing { size, .. } = self.search else { return false };
        if size - self.overhead != packet as usize {
            return false;
        }
        self.search = self.probing_from(size);
        let grows = size > self.mtu;
        self.mtu = self.mtu.max(size);
        grows
    }

    pub(super) fn probe_lost(&mut self) {
        if let Search::Probing { size, tries, under_way: true } = self.search {
            let tries = tries + 1;
            self.search =
                if tries >= TRIES { Search::Done } else { Search::Probing { size, tries, under_way: false } };
        }
    }

    /// The peer said that it is one of ours, and takes datagrams of so many bytes.
    pub(super) fn on_announced(&mut self, largest: u16) {
        if self.announced.is_none() {
            self.announced = Some(largest);
            if self.search != Search::Base {
                self.start_jumbo();
            }
        }
    }

    /// The probe beyond 1500 bytes to send now: bytes of UDP payload.
    pub(super) fn jumbo_due(&self) -> Option<u16> {
        match self.jumbo {
            Jumbo::Due { size, .. } => Some(size),
            _ => None,
        }
    }

    pub(super) fn jumbo_sent(&mut self, now: Instant, rtt: Option<Duration>) {
        if let Jumbo::Due { size, tries } = self.jumbo {
            let until = now + (2 * rtt.unwrap_or_default()).max(MIN_WAIT);
            self.jumbo = Jumbo::Waiting { size, tries: tries + 1, until };
        }
    }

    /// When to stop waiting for a reply.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.jumbo {
            Jumbo::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    pub(super) fn on_timeout(&mut self, now: Instant) {
        let Jumbo::Waiting { size, tries, until } = self.jumbo else { return };
        if now < until {
            return;
        }
        let frame = (JUMBO_FRAME - self.overhead) as u16;
        self.jumbo = match size {
            _ if tries < TRIES => Jumbo::Due { size, tries },
            _ if size > frame => Jumbo::Due { size: frame, tries: 0 },
            _ => Jumbo::Off,
        };
    }

    /// A probe of so many bytes arrived at the peer. True if packets grow.
    pub(super) fn on_reply(&mut self, arrived: u16) -> bool {
        match self.jumbo {
            Jumbo::Waiting { size, .. } if size == arrived => {
                (self.jumbo, self.search) = (Jumbo::Off, Search::Done);
                self.mtu = usize::from(size) + self.overhead;
                true
            }
            _ => false,
        }
    }

    fn probing_from(&self, size: usize) -> Search {
        let ceiling = self.path.min(ETHERNET);
        match (size + STEP).min(ceiling) {
            next if next > size => Search::Probing { size: next, tries: 0, under_way: false },
            _ => Search::Done,
        }
    }

    fn start_jumbo(&mut self) {
        let Some(announced) = self.announced else { return };
        let path = self.path.saturating_sub(self.overhead);
        let size = u16::try_from(path).unwrap_or(u16::MAX).min(announced).min(LARGEST_DATAGRAM);
        if usize::from(size) + self.overhead > ETHERNET {
            self.jumbo = Jumbo::Due { size, tries: 0 };
        }
    }
}

/// A probe or the reply to one: what follows the header.
pub(super) fn append_extension(extension: Extension, padding: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&extension.encode());
    out.resize(out.len() + padding, 0);
}
