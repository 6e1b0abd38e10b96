//! What the handshakes are made of: Diffie-Hellman on the Edwards curve, and the usual hash and cipher.

use blake2::{Blake2b512, Digest};
use libsodium_rs::crypto_aead::chacha20poly1305_ietf as chacha;
use libsodium_rs::crypto_scalarmult::ed25519::scalarmult_noclamp;
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::KeyPair;

/// Hands out the primitives. The ephemeral key pair comes from a seed that the caller drew, so that handshakes are
/// sans-io and can be repeated in tests.
pub(super) struct Primitives {
    ephemeral_seed: Zeroizing<[u8; 32]>,
}

impl Primitives {
    pub(super) fn new(ephemeral_seed: Zeroizing<[u8; 32]>) -> Self {
        Self { ephemeral_seed }
    }
}

impl CryptoResolver for Primitives {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OneSeed(Some(self.ephemeral_seed.clone()))))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::<Ed25519>::default())
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::<Blake2b>::default())
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::<ChaChaPoly>::default())
    }
}

/// Gives its seed once: each side has one ephemeral key pair.
struct OneSeed(Option<Zeroizing<[u8; 32]>>);

impl Random for OneSeed {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        let seed = self.0.take().ok_or(Error::Rng)?;
        if out.len() != seed.len() {
            return Err(Error::Rng);
        }
        out.copy_from_slice(&*seed);
        Ok(())
    }
}

/// noise-curve-ed: the private key is a seed, its scalar is that of Ed25519 signatures (the clamped first half of
/// SHA-512), and what is shared is a compressed point.
#[derive(Default)]
struct Ed25519 {
    seed: Zeroizing<[u8; 32]>,
    scalar: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for Ed25519 {
    fn name(&self) -> &'static str {
        "Ed25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, seed: &[u8]) {
        // snow passes keys on in the length they were given; all of ours have 32 bytes.
        if seed.len() == 32 {
            self.seed.copy_from_slice(seed);
        }
        let pair = KeyPair::from_seed(&self.seed);
        self.scalar = pair.dh_scalar();
        self.public = pair.public().0;
    }

    fn generate(&mut self, random: &mut dyn Random) -> Result<(), Error> {
        let mut seed = Zeroizing::new([0; 32]);
        random.try_fill_bytes(&mut *seed)?;
        self.set(&*seed);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.seed
    }

    /// libsodium refuses encodings that are not canonical, points off the curve, of small order, and outside the
    /// prime order subgroup, and a result that is the identity.
    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.get(..32).ok_or(Error::Dh)?;
        let mut shared = scalarmult_noclamp(&*self.scalar, public).map_err(|_| Error::Dh)?;
        out.get_mut(..32).ok_or(Error::Dh)?.copy_from_slice(&shared);
        shared.zeroize();
        Ok(())
    }
}

#[derive(Default)]
struct Blake2b(Blake2b512);

impl Hash for Blake2b {
    fn name(&self) -> &'static str {
        "BLAKE2b"
    }

    fn block_len(&self) -> usize {
        128
    }

    fn hash_len(&self) -> usize {
        64
    }

    fn reset(&mut self) {
        self.0 = Blake2b512::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = self.0.finalize_reset();
        for (out, byte) in out.iter_mut().zip(hash) {
            *out = byte;
        }
    }
}

#[derive(Default)]
struct ChaChaPoly {
    key: Zeroizing<[u8; 32]>,
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.key.copy_from_slice(key);
    }

    fn encrypt(&self, counter: u64, authenticated: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let sealed = chacha::Key::from_bytes(&*self.key)
            .and_then(|key| chacha::encrypt(plaintext, Some(authenticated), &nonce(counter), &key));
        // It fails for another length of key, or more than 256 GiB of plaintext. snow has checked the room.
        #[allow(clippy::expect_used)]
        let sealed = sealed.expect("a key of 32 bytes and a short plaintext");
        for (out, byte) in out.iter_mut().zip(&sealed) {
            *out = *byte;
        }
        sealed.len()
    }

    fn decrypt(
        &self,
        counter: u64,
        authenticated: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let opened = chacha::Key::from_bytes(&*self.key)
            .and_then(|key| chacha::decrypt(ciphertext, Some(authenticated), &nonce(counter), &key))
            .map_err(|_| Error::Decrypt)?;
        out.get_mut(..opened.len()).ok_or(Error::Input)?.copy_from_slice(&opened);
        Ok(opened.len())
    }
}

/// Four zero bytes, then the counter, little endian.
fn nonce(counter: u64) -> chacha::Nonce {
    let mut nonce = [0; 12];
    for (out, byte) in nonce.iter_mut().skip(4).zip(counter.to_le_bytes()) {
        *out = byte;
    }
    chacha::Nonce::from_bytes(nonce)
}
