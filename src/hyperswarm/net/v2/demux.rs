//! Two protocols share a UDP socket: which one is a datagram for?

/// The protocol of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// dht-rpc.
    Dht,
    /// uTP (libutp's `utp_process_udp` takes it and the DHT never sees it, also when the connection is unknown).
    Utp,
}

/// As `utp-native` decides: header length, version, type and first extension of uTP; everything else is the DHT's.
/// DHT messages begin with 0x58 or 0x08 and never look like that. None: an empty datagram, for nobody.
pub(super) fn protocol(datagram: &[u8]) -> Option<Protocol> {
    let (first, extension) = match datagram {
        [] => return None,
        [first, extension, ..] if datagram.len() >= 20 => (first, extension),
        _ => return Some(Protocol::Dht),
    };
    let utp = first & 0x0f == 1 && first >> 4 <= 4 && *extension <= 2;
    Some(if utp { Protocol::Utp } else { Protocol::Dht })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dht_message_begins_in_a_way_that_is_not_utp() {
        for first in [0x58, 0x08] {
            for extension in 0..=255 {
                let mut datagram = [0; 100];
                datagram[..2].copy_from_slice(&[first, extension]);
                assert_eq!(protocol(&datagram), Some(Protocol::Dht));
            }
        }
    }

    #[test]
    fn the_five_types_of_utp_with_known_extensions_are_utp() {
        for first in [0x01, 0x11, 0x21, 0x31, 0x41] {
            for extension in 0..=2 {
                let mut datagram = [0; 20];
                datagram[..2].copy_from_slice(&[first, extension]);
                assert_eq!(protocol(&datagram), Some(Protocol::Utp));
                assert_eq!(protocol(&datagram[..19]), Some(Protocol::Dht), "too short");
            }
        }
    }

    #[test]
    fn other_types_versions_and_first_extensions_are_not_utp() {
        for (first, extension) in [(0x51, 0), (0xf1, 0), (0x00, 0), (0x02, 0), (0x01, 3), (0x41, 255)] {
            let mut datagram = [0; 20];
            datagram[..2].copy_from_slice(&[first, extension]);
            assert_eq!(protocol(&datagram), Some(Protocol::Dht), "{first:#x} {extension}");
        }
    }

    #[test]
    fn an_empty_datagram_is_for_nobody() {
        assert_eq!(protocol(&[]), None);
    }
}
