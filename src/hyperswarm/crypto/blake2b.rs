//! BLAKE2b as libsodium's `crypto_generichash`: 32 bytes of output, without or with a key.

use blake2::digest::{KeyInit, Mac, consts::U32};
use blake2::{Blake2b256, Blake2bMac, Digest};

/// The hash of all parts one after the other.
pub fn blake2b_256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2b256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// The hash of all parts one after the other, with BLAKE2b's own key parameter (not HMAC). Keys have 1 to 64 bytes.
pub fn keyed_blake2b_256<const N: usize>(key: &[u8; N], parts: &[&[u8]]) -> [u8; 32] {
    const { assert!(N >= 1 && N <= 64) };
    // The only failure is a key of more than 64 bytes.
    #[allow(clippy::expect_used)]
    let mut hash = Blake2bMac::<U32>::new_from_slice(key).expect("a key of at most 64 bytes");
    for part in parts {
        Mac::update(&mut hash, part);
    }
    hash.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_no_input_is_the_known_one() {
        assert_eq!(
            data_encoding::HEXLOWER.encode(&blake2b_256(&[])),
            "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
        );
    }

    #[test]
    fn parts_are_hashed_as_if_joined() {
        assert_eq!(blake2b_256(&[b"hel", b"", b"lo"]), blake2b_256(&[b"hello"]));
        assert_eq!(
            data_encoding::HEXLOWER.encode(&blake2b_256(&[b"hello"])),
            "324dcf027dd4a30a932c441f365a25e86b173defa4b8e58948253471b81b72cf",
            "immutable_key_of_hello of hypersign.json"
        );
    }

    #[test]
    fn keyed_hashes_are_those_of_the_original() {
        let vectors = crate::crypto::vectors("keys.json");
        let pairs = vectors["key_pairs"].as_array().expect("a list");
        assert!(pairs.len() >= 5);
        for pair in pairs {
            let hex =
                |name: &str| data_encoding::HEXLOWER.decode(pair[name].as_str().unwrap().as_bytes()).unwrap();
            let key: [u8; 32] = hex("public_key").try_into().unwrap();
            assert_eq!(keyed_blake2b_256(&key, &[b"hyper", b"core"]).to_vec(), hex("discovery_key"));
            assert_eq!(blake2b_256(&[&key]).to_vec(), hex("target_hash"));
        }
    }
}
