use std::fmt;

use libsodium_rs::crypto_sign as ed25519;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use super::long_message::LongSigner;

/// Texts of more bytes are signed with one pass over them; see [`long_message`](super::long_message).
const LONG: usize = 4096;

/// An Ed25519 public key: 32 bytes, compared and hashed as bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

/// A detached Ed25519 signature: 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl PublicKey {
    /// Whether `signature` is by this key over exactly `message` (libsodium `crypto_sign_verify_detached`).
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let key = ed25519::PublicKey::from_bytes_exact(self.0);
        ed25519::verify_detached(&signature.0, message, &key)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}..)", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

/// An Ed25519 key pair. The secret half has no Debug and is wiped when dropped.
#[derive(Clone)]
pub struct KeyPair {
    public: PublicKey,
    /// libsodium's form: seed, then public key.
    secret: Zeroizing<[u8; 64]>,
    long: LongSigner,
}

impl KeyPair {
    /// The pair that belongs to a 32-byte seed (libsodium `crypto_sign_seed_keypair`).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        // The only failures are inputs of another length, which the types exclude.
        #[allow(clippy::expect_used)]
        let pair = ed25519::keypair_from_seed(seed).expect("a seed of 32 bytes");
        let public = PublicKey(*pair.public_key.as_bytes());
        #[allow(clippy::expect_used)]
        let long = LongSigner::new(seed, public.0).expect("a seed of 32 bytes");
        Self { public, secret: Zeroizing::new(*pair.secret_key.as_bytes()), long }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Seed then public key, 64 bytes: what a `secretkey` file holds.
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 64]> {
        self.secret.clone()
    }

    /// The seed the pair was made of.
    pub(super) fn seed(&self) -> Zeroizing<[u8; 32]> {
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(self.secret.split_at(32).0);
        seed
    }

    /// The secret scalar: the first half of SHA-512 of the seed, clamped (noise-curve-ed `dh`).
    pub(super) fn dh_scalar(&self) -> Zeroizing<[u8; 32]> {
        let mut scalar = Zeroizing::new([0; 32]);
        scalar.copy_from_slice(expand(&self.seed()).split_at(32).0);
        scalar
    }

    /// Ed25519 over exactly `message`. Up to 4096 bytes the signature is that of RFC 8032 and libsodium's
    /// `crypto_sign_detached`; for longer ones it has another nonce, which no verifier can tell.
    pub fn sign(&self, message: &[u8]) -> Signature {
        if message.len() > LONG
            && let Ok(signature) = self.long.sign(message)
        {
            return Signature(signature);
        }
        let key = ed25519::SecretKey::from_bytes_exact(*self.secret);
        // libsodium's detached signing has no failure for a key of the right length.
        #[allow(clippy::expect_used)]
        Signature(ed25519::sign_detached(message, &key).expect("signing cannot fail"))
    }
}

/// SHA-512 of a seed, the first half clamped: the secret scalar, and what RFC 8032 calls the prefix.
pub(super) fn expand(seed: &[u8; 32]) -> Zeroizing<[u8; 64]> {
    let mut expanded = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(seed)));
    if let [first, .., last] = expanded.split_at_mut(32).0 {
        *first &= 0b1111_1000;
        *last = *last & 0b0111_1111 | 0b0100_0000;
    }
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn signatures_of_every_length_verify_with_libsodium() {
        for seed in 0..16 {
            let keys = KeyPair::from_seed(&[seed; 32]);
            for length in [0, 1, 1000, LONG - 1, LONG, LONG + 1, 87_500, 1 << 20] {
                let text = text(length);
                assert!(keys.public().verify(&text, &keys.sign(&text)), "seed {seed}, {length} bytes");
            }
        }
    }

    #[test]
    fn a_long_text_or_signature_changed_in_one_bit_does_not_verify() {
        let keys = KeyPair::from_seed(&[7; 32]);
        let mut text = text(LONG + 1);
        let mut signature = keys.sign(&text);
        text[LONG] ^= 1;
        assert!(!keys.public().verify(&text, &signature));
        text[LONG] ^= 1;
        signature.0[40] ^= 1;
        assert!(!keys.public().verify(&text, &signature));
    }

    #[test]
    fn long_texts_have_nonces_of_their_own() {
        let keys = KeyPair::from_seed(&[7; 32]);
        let (one, mut other) = (text(LONG + 1), text(LONG + 1));
        other[9] ^= 1;
        let point = |text: &[u8]| keys.sign(text).0[..32].to_vec();
        assert_eq!(point(&one), point(&one), "the same text has the same signature");
        assert_ne!(point(&one), point(&other));
        let another = KeyPair::from_seed(&[8; 32]);
        assert_ne!(point(&one), another.sign(&one).0[..32].to_vec());
        // RFC 8032 would have taken another one: the two kinds never share a nonce.
        let key = ed25519::SecretKey::from_bytes_exact(*keys.secret);
        assert_ne!(point(&one), ed25519::sign_detached(&one, &key).unwrap()[..32].to_vec());
    }
}
