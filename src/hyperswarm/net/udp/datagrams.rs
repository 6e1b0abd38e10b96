//! A UDP socket that moves datagrams in batches: one system call for up to 64 KiB to one destination (GSO) or 64
//! datagrams to many (`sendmmsg`), and one for whatever waits (GRO, `recvmmsg`), where the kernel can; one per datagram
//! elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::outgoing::{Outlet, Way};
use super::received::Received;
use crate::limits::UDP_SOCKET_BUFFER_BYTES;

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
    /// Routers that a datagram passes at most, unless it is meant to pass fewer: IPv4's, and IPv6's.
    usual_ttl: (Option<u32>, Option<u32>),
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
        let six = if address.is_ipv6() { socket.unicast_hops_v6().ok() } else { None };
        let usual_ttl = (socket.ttl_v4().ok(), six);
        let socket = std::net::UdpSocket::from(socket);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Best effort: the system caps them, and smaller ones only cost retransmissions.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), UDP_SOCKET_BUFFER_BYTES);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), UDP_SOCKET_BUFFER_BYTES);
        let local = socket.local_addr()?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, state, offload, local, usual_ttl })
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
            let mut received = false;
            let result = self.socket.try_io(Interest::READABLE, || {
                let more = into.fill(&self.state, UdpSockRef::from(&self.socket))?;
                received = true;
                // Linux fills every slot that it can, and tells of what arrives later: if some stayed empty, the runtime
                // may wait for that, and nobody has to ask in vain. That is half of all calls on a quiet socket. In bulk
                // asking again is cheaper than the runtime's way around.
                match more || !cfg!(target_os = "linux") {
                    true => Ok(()),
                    false => Err(io::ErrorKind::WouldBlock.into()),
                }
            });
            match result {
                _ if received => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Ready when the system takes datagrams again.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(context)
    }

    /// Sends with the socket's options as `way` wants them. Only one thread at a time may send: the options are the
    /// socket's, not the datagram's.
    fn on_way<T>(&self, way: Way, send: impl FnOnce() -> T) -> T {
        match way {
            Way::Plain => send(),
            Way::InFragments => {
                self.allow_fragments(true);
                let result = send();
                self.allow_fragments(false);
                result
            }
            Way::Ttl(ttl) => {
                let ttl = Some(u32::from(ttl));
                self.set_ttl((ttl, ttl));
                let result = send();
                self.set_ttl(self.usual_ttl);
                result
            }
        }
    }

    /// Best effort: if the system refuses, the datagram passes as many routers as others do. An IPv6 socket sends IPv4
    /// too.
    fn set_ttl(&self, (four, six): (Option<u32>, Option<u32>)) {
        let socket = SockRef::from(&self.socket);
        if let Some(ttl) = four {
            let _ = socket.set_ttl_v4(ttl);
        }
        if let Some(hops) = six.filter(|_| self.local.is_ipv6()) {
            let _ = socket.set_unicast_hops_v6(hops);
        }
    }

    /// Best effort: if the system refuses, the datagram is lost where it does not fit, as it would be without this.
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

    /// `address` as this socket's family writes it.
    fn reachable(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.local.is_ipv6() => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }

    #[cfg(target_os = "linux")]
    fn send_many(&self, datagrams: &[(SocketAddr, &[u8])]) -> io::Result<usize> {
        use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
        let to: Vec<SocketAddrAny> = datagrams.iter().map(|(to, _)| self.reachable(*to).into()).collect();
        let contents: Vec<_> = datagrams.iter().map(|(_, bytes)| [io::IoSlice::new(bytes)]).collect();
        let mut controls: Vec<_> = datagrams.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let parts = to.iter().zip(&contents).zip(&mut controls);
        let mut headers: Vec<MMsgHdr<'_>> =
            parts.map(|((to, contents), control)| MMsgHdr::new_with_addr(to, contents, control)).collect();
        Ok(sendmmsg(&self.socket, &mut headers, SendFlags::empty())?)
    }

    #[cfg(not(target_os = "linux"))]
    fn send_many(&self, datagrams: &[(SocketAddr, &[u8])]) -> io::Result<usize> {
        let Some((to, contents)) = datagrams.first() else { return Ok(0) };
        self.send_batch(*to, contents, contents.len().max(1)).map(|()| 1)
    }

    fn send_batch(&self, to: SocketAddr, contents: &[u8], segment: usize) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: self.reachable(to),
            // UDX has no way to echo congestion marks, so datagrams must not claim that it does.
            ecn: None,
            contents,
            segment_size: (contents.len() > segment).then_some(segment),
            src_ip: None,
        };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
    }
}

/// `WouldBlock` when the system's buffer is full: see [`Datagrams::poll_writable`].
impl Outlet for Datagrams {
    fn datagrams_per_send(&self, segment: usize) -> usize {
        match self.offload {
            Offload::Automatic => self.state.max_gso_segments().min(LONGEST_SEND / segment.max(1)).max(1),
            Offload::Off => 1,
        }
    }

    fn send(&self, to: SocketAddr, contents: &[u8], segment: usize, way: Way) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || self.on_way(way, || self.send_batch(to, contents, segment)))
    }

    fn send_each(&self, datagrams: &[(SocketAddr, &[u8])], way: Way) -> io::Result<usize> {
        self.socket.try_io(Interest::WRITABLE, || self.on_way(way, || self.send_many(datagrams)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use crate::limits::UDP_RECEIVE_SLOTS;

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
                received.batch().offer(|from, bytes| {
                    all.push((from, bytes.to_vec()));
                    true
                });
            }
        };
        tokio::time::timeout(Duration::from_secs(10), until_all).await.expect("datagrams arrive on loopback");
        all
    }

    /// Sends once the system says that it takes datagrams.
    async fn send(socket: &Datagrams, to: SocketAddr, contents: &[u8], segment: usize) {
        poll_fn(|context| socket.poll_writable(context)).await.unwrap();
        socket.send(to, contents, segment, Way::Plain).unwrap();
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
        let datagrams = receive(&b, &mut Received::take(), 10).await;
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
        let datagrams = receive(&b, &mut Received::take(), 1).await;
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
        assert_eq!(receive(&b, &mut Received::take(), 1).await, [(a.local_address(), Vec::new())]);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_the_datagram_that_may_be_cut_is_sent_without_do_not_fragment() {
        use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu_discover};
        let (a, b) = (bind_default(), bind_default());
        poll_fn(|context| a.poll_writable(context)).await.unwrap();
        a.send(b.local_address(), &pattern(9000), 9000, Way::InFragments).unwrap();
        assert_eq!(ip_mtu_discover(&a.socket).unwrap(), Ipv4PathMtuDiscovery::PROBE);
        a.allow_fragments(true);
        assert_eq!(ip_mtu_discover(&a.socket).unwrap(), Ipv4PathMtuDiscovery::DONT);
        let datagrams = receive(&b, &mut Received::take(), 1).await;
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
            receive(&six, &mut Received::take(), 1).await,
            [(four.local_address(), b"to six".to_vec())]
        );
        send(&six, four.local_address(), b"to four", 7).await;
        let back = receive(&four, &mut Received::take(), 1).await;
        assert_eq!(back, [((Ipv4Addr::LOCALHOST, port).into(), b"to four".to_vec())]);
    }

    #[tokio::test]
    async fn one_receive_call_takes_as_many_datagrams_as_there_are_slots() {
        let (a, b) = (bind_default(), bind_default());
        for number in 0..=UDP_RECEIVE_SLOTS {
            send(&a, b.local_address(), &pattern(number + 1), number + 1).await;
        }
        let mut received = Received::with_slots_of(65_536);
        for expected in [UDP_RECEIVE_SLOTS, 1] {
            assert_eq!(receive(&b, &mut received, 1).await.len(), expected);
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

    #[tokio::test]
    async fn only_the_datagrams_that_are_to_pass_few_routers_are_sent_so() {
        let (a, b) = (bind_default(), bind_default());
        let ttl = || SockRef::from(&a.socket).ttl_v4().unwrap();
        let usual = ttl();
        assert_eq!(a.on_way(Way::Ttl(5), ttl), 5);
        assert_eq!(ttl(), usual);
        poll_fn(|context| a.poll_writable(context)).await.unwrap();
        let to = b.local_address();
        a.send(to, b"", 1, Way::Ttl(5)).unwrap();
        assert_eq!(a.send_each(&[(to, b""), (to, b"\0")], Way::Ttl(64)).unwrap(), 2);
        assert_eq!(ttl(), usual);
        let lengths: Vec<usize> =
            receive(&b, &mut Received::take(), 3).await.iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [0, 0, 1]);
    }

    #[tokio::test]
    async fn datagrams_to_several_destinations_leave_with_one_call() {
        let (a, peers) = (bind_default(), [bind_default(), bind_default(), bind_default()]);
        poll_fn(|context| a.poll_writable(context)).await.unwrap();
        let texts: [&[u8]; 3] = [b"one", b"two", b"three"];
        let datagrams: Vec<_> = peers.iter().map(Datagrams::local_address).zip(texts).collect();
        let sent = a.send_each(&datagrams, Way::Plain).unwrap();
        assert_eq!(sent, if cfg!(target_os = "linux") { 3 } else { 1 });
        for (peer, text) in peers.iter().zip(texts).take(sent) {
            let received = receive(peer, &mut Received::take(), 1).await;
            assert_eq!(received, [(a.local_address(), text.to_vec())]);
        }
    }
}
