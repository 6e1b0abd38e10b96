//! libsodium's `crypto_secretbox_easy`: one message, sealed under a key and a nonce (XSalsa20-Poly1305).

use dryoc::classic::crypto_secretbox as dryoc;
use zeroize::Zeroizing;

/// Bytes of a nonce, which must never be used for two messages under one key.
pub const NONCE_BYTES: usize = 24;
/// Bytes by which a sealed message is longer: a MAC before it.
pub const OVERHEAD: usize = 16;

/// A sealed message that was changed, or is of another key or nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message does not authenticate: changed, or of another key or nonce")]
pub struct Forged;

/// Seals `message` into `sealed`, which must be longer by exactly [`OVERHEAD`].
///
/// # Panics
/// If it is not.
pub fn seal(key: &Zeroizing<[u8; 32]>, nonce: &[u8; NONCE_BYTES], message: &[u8], sealed: &mut [u8]) {
    // The other failure is a message of more bytes than a slice can have.
    #[allow(clippy::expect_used)]
    dryoc::crypto_secretbox_easy(sealed, message, nonce, key)
        .expect("room for the message and its MAC, no more");
}

/// Opens `sealed` into `message`, which must be shorter by exactly [`OVERHEAD`].
pub fn open(
    key: &Zeroizing<[u8; 32]>,
    nonce: &[u8; NONCE_BYTES],
    sealed: &[u8],
    message: &mut [u8],
) -> Result<(), Forged> {
    if sealed.len() != message.len().saturating_add(OVERHEAD) {
        return Err(Forged);
    }
    dryoc::crypto_secretbox_open_easy(message, sealed, nonce, key).map_err(|_| Forged)
}

#[cfg(test)]
mod tests {
    use libsodium_rs::crypto_secretbox as libsodium;

    use super::*;

    #[test]
    fn libsodium_opens_what_we_seal_and_the_other_way_round() {
        let (key, nonce) = (Zeroizing::new([3; 32]), [4; NONCE_BYTES]);
        let their_key = libsodium::Key::from_bytes(&*key).expect("32 bytes");
        let their_nonce = libsodium::Nonce::from_bytes(nonce);
        for length in (0..200).chain([1000, 1152, 65_536]) {
            let message = vec![length as u8; length];
            let mut sealed = vec![0; length + OVERHEAD];
            seal(&key, &nonce, &message, &mut sealed);
            assert_eq!(sealed, libsodium::seal(&message, &their_nonce, &their_key), "{length} bytes");
            let mut opened = vec![0; length];
            assert_eq!(open(&key, &nonce, &sealed, &mut opened), Ok(()));
            assert_eq!(opened, message, "{length} bytes");
        }
    }

    #[test]
    fn a_changed_message_another_key_or_another_nonce_is_refused() {
        let (key, nonce) = (Zeroizing::new([3; 32]), [4; NONCE_BYTES]);
        let mut sealed = [0; 5 + OVERHEAD];
        seal(&key, &nonce, b"hello", &mut sealed);
        let mut opened = [0; 5];
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, &nonce, &changed, &mut opened), Err(Forged), "bit {bit}");
        }
        assert_eq!(open(&Zeroizing::new([5; 32]), &nonce, &sealed, &mut opened), Err(Forged));
        assert_eq!(open(&key, &[5; NONCE_BYTES], &sealed, &mut opened), Err(Forged));
        assert_eq!(open(&key, &nonce, &sealed[..OVERHEAD - 1], &mut []), Err(Forged));
    }
}
