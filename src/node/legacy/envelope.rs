//! Signatures over canonical texts, in both styles. Pure functions: they run on any thread.

use super::long_message::TextSigner;
use super::{NodeId, Style};
use hyperswarm::crypto::v2::hypersign::{self, SignableError};
use hyperswarm::crypto::{KeyPair, PublicKey, Signature};

/// Our key pair, for the threads that sign. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    keys: std::sync::Arc<TextSigner>,
}

impl Signer {
    /// Signs with these keys.
    pub fn new(keys: KeyPair) -> Self {
        Self { keys: std::sync::Arc::new(TextSigner::new(keys)) }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.keys.keys().public()
    }

    /// Signs a canonical text (0.1.2 `hypersign.sign`, 0.1.6 and 0.2.1 Node's `crypto.sign(null, ..)`).
    pub(crate) fn sign(&self, style: Style, text: &[u8]) -> Result<Signature, SignableError> {
        match style {
            Style::Hypersign => hypersign::sign(self.keys.keys(), text, 0, None),
            Style::Spki => Ok(self.keys.sign(text)),
        }
    }
}

/// True if the node signed this canonical text.
pub(crate) fn verify(id: NodeId, text: &[u8], signature: &Signature) -> bool {
    match id.style {
        Style::Hypersign => hypersign::verify(&id.key, signature, text, 0, None),
        Style::Spki => id.key.verify(text, signature),
    }
}

/// A signature in a message: exactly 128 lower-case hex characters.
pub(crate) fn parse_signature(hex: &[u8]) -> Option<Signature> {
    let mut bytes = [0u8; 64];
    (hex.len() == 128 && data_encoding::HEXLOWER.decode_mut(hex, &mut bytes).is_ok())
        .then_some(Signature(bytes))
}

/// Appends the hex form.
pub(crate) fn write_signature(signature: &Signature, out: &mut Vec<u8>) {
    let mut hex = [0u8; 128];
    data_encoding::HEXLOWER.encode_mut(&signature.0, &mut hex);
    out.extend_from_slice(&hex);
}
