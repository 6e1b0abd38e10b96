//! Names under which generation v4 hashes and signs, so that bytes made for one purpose are worthless for another
//! (npm hypercore-crypto `namespace`).

use super::blake2b_256;

/// What bytes are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// hyperdht: signing an announcement.
    Announce,
    /// hyperdht: signing its withdrawal.
    Unannounce,
    /// hyperdht: signing a mutable value.
    MutablePut,
    /// hyperdht: the prologue of a handshake through the DHT.
    PeerHandshake,
    /// hyperdht: the secret of a hole punch.
    PeerHolepunch,
    /// hyperdht: plugins.
    Plugin,
    /// @hyperswarm/secret-stream: what the initiator sends.
    Initiator,
    /// @hyperswarm/secret-stream: what the responder sends.
    Responder,
    /// @hyperswarm/secret-stream: unordered messages.
    Send,
}

impl Namespace {
    /// The 32 bytes that stand for it.
    pub fn bytes(self) -> [u8; 32] {
        const DHT: &str = "hyperswarm/dht";
        const SECRET_STREAM: &str = "hyperswarm/secret-stream";
        match self {
            Self::PeerHandshake => namespace(DHT, 0),
            Self::PeerHolepunch => namespace(DHT, 1),
            Self::Announce => namespace(DHT, 4),
            Self::Unannounce => namespace(DHT, 5),
            Self::MutablePut => namespace(DHT, 6),
            Self::Plugin => namespace(DHT, 10),
            Self::Initiator => namespace(SECRET_STREAM, 0),
            Self::Responder => namespace(SECRET_STREAM, 1),
            Self::Send => namespace(SECRET_STREAM, 2),
        }
    }
}

/// The namespace number `id` of a package: the hash of the hash of its name and the number.
pub fn namespace(name: &str, id: u8) -> [u8; 32] {
    blake2b_256(&[&blake2b_256(&[name.as_bytes()]), &[id]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_those_of_the_original() {
        let vectors = crate::crypto::vectors("namespaces.json");
        let table = [
            ("hyperswarm/dht ANNOUNCE", Namespace::Announce),
            ("hyperswarm/dht UNANNOUNCE", Namespace::Unannounce),
            ("hyperswarm/dht MUTABLE_PUT", Namespace::MutablePut),
            ("hyperswarm/dht PEER_HANDSHAKE", Namespace::PeerHandshake),
            ("hyperswarm/dht PEER_HOLEPUNCH", Namespace::PeerHolepunch),
            ("hyperswarm/dht PLUGIN", Namespace::Plugin),
            ("hyperswarm/secret-stream INITIATOR", Namespace::Initiator),
            ("hyperswarm/secret-stream RESPONDER", Namespace::Responder),
            ("hyperswarm/secret-stream SEND", Namespace::Send),
        ];
        assert_eq!(vectors["namespaces"].as_object().expect("an object").len(), table.len());
        for (name, ours) in table {
            let hex = vectors["namespaces"][name]["hex"].as_str().expect(name);
            assert_eq!(data_encoding::HEXLOWER.encode(&ours.bytes()), hex, "{name}");
        }
    }
}
