//! Our own IPv4 addresses and networks.

use std::io;
use std::net::Ipv4Addr;

use if_addrs::{IfAddr, get_if_addrs};

/// Which interfaces mDNS uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Every one.
    All,
    /// Only loopback: tests must not speak to the machine's network.
    #[cfg(test)]
    Loopback,
}

/// The first IPv4 address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) ip: Ipv4Addr,
    netmask: Ipv4Addr,
}

impl Interface {
    fn contains(&self, host: Ipv4Addr) -> bool {
        let mask = u32::from(self.netmask);
        u32::from(self.ip) & mask == u32::from(host) & mask
    }
}

/// The interfaces with IPv4, one address each, as `multicast-dns` `allInterfaces`.
pub(super) fn list(scope: Scope) -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for interface in get_if_addrs()? {
        let IfAddr::V4(addr) = interface.addr else { continue };
        let wanted = match scope {
            Scope::All => true,
            #[cfg(test)]
            Scope::Loopback => addr.ip.is_loopback(),
        };
        if wanted && found.iter().all(|known| known.name != interface.name) {
            found.push(Interface { name: interface.name, ip: addr.ip, netmask: addr.netmask });
        }
    }
    Ok(found)
}

/// Whether `host` is an address of this machine.
pub(super) fn is_own(host: Ipv4Addr) -> bool {
    // Without a list of interfaces we may dial ourselves, which the application above notices.
    host.is_loopback() || get_if_addrs().is_ok_and(|all| all.iter().any(|i| i.ip() == host))
}

/// Whether `host` can be a neighbour: multicast does not cross routers, so any other sender forges.
pub(super) fn is_neighbour(interfaces: &[Interface], host: Ipv4Addr) -> bool {
    host.is_private()
        || host.is_link_local()
        || host.is_loopback()
        || interfaces.iter().any(|i| i.contains(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_and_is_our_own() {
        assert!(list(Scope::Loopback).unwrap().iter().any(|i| i.ip == Ipv4Addr::LOCALHOST));
        assert!(is_own(Ipv4Addr::LOCALHOST));
        assert!(!is_own(Ipv4Addr::new(203, 0, 113, 1)));
    }

    #[test]
    fn neighbours_are_private_addresses_and_those_in_our_subnets() {
        let public = Interface {
            name: "eth0".into(),
            ip: [203, 0, 113, 5].into(),
            netmask: [255, 255, 255, 0].into(),
        };
        assert!(is_neighbour(&[], [10, 1, 2, 3].into()));
        assert!(!is_neighbour(&[], [203, 0, 113, 9].into()));
        assert!(is_neighbour(std::slice::from_ref(&public), [203, 0, 113, 9].into()));
        assert!(!is_neighbour(&[public], [203, 0, 114, 9].into()));
    }
}
