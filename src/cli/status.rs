//! `status`, `node-info`, `version`.

use std::borrow::Cow;
use std::fmt::Write as _;

use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::channels;
use super::failure::Failure;
use super::settings::Settings;
use super::text::printable;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The node's ID in both spellings, and where its daemon runs.
pub(super) async fn node_info(settings: &Settings) -> Result<(), Failure> {
    let info = settings.daemon().get("/api/v1/node-info").await?;
    settings.output.result(&identity(&info), info)
}

/// What the daemon is doing.
pub(super) async fn status(settings: &Settings) -> Result<(), Failure> {
    let status = settings.daemon().get("/api/v1/status").await?;
    settings.output.result(&activity(&status), status)
}

/// As the original words it.
pub(super) fn version(settings: &Settings) -> Result<(), Failure> {
    settings.output.result(&format!("This is kachery_p2p version {VERSION}\n"), json!({"version": VERSION}))
}

fn identity(info: &Value) -> String {
    format!(
        "node ID: {}\nnode ID as 0.1.6 and 0.2.1 write it: {}\ndaemon: version {}, process {}, API http://127.0.0.1:{}\n\
         config folder: {}\nstorage folder: {}\n",
        text(info, "node_id"),
        text(info, "node_id_spki"),
        text(info, "version"),
        number(info, "pid"),
        number(info, "api_port"),
        text(info, "config_dir"),
        text(info, "storage_dir"),
    )
}

fn activity(status: &Value) -> String {
    let mut page = identity(status);
    let _ = write!(page, "\nchannels:\n{}", or_none(&channels::lines(status)));
    let swarms = rows(status, "swarms", |swarm| {
        format!(
            "{} ({}): port {}, {} connections, {} DHT nodes",
            text(swarm, "purpose"),
            text(swarm, "protocol"),
            number(swarm, "port"),
            number(swarm, "connections"),
            number(swarm, "dht_nodes"),
        )
    });
    let _ = write!(page, "\nswarms:\n{}", or_none(&swarms));
    let downloads = rows(status, "downloads", |download| {
        let (bytes, size) = (number(download, "bytes"), number(download, "size"));
        format!("{}: {} of {}", text(download, "sha1"), BinaryBytes(bytes), BinaryBytes(size))
    });
    let _ = write!(page, "\ndownloads:\n{}", or_none(&downloads));
    let (served, loaded) = (number(status, "bytes_served"), number(status, "bytes_downloaded"));
    let _ = writeln!(
        page,
        "\nserved {}, downloaded {} since the start",
        BinaryBytes(served),
        BinaryBytes(loaded)
    );
    page
}

fn rows(status: &Value, field: &str, row: impl Fn(&Value) -> String) -> String {
    let values = status.get(field).and_then(Value::as_array);
    values.into_iter().flatten().map(|value| row(value) + "\n").collect()
}

fn or_none(lines: &str) -> String {
    if lines.is_empty() {
        "  none\n".into()
    } else {
        lines.lines().map(|line| format!("  {line}\n")).collect()
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Cow<'a, str> {
    printable(value.get(field).and_then(Value::as_str).unwrap_or_default())
}

fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_page_shows_what_is_there_and_says_none_otherwise() {
        let page = activity(&json!({"node_id": "ab", "channels": [{"name": "c", "peers": 1}], "swarms": [],
            "downloads": [{"sha1": "cd", "bytes": 1024, "size": 4096}], "bytes_served": 2048}));
        for part in [
            "node ID: ab\n",
            "channels:\n  c: 1 peer\n",
            "swarms:\n  none\n",
            "  cd: 1.00 KiB of 4.00 KiB\n",
            "served 2.00 KiB, downloaded 0 B since the start\n",
        ] {
            assert!(page.contains(part), "{part:?} is not in:\n{page}");
        }
    }
}
