//! Signatures over canonical texts, in both styles. Pure functions: they run on any thread.

use super::{NodeId, Style};
use crate::hyperswarm::crypto::{KeyPair, PublicKey, Signature};

/// Our key pair, for the threads that sign. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    keys: std::sync::Arc<KeyPair>,
}

/// The text is longer than hypersign can sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("text of {0} bytes is too long for a 0.1.2 signature")]
pub(crate) struct TextTooLong(usize);

impl Signer {
    /// Signs with these keys.
    pub fn new(keys: KeyPair) -> Self {
        Self { keys: std::sync::Arc::new(keys) }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.keys.public()
    }

    /// Signs a canonical text (0.1.2 `hypersign.sign`, 0.1.6 and 0.2.1 Node's `crypto.sign(null, ..)`).
    pub(crate) fn sign(&self, style: Style, text: &[u8]) -> Result<Signature, TextTooLong> {
        match style {
            Style::Hypersign => Ok(self.keys.sign(&signable(text)?)),
            Style::Spki => Ok(self.keys.sign(text)),
        }
    }
}

/// Whether the node signed this canonical text.
pub(crate) fn verify(id: NodeId, text: &[u8], signature: &Signature) -> bool {
    match id.style {
        Style::Hypersign => signable(text).is_ok_and(|message| id.key.verify(&message, signature)),
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

/// What hypersign signs for a value without salt and with sequence number 0.
fn signable(text: &[u8]) -> Result<Vec<u8>, TextTooLong> {
    if text.len() > crate::limits::HYPERSIGN_MAX_TEXT {
        return Err(TextTooLong(text.len()));
    }
    let mut out = format!("3:seqi0e1:v{}:", text.len()).into_bytes();
    out.extend_from_slice(text);
    Ok(out)
}
