//! `JSON.stringify`, and the ASCII form for the wire.

use super::{JsObject, JsValue};

/// Appends what `JSON.stringify` prints.
pub fn write_value(value: &JsValue<'_>, out: &mut Vec<u8>) {
    match value {
        JsValue::Null => out.extend_from_slice(b"null"),
        JsValue::Bool(true) => out.extend_from_slice(b"true"),
        JsValue::Bool(false) => out.extend_from_slice(b"false"),
        JsValue::Number(number) => write_number(*number, out),
        JsValue::String(text) => write_string(text, out),
        JsValue::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_value(item, out);
            }
            out.push(b']');
        }
        JsValue::Object(object) => write_object(object, out),
    }
}

pub(super) fn write_object(object: &JsObject<'_>, out: &mut Vec<u8>) {
    if let Some(source) = object.source {
        return out.extend_from_slice(source);
    }
    out.push(b'{');
    for (at, (key, value)) in object.entries.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_string(key, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

/// Appends a number as JavaScript prints it; what is not finite is `null`.
fn write_number(number: f64, out: &mut Vec<u8>) {
    if !number.is_finite() {
        return out.extend_from_slice(b"null");
    }
    let mut buffer = ryu_js::Buffer::new();
    out.extend_from_slice(buffer.format_finite(number).as_bytes());
}

/// Appends a string (WTF-8) with quotes and JavaScript's escapes: quote, backslash, controls, lone surrogates.
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while !rest.is_empty() {
        let plain =
            rest.iter().position(|b| *b < 0x20 || matches!(*b, b'"' | b'\\' | 0xed)).unwrap_or(rest.len());
        let (clean, after) = rest.split_at(plain);
        out.extend_from_slice(clean);
        rest = match after {
            [0xed, second @ 0xa0..=0xbf, third, after @ ..] => {
                write_unit(0xd000 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f), out);
                after
            }
            [byte, after @ ..] => {
                write_escaped(*byte, out);
                after
            }
            [] => after,
        };
    }
    out.push(b'"');
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        8 => out.extend_from_slice(b"\\b"),
        9 => out.extend_from_slice(b"\\t"),
        10 => out.extend_from_slice(b"\\n"),
        12 => out.extend_from_slice(b"\\f"),
        13 => out.extend_from_slice(b"\\r"),
        0..0x20 => write_unit(u16::from(byte), out),
        // 0xed that begins an ordinary character (U+D000 to U+D7FF).
        _ => out.push(byte),
    }
}

/// Appends `\uxxxx` in lower case.
fn write_unit(unit: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u");
    let mut hex = [0u8; 4];
    data_encoding::HEXLOWER.encode_mut(&unit.to_be_bytes(), &mut hex);
    out.extend_from_slice(&hex);
}

/// The same JSON text in pure ASCII: every other character as `\uxxxx` (surrogate pairs beyond U+FFFF).
///
/// The original reader counts a frame in bytes but cuts it in UTF-16 units, so anything else on the wire makes it
/// lose messages. Outside strings canonical JSON is ASCII, so the text can be rewritten without parsing it.
/// Signatures are over the value and do not change.
pub fn escape_non_ascii(text: Vec<u8>) -> Vec<u8> {
    if text.is_ascii() {
        return text;
    }
    let mut out = Vec::with_capacity(text.len() + 64);
    for character in String::from_utf8_lossy(&text).chars() {
        match character.is_ascii() {
            // The check above makes this one byte.
            true => out.push(character as u8),
            false => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| write_unit(*unit, &mut out)),
        }
    }
    out
}
