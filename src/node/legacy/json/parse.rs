//! `JSON.parse`, bounded: depth, number of values, and no more memory than the text in hand could fill.

use std::borrow::Cow;

use super::{JsObject, JsValue};
use crate::limits;

/// Why a text is no JSON, or none that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("not JSON at byte {0}")]
    Syntax(usize),
    /// Not UTF-8.
    #[error("not UTF-8 at byte {0}")]
    Utf8(usize),
    /// Nested too deeply.
    #[error("nested deeper than {}", limits::JSON_MAX_DEPTH)]
    TooDeep,
    /// Too many values.
    #[error("more than {} values", limits::JSON_MAX_VALUES)]
    TooManyValues,
}

/// Parses one JSON text, as `JSON.parse` would, strings borrowed from it where they have no escapes.
pub fn parse(text: &[u8]) -> Result<JsValue<'_>, JsonError> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(JsonError::Utf8(error.valid_up_to()));
    }
    let mut parser = Parser { text, at: 0, values: 0, canonical: true };
    parser.skip_space();
    let value = parser.value(0)?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.syntax()),
    }
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// Values seen so far, for the bound.
    values: usize,
    /// Whether everything since it was last set is exactly what `JSON.stringify` would print.
    canonical: bool,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }

    /// From `start` to here. Both are positions that were reached, so the range exists.
    fn since(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
            self.canonical = false;
        }
    }

    fn value(&mut self, depth: usize) -> Result<JsValue<'a>, JsonError> {
        self.values += 1;
        if self.values > limits::JSON_MAX_VALUES {
            return Err(JsonError::TooManyValues);
        }
        match self.peek() {
            Some(b'{') => self.object(depth).map(|object| JsValue::Object(Box::new(object))),
            Some(b'[') => self.array(depth).map(JsValue::Array),
            Some(b'"') => self.string().map(JsValue::String),
            Some(b't') => self.word(b"true", JsValue::Bool(true)),
            Some(b'f') => self.word(b"false", JsValue::Bool(false)),
            Some(b'n') => self.word(b"null", JsValue::Null),
            _ => self.number().map(JsValue::Number),
        }
    }

    fn word(&mut self, word: &[u8], value: JsValue<'a>) -> Result<JsValue<'a>, JsonError> {
        match self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            true => {
                self.at += word.len();
                Ok(value)
            }
            false => Err(self.syntax()),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<JsValue<'a>>, JsonError> {
        if depth >= limits::JSON_MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.expect(b'[')?;
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(items);
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                _ => break,
            }
        }
        self.expect(b']')?;
        Ok(items)
    }

    fn object(&mut self, depth: usize) -> Result<JsObject<'a>, JsonError> {
        if depth >= limits::JSON_MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        let outside = std::mem::replace(&mut self.canonical, true);
        let start = self.at;
        self.expect(b'{')?;
        let mut entries = Vec::new();
        self.skip_space();
        if self.peek() != Some(b'}') {
            loop {
                self.skip_space();
                let key = self.string()?;
                self.skip_space();
                self.expect(b':')?;
                self.skip_space();
                entries.push((key, self.value(depth + 1)?));
                self.skip_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    _ => break,
                }
            }
        }
        self.expect(b'}')?;
        let reordered = order_as_javascript(&mut entries);
        let source = (self.canonical && !reordered).then(|| self.since(start));
        self.canonical = outside && source.is_some();
        Ok(JsObject { entries, source })
    }

    /// A string literal; borrowed unless it has escapes.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        self.skip_plain();
        let plain = self.since(start);
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = plain.to_vec();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => self.escape(&mut out)?,
                _ => return Err(self.syntax()),
            }
            let from = self.at;
            self.skip_plain();
            out.extend_from_slice(self.since(from));
        }
    }

    /// Moves to the next quote, backslash or control character. Long strings (file data) are looked at in blocks
    /// without a branch per byte, which the compiler turns into vector instructions.
    fn skip_plain(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let (blocks, _) = rest.as_chunks::<64>();
        let clean = blocks.iter().take_while(|block| is_plain(block)).count() * 64;
        let tail = rest.get(clean..).unwrap_or_default();
        self.at += clean + tail.iter().position(|b| special(*b)).unwrap_or(tail.len());
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let start = self.at;
        self.at += 1;
        let short = match self.peek().ok_or(self.syntax())? {
            b'"' => b'"',
            b'\\' => b'\\',
            b'/' => b'/',
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.at += 1;
                let unit = self.hex4()?;
                self.unicode(unit, out)?;
                // Only control characters without a short form stay escaped, in lower case.
                self.canonical &= is_canonical_escape(unit, self.since(start));
                return Ok(());
            }
            _ => return Err(self.syntax()),
        };
        self.at += 1;
        self.canonical &= short != b'/';
        out.push(short);
        Ok(())
    }

    /// The character of a `\u` escape: a pair of surrogates is one character, a lone one stays lone (WTF-8).
    fn unicode(&mut self, unit: u16, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let mut code = u32::from(unit);
        if (0xd800..0xdc00).contains(&unit) && self.text.get(self.at..).is_some_and(|r| r.starts_with(b"\\u"))
        {
            let second = self.at;
            self.at += 2;
            let low = self.hex4()?;
            match (0xdc00..0xe000).contains(&low) {
                true => code = 0x10000 + ((code - 0xd800) << 10) + (u32::from(low) - 0xdc00),
                false => self.at = second,
            }
        }
        match char::from_u32(code) {
            Some(character) => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            None => {
                out.extend_from_slice(&[0xed, 0x80 | (code >> 6 & 0x3f) as u8, 0x80 | (code & 0x3f) as u8])
            }
        }
        Ok(())
    }

    fn hex4(&mut self) -> Result<u16, JsonError> {
        let mut value = 0u16;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16)).ok_or(self.syntax())?;
            // Four hexadecimal digits fill 16 bits exactly.
            value = value << 4 | digit as u16;
            self.at += 1;
        }
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(self.syntax()),
        }
    }

    fn number(&mut self) -> Result<f64, JsonError> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let mut integer = !negative;
        if self.peek() == Some(b'.') {
            integer = false;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.since(start);
        // Up to 15 digits are exact in a double and print as they are; everything else is printed anew.
        self.canonical &= integer && text.len() <= 15;
        // The grammar of JSON numbers is within that of Rust's floats; the mapping error is unreachable but harmless.
        let parsed = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
        parsed.ok_or(JsonError::Syntax(start))
    }
}

/// What ends the plain part of a string. (Non-ASCII is plain: the whole text is checked as UTF-8 before.)
fn special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// Whether nothing in the block is special: bytes are counted, not searched, since counting has no branches.
fn is_plain(block: &[u8; 64]) -> bool {
    block.iter().fold(0, |found, byte| found | u8::from(special(*byte))) == 0
}

/// Whether `JSON.stringify` would write this escape, as written, for this UTF-16 unit.
fn is_canonical_escape(unit: u16, written: &[u8]) -> bool {
    let control_without_short_form = unit < 0x20 && !matches!(unit, 8 | 9 | 10 | 12 | 13);
    control_without_short_form && !written.iter().any(u8::is_ascii_uppercase)
}

/// A canonical array index below 2^32 - 1: such keys come first, in ascending order.
fn array_index(key: &[u8]) -> Option<u32> {
    if key.is_empty() || key.len() > 10 || (key.len() > 1 && key.first() == Some(&b'0')) {
        return None;
    }
    let value =
        key.iter().try_fold(0u64, |value, b| b.is_ascii_digit().then(|| value * 10 + u64::from(b - b'0')))?;
    u32::try_from(value).ok().filter(|index| *index != u32::MAX)
}

/// Brings the entries into JavaScript's order and drops all but the last of each key; whether anything changed.
fn order_as_javascript(entries: &mut Vec<(Cow<'_, [u8]>, JsValue<'_>)>) -> bool {
    let has_index = entries.iter().any(|(key, _)| array_index(key).is_some());
    let duplicates = drop_duplicates(entries);
    if has_index {
        entries.sort_by_cached_key(|(key, _)| array_index(key).map_or(u64::MAX, u64::from));
    }
    duplicates || has_index
}

/// Keeps of each key the first position with the last value. Sorting positions by key keeps this quick for hostile
/// objects with many keys.
fn drop_duplicates(entries: &mut Vec<(Cow<'_, [u8]>, JsValue<'_>)>) -> bool {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    let key = |at: &usize| entries.get(*at).map(|(key, _)| key.as_ref());
    order.sort_by(|a, b| key(a).cmp(&key(b)).then(a.cmp(b)));
    let mut first_and_last = Vec::new();
    let mut dropped = Vec::new();
    for same in order.chunk_by(|a, b| key(a) == key(b)).filter(|same| same.len() > 1) {
        if let [first, rest @ .., last] = same {
            first_and_last.push((*first, *last));
            dropped.extend_from_slice(rest);
            dropped.push(*last);
        }
    }
    if dropped.is_empty() {
        return false;
    }
    for (first, last) in first_and_last {
        let value = entries.get_mut(last).map(|(_, value)| std::mem::replace(value, JsValue::Null));
        if let (Some(value), Some(entry)) = (value, entries.get_mut(first)) {
            entry.1 = value;
        }
    }
    dropped.sort_unstable();
    let mut at = 0;
    entries.retain(|_| {
        at += 1;
        dropped.binary_search(&(at - 1)).is_err()
    });
    true
}
