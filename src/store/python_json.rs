//! JSON as Python's `json.dumps` writes it: `, ` and `: `, non-ASCII as `\uXXXX`, floats by `repr`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A float as `repr` writes it: shortest round trip, `.0` on whole numbers, exponents of two digits at least.
pub(super) fn float(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once('e') {
        None => text,
        Some((digits, exponent)) => {
            let (sign, number) = match exponent.strip_prefix('-') {
                Some(number) => ('-', number),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{number:0>2}")
        }
    }
}

/// A string with its quotes. Bytes that are not UTF-8 become lone surrogates, as Python's file names do.
pub(super) fn string(text: &Path) -> String {
    let mut out = String::from("\"");
    for chunk in text.as_os_str().as_bytes().utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_escaped(&mut out, c));
        for byte in chunk.invalid() {
            out.push_str(&format!("\\udc{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        ' '..='~' => out.push(c),
        _ => {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_by_repr() {
        // Made with CPython 3.11's repr.
        let cases: [(f64, &str); 12] = [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (1e-9, "1e-09"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.2345678901234567e16, "1.2345678901234568e+16"),
            (1e100, "1e+100"),
            (1795345534.5575974, "1795345534.5575974"),
            (-0.999999999, "-0.999999999"),
        ];
        for (value, text) in cases {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_by_json_dumps() {
        // Made with json.dumps(os.fsdecode(b'...')).
        let raw = b"a\"\\/\n\r\t\x08\x0c\x01\x7f \xc3\xbc\xf0\x9f\x98\x80\xff";
        let text = r#""a\"\\/\n\r\t\b\f\u0001\u007f \u00fc\ud83d\ude00\udcff""#;
        assert_eq!(string(Path::new(std::ffi::OsStr::from_bytes(raw))), text);
    }
}
