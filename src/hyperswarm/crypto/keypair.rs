use std::fmt;

use libsodium_rs::crypto_sign as ed25519;
use zeroize::Zeroizing;

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
}

impl KeyPair {
    /// The pair that belongs to a 32-byte seed (libsodium `crypto_sign_seed_keypair`).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        // The only failure is a seed of another length, which the type excludes.
        #[allow(clippy::expect_used)]
        let pair = ed25519::keypair_from_seed(seed).expect("a seed of 32 bytes");
        Self {
            public: PublicKey(*pair.public_key.as_bytes()),
            secret: Zeroizing::new(*pair.secret_key.as_bytes()),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Seed then public key, 64 bytes: what a `secretkey` file holds.
    pub fn secret_bytes(&self) -> Zeroizing<[u8; 64]> {
        self.secret.clone()
    }

    /// Ed25519 over exactly `message` (libsodium `crypto_sign_detached`).
    pub fn sign(&self, message: &[u8]) -> Signature {
        let key = ed25519::SecretKey::from_bytes_exact(*self.secret);
        // libsodium's detached signing has no failure for a key of the right length.
        #[allow(clippy::expect_used)]
        Signature(ed25519::sign_detached(message, &key).expect("signing cannot fail"))
    }
}
