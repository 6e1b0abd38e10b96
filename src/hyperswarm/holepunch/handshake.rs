//! The Noise handshake of a connection (hyperdht `lib/noise-wrap.js`), and what both ends say in it.

use std::net::SocketAddrV4;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::codec::compact::Writer;
use crate::codec::v4::{Firewall, NoisePayload, PeerError, RelayInfo, UdxInfo};
use crate::crypto::noise::{Handshake, HandshakeError, Keys};
use crate::crypto::{KeyPair, Namespace, PublicKey};

/// The client's half. Its message is the same for all relays, so that the server answers each with the same reply.
pub(super) struct Opening {
    own: Arc<KeyPair>,
    remote: PublicKey,
    seed: Zeroizing<[u8; 32]>,
    payload: Vec<u8>,
    message: Bytes,
    state: Handshake,
}

impl Opening {
    pub(super) fn new(
        own: Arc<KeyPair>,
        remote: PublicKey,
        seed: Zeroizing<[u8; 32]>,
        payload: &NoisePayload<'_>,
    ) -> Result<Self, HandshakeError> {
        let mut writer = Writer::new();
        payload.encode(&mut writer);
        let payload = writer.as_slice().to_vec();
        let (state, message) = begin(&own, &remote, &seed, &payload)?;
        Ok(Self { own, remote, seed, payload, message: message.into(), state })
    }

    pub(super) fn message(&self) -> &Bytes {
        &self.message
    }

    /// Reads a reply. A bad one, which any relay can make up, changes nothing: the right one may follow.
    pub(super) fn read(&mut self, reply: &[u8]) -> Result<(Vec<u8>, Keys), HandshakeError> {
        let (fresh, _) = begin(&self.own, &self.remote, &self.seed, &self.payload)?;
        let mut state = std::mem::replace(&mut self.state, fresh);
        let plaintext = state.read(reply)?;
        Ok((plaintext, state.finish()?))
    }
}

fn begin(
    own: &KeyPair,
    remote: &PublicKey,
    seed: &Zeroizing<[u8; 32]>,
    payload: &[u8],
) -> Result<(Handshake, Vec<u8>), HandshakeError> {
    let prologue = Namespace::PeerHandshake.bytes();
    let mut state = Handshake::ik_initiator(own, remote, &prologue, seed.clone());
    let message = state.write(payload)?;
    Ok((state, message))
}

/// The server's half, after the client's message.
pub(super) struct Knock {
    state: Handshake,
    pub(super) remote: PublicKey,
    pub(super) client: PeerInfo,
}

impl Knock {
    /// Reads the client's message.
    pub(super) fn read(own: &KeyPair, seed: Zeroizing<[u8; 32]>, message: &[u8]) -> Option<Self> {
        let mut state = Handshake::ik_responder(own, &Namespace::PeerHandshake.bytes(), seed);
        let plaintext = state.read(message).ok()?;
        let client = PeerInfo::read(&NoisePayload::decode(&plaintext).ok()?);
        Some(Self { remote: state.remote()?, state, client })
    }

    /// Answers it.
    pub(super) fn answer(mut self, payload: &NoisePayload<'_>) -> Option<(Bytes, Keys)> {
        let mut writer = Writer::new();
        payload.encode(&mut writer);
        let reply = self.state.write(writer.as_slice()).ok()?;
        Some((reply.into(), self.state.finish().ok()?))
    }
}

/// What the other end says in its half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerInfo {
    pub(super) version: u64,
    pub(super) error: PeerError,
    pub(super) firewall: Firewall,
    /// The number of the handshake, and the server's relays.
    pub(super) holepunch: Option<(u64, Vec<RelayInfo>)>,
    pub(super) addresses4: Vec<SocketAddrV4>,
    /// None: it sent none, or one that cannot be the id of a stream.
    pub(super) stream: Option<u32>,
    pub(super) relay_addresses: Vec<SocketAddrV4>,
}

impl PeerInfo {
    pub(super) fn read(payload: &NoisePayload<'_>) -> Self {
        let usable = |address: &SocketAddrV4| address.port() != 0;
        Self {
            version: payload.version,
            error: payload.error,
            firewall: payload.firewall,
            holepunch: payload.holepunch.map(|info| (info.id, info.relays.iter().collect())),
            addresses4: payload.addresses4.iter().filter(usable).collect(),
            stream: payload.udx.and_then(|udx| u32::try_from(udx.id).ok()),
            relay_addresses: payload.relay_addresses.iter().flat_map(|list| list.iter()).collect(),
        }
    }
}

/// How we describe our own stream.
pub(super) fn udx_info(stream: u32) -> UdxInfo {
    UdxInfo { version: 1, reusable_socket: false, id: stream.into(), seq: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(seed: u8) -> Arc<KeyPair> {
        Arc::new(KeyPair::from_seed(&[seed; 32]))
    }

    fn opening(remote: &KeyPair) -> Opening {
        let payload = NoisePayload { udx: Some(udx_info(7)), ..NoisePayload::default() };
        Opening::new(keys(1), remote.public(), Zeroizing::new([3; 32]), &payload).expect("begins")
    }

    #[test]
    fn both_ends_have_the_same_keys_and_know_what_the_other_said() {
        let server = keys(2);
        let mut client = opening(&server);
        let knock = Knock::read(&server, Zeroizing::new([4; 32]), client.message()).expect("a message");
        assert_eq!((knock.remote, knock.client.stream), (keys(1).public(), Some(7)));
        let payload = NoisePayload { udx: Some(udx_info(9)), ..NoisePayload::default() };
        let (reply, of_server) = knock.answer(&payload).expect("an answer");
        let (plaintext, of_client) = client.read(&reply).expect("a reply");
        let said = PeerInfo::read(&NoisePayload::decode(&plaintext).expect("a payload"));
        assert_eq!(said.stream, Some(9));
        assert_eq!(of_client.handshake_hash, of_server.handshake_hash);
        assert_eq!((&*of_client.tx, &*of_client.rx), (&*of_server.rx, &*of_server.tx));
    }

    #[test]
    fn a_forged_reply_does_not_keep_the_right_one_from_being_read() {
        let server = keys(2);
        let mut client = opening(&server);
        let knock = Knock::read(&server, Zeroizing::new([4; 32]), client.message()).expect("a message");
        let (reply, _) = knock.answer(&NoisePayload::default()).expect("an answer");
        for forged in [&reply[..40], &[7; 200], &[]] {
            assert!(client.read(forged).is_err());
        }
        assert!(client.read(&reply).is_ok());
    }

    #[test]
    fn a_message_for_another_key_is_not_read() {
        let client = opening(&keys(2));
        assert!(Knock::read(&keys(5), Zeroizing::new([4; 32]), client.message()).is_none());
    }

    #[test]
    fn a_stream_id_of_more_than_four_bytes_is_none() {
        let mut udx = udx_info(1);
        udx.id = 1 << 32;
        let payload = NoisePayload { udx: Some(udx), ..NoisePayload::default() };
        assert_eq!(PeerInfo::read(&payload).stream, None);
    }
}
