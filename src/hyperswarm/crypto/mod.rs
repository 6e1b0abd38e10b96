//! Keys and signatures: Ed25519 key pairs, and what the v2 network signs with them.

pub mod hypersign;
mod keypair;

pub use keypair::{KeyPair, PublicKey, Signature};
