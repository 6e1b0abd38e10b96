//! Keys, hashes and ciphers: Ed25519 key pairs, BLAKE2b, what each generation signs with them, and the handshakes,
//! streams and holepunch messages of generation v4.

mod blake2b;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
mod keypair;
mod namespace;
pub mod noise;
pub mod secretbox;
pub mod secretstream;
pub mod v2;
pub mod v4;

pub use blake2b::{blake2b_256, keyed_blake2b_256};
pub use keypair::{KeyPair, PublicKey, Signature};
pub use namespace::{Namespace, namespace};
#[cfg(test)]
pub(crate) use tests::vectors;

/// Whether two secrets of one length are equal, in a time that does not tell how much of them is.
pub fn equal_in_constant_time(one: &[u8], other: &[u8]) -> bool {
    libsodium_rs::utils::memcmp(one, other)
}

#[cfg(test)]
mod tests {
    /// A file of golden data of generation v4.
    pub(crate) fn vectors(name: &str) -> serde_json::Value {
        let path = format!("{}/vectors/v4/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).expect("read vectors")).expect("parse vectors")
    }
}
