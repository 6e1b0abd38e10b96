//! `get-channels`, `join-channel`, `leave-channel`.

use serde_json::{Value, json};

use super::failure::Failure;
use super::settings::Settings;
use super::text::printable;

/// One line per channel, as the original prints them.
pub(super) async fn list(settings: &Settings) -> Result<(), Failure> {
    let answer = settings.daemon().get("/api/v1/channels").await?;
    if names(&answer).is_empty() {
        settings.output.note("no channel is joined; next: kachery-p2p join-channel NAME");
    }
    settings.output.result(&lines(&answer), answer)
}

/// `how` is `join` or `leave`. Prints nothing on stdout. Leaving another channel is fine, as in the original, but said.
pub(super) async fn change(settings: &Settings, how: &str, name: &str) -> Result<(), Failure> {
    if how == "leave" {
        let answer = settings.daemon().get("/api/v1/channels").await?;
        let joined = names(&answer);
        if !joined.contains(&name) {
            let joined = if joined.is_empty() { "none".to_owned() } else { joined.join(", ") };
            settings.output.note(&format!("{name:?} was not joined; joined are: {joined}"));
        }
    }
    let answer =
        settings.daemon().post(&format!("/api/v1/channels/{how}"), &json!({"channel": name})).await?;
    settings.output.result("", answer)
}

fn names(answer: &Value) -> Vec<&str> {
    let channels = answer.get("channels").and_then(Value::as_array);
    channels.into_iter().flatten().filter_map(|channel| channel.get("name")?.as_str()).collect()
}

/// `NAME: N peers` for each of `channels`.
pub(super) fn lines(answer: &Value) -> String {
    let channels = answer.get("channels").and_then(Value::as_array);
    channels
        .into_iter()
        .flatten()
        .map(|channel| {
            let name = channel.get("name").and_then(Value::as_str).unwrap_or_default();
            let peers = channel.get("peers").and_then(Value::as_u64).unwrap_or_default();
            format!("{}: {peers} {}\n", printable(name), if peers == 1 { "peer" } else { "peers" })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_listed_as_the_original_does() {
        let answer = json!({"channels": [{"name": "a b", "peers": 0}, {"name": "c", "peers": 1}, {"name": "d", "peers": 2}]});
        assert_eq!(lines(&answer), "a b: 0 peers\nc: 1 peer\nd: 2 peers\n");
        assert_eq!(lines(&json!({"channels": []})), "");
    }
}
