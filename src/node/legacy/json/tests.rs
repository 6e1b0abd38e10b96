//! Against `JSON.stringify(JSON.parse(..))` of Node.js, and hostile texts.
use super::*;
use crate::limits;
use serde_json::Value;

fn canonical(wire: &[u8]) -> Result<Vec<u8>, JsonError> {
    let value = parse(wire)?;
    let mut out = Vec::new();
    write_value(&value, &mut out);
    Ok(out)
}

fn canonical_text(wire: &str) -> String {
    String::from_utf8(canonical(wire.as_bytes()).expect(wire)).unwrap()
}

#[test]
fn re_serialised_texts_are_those_of_the_originals() {
    let file = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/vectors/v2/envelopes.json"));
    let vectors: Value = serde_json::from_str(file).unwrap();
    let cases = vectors["canonical_json"].as_array().unwrap();
    assert!(cases.len() >= 13);
    for case in cases {
        let wire = case["wire"].as_str().unwrap();
        let wanted =
            data_encoding::HEXLOWER.decode(case["resigned_hex"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(canonical(wire.as_bytes()).unwrap(), wanted, "{wire}");
        // What was printed once is printed the same again, now straight from its source.
        assert_eq!(canonical(&wanted).unwrap(), wanted, "{wire}");
    }
}

#[test]
fn a_canonical_text_is_verified_from_its_own_bytes() {
    let long = format!("{{\"a\":\"{}\",\"b\":[1,{{}},null,-1.5]}}", "QUJD".repeat(1000));
    let canonical_source = format!("{{\"a\":\"{}\",\"b\":[1,{{}},null]}}", "QUJD".repeat(1000));
    let value = parse(canonical_source.as_bytes()).unwrap();
    assert!(
        matches!(value.as_object().unwrap().canonical_text(), Cow::Borrowed(text) if text.len() == canonical_source.len())
    );
    // Negative and fractional numbers are printed anew, to the same text.
    assert_eq!(canonical_text(&long), long);
}

#[test]
fn one_difference_anywhere_inside_makes_a_text_uncanonical() {
    for (wire, wanted) in [
        ("{\"a\":{\"b\":[1,2 ]}}", "{\"a\":{\"b\":[1,2]}}"),
        ("{\"a\":{\"b\":[{\"c\":1.0}]},\"d\":{}}", "{\"a\":{\"b\":[{\"c\":1}]},\"d\":{}}"),
        ("{\"a\":{\"1\":2}}", "{\"a\":{\"1\":2}}"),
        ("{\"a\":{\"b\":\"\\u0061\"}}", "{\"a\":{\"b\":\"a\"}}"),
        ("{\"\\u0061\":1}", "{\"a\":1}"),
        ("{\"a\":\"\\u001F\"}", "{\"a\":\"\\u001f\"}"),
        ("{\"a\":\"\\u0009\"}", "{\"a\":\"\\t\"}"),
        ("{\"a\":{\"x\":1,\"x\":2,\"x\":{\"y\":3}},\"b\":0}", "{\"a\":{\"x\":{\"y\":3}},\"b\":0}"),
        ("{\"x\":1,\"y\":2,\"x\":3,\"z\":4,\"y\":5}", "{\"x\":3,\"y\":5,\"z\":4}"),
        (" [ ] ", "[]"),
        ("\"\\uD83D\\uDE00\"", "\"\u{1f600}\""),
        ("\"\\uD83D\\u0041\"", "\"\\ud83dA\""),
        ("\"\\ude00\\ud83d\"", "\"\\ude00\\ud83d\""),
        ("\"\u{d7ff}\u{e000}\"", "\"\u{d7ff}\u{e000}\""),
    ] {
        assert_eq!(canonical_text(wire), wanted, "{wire}");
    }
}

#[test]
fn what_is_no_json_is_an_error() {
    for wire in [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\"}",
        "{\"a\":}",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "1e+",
        "tru",
        "nul",
        "NaN",
        "Infinity",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"a\nb\"",
        "1 2",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "'a'",
        "\u{feff}1",
        "--1",
        "\"\\",
    ] {
        assert!(parse(wire.as_bytes()).is_err(), "{wire:?}");
    }
    assert_eq!(parse(b"\"\xff\""), Err(JsonError::Utf8(1)));
    assert_eq!(parse(b"\"\xed\xa0\x80\""), Err(JsonError::Utf8(1)), "a surrogate is no UTF-8");
}

#[test]
fn nesting_is_allowed_to_its_limit_and_not_beyond() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(nested(limits::JSON_MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(parse(nested(limits::JSON_MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooDeep));
    let objects = |depth: usize| format!("{}{{}}{}", "{\"a\":".repeat(depth - 1), "}".repeat(depth - 1));
    assert!(parse(objects(limits::JSON_MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(parse(objects(limits::JSON_MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooDeep));
    assert_eq!(parse("[".repeat(1 << 20).as_bytes()), Err(JsonError::TooDeep));
}

#[test]
fn the_number_of_values_is_bounded() {
    let list = |values: usize| format!("[{}]", vec!["1"; values - 1].join(","));
    assert!(parse(list(limits::JSON_MAX_VALUES).as_bytes()).is_ok());
    assert_eq!(parse(list(limits::JSON_MAX_VALUES + 1).as_bytes()), Err(JsonError::TooManyValues));
}

#[test]
fn the_ascii_form_means_the_same() {
    let wire = "{\"t\":\"é😀\u{2028}\\ud800\u{7f}\",\"é\":1}";
    let ascii = escape_non_ascii(canonical(wire.as_bytes()).unwrap());
    assert_eq!(
        String::from_utf8(ascii.clone()).unwrap(),
        "{\"t\":\"\\u00e9\\ud83d\\ude00\\u2028\\ud800\u{7f}\",\"\\u00e9\":1}"
    );
    assert_eq!(canonical(&ascii).unwrap(), canonical(wire.as_bytes()).unwrap());
}

#[test]
fn counts_are_whole_numbers_that_a_double_holds() {
    let count = |text: &str| parse(text.as_bytes()).unwrap().as_count();
    assert_eq!(count("0"), Some(0));
    assert_eq!(count("-0"), Some(0));
    assert_eq!(count("1e3"), Some(1000));
    assert_eq!(count("9007199254740992"), Some(1 << 53));
    for text in ["-1", "1.5", "1e400", "1e17", "\"1\"", "null", "[]"] {
        assert_eq!(count(text), None, "{text}");
    }
}
