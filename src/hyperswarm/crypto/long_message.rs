//! Ed25519 signatures over long texts with one pass of SHA-512 over the text instead of two.
//!
//! RFC 8032 takes the nonce from `SHA-512(prefix, text)` and the challenge from `SHA-512(R, public key, text)`.
//! Verifiers see only the challenge; the nonce has to be secret, and never the same for two texts. So here it comes
//! from a secret of its own and the SHA-256 of the text, which processors compute several times as fast. File data is
//! signed twice per message on its way to a 0.2 daemon, which makes this the larger part of what serving costs.
//!
//! The secret is not the `prefix`: nobody can make one signature of each kind share a nonce, which would betray the
//! key. Two texts share one only if they have the same SHA-256.

use libsodium_rs::SodiumError;
use libsodium_rs::crypto_core::ed25519 as scalars;
use libsodium_rs::crypto_scalarmult::ed25519 as curve;
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use super::keypair::expand;

/// Keeps the nonce secret apart from everything else made of the seed.
const NONCE_DOMAIN: &[u8] = b"kachery-p2p: nonces of Ed25519 signatures over long texts";

/// What signing long texts needs of a key pair. No Debug; wiped when dropped.
#[derive(Clone)]
pub(super) struct LongSigner {
    /// The secret scalar, reduced.
    scalar: Zeroizing<[u8; 32]>,
    nonce_secret: Zeroizing<[u8; 64]>,
    public: [u8; 32],
}

impl LongSigner {
    pub(super) fn new(seed: &[u8; 32], public: [u8; 32]) -> Result<Self, SodiumError> {
        let expanded = expand(seed);
        // As long as the numbers that libsodium reduces.
        let mut scalar = Zeroizing::new([0; 64]);
        scalar.split_at_mut(32).0.copy_from_slice(expanded.split_at(32).0);
        let nonce_secret = Sha512::new().chain_update(NONCE_DOMAIN).chain_update(*expanded).finalize();
        Ok(Self {
            scalar: Zeroizing::new(scalars::scalar_reduce(&*scalar)?),
            nonce_secret: Zeroizing::new(nonce_secret.into()),
            public,
        })
    }

    /// A signature that every Ed25519 verifier accepts; the same for the same text.
    pub(super) fn sign(&self, text: &[u8]) -> Result<[u8; 64], SodiumError> {
        let digest = Sha256::digest(text);
        let nonce = Sha512::new().chain_update(*self.nonce_secret).chain_update(digest).finalize();
        let nonce = Zeroizing::new(scalars::scalar_reduce(&nonce)?);
        let point = curve::scalarmult_base_noclamp(&*nonce)?;
        let challenge =
            Sha512::new().chain_update(point).chain_update(self.public).chain_update(text).finalize();
        let challenge = scalars::scalar_reduce(&challenge)?;
        let product = Zeroizing::new(scalars::scalar_mul(&challenge, &*self.scalar)?);
        let answer = scalars::scalar_add(&*nonce, &*product)?;
        let mut signature = [0; 64];
        let (first, second) = signature.split_at_mut(32);
        first.copy_from_slice(&point);
        second.copy_from_slice(&answer);
        Ok(signature)
    }
}
