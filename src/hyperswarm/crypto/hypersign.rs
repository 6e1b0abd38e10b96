//! The signatures of `@hyperswarm/hypersign` 2.1: Ed25519 over a bencode-like text of salt, sequence number and value.
