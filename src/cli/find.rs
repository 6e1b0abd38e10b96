//! `find`: who has a file.

use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::failure::Failure;
use super::output::write_stdout;
use super::settings::{Settings, parse_uri};
use crate::api::client::ClientError;

/// As in the original.
const SEARCH: Duration = Duration::from_secs(4);

/// Prints each find at once, as the original does: one JSON object, indented by 4.
pub(super) async fn find(settings: &Settings, uri: &str) -> Result<(), Failure> {
    let name = parse_uri(uri)?;
    let timeout = settings.timeout.unwrap_or(SEARCH).as_millis() as u64;
    let request = json!({"sha1": name.sha1.to_string(), "timeout_ms": timeout});
    let mut answer = settings.daemon().open("/api/v1/find", &request).await?;
    while let Some(line) = answer.next_line().await? {
        let kind = line.get("type").and_then(Value::as_str);
        if kind == Some("found") && !settings.output.json {
            write_stdout(&indented(&line))?;
        }
        if settings.output.json && kind != Some("result") {
            settings.output.line(&line)?;
        }
        if kind == Some("result") {
            let count = |field: &str| line.get(field).and_then(Value::as_u64).unwrap_or_default();
            if let Some(failure) = verdict(count("found"), count("channels"), count("peers"), uri) {
                return Err(failure);
            }
            return settings.output.result("", line);
        }
    }
    Err(ClientError::Unexpected("the search ended without a result".into()).into())
}

/// Nothing found is a failure that says why.
fn verdict(found: u64, channels: u64, peers: u64, uri: &str) -> Option<Failure> {
    let (code, message) = match (found, channels, peers) {
        (1.., _, _) => return None,
        (0, 0, _) => {
            ("no_channel", "this daemon has joined no channel: join the one your colleague uses".to_owned())
        }
        (0, _, 0) => ("no_peers", "no peer is connected in any joined channel: nobody could be asked".into()),
        (0, _, asked) => ("not_found", format!("none of the {asked} connected peers has it")),
    };
    Some(Failure::from_api(code, &message, uri))
}

/// The fields of the original only, in its order.
fn indented(line: &Value) -> Vec<u8> {
    let fields = ["primaryNodeId", "swarmName", "fileKey", "fileInfo"];
    let find: Map<String, Value> =
        fields.iter().filter_map(|field| Some(((*field).to_owned(), line.get(*field)?.clone()))).collect();
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    // Values that came from JSON can be written as JSON.
    let _ = find.serialize(&mut serializer);
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_find_is_printed_with_the_originals_fields_and_indent() {
        let line = json!({"type": "found", "primaryNodeId": "ab", "swarmName": "ab", "fileKey": {"sha1": "cd"},
            "fileInfo": {"size": 5, "sha1": "cd"}, "channel": "x"});
        let expected = "{\n    \"primaryNodeId\": \"ab\",\n    \"swarmName\": \"ab\",\n    \"fileKey\": {\n        \
            \"sha1\": \"cd\"\n    },\n    \"fileInfo\": {\n        \"size\": 5,\n        \"sha1\": \"cd\"\n    }\n}\n";
        assert_eq!(String::from_utf8(indented(&line)).unwrap(), expected);
    }

    #[test]
    fn nothing_found_is_exit_code_3_and_says_why() {
        assert_eq!(verdict(1, 1, 1, "u"), None);
        let codes: Vec<(u8, String)> = [(0, 0), (1, 0), (1, 2)]
            .into_iter()
            .map(|(channels, peers)| verdict(0, channels, peers, "u").unwrap())
            .map(|failure| (failure.exit as u8, failure.code))
            .collect();
        let expected = ["no_channel", "no_peers", "not_found"].map(|code| (3, code.to_owned()));
        assert_eq!(codes, expected);
    }
}
