//! A UDP socket that moves datagrams in batches: one system call per 64 KiB where the kernel can (GSO, GRO,
//! `recvmmsg`), one per datagram elsewhere.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::limits::{UDP_RECEIVE_SLOTS, UDP_SOCKET_BUFFER_BYTES};

/// Bytes of a receive slot: more than any datagram (65,527 bytes) and any batch of coalesced ones (below 65,536),
/// so that a full slot can only mean one that was cut.
pub(super) const SLOT_BYTES: usize = 65_536;
/// Bytes of the longest datagram, and of a batch that the kernel cuts into datagrams.
const LONGEST_SEND: usize = 65_507;

/// True if the kernel may be asked to cut what is sent into datagrams. It joins those that come in where it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// Where it can.
    #[default]
    Automatic,
    /// No: one datagram in each send, as on systems that cannot.
    Off,
}

/// The socket.
pub(super) struct Datagrams {
    socket: UdpSocket,
    state: UdpSocketState,
    offload: Offload,
    local: SocketAddr,
}

impl Datagrams {
    /// Binds to `address`, with large buffers and "do not fragment" set. An IPv6 socket takes IPv4 too.
    pub(super) fn bind(address: SocketAddr, offload: Offload) -> io::Result<Self> {
        use socket2::{Domain, Protocol, Socket, Type};
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Best effort: the system caps them, and smaller ones only cost retransmissions.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), UDP_SOCKET_BUFFER_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), UDP_SOCKET_BUFFER_BYTES);
        let local = socket.local_addr()?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, state, offload, local })
    }

    /// Where it is bound.
    pub(super) fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Ready when there may be something to receive.
    #[cfg(test)]
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(context)
    }

    /// Receives as many batches as are there, at most one per slot; `Pending` if there is none.
    pub(super) fn poll_receive(
        &self,
        context: &mut Context<'_>,
        into: &mut Received,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.socket.poll_recv_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            match self
                .socket
                .try_io(Interest::READABLE, || into.fill(&self.state, UdpSockRef::from(&self.socket)))
            {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// How many datagrams of `segment` bytes one send may carry.
    pub(super) fn datagrams_per_send(&self, segment: usize) -> usize {
        match self.offload {
            Offload::Automatic => self.state.max_gso_segments().min(LONGEST_SEND / segment.max(1)).max(1),
            Offload::Off => 1,
        }
    }

    /// Sends `contents`: datagrams of `segment` bytes, the last one possibly shorter. `WouldBlock` when the system's
    /// buffer is full: see [`poll_writable`](Self::poll_writable).
    pub(super) fn send(&self, destination: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: self.reachable(destination),
            // UDX has no way to echo congestion marks, so datagrams must not claim that it does.
            ecn: None,
            contents,
            segment_size: (contents.len() > segment).then_some(segment),
            src_ip: None,
        };
        self.socket
            .try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.socket), &transmit))
    }

    /// Sends one datagram that may be cut into IP fragments, by the system and (IPv4) by routers. Linux only; elsewhere
    /// it leaves like any other.
    pub(super) fn send_in_fragments(&self, destination: SocketAddr, contents: &[u8]) -> io::Result<()> {
        self.allow_fragments(true);
        let result = self.send(destination, contents, contents.len().max(1));
        self.allow_fragments(false);
        result
    }

    /// Best effort: if the system refuses, the datagram is lost where it does not fit, as it would be without this. A
    /// datagram that another task sends at the same moment may be cut too, which does it no harm.
    #[cfg(target_os = "linux")]
    fn allow_fragments(&self, allow: bool) {
        use rustix::net::sockopt::{
            Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
        };
        // PROBE is what quinn-udp sets: never cut, and ask nobody how large a datagram may be.
        let (four, six) = match allow {
            true => (Ipv4PathMtuDiscovery::DONT, Ipv6PathMtuDiscovery::DONT),
            false => (Ipv4PathMtuDiscovery::PROBE, Ipv6PathMtuDiscovery::PROBE),
        };
        // An IPv6 socket sends IPv4 too.
        let _ = set_ip_mtu_discover(&self.socket, four);
        if self.local.is_ipv6() {
            let _ = set_ipv6_mtu_discover(&self.socket, six);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allow_fragments(&self, _allow: bool) {}

    /// Ready when the system takes datagrams again.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(context)
    }

    /// `address` as this socket's family writes it.
    fn reachable(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.local.is_ipv6() => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }
}

/// What was received: slots that are used again and again.
pub(super) struct Received {
    buffer: Vec<u8>,
    slot_bytes: usize,
    meta: [RecvMeta; UDP_RECEIVE_SLOTS],
    filled: usize,
}

impl Received {
    /// Slots for whole batches.
    pub(super) fn new() -> Self {
        Self::with_slots_of(SLOT_BYTES)
    }

    fn with_slots_of(slot_bytes: usize) -> Self {
        Self {
            buffer: vec![0; slot_bytes * UDP_RECEIVE_SLOTS],
            slot_bytes,
            meta: [RecvMeta::default(); UDP_RECEIVE_SLOTS],
            filled: 0,
        }
    }

    fn fill(&mut self, state: &UdpSocketState, socket: UdpSockRef<'_>) -> io::Result<()> {
        self.filled = 0;
        let mut free = self.buffer.chunks_exact_mut(self.slot_bytes);
        let mut slots: [IoSliceMut<'_>; UDP_RECEIVE_SLOTS] =
            std::array::from_fn(|_| IoSliceMut::new(free.next().unwrap_or_default()));
        self.filled = state.recv(socket, &mut slots, &mut self.meta)?;
        Ok(())
    }

    /// The datagrams, one by one, with their senders. One that did not fit its slot is left out: a cut packet must
    /// not be taken for a whole one.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let batches = self.meta.iter().zip(self.buffer.chunks_exact(self.slot_bytes)).take(self.filled);
        batches.filter(|(meta, slot)| meta.len < slot.len()).flat_map(|(meta, slot)| {
            let batch = slot.get(..meta.len).unwrap_or_default();
            let sender = canonical(meta.addr);
            // An empty datagram is one too: hole punching uses them.
            let empty = batch.is_empty().then_some(batch);
            batch.chunks(meta.stride.max(1)).chain(empty).map(move |datagram| (sender, datagram))
        })
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
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Receives until `count` datagrams are there.
    async fn receive(
        socket: &Datagrams,
        received: &mut Received,
        count: usize,
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        let until_all = async {
            while all.len() < count {
                poll_fn(|context| socket.poll_receive(context, received)).await.unwrap();
                all.extend(received.datagrams().map(|(from, bytes)| (from, bytes.to_vec())));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), until_all).await.expect("datagrams arrive on loopback");
        all
    }

    /// Sends once the system says that it takes datagrams.
    async fn send(socket: &Datagrams, to: SocketAddr, contents: &[u8], segment: usize) {
        poll_fn(|context| socket.poll_writable(context)).await.unwrap();
        socket.send(to, contents, segment).unwrap();
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_batch_arrives_as_the_datagrams_it_was_made_of() {
        let (a, b) = (Datagrams::bind(ANY_PORT, Offload::Automatic).unwrap(), bind_default());
        let contents = pattern(1472 * 9 + 100);
        let mut sent = 0;
        for part in contents.chunks(1472 * a.datagrams_per_send(1472)) {
            send(&a, b.local_address(), part, 1472).await;
            sent += part.len().div_ceil(1472);
        }
        assert_eq!(sent, 10);
        let datagrams = receive(&b, &mut Received::new(), 10).await;
        assert!(datagrams.iter().all(|(from, _)| *from == a.local_address()));
        let lengths: Vec<usize> = datagrams.iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [1472, 1472, 1472, 1472, 1472, 1472, 1472, 1472, 1472, 100]);
        assert_eq!(datagrams.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<u8>>(), contents);
    }

    fn bind_default() -> Datagrams {
        Datagrams::bind(ANY_PORT, Offload::default()).unwrap()
    }

    #[tokio::test]
    async fn without_offload_each_send_is_one_datagram() {
        let a = Datagrams::bind(ANY_PORT, Offload::Off).unwrap();
        assert_eq!(a.datagrams_per_send(1200), 1);
    }

    #[tokio::test]
    async fn a_batch_never_exceeds_what_one_send_can_carry() {
        let socket = bind_default();
        for segment in [1, 1172, 1472, 9000, 32_000, 32_754, 65_507, 100_000] {
            let count = socket.datagrams_per_send(segment);
            assert!(count >= 1);
            assert!(count == 1 || count * segment <= LONGEST_SEND, "{count} x {segment}");
        }
    }

    #[tokio::test]
    async fn the_longest_datagram_arrives_whole() {
        let (a, b) = (bind_default(), bind_default());
        send(&a, b.local_address(), &pattern(LONGEST_SEND), LONGEST_SEND).await;
        let datagrams = receive(&b, &mut Received::new(), 1).await;
        assert_eq!(datagrams, [(a.local_address(), pattern(LONGEST_SEND))]);
    }

    #[tokio::test]
    async fn a_datagram_that_does_not_fit_is_left_out_and_its_neighbours_are_not() {
        let (a, b) = (bind_default(), bind_default());
        for length in [10, 2047, 2048, 2049, 5000, 20] {
            send(&a, b.local_address(), &pattern(length), length).await;
        }
        let datagrams = receive(&b, &mut Received::with_slots_of(2048), 3).await;
        assert_eq!(datagrams.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [10, 2047, 20]);
    }

    #[tokio::test]
    async fn an_empty_datagram_is_seen() {
        let (a, b) = (bind_default(), bind_default());
        send(&a, b.local_address(), &[], 1).await;
        assert_eq!(receive(&b, &mut Received::new(), 1).await, [(a.local_address(), Vec::new())]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_the_datagram_that_may_be_cut_is_sent_without_do_not_fragment() {
        use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu_discover};
        let (a, b) = (bind_default(), bind_default());
        poll_fn(|context| a.poll_writable(context)).await.unwrap();
        a.send_in_fragments(b.local_address(), &pattern(9000)).unwrap();
        assert_eq!(ip_mtu_discover(&a.socket).unwrap(), Ipv4PathMtuDiscovery::PROBE);
        a.allow_fragments(true);
        assert_eq!(ip_mtu_discover(&a.socket).unwrap(), Ipv4PathMtuDiscovery::DONT);
        let datagrams = receive(&b, &mut Received::new(), 1).await;
        assert_eq!(datagrams, [(a.local_address(), pattern(9000))]);
    }

    #[tokio::test]
    async fn an_ipv6_socket_speaks_ipv4_and_shows_plain_addresses() {
        let Ok(six) = Datagrams::bind((Ipv6Addr::UNSPECIFIED, 0).into(), Offload::default()) else {
            println!("SKIPPED: an IPv6 socket speaks IPv4 (this system has no IPv6)");
            return;
        };
        let four = bind_default();
        let port = six.local_address().port();
        send(&four, (Ipv4Addr::LOCALHOST, port).into(), b"to six", 6).await;
        assert_eq!(
            receive(&six, &mut Received::new(), 1).await,
            [(four.local_address(), b"to six".to_vec())]
        );
        send(&six, four.local_address(), b"to four", 7).await;
        let back = receive(&four, &mut Received::new(), 1).await;
        assert_eq!(back, [((Ipv4Addr::LOCALHOST, port).into(), b"to four".to_vec())]);
    }

    #[tokio::test]
    async fn one_receive_call_takes_as_many_datagrams_as_there_are_slots() {
        let (a, b) = (bind_default(), bind_default());
        for number in 0..=UDP_RECEIVE_SLOTS {
            send(&a, b.local_address(), &pattern(number + 1), number + 1).await;
        }
        let mut received = Received::new();
        for expected in [UDP_RECEIVE_SLOTS, 1] {
            poll_fn(|context| b.poll_receive(context, &mut received)).await.unwrap();
            assert_eq!(received.datagrams().count(), expected);
        }
    }

    #[tokio::test]
    async fn the_systems_buffers_are_as_large_as_asked_for_or_as_the_system_allows() {
        let socket = socket2::SockRef::from(&bind_default().socket).recv_buffer_size().unwrap();
        let usual = std::net::UdpSocket::bind(ANY_PORT).unwrap();
        let usual = socket2::SockRef::from(&usual).recv_buffer_size().unwrap();
        let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max").ok();
        let limit = limit.and_then(|text| text.trim().parse::<usize>().ok());
        // A system that allows no more than the usual size shows nothing.
        match limit.is_some_and(|limit| 2 * limit.min(UDP_SOCKET_BUFFER_BYTES) <= usual) {
            true => assert_eq!(socket, usual),
            false => assert!(socket > usual, "{socket} bytes, as without asking: {usual}"),
        }
        // Linux tells the double of what was asked for.
        assert!(socket <= 2 * UDP_SOCKET_BUFFER_BYTES, "{socket}");
    }
}
