//! Noise handshakes with Ed25519 key pairs (npm noise-handshake 4.2 on noise-curve-ed 2.1):
//! `Noise_IK_Ed25519_ChaChaPoly_BLAKE2b` and `Noise_XX_Ed25519_ChaChaPoly_BLAKE2b`.
//!
//! The name is not standard Noise, as Diffie-Hellman is done on the Edwards curve itself: see `primitives`.

mod primitives;
#[cfg(test)]
mod tests;

use snow::params::{
    BaseChoice, CipherChoice, DHChoice, HandshakeChoice, HandshakeModifierList, HandshakePattern, HashChoice,
    NoiseParams,
};
use zeroize::Zeroizing;

use super::{KeyPair, PublicKey};
use crate::limits::MAX_NOISE_MESSAGE_BYTES;
use primitives::Primitives;

/// Who knows what beforehand, and how many messages there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// The initiator knows the responder's key. Two messages.
    Ik,
    /// Nobody knows a key. Three messages.
    Xx,
}

/// What a finished handshake gives: everything a secret stream needs.
#[derive(Clone)]
pub struct Keys {
    /// Whether this side sent the first message.
    pub initiator: bool,
    /// The key the other side proved to have.
    pub remote: PublicKey,
    /// The same on both sides and in no other handshake. It is a hash of what was sent over the wire: unique, but
    /// not secret from who saw that.
    pub handshake_hash: [u8; 64],
    /// Encrypts what this side sends.
    pub tx: Zeroizing<[u8; 32]>,
    /// Decrypts what the other side sends.
    pub rx: Zeroizing<[u8; 32]>,
}

/// Why a handshake failed. None of these can be mended: drop the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// A message ends before its keys do.
    #[error("truncated handshake message")]
    Truncated,
    /// A message, or a payload with what goes around it, is longer than Noise allows.
    #[error("handshake message of {0} bytes, more than 65535")]
    TooLong(usize),
    /// A public key is no point of the curve's prime order subgroup in canonical form, so that a shared secret would
    /// not depend on it alone.
    #[error("public key of the peer is not a usable ed25519 point")]
    UnusablePoint,
    /// The other side has another key than was assumed, another prologue, or the message was changed.
    #[error("handshake message does not decrypt: wrong key, prologue or order")]
    Undecryptable,
    /// Reading when it is one's turn to write, or the reverse, or anything after the last message.
    #[error("handshake message out of turn")]
    OutOfTurn,
    /// Keys were asked for before the last message.
    #[error("handshake is not finished")]
    Unfinished,
}

/// A handshake under way.
pub struct Handshake {
    state: Box<snow::HandshakeState>,
}

impl Handshake {
    /// Begins as the side that sends first and knows the key of the other. `ephemeral_seed` must be 32 fresh random
    /// bytes.
    pub fn ik_initiator(
        own: &KeyPair,
        remote: &PublicKey,
        prologue: &[u8],
        ephemeral_seed: Zeroizing<[u8; 32]>,
    ) -> Self {
        Self::new(Pattern::Ik, true, own, Some(remote), prologue, ephemeral_seed)
    }

    /// Waits for the first message of a handshake in which the other side knows our key.
    pub fn ik_responder(own: &KeyPair, prologue: &[u8], ephemeral_seed: Zeroizing<[u8; 32]>) -> Self {
        Self::new(Pattern::Ik, false, own, None, prologue, ephemeral_seed)
    }

    /// Begins, or waits for the first message of, a handshake in which nobody knows a key.
    pub fn xx(initiator: bool, own: &KeyPair, prologue: &[u8], ephemeral_seed: Zeroizing<[u8; 32]>) -> Self {
        Self::new(Pattern::Xx, initiator, own, None, prologue, ephemeral_seed)
    }

    fn new(
        pattern: Pattern,
        initiator: bool,
        own: &KeyPair,
        remote: Option<&PublicKey>,
        prologue: &[u8],
        ephemeral_seed: Zeroizing<[u8; 32]>,
    ) -> Self {
        let own = own.seed();
        let builder =
            snow::Builder::with_resolver(params(pattern), Box::new(Primitives::new(ephemeral_seed)))
                .local_private_key(&*own)
                .and_then(|builder| builder.prologue(prologue))
                .and_then(|builder| match remote {
                    Some(remote) => builder.remote_public_key(&remote.0),
                    None => Ok(builder),
                });
        let state = builder.and_then(|builder| match initiator {
            true => builder.build_initiator(),
            false => builder.build_responder(),
        });
        // Building fails if a key the pattern needs is absent, set twice or of the wrong length, or a primitive is
        // not there; the constructors above exclude all of these.
        #[allow(clippy::expect_used)]
        Self { state: Box::new(state.expect("all that the pattern needs")) }
    }

    /// Whether the next message is ours.
    pub fn is_our_turn(&self) -> bool {
        !self.is_finished() && self.state.is_my_turn()
    }

    /// Whether the last message was written or read.
    pub fn is_finished(&self) -> bool {
        self.state.is_handshake_finished()
    }

    /// The key of the other side, as soon as it is known; the handshake's end proves it.
    pub fn remote(&self) -> Option<PublicKey> {
        Some(PublicKey(self.state.get_remote_static()?.try_into().ok()?))
    }

    /// The next message, with `payload` inside, encrypted as far as keys are known.
    pub fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        // An ephemeral key, a static key and two MACs.
        let length = payload.len().saturating_add(32 + 48 + 16);
        if payload.len() > MAX_NOISE_MESSAGE_BYTES {
            return Err(HandshakeError::TooLong(length));
        }
        let mut message = vec![0; length];
        let written = self.state.write_message(payload, &mut message).map_err(|error| match error {
            snow::Error::Input => HandshakeError::TooLong(length),
            error => explain(error),
        })?;
        message.truncate(written);
        Ok(message)
    }

    /// Reads the other side's next message and returns its payload.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        if message.len() > MAX_NOISE_MESSAGE_BYTES {
            return Err(HandshakeError::TooLong(message.len()));
        }
        let mut payload = vec![0; message.len()];
        let length = self.state.read_message(message, &mut payload).map_err(explain)?;
        payload.truncate(length);
        Ok(payload)
    }

    /// The keys, after the last message.
    pub fn finish(mut self) -> Result<Keys, HandshakeError> {
        if !self.is_finished() {
            return Err(HandshakeError::Unfinished);
        }
        let remote = self.remote().ok_or(HandshakeError::Unfinished)?;
        let handshake_hash =
            self.state.get_handshake_hash().try_into().map_err(|_| HandshakeError::Unfinished)?;
        let initiator = self.state.is_initiator();
        let (first, second) = self.state.dangerously_get_raw_split();
        let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
        let (tx, rx) = if initiator { (first, second) } else { (second, first) };
        Ok(Keys { initiator, remote, handshake_hash, tx, rx })
    }
}

/// The keys of both sides of a handshake.
#[cfg(test)]
pub(crate) fn test_keys() -> (Keys, Keys) {
    let (own, other) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
    let mut initiator = Handshake::ik_initiator(&own, &other.public(), b"", Zeroizing::new([3; 32]));
    let mut responder = Handshake::ik_responder(&other, b"", Zeroizing::new([4; 32]));
    responder.read(&initiator.write(b"").expect("writes")).expect("reads");
    initiator.read(&responder.write(b"").expect("writes")).expect("reads");
    (initiator.finish().expect("finished"), responder.finish().expect("finished"))
}

/// The name on the wire is what gets hashed; the choices only select from [`Primitives`], where Curve25519 stands for
/// our own Diffie-Hellman.
fn params(pattern: Pattern) -> NoiseParams {
    let (name, pattern) = match pattern {
        Pattern::Ik => ("Noise_IK_Ed25519_ChaChaPoly_BLAKE2b", HandshakePattern::IK),
        Pattern::Xx => ("Noise_XX_Ed25519_ChaChaPoly_BLAKE2b", HandshakePattern::XX),
    };
    let handshake = HandshakeChoice { pattern, modifiers: HandshakeModifierList { list: Vec::new() } };
    NoiseParams::new(
        name.to_owned(),
        BaseChoice::Noise,
        handshake,
        DHChoice::Curve25519,
        CipherChoice::ChaChaPoly,
        HashChoice::Blake2b,
    )
}

fn explain(error: snow::Error) -> HandshakeError {
    match error {
        snow::Error::Input => HandshakeError::Truncated,
        snow::Error::Dh => HandshakeError::UnusablePoint,
        snow::Error::State(_) => HandshakeError::OutOfTurn,
        _ => HandshakeError::Undecryptable,
    }
}
