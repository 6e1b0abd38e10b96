//! How large a datagram the system believes to be able to send towards an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Bytes of an IP packet where nothing better is known: Ethernet's.
pub(super) const ETHERNET_MTU: u16 = 1500;

/// Bytes of the largest IP packet the route to `destination` takes by the system's knowledge (the interface's MTU,
/// or what ICMP told), capped to 65,535. Nothing is sent. As libudx's `udx__get_link_mtu`, which asks a connected
/// socket too.
pub(crate) fn path_mtu(local: IpAddr, destination: SocketAddr) -> u16 {
    probe(local, destination).unwrap_or(ETHERNET_MTU)
}

#[cfg(target_os = "linux")]
fn probe(local: IpAddr, destination: SocketAddr) -> Option<u16> {
    let unspecified: IpAddr = match destination {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = if local.is_ipv4() == destination.is_ipv4() { local } else { unspecified };
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect(destination).ok()?;
    let mtu = match destination {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_mtu(&socket),
        SocketAddr::V6(_) => rustix::net::sockopt::ipv6_mtu(&socket),
    };
    Some(mtu.ok()?.try_into().unwrap_or(u16::MAX))
}

#[cfg(not(target_os = "linux"))]
fn probe(_local: IpAddr, _destination: SocketAddr) -> Option<u16> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_takes_packets_larger_than_ethernets() {
        let mtu = path_mtu(Ipv4Addr::UNSPECIFIED.into(), (Ipv4Addr::LOCALHOST, 9).into());
        assert!(mtu >= ETHERNET_MTU, "{mtu}");
        if cfg!(target_os = "linux") {
            assert!(mtu > 16_000, "{mtu}");
        }
    }

    #[test]
    fn a_destination_without_route_has_the_usual_mtu() {
        assert_eq!(
            path_mtu(Ipv4Addr::LOCALHOST.into(), (Ipv4Addr::new(240, 0, 0, 1), 9).into()),
            ETHERNET_MTU
        );
    }
}
