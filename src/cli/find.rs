//! `find`: who has a file.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::failure::Failure;
use super::load::blocking;
use super::output::write_stdout;
use super::settings::{Settings, parse_uri};
use super::stored;
use super::text::printable_json;
use crate::api::client::ClientError;
use crate::api::wire::{Asked, Code, FindLine, Problem, Provider};
use crate::limits;
use crate::node::LoadError;
use crate::store::Sha1;

/// As in the original.
const SEARCH: Duration = Duration::from_secs(4);
/// A daemon that is this late with the end of a search hangs.
const DAEMON_DELAY: Duration = Duration::from_secs(10);

/// Prints each find at once, as the original does: one JSON object, indented by 4.
pub(super) async fn find(settings: &Settings, uri: &str) -> Result<(), Failure> {
    let name = parse_uri(uri)?;
    let timeout = settings.timeout.unwrap_or(SEARCH).min(limits::MAX_API_FIND_TIMEOUT);
    let request = json!({"sha1": name.sha1.to_string(), "timeout_ms": timeout.as_millis() as u64});
    let mut answer = settings.daemon().open("/api/v1/find", &request, timeout + DAEMON_DELAY).await?;
    while let Some(line) = answer.next_line().await? {
        match &line {
            FindLine::Found { provider, .. } if !settings.output.json => write_stdout(&indented(provider))?,
            FindLine::Result { found, asked } => match nobody(*found, *asked, timeout) {
                Some(problem) => {
                    let failure = Failure::from_api(problem, uri);
                    return Err(if is_here(settings, name.sha1).await { had(failure, uri) } else { failure });
                }
                None => return settings.output.result("", json!(line)),
            },
            FindLine::Searching(_) | FindLine::Found { .. } if settings.output.json => {
                settings.output.line(&line)?;
            }
            FindLine::Searching(_) | FindLine::Found { .. } | FindLine::Unknown => {}
        }
    }
    Err(ClientError::Unexpected("the search ended without a result".into()).into())
}

/// True if the file is in the store of this machine, as far as that can be told.
async fn is_here(settings: &Settings, sha1: Sha1) -> bool {
    if !stored::may_have_files(settings.storage_dir.as_deref()) {
        return false;
    }
    let Ok(store) = settings.store() else { return false };
    blocking(move || Ok(store.find(sha1)?.is_some())).await.unwrap_or(false)
}

/// Nobody else has a file that is here.
fn had(mut failure: Failure, uri: &str) -> Failure {
    failure.what = format!("{}; it is in the store of this machine", failure.what);
    failure.likely = None;
    failure.next(format!("kachery-p2p load {uri}   (needs nobody else)"))
}

/// Nothing found is a failure that says why.
fn nobody(found: u64, asked: Asked, within: Duration) -> Option<Problem> {
    Some(match (found, asked) {
        (1.., _) => return None,
        (0, Asked { channels: 0, .. }) => Problem::new(
            Code::NoChannel,
            "this daemon has joined no channel: join the one your colleague uses",
        ),
        (0, Asked { peers: 0, .. }) => {
            Problem::new(Code::NoPeers, "no peer is connected in any joined channel: nobody could be asked")
        }
        (0, Asked { peers, .. }) => (&LoadError::NotFound { asked: peers, within }).into(),
    })
}

/// As the original prints it.
fn indented(provider: &Provider) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    // What is made of texts and numbers can always be written.
    let _ = provider.serialize(&mut serializer);
    text.push(b'\n');
    printable_json(&String::from_utf8_lossy(&text)).into_owned().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{FileInfo, FileKey};

    #[test]
    fn a_find_is_printed_with_the_originals_fields_and_indent() {
        let provider = Provider {
            primary_node_id: "ab".into(),
            swarm_name: "ab".into(),
            file_key: FileKey { sha1: "cd".into() },
            file_info: FileInfo { size: 5, sha1: "cd".into() },
        };
        let expected = "{\n    \"primaryNodeId\": \"ab\",\n    \"swarmName\": \"ab\",\n    \"fileKey\": {\n        \
            \"sha1\": \"cd\"\n    },\n    \"fileInfo\": {\n        \"size\": 5,\n        \"sha1\": \"cd\"\n    }\n}\n";
        assert_eq!(String::from_utf8(indented(&provider)).unwrap(), expected);
    }

    #[test]
    fn nothing_found_is_exit_code_3_and_says_why() {
        assert_eq!(nobody(1, Asked { channels: 1, peers: 1 }, SEARCH), None);
        for (channels, peers, code) in
            [(0, 0, Code::NoChannel), (1, 0, Code::NoPeers), (1, 2, Code::NotFound)]
        {
            let failure = Failure::from_api(nobody(0, Asked { channels, peers }, SEARCH).unwrap(), "u");
            assert_eq!((failure.exit as u8, failure.code), (3, code));
        }
    }
}
