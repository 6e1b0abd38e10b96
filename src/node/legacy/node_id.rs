//! Node IDs: an Ed25519 public key, written in one of two styles.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;

use hyperswarm::crypto::PublicKey;

/// DER of an Ed25519 SubjectPublicKeyInfo before the raw key, in hex (Node's `crypto` export `spki`/`der`).
const SPKI_PREFIX: &str = "302a300506032b6570032100";

/// How a node writes its ID, and with it how it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Style {
    /// 0.1.2: 64 hex characters; signatures over the hypersign signable of a text of at most 1000 bytes.
    Hypersign,
    /// 0.1.6 and 0.2.1: 88 hex characters; signatures over the text itself.
    Spki,
}

/// A node's ID. Text form: exactly 64 or 88 lower-case hex characters, the longer with the exact SPKI prefix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    /// The public key; the same in both styles.
    pub key: PublicKey,
    /// How it is written.
    pub style: Style,
}

impl NodeId {
    /// The key in a style.
    pub const fn new(key: PublicKey, style: Style) -> Self {
        Self { key, style }
    }

    /// Appends the text form.
    pub fn write(self, out: &mut Vec<u8>) {
        if self.style == Style::Spki {
            out.extend_from_slice(SPKI_PREFIX.as_bytes());
        }
        let mut hex = [0u8; 64];
        HEXLOWER.encode_mut(&self.key.0, &mut hex);
        out.extend_from_slice(&hex);
    }

    /// Parses the text form from bytes of a message.
    pub fn from_bytes(text: &[u8]) -> Result<Self, NotANodeId> {
        let (style, hex) = match text.len() {
            64 => (Style::Hypersign, text),
            88 => (Style::Spki, text.strip_prefix(SPKI_PREFIX.as_bytes()).ok_or(NotANodeId)?),
            _ => return Err(NotANodeId),
        };
        let mut key = [0u8; 32];
        match HEXLOWER.decode_mut(hex, &mut key) {
            Ok(32) => Ok(Self { key: PublicKey(key), style }),
            _ => Err(NotANodeId),
        }
    }
}

/// The text is not a node ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a node ID: expected 64 lower-case hexadecimal characters, or 88 that begin with 302a300506032b6570032100"
)]
pub struct NotANodeId;

impl FromStr for NodeId {
    type Err = NotANodeId;
    fn from_str(text: &str) -> Result<Self, NotANodeId> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.style == Style::Spki {
            f.write_str(SPKI_PREFIX)?;
        }
        fmt::Display::fmt(&self.key, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";

    #[test]
    fn both_styles_read_back_as_they_were_written() {
        for text in [RAW.to_owned(), format!("{SPKI_PREFIX}{RAW}")] {
            let id: NodeId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
            let mut written = Vec::new();
            id.write(&mut written);
            assert_eq!(written, text.as_bytes());
        }
    }

    #[test]
    fn anything_else_is_no_node_id() {
        let upper = RAW.to_uppercase();
        let wrong_prefix = format!("302a300506032b6570032101{RAW}");
        for text in
            ["", &RAW[1..], &format!("{RAW}0"), &upper, &wrong_prefix, &"g".repeat(64), &"0".repeat(88)]
        {
            assert_eq!(text.parse::<NodeId>(), Err(NotANodeId), "{text}");
        }
    }
}
