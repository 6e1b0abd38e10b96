//! libsodium's `crypto_secretstream_xchacha20poly1305`: messages in an order that nobody can change, repeat or cut,
//! save at the end. (npm sodium-secretstream; see section 7 of the protocol for what is on the wire.)
//!
//! Messages have the tag MESSAGE and no associated data, as in JavaScript.

use dryoc::classic::crypto_secretstream_xchacha20poly1305 as dryoc;
use zeroize::Zeroizing;

/// Bytes of the header that goes before the first message.
pub const HEADER_BYTES: usize = 24;
/// Bytes by which a sealed message is longer: an encrypted tag before it and a MAC behind.
pub const OVERHEAD: usize = 17;
/// The tag of every message; sodium-secretstream sends no other.
const TAG_MESSAGE: u8 = 0;

/// A sealed message that is not the next one of its stream: changed, repeated, out of order, or of another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("message does not authenticate: changed, repeated, out of order, or of another key")]
pub struct Forged;

/// Seals messages.
pub struct Push {
    state: dryoc::State,
}

impl Push {
    /// Starts a stream. The header must be random, and never be used again with this key.
    pub fn new(key: &Zeroizing<[u8; 32]>, header: &[u8; HEADER_BYTES]) -> Self {
        Self { state: start(key, header) }
    }

    /// Seals `message` into `sealed`, which must be longer by exactly [`OVERHEAD`].
    ///
    /// # Panics
    /// If it is not.
    pub fn seal(&mut self, message: &[u8], sealed: &mut [u8]) {
        // The other failure is a message of more than 256 GiB.
        #[allow(clippy::expect_used)]
        dryoc::crypto_secretstream_xchacha20poly1305_push(
            &mut self.state,
            sealed,
            message,
            None,
            TAG_MESSAGE,
        )
        .expect("room for the message and its overhead, no more");
    }
}

/// Opens what the other side's [`Push`] sealed, in the same order.
pub struct Pull {
    state: dryoc::State,
}

impl Pull {
    /// Starts with the header the sender chose.
    pub fn new(key: &Zeroizing<[u8; 32]>, header: &[u8; HEADER_BYTES]) -> Self {
        Self { state: start(key, header) }
    }

    /// Opens `sealed` into `message`, which must be shorter by exactly [`OVERHEAD`]. On failure `message` is
    /// untouched, and the state as before. The tag is not looked at, as in JavaScript, but a rekeying one rekeys.
    pub fn open(&mut self, sealed: &[u8], message: &mut [u8]) -> Result<(), Forged> {
        if sealed.len() != message.len().saturating_add(OVERHEAD) {
            return Err(Forged);
        }
        let mut tag = 0;
        dryoc::crypto_secretstream_xchacha20poly1305_pull(&mut self.state, message, &mut tag, sealed, None)
            .map(drop)
            .map_err(|_| Forged)
    }
}

/// Both directions start alike; only libsodium's `init_push` would draw the header itself.
fn start(key: &Zeroizing<[u8; 32]>, header: &[u8; HEADER_BYTES]) -> dryoc::State {
    let mut state = dryoc::State::new();
    dryoc::crypto_secretstream_xchacha20poly1305_init_pull(&mut state, header, key);
    state
}

#[cfg(test)]
mod tests {
    use libsodium_rs::crypto_secretstream::{Key, PullState, PushState};
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn pair() -> (Push, Pull) {
        let key = Zeroizing::new(KEY);
        (Push::new(&key, &[1; HEADER_BYTES]), Pull::new(&key, &[1; HEADER_BYTES]))
    }

    fn seal(push: &mut Push, message: &[u8]) -> Vec<u8> {
        let mut sealed = vec![0; message.len() + OVERHEAD];
        push.seal(message, &mut sealed);
        sealed
    }

    fn open(pull: &mut Pull, sealed: &[u8]) -> Result<Vec<u8>, Forged> {
        let mut message = vec![0; sealed.len().saturating_sub(OVERHEAD)];
        pull.open(sealed, &mut message).map(|()| message)
    }

    /// Our implementation is not libsodium's, JavaScript's is: random lengths, the lengths around every block and
    /// padding, and rekeying.
    #[test]
    fn libsodium_opens_what_we_seal_and_the_other_way_round() {
        const SEED: u64 = 41;
        let mut rng = StdRng::seed_from_u64(SEED);
        let key = Key::from_bytes(&KEY).expect("32 bytes");
        let (mut theirs, header) = PushState::init_push(&key).expect("libsodium");
        let mut our_pull = Pull::new(&Zeroizing::new(KEY), &header);
        let mut ours = Push::new(&Zeroizing::new(KEY), &header);
        let mut their_pull = PullState::init_pull(&header, &key).expect("libsodium");
        let lengths = (0..300).chain((0..200).map(|_| rng.random_range(0..70_000))).collect::<Vec<usize>>();
        for length in lengths {
            let mut message = vec![0; length];
            rng.fill(&mut message[..]);
            let tag = if length % 50 == 49 { 2 } else { 0 }; // 2 is REKEY.
            let sealed = theirs.push(&message, None, tag).expect("libsodium");
            assert_eq!(open(&mut our_pull, &sealed).as_ref(), Ok(&message), "length {length}, seed {SEED}");
            let sealed = seal(&mut ours, &message);
            let opened = their_pull.pull(&sealed, None).expect("libsodium opens ours");
            assert_eq!(opened, (message, 0), "length {length}, seed {SEED}");
        }
    }

    #[test]
    fn a_message_changed_in_any_bit_or_length_is_refused_and_the_right_one_still_opens() {
        let (mut push, mut pull) = pair();
        let sealed = seal(&mut push, b"message");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&mut pull, &changed), Err(Forged), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(open(&mut pull, &sealed[..length]), Err(Forged), "cut to {length}");
        }
        assert_eq!(open(&mut pull, &[&sealed[..], &[0]].concat()), Err(Forged));
        assert_eq!(open(&mut pull, &sealed), Ok(b"message".to_vec()));
    }

    #[test]
    fn a_message_opens_only_once_and_in_its_place() {
        let (mut push, mut pull) = pair();
        let (first, second) = (seal(&mut push, b"1"), seal(&mut push, b"2"));
        assert_eq!(open(&mut pull, &second), Err(Forged));
        assert_eq!(open(&mut pull, &first), Ok(b"1".to_vec()));
        assert_eq!(open(&mut pull, &first), Err(Forged));
        assert_eq!(open(&mut pull, &second), Ok(b"2".to_vec()));
    }
}
