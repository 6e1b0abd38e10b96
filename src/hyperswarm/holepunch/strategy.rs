//! How to punch a hole, from what both ends know about their NATs (hyperdht `Holepuncher._punch`).

use std::net::SocketAddrV4;

use crate::codec::v4::Firewall;

/// An address of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where to probe; port 0: any.
    pub address: SocketAddrV4,
    /// The other end has proved that it receives at this host: a long burst of probes goes nowhere else.
    pub verified: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Both NATs keep their ports: probe all addresses of the other end, now and then.
    Probe,
    /// The other end has another port for each destination: try random ones of this host.
    GuessPorts(SocketAddrV4),
    /// We have: open many sockets and probe this address from each, so that the other end finds one.
    OpenSockets(SocketAddrV4),
}

/// Why there is no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hopeless {
    /// Both ends have another port for each destination.
    BothRandom,
    /// One end does not know its NAT.
    Unknown,
    /// The other end named no address, or has proved none to which a burst may go.
    NoAddress,
}

/// Decides. An open end counts as one whose NAT keeps its ports.
pub fn plan(local: Firewall, remote: Firewall, targets: &[Target]) -> Result<Plan, Hopeless> {
    let verified = || {
        targets.iter().find(|target| target.verified).map(|target| target.address).ok_or(Hopeless::NoAddress)
    };
    match (keeps_ports(local), keeps_ports(remote)) {
        _ if targets.is_empty() => Err(Hopeless::NoAddress),
        (Some(true), Some(true)) => Ok(Plan::Probe),
        (Some(true), Some(false)) => Ok(Plan::GuessPorts(verified()?)),
        (Some(false), Some(true)) => Ok(Plan::OpenSockets(verified()?)),
        (Some(false), Some(false)) => Err(Hopeless::BothRandom),
        _ => Err(Hopeless::Unknown),
    }
}

/// None: unknown.
pub fn keeps_ports(firewall: Firewall) -> Option<bool> {
    match firewall {
        Firewall::OPEN | Firewall::CONSISTENT => Some(true),
        Firewall::UNKNOWN => None,
        // Kinds that may come later are worse, as upstream assumes.
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(192, 0, 2, 1), 7);

    fn decide(local: Firewall, remote: Firewall, verified: bool) -> Result<Plan, Hopeless> {
        plan(local, remote, &[Target { address: HOST, verified }])
    }

    #[test]
    fn two_consistent_nats_probe_each_other() {
        assert_eq!(decide(Firewall::CONSISTENT, Firewall::CONSISTENT, false), Ok(Plan::Probe));
    }

    #[test]
    fn an_open_end_counts_as_consistent() {
        assert_eq!(decide(Firewall::OPEN, Firewall::CONSISTENT, false), Ok(Plan::Probe));
        assert_eq!(decide(Firewall::CONSISTENT, Firewall::OPEN, false), Ok(Plan::Probe));
    }

    #[test]
    fn the_consistent_end_guesses_ports_of_the_random_one() {
        assert_eq!(decide(Firewall::CONSISTENT, Firewall::RANDOM, true), Ok(Plan::GuessPorts(HOST)));
    }

    #[test]
    fn the_random_end_opens_sockets() {
        assert_eq!(decide(Firewall::RANDOM, Firewall::CONSISTENT, true), Ok(Plan::OpenSockets(HOST)));
    }

    #[test]
    fn a_burst_goes_to_nobody_who_did_not_prove_its_host() {
        assert_eq!(decide(Firewall::CONSISTENT, Firewall::RANDOM, false), Err(Hopeless::NoAddress));
        assert_eq!(decide(Firewall::RANDOM, Firewall::CONSISTENT, false), Err(Hopeless::NoAddress));
    }

    #[test]
    fn two_random_nats_need_a_relay() {
        assert_eq!(decide(Firewall::RANDOM, Firewall::RANDOM, true), Err(Hopeless::BothRandom));
    }

    #[test]
    fn an_unknown_nat_is_not_punched() {
        assert_eq!(decide(Firewall::UNKNOWN, Firewall::CONSISTENT, true), Err(Hopeless::Unknown));
        assert_eq!(decide(Firewall::CONSISTENT, Firewall::UNKNOWN, true), Err(Hopeless::Unknown));
    }

    #[test]
    fn without_an_address_there_is_nothing_to_probe() {
        assert_eq!(plan(Firewall::OPEN, Firewall::OPEN, &[]), Err(Hopeless::NoAddress));
    }

    #[test]
    fn kinds_that_may_come_later_count_as_random() {
        assert_eq!(decide(Firewall::CONSISTENT, Firewall(9), true), Ok(Plan::GuessPorts(HOST)));
    }
}
