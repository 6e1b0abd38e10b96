//! The signatures of `@hyperswarm/hypersign` 2.1: Ed25519 over a bencode-like text of salt, sequence number and value.

use crate::crypto::{KeyPair, PublicKey, Signature};
use crate::limits::v2::{MAX_SALT_BYTES, MAX_STORED_VALUE_BYTES};

/// Why there is nothing to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignableError {
    /// The original asserts the same.
    #[error("value is {0} bytes; shorten it to at most {MAX_STORED_VALUE_BYTES}")]
    ValueTooLong(usize),
    /// The original asserts the same.
    #[error("salt is {0} bytes; shorten it to at most {MAX_SALT_BYTES}")]
    SaltTooLong(usize),
}

/// The exact bytes that are signed (`Hypersign.signable`). An empty salt is not the same as none.
pub fn signable(value: &[u8], seq: u64, salt: Option<&[u8]>) -> Result<Vec<u8>, SignableError> {
    if value.len() > MAX_STORED_VALUE_BYTES {
        return Err(SignableError::ValueTooLong(value.len()));
    }
    let mut out = Vec::new();
    if let Some(salt) = salt {
        if salt.len() > MAX_SALT_BYTES {
            return Err(SignableError::SaltTooLong(salt.len()));
        }
        out.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        out.extend_from_slice(salt);
    }
    out.extend_from_slice(format!("3:seqi{seq}e1:v{}:", value.len()).as_bytes());
    out.extend_from_slice(value);
    Ok(out)
}

/// Signs a value (`Hypersign.sign`).
pub fn sign(
    key_pair: &KeyPair,
    value: &[u8],
    seq: u64,
    salt: Option<&[u8]>,
) -> Result<Signature, SignableError> {
    Ok(key_pair.sign(&signable(value, seq, salt)?))
}

/// True if `signature` is by `key` over exactly these; false for values and salts that are too long to be signed.
pub fn verify(key: &PublicKey, signature: &Signature, value: &[u8], seq: u64, salt: Option<&[u8]>) -> bool {
    signable(value, seq, salt).is_ok_and(|message| key.verify(&message, signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use serde_json::Value;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/v2/hypersign.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("read vectors")).expect("parse vectors")
    }

    fn hex(value: &Value) -> Vec<u8> {
        HEXLOWER.decode(value.as_str().expect("a string").as_bytes()).expect("hex")
    }

    fn key_pair(vectors: &Value) -> KeyPair {
        KeyPair::from_seed(&hex(&vectors["seed"]).try_into().expect("32 bytes"))
    }

    #[test]
    fn signatures_are_those_of_the_original() {
        let vectors = vectors();
        let pair = key_pair(&vectors);
        assert_eq!(pair.public().0.to_vec(), hex(&vectors["publicKey"]));
        assert_eq!(pair.secret_bytes().to_vec(), hex(&vectors["secretKey_file_64_bytes"]));
        let cases = vectors["vectors"].as_array().expect("a list");
        assert!(cases.len() >= 7);
        for case in cases {
            let value = case["value_utf8"].as_str().expect("a string").as_bytes();
            let seq = case["seq"].as_u64().expect("a number");
            let salt = case["salt"].as_str().map(|s| HEXLOWER.decode(s.as_bytes()).expect("hex"));
            let salt = salt.as_deref();
            assert_eq!(signable(value, seq, salt).expect("short"), hex(&case["signable_hex"]));
            let signature = sign(&pair, value, seq, salt).expect("short");
            assert_eq!(signature.0.to_vec(), hex(&case["signature"]));
            assert!(verify(&pair.public(), &signature, value, seq, salt));
            assert!(!verify(&pair.public(), &signature, value, seq + 1, salt), "another seq");
            assert!(!verify(&pair.public(), &signature, value, seq, Some(b"")), "another salt");
        }
    }

    #[test]
    fn values_are_signed_up_to_1000_bytes() {
        let pair = KeyPair::from_seed(&[1; 32]);
        let longest = vec![0; MAX_STORED_VALUE_BYTES];
        let signature = sign(&pair, &longest, 0, None).expect("at the limit");
        assert!(verify(&pair.public(), &signature, &longest, 0, None));
        let longer = vec![0; MAX_STORED_VALUE_BYTES + 1];
        assert_eq!(sign(&pair, &longer, 0, None), Err(SignableError::ValueTooLong(1001)));
        assert!(!verify(&pair.public(), &signature, &longer, 0, None));
    }

    #[test]
    fn salts_are_signed_up_to_64_bytes() {
        let pair = KeyPair::from_seed(&[1; 32]);
        let longest = vec![0; MAX_SALT_BYTES];
        assert!(sign(&pair, b"v", 0, Some(&longest)).is_ok());
        let longer = vec![0; MAX_SALT_BYTES + 1];
        assert_eq!(sign(&pair, b"v", 0, Some(&longer)), Err(SignableError::SaltTooLong(65)));
    }

    #[test]
    fn a_changed_signature_does_not_verify() {
        let pair = KeyPair::from_seed(&[1; 32]);
        let mut signature = sign(&pair, b"value", 3, None).expect("short");
        signature.0[10] ^= 1;
        assert!(!verify(&pair.public(), &signature, b"value", 3, None));
    }
}
