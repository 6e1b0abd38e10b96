//! What the other end of a hole punch has said of itself, and how it is said.

use std::net::{Ipv4Addr, SocketAddrV4};

use rand::Rng;
use rand::rngs::StdRng;

use super::classify::Reachability;
use super::strategy::Target;
use crate::codec::compact::Writer;
use crate::codec::v4::{Firewall, HolepunchPayload, List, PeerError};
use crate::crypto::secretbox::NONCE_BYTES;
use crate::crypto::v4::SecurePayload;
use crate::dht::guard::is_sane;

/// The other end.
#[derive(Debug, Default)]
pub(super) struct Remote {
    pub(super) firewall: Firewall,
    pub(super) targets: Vec<Target>,
    pub(super) punching: bool,
}

impl Remote {
    /// The newest message of the other end. `verified`: a host that it has proved to receive at (hyperdht
    /// `updateRemote`). What nothing may be sent to on a stranger's word is left out.
    pub(super) fn update(&mut self, said: &HolepunchPayload<'_>, verified: Option<Ipv4Addr>) {
        let before = std::mem::take(&mut self.targets);
        let proved = |host: Ipv4Addr| {
            verified == Some(host)
                || before.iter().any(|target| target.verified && *target.address.ip() == host)
        };
        let addresses = said.addresses.iter().flat_map(List::iter);
        let addresses = addresses.filter(|address| may_be_probed(*address));
        self.targets = addresses.map(|address| Target { address, verified: proved(*address.ip()) }).collect();
        self.firewall = said.firewall;
        self.punching = said.punching;
    }

    /// True if it named this host.
    pub(super) fn names(&self, host: Ipv4Addr) -> bool {
        self.targets.iter().any(|target| *target.address.ip() == host)
    }
}

/// Port 0 stands for any port of a host.
fn may_be_probed(address: SocketAddrV4) -> bool {
    let port = if address.port() == 0 { 1 } else { address.port() };
    is_sane(SocketAddrV4::new(*address.ip(), port), *address.ip())
}

/// What one message says besides what is known of our own socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Saying {
    pub(super) error: PeerError,
    pub(super) round: u64,
    pub(super) connected: bool,
    pub(super) punching: bool,
    pub(super) remote_address: Option<SocketAddrV4>,
    pub(super) token: Option<[u8; 32]>,
    pub(super) remote_token: Option<[u8; 32]>,
}

/// Seals a message. One that reports an error says nothing of our own socket.
pub(super) fn seal(
    secure: &SecurePayload,
    rng: &mut StdRng,
    own: Option<&Reachability>,
    say: Saying,
) -> Vec<u8> {
    let mut nonce = [0; NONCE_BYTES];
    rng.fill_bytes(&mut nonce);
    let addresses = own.and_then(|own| own.addresses.as_deref()).map(List::from);
    let payload = HolepunchPayload {
        error: say.error,
        firewall: own.map_or(Firewall::UNKNOWN, |own| own.firewall),
        round: say.round.min(HolepunchPayload::MAX_ROUND),
        connected: say.connected,
        punching: say.punching,
        addresses,
        remote_address: say.remote_address,
        token: say.token,
        remote_token: say.remote_token,
    };
    let mut writer = Writer::new();
    payload.encode(&mut writer);
    secure.seal(&nonce, writer.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(addresses: &[SocketAddrV4]) -> HolepunchPayload<'_> {
        HolepunchPayload { addresses: Some(List::from(addresses)), ..HolepunchPayload::default() }
    }

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().expect("an address")
    }

    #[test]
    fn a_host_stays_proved_as_long_as_it_is_named() {
        let (one, other) = (at("203.0.113.1:0"), at("203.0.113.2:7"));
        let mut remote = Remote::default();
        remote.update(&said(&[one, other]), Some(*one.ip()));
        remote.update(&said(&[one, other]), None);
        assert_eq!(remote.targets.iter().map(|target| target.verified).collect::<Vec<_>>(), [true, false]);
        remote.update(&said(&[other]), None);
        remote.update(&said(&[one]), None);
        assert!(!remote.targets[0].verified);
    }

    #[test]
    fn addresses_to_which_nothing_must_be_sent_are_left_out() {
        let addresses = [at("224.0.0.1:7"), at("255.255.255.255:7"), at("0.0.0.0:7"), at("203.0.113.1:7")];
        let mut remote = Remote::default();
        remote.update(&said(&addresses), None);
        assert_eq!(remote.targets.len(), 1);
    }
}
