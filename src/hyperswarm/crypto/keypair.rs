use std::fmt;

use libsodium_rs::crypto_sign as ed25519;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// An Ed25519 public key: 32 bytes, compared and hashed as bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

/// A detached Ed25519 signature: 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl PublicKey {
    /// True if `signature` is by this key over exactly `message` (libsodium `crypto_sign_verify_detached`).
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
}

impl KeyPair {
    /// The pair that belongs to a 32-byte seed (libsodium `crypto_sign_seed_keypair`).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        // The only failures are inputs of another length, which the types exclude.
        #[allow(clippy::expect_used)]
        let pair = ed25519::keypair_from_seed(seed).expect("a seed of 32 bytes");
        let public = PublicKey(*pair.public_key.as_bytes());
        Self { public, secret: Zeroizing::new(*pair.secret_key.as_bytes()) }
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
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(self.secret.split_at(32).0);
        seed
    }

    /// SHA-512 of the seed with the first half clamped: the secret scalar, then what RFC 8032 calls the prefix.
    /// Its holder can sign as this pair.
    pub fn expanded(&self) -> Zeroizing<[u8; 64]> {
        let mut expanded = Zeroizing::new(<[u8; 64]>::from(Sha512::digest(*self.seed())));
        if let [first, .., last] = expanded.split_at_mut(32).0 {
            *first &= 0b1111_1000;
            *last = *last & 0b0111_1111 | 0b0100_0000;
        }
        expanded
    }

    /// The secret scalar of a Diffie-Hellman exchange (noise-curve-ed `dh`).
    pub(super) fn dh_scalar(&self) -> Zeroizing<[u8; 32]> {
        let mut scalar = Zeroizing::new([0; 32]);
        scalar.copy_from_slice(self.expanded().split_at(32).0);
        scalar
    }

    /// Ed25519 over exactly `message`: the signature of RFC 8032 (libsodium `crypto_sign_detached`).
    pub fn sign(&self, message: &[u8]) -> Signature {
        let key = ed25519::SecretKey::from_bytes_exact(*self.secret);
        // libsodium's detached signing has no failure for a key of the right length.
        #[allow(clippy::expect_used)]
        Signature(ed25519::sign_detached(message, &key).expect("signing cannot fail"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_of_every_length_verify() {
        for seed in 0..4 {
            let keys = KeyPair::from_seed(&[seed; 32]);
            for length in [0, 1, 1000, 4096, 4097, 87_500] {
                let text = vec![7; length];
                assert!(keys.public().verify(&text, &keys.sign(&text)), "seed {seed}, {length} bytes");
            }
        }
    }

    #[test]
    fn signatures_of_every_length_are_those_of_rfc_8032() {
        // The nonce of RFC 8032 comes from the expanded secret's second half and the text; the signature begins
        // with its point. Here it is computed apart from libsodium's signing.
        use libsodium_rs::crypto_core::ed25519::scalar_reduce;
        use libsodium_rs::crypto_scalarmult::ed25519::scalarmult_base_noclamp;
        let keys = KeyPair::from_seed(&[7; 32]);
        for length in [0, 1000, 4097, 87_500] {
            let text = vec![3; length];
            let nonce: [u8; 64] =
                Sha512::new().chain_update(&keys.expanded()[32..]).chain_update(&text).finalize().into();
            let point = scalarmult_base_noclamp(&scalar_reduce(&nonce).unwrap()).unwrap();
            assert_eq!(keys.sign(&text).0[..32], point, "{length} bytes");
        }
    }
}
