//! Which addresses can be reached from where (npm `bogon`, and `lib/holepuncher.js` of hyperdht).

use std::net::{Ipv4Addr, SocketAddrV4};

/// True for addresses that are used again in every local network (bogon `isPrivate`).
pub fn is_private(host: Ipv4Addr) -> bool {
    let [first, second, ..] = host.octets();
    let shared = first == 100 && second & 0xc0 == 64;
    host.is_private() || shared || host.is_loopback() || host.is_link_local()
}

/// True for addresses that belong to no host: documentation, tests, multicast, the future (bogon `isReserved`).
pub fn is_reserved(host: Ipv4Addr) -> bool {
    let [first, second, third, _] = host.octets();
    let this_network = first == 0;
    let protocols = (first, second, third) == (192, 0, 0);
    let benchmarks = first == 198 && second & 0xfe == 18;
    let multicast_or_future = first >= 224;
    this_network || protocols || benchmarks || multicast_or_future || host.is_documentation()
}

/// True for addresses that mean nothing to a host elsewhere (bogon `isBogon`).
pub fn is_bogon(host: Ipv4Addr) -> bool {
    is_private(host) || is_reserved(host)
}

/// Of `theirs`, the address that shares the most leading octets with one of `ours`, three at most; none if the first
/// octet differs everywhere (hyperdht `matchAddress`).
pub fn nearest(ours: &[SocketAddrV4], theirs: impl Iterator<Item = SocketAddrV4>) -> Option<SocketAddrV4> {
    let shared = |their: &SocketAddrV4| {
        ours.iter().map(|our| shared_octets(*our.ip(), *their.ip())).max().filter(|count| *count > 0)
    };
    let mut best = None;
    for their in theirs {
        if let Some(count) = shared(&their)
            && best.is_none_or(|(most, _)| count > most)
        {
            best = Some((count, their));
        }
    }
    best.map(|(_, address)| address)
}

fn shared_octets(one: Ipv4Addr, other: Ipv4Addr) -> usize {
    let pairs = one.octets().into_iter().zip(other.octets());
    pairs.take(3).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Ipv4Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_of_local_networks_are_private() {
        for private in ["10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.3.4", "172.31.0.1"]
        {
            assert!(is_private(host(private)) && is_bogon(host(private)), "{private}");
        }
        for public in ["9.255.255.255", "100.63.0.1", "100.128.0.1", "172.32.0.1", "192.167.1.1", "8.8.8.8"] {
            assert!(!is_private(host(public)) && !is_bogon(host(public)), "{public}");
        }
    }

    #[test]
    fn addresses_of_nobody_are_reserved() {
        for reserved in
            ["0.1.2.3", "192.0.0.9", "192.0.2.1", "198.19.0.1", "198.51.100.7", "203.0.113.7", "239.1.1.1"]
        {
            assert!(is_reserved(host(reserved)) && !is_private(host(reserved)), "{reserved}");
        }
        for other in ["192.0.1.1", "198.20.0.1", "223.255.255.255", "192.168.0.1"] {
            assert!(!is_reserved(host(other)), "{other}");
        }
    }

    #[test]
    fn the_address_with_most_leading_octets_in_common_is_the_nearest() {
        let at = |text: &str| SocketAddrV4::new(host(text), 1);
        let ours = [at("192.168.122.238"), at("10.0.0.5")];
        let best = |theirs: &[&str]| nearest(&ours, theirs.iter().map(|text| at(text)));
        assert_eq!(best(&["192.168.0.23", "192.168.122.1", "192.168.122.2"]), Some(at("192.168.122.1")));
        assert_eq!(best(&["10.9.9.9", "10.0.9.9"]), Some(at("10.0.9.9")));
        assert_eq!(best(&["172.16.0.1"]), None);
        assert_eq!(best(&[]), None);
    }
}
