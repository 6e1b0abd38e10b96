//! Keys and signatures: Ed25519 key pairs, BLAKE2b, and what the v2 network signs with them.

mod blake2b;
pub mod hypersign;
mod keypair;
mod long_message;

pub use blake2b::blake2b_256;
pub use keypair::{KeyPair, PublicKey, Signature};
