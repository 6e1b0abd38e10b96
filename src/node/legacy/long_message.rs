//! Ed25519 signatures over long texts with one pass of SHA-512 over the text instead of two.
//!
//! RFC 8032 takes the nonce from `SHA-512(prefix, text)` and the challenge from `SHA-512(R, public key, text)`.
//! Verifiers see only the challenge; the nonce has to be secret, and never the same for two texts. So here it comes
//! from a secret of its own and the SHA-256 of the text, which processors compute several times as fast. File data is
//! signed twice per message on its way to a 0.2 daemon, which makes this the larger part of what serving costs.
//!
//! The secret is not the `prefix`: nobody can make one signature of each kind share a nonce, which would betray the
//! key. Two texts share one only if they have the same SHA-256.

use hyperswarm::crypto::{KeyPair, Signature};
use libsodium_rs::SodiumError;
use libsodium_rs::crypto_core::ed25519 as scalars;
use libsodium_rs::crypto_scalarmult::ed25519 as curve;
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

/// Texts of more bytes are signed with one pass over them.
const LONG: usize = 4096;
/// Keeps the nonce secret apart from everything else made of the seed.
const NONCE_DOMAIN: &[u8] = b"kachery-p2p: nonces of Ed25519 signatures over long texts";

/// A key pair that signs texts of any length. No Debug; its secrets are wiped when dropped.
pub(super) struct TextSigner {
    keys: KeyPair,
    /// The secret scalar, reduced.
    scalar: Zeroizing<[u8; 32]>,
    nonce_secret: Zeroizing<[u8; 64]>,
}

impl TextSigner {
    pub(super) fn new(keys: KeyPair) -> Self {
        let expanded = keys.expanded();
        // As long as the numbers that libsodium reduces.
        let mut scalar = Zeroizing::new([0; 64]);
        scalar.split_at_mut(32).0.copy_from_slice(expanded.split_at(32).0);
        let nonce_secret = Sha512::new().chain_update(NONCE_DOMAIN).chain_update(*expanded).finalize();
        // The only failure is an input of another length, which the types exclude.
        #[allow(clippy::expect_used)]
        let scalar = scalars::scalar_reduce(&*scalar).expect("64 bytes");
        Self { keys, scalar: Zeroizing::new(scalar), nonce_secret: Zeroizing::new(nonce_secret.into()) }
    }

    pub(super) fn keys(&self) -> &KeyPair {
        &self.keys
    }

    /// A signature that every Ed25519 verifier accepts; the same for the same text. Up to 4096 bytes it is that of
    /// RFC 8032; for longer texts it has another nonce, which no verifier can tell.
    pub(super) fn sign(&self, text: &[u8]) -> Signature {
        match text.len() > LONG {
            true => self.sign_long(text).unwrap_or_else(|_| self.keys.sign(text)),
            false => self.keys.sign(text),
        }
    }

    fn sign_long(&self, text: &[u8]) -> Result<Signature, SodiumError> {
        let digest = Sha256::digest(text);
        let nonce = Sha512::new().chain_update(*self.nonce_secret).chain_update(digest).finalize();
        let nonce = Zeroizing::new(scalars::scalar_reduce(&nonce)?);
        let point = curve::scalarmult_base_noclamp(&*nonce)?;
        let public = self.keys.public().0;
        let challenge = Sha512::new().chain_update(point).chain_update(public).chain_update(text).finalize();
        let challenge = scalars::scalar_reduce(&challenge)?;
        let product = Zeroizing::new(scalars::scalar_mul(&challenge, &*self.scalar)?);
        let answer = scalars::scalar_add(&*nonce, &*product)?;
        let mut signature = [0; 64];
        let (first, second) = signature.split_at_mut(32);
        first.copy_from_slice(&point);
        second.copy_from_slice(&answer);
        Ok(Signature(signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    fn signer(seed: u8) -> TextSigner {
        TextSigner::new(KeyPair::from_seed(&[seed; 32]))
    }

    #[test]
    fn signatures_of_every_length_verify_with_libsodium() {
        for seed in 0..16 {
            let signer = signer(seed);
            for length in [0, 1, 1000, LONG - 1, LONG, LONG + 1, 87_500, 1 << 20] {
                let text = text(length);
                assert!(
                    signer.keys().public().verify(&text, &signer.sign(&text)),
                    "seed {seed}, {length} bytes"
                );
            }
        }
    }

    #[test]
    fn a_long_text_or_signature_changed_in_one_bit_does_not_verify() {
        let signer = signer(7);
        let public = signer.keys().public();
        let mut text = text(LONG + 1);
        let mut signature = signer.sign(&text);
        text[LONG] ^= 1;
        assert!(!public.verify(&text, &signature));
        text[LONG] ^= 1;
        signature.0[40] ^= 1;
        assert!(!public.verify(&text, &signature));
    }

    #[test]
    fn long_texts_have_nonces_of_their_own() {
        let (one, mut other) = (text(LONG + 1), text(LONG + 1));
        other[9] ^= 1;
        let point = |seed, text: &[u8]| signer(seed).sign(text).0[..32].to_vec();
        assert_eq!(point(7, &one), point(7, &one), "the same text has the same signature");
        assert_ne!(point(7, &one), point(7, &other));
        assert_ne!(point(7, &one), point(8, &one));
        // RFC 8032 takes another one: the two kinds never share a nonce.
        assert_ne!(point(7, &one), KeyPair::from_seed(&[7; 32]).sign(&one).0[..32].to_vec());
        // Short texts are signed as RFC 8032 says.
        assert_eq!(signer(7).sign(b"short"), KeyPair::from_seed(&[7; 32]).sign(b"short"));
    }
}
