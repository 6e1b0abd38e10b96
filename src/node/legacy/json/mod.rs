//! JSON as JavaScript sees it: `JSON.parse` into a value and `JSON.stringify` back, so that the text that the
//! originals sign (the *re-serialised* value, not the bytes on the wire) is reproduced exactly.
//!
//! Strings are WTF-8: UTF-8 that may also hold lone surrogates as three bytes, because JavaScript's strings can.
//! A value that was written canonically already remembers its source text, so the common case (one 87 KB base64
//! string) is verified from the frame's own bytes without a copy.

mod parse;
mod write;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use parse::{JsonError, parse};
pub use write::{escape_non_ascii, write_string, write_value};

/// A JSON value with JavaScript's idea of numbers, strings and key order.
#[derive(Clone, Debug, PartialEq)]
pub enum JsValue<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An IEEE double; never NaN, may be infinite (`1e400`; printed as `null`).
    Number(f64),
    /// WTF-8.
    String(Cow<'a, [u8]>),
    /// In order.
    Array(Vec<JsValue<'a>>),
    /// In JavaScript's order.
    Object(Box<JsObject<'a>>),
}

/// An object: array-index keys first, ascending, then the others as first seen; of duplicate keys the last value at
/// the first position.
#[derive(Clone, Debug, PartialEq)]
pub struct JsObject<'a> {
    entries: Vec<(Cow<'a, [u8]>, JsValue<'a>)>,
    /// The text it was parsed from, kept only if that is exactly what `JSON.stringify` would print.
    source: Option<&'a [u8]>,
}

impl<'a> JsObject<'a> {
    /// Keys and values in JavaScript's order.
    pub fn entries(&self) -> &[(Cow<'a, [u8]>, JsValue<'a>)] {
        &self.entries
    }

    /// The value under a key.
    pub fn field(&self, key: &str) -> Option<&JsValue<'a>> {
        self.entries.iter().find(|(name, _)| name.as_ref() == key.as_bytes()).map(|(_, value)| value)
    }

    /// The object under a key.
    pub fn object(&self, key: &str) -> Option<&JsObject<'a>> {
        self.field(key).and_then(JsValue::as_object)
    }

    /// The string under a key, as WTF-8.
    pub fn string(&self, key: &str) -> Option<&[u8]> {
        self.field(key).and_then(JsValue::as_string)
    }

    /// What `JSON.stringify` prints: the received bytes themselves if they are canonical.
    pub fn canonical_text(&self) -> Cow<'a, [u8]> {
        match self.source {
            Some(source) => Cow::Borrowed(source),
            None => {
                let mut out = Vec::new();
                write::write_object(self, &mut out);
                Cow::Owned(out)
            }
        }
    }
}

impl<'a> JsValue<'a> {
    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&JsObject<'a>> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The string as WTF-8, if it is one.
    pub fn as_string(&self) -> Option<&[u8]> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A number that is a whole count, exact in a double: 0 to 2^53.
    pub fn as_count(&self) -> Option<u64> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match *self {
            Self::Number(n) if (0.0..=EXACT).contains(&n) && n.fract() == 0.0 => Some(n as u64),
            _ => None,
        }
    }
}
