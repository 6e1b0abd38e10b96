//! BLAKE2b with 32 bytes of output and no key (libsodium `crypto_generichash`, npm blake2b-universal).

use blake2::{Blake2b256, Digest};

/// The hash of all parts one after the other.
pub fn blake2b_256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2b256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
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
}
