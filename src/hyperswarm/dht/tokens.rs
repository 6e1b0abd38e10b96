//! Round-trip tokens: only who receives at a host can send an update from it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use crate::crypto::v4::host_token;
use crate::crypto::{blake2b_256, equal_in_constant_time};

/// How one generation makes its tokens. Each is of a secret and the host in text; a secret is used for one or two
/// rotations.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Every so often the newer secret becomes the older and a fresh one is made.
    pub rotation: Duration,
    /// The hash of secret and host.
    pub hash: fn(secret: &[u8; 32], host: Ipv4Addr) -> [u8; 32],
}

/// Tokens of dht-rpc 4.9, good for 300 to 600 s.
pub const V2: Rules = Rules {
    rotation: Duration::from_secs(300),
    hash: |secret, host| blake2b_256(&[secret, host.to_string().as_bytes()]),
};
/// Tokens of dht-rpc 6, good for 7.5 to 15 s.
pub const V4: Rules = Rules { rotation: Duration::from_millis(7500), hash: host_token };

/// Makes and checks tokens. The secrets turn over by the time that has passed, without a timer.
pub struct Tokens {
    rules: Rules,
    newer: [u8; 32],
    older: [u8; 32],
    rotate_at: Instant,
}

impl Tokens {
    /// Fresh secrets from `rng`.
    pub fn new(now: Instant, rng: &mut StdRng, rules: Rules) -> Self {
        Self { rules, newer: secret(rng), older: secret(rng), rotate_at: now + rules.rotation }
    }

    /// The token for a host (dht-rpc `_token`, `token`): valid for one rotation at least and two at most.
    pub fn create(&mut self, now: Instant, host: Ipv4Addr, rng: &mut StdRng) -> [u8; 32] {
        self.rotate(now, rng);
        self.token(&self.newer, host)
    }

    /// True if this token was made for `host` with one of the two secrets.
    pub fn verify(&mut self, now: Instant, host: Ipv4Addr, given: &[u8; 32], rng: &mut StdRng) -> bool {
        self.rotate(now, rng);
        let made_with = |secret| equal_in_constant_time(&self.token(secret, host), given);
        made_with(&self.newer) | made_with(&self.older)
    }

    fn rotate(&mut self, now: Instant, rng: &mut StdRng) {
        // Two turns replace both secrets; after a long silence there is no more to do.
        for _ in 0..2 {
            if now >= self.rotate_at {
                self.older = self.newer;
                self.newer = secret(rng);
                self.rotate_at += self.rules.rotation;
            }
        }
        if now >= self.rotate_at {
            self.rotate_at = now + self.rules.rotation;
        }
    }

    fn token(&self, secret: &[u8; 32], host: Ipv4Addr) -> [u8; 32] {
        (self.rules.hash)(secret, host)
    }
}

fn secret(rng: &mut StdRng) -> [u8; 32] {
    let mut secret = [0; 32];
    rng.fill_bytes(&mut secret);
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use rand::SeedableRng;

    const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    fn tokens() -> (Tokens, StdRng, Instant) {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        (Tokens::new(now, &mut rng, V2), rng, now)
    }

    #[test]
    fn a_token_is_the_originals_hash() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v2/peers.json");
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("read")).expect("parse");
        let hex = |name: &str| -> [u8; 32] {
            let text = json["token"][name].as_str().expect("a string");
            HEXLOWER.decode(text.as_bytes()).expect("hex").try_into().expect("32 bytes")
        };
        let host = json["token"]["host_ascii"].as_str().expect("a string").parse().expect("an address");
        assert_eq!((V2.hash)(&hex("secret"), host), hex("blake2b_256"));
    }

    #[test]
    fn a_token_is_good_for_its_host_only() {
        let (mut tokens, mut rng, now) = tokens();
        let token = tokens.create(now, HOST, &mut rng);
        assert!(tokens.verify(now, HOST, &token, &mut rng));
        assert!(!tokens.verify(now, Ipv4Addr::new(10, 77, 0, 3), &token, &mut rng));
        assert!(!tokens.verify(now, HOST, &[0; 32], &mut rng));
    }

    #[test]
    fn a_token_outlives_one_rotation_and_not_two() {
        let (mut tokens, mut rng, now) = tokens();
        let token = tokens.create(now + Duration::from_secs(299), HOST, &mut rng);
        assert!(tokens.verify(now + Duration::from_secs(599), HOST, &token, &mut rng));
        assert!(!tokens.verify(now + Duration::from_secs(600), HOST, &token, &mut rng));
    }

    #[test]
    fn a_token_of_v4_is_good_for_7_5_to_15_seconds() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut tokens = Tokens::new(now, &mut rng, V4);
        let at = |ms| now + Duration::from_millis(ms);
        let token = tokens.create(at(7499), HOST, &mut rng);
        assert!(tokens.verify(at(14_999), HOST, &token, &mut rng));
        assert!(!tokens.verify(at(15_000), HOST, &token, &mut rng));
        assert_ne!((V4.hash)(&[1; 32], HOST), (V2.hash)(&[1; 32], HOST));
    }

    #[test]
    fn a_token_does_not_outlive_a_long_silence() {
        let (mut tokens, mut rng, now) = tokens();
        let token = tokens.create(now, HOST, &mut rng);
        let later = now + Duration::from_secs(86_400);
        assert!(!tokens.verify(later, HOST, &token, &mut rng));
        let fresh = tokens.create(later, HOST, &mut rng);
        assert!(tokens.verify(later + Duration::from_secs(299), HOST, &fresh, &mut rng));
    }
}
