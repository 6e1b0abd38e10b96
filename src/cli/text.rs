//! Names and messages come from strangers: nothing in them may command the terminal, add a line or turn text around.

use std::borrow::Cow;

use serde::Serialize;

/// Characters that a terminal obeys instead of showing them, and those that reorder what stands around them.
fn is_command(c: char) -> bool {
    let reorders =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || reorders
}

/// Text as one line that a terminal only shows; what commands it is written as `\n` or `\u{1b}`.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_command) {
        return text.into();
    }
    let escape = |c: char| if is_command(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// As [`printable`] for names that need not be UTF-8. Bytes that are no text stay, but for those that some terminals take
/// for control characters.
pub(super) fn printable_bytes(name: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        shown.extend_from_slice(printable(chunk.valid()).as_bytes());
        for byte in chunk.invalid() {
            match byte {
                0x80..=0x9f => shown.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                _ => shown.push(*byte),
            }
        }
    }
    shown
}

/// JSON that a terminal only shows and that means the same: JSON itself escapes a part of these characters only.
pub(super) fn printable_json(json: &str) -> Cow<'_, str> {
    // Other control characters are between the values, where they lay the text out.
    let hidden = |c: char| is_command(c) && c >= '\u{7f}';
    if !json.contains(hidden) {
        return json.into();
    }
    let escape = |c: char| if hidden(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    json.chars().map(escape).collect()
}

/// A value as one line of JSON, with its end.
pub(super) fn json_line(value: &impl Serialize) -> String {
    // What is made of texts and numbers can always be written.
    let json = serde_json::to_string(value).unwrap_or_default();
    format!("{}\n", printable_json(&json))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each kind of character that is no letter: escape, line end, DEL, the one-byte CSI, right-to-left override, isolate.
    const HOSTILE: &str = "a\u{1b}[2J\n\u{7f}\u{9b}x\u{202e}y\u{2067}z\u{2028}";

    #[test]
    fn what_commands_a_terminal_is_written_out() {
        assert_eq!(printable(HOSTILE), r"a\u{1b}[2J\n\u{7f}\u{9b}x\u{202e}y\u{2067}z\u{2028}");
        assert_eq!(printable("Größe 体積 \u{1f600} \\"), "Größe 体積 \u{1f600} \\", "letters stay");
    }

    #[test]
    fn bytes_that_are_no_text_stay_unless_a_terminal_obeys_them() {
        assert_eq!(printable_bytes(b"caf\xe9\n\xc3\xa9"), b"caf\xe9\\n\xc3\xa9");
        assert_eq!(printable_bytes(b"\x9b2J\xff"), b"\\x9b2J\xff");
        assert_eq!(printable_bytes(HOSTILE.as_bytes()), printable(HOSTILE).as_bytes());
    }

    #[test]
    fn json_is_escaped_without_changing_what_it_says() {
        let value = serde_json::json!({"name": HOSTILE});
        let line = json_line(&value);
        assert!(line.trim_end().chars().all(|c| !is_command(c)), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);
        let layout = "{\n    \"a\": 1\n}\n";
        assert_eq!(printable_json(layout), layout);
    }
}
