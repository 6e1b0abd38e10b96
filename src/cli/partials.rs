//! `partials`: the unfinished downloads of the store.

use std::time::Duration;

use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::failure::Failure;
use super::load::blocking;
use super::settings::Settings;
use super::stored;
use crate::store::PartialFile;

const DAY: u64 = 24 * 3600;

/// Lists those to which nothing was written for `older_than`, or removes them if they are not being downloaded.
pub(super) async fn partials(
    settings: &Settings,
    remove: bool,
    older_than: Option<Duration>,
) -> Result<(), Failure> {
    let older_than = older_than.unwrap_or_default();
    let files = match stored::may_have_files(settings.storage_dir.as_deref()) {
        true => {
            let store = settings.store()?;
            blocking(move || match remove {
                true => Ok(store.remove_partials(older_than)?),
                false => Ok(store.partials()?),
            })
            .await?
        }
        false => Vec::new(),
    };
    let files: Vec<_> = files.into_iter().filter(|file| remove || age(file) >= older_than).collect();
    let (what, done) = if remove { ("removed", "removed ") } else { ("partials", "") };
    if files.is_empty() {
        settings.output.note(if remove { "nothing to remove" } else { "no unfinished downloads" });
    }
    let text: String = files.iter().map(|file| format!("{done}{}\n", line(file))).collect();
    settings.output.result(&text, json!({what: files.iter().map(value).collect::<Vec<_>>()}))
}

fn age(file: &PartialFile) -> Duration {
    file.changed.elapsed().unwrap_or_default()
}

fn line(file: &PartialFile) -> String {
    let days = age(file).as_secs() / DAY;
    let since = match days {
        0 => "today".to_owned(),
        1 => "1 day ago".to_owned(),
        days => format!("{days} days ago"),
    };
    let in_use = if file.in_use { ", being downloaded now" } else { "" };
    let (on_disk, size) = (BinaryBytes(file.on_disk), BinaryBytes(file.size));
    format!("sha1://{}: {on_disk} on disk, {size} when complete, last written {since}{in_use}", file.sha1)
}

fn value(file: &PartialFile) -> Value {
    json!({
        "sha1": file.sha1.to_string(),
        "size": file.size,
        "on_disk": file.on_disk,
        "age_seconds": age(file).as_secs(),
        "in_use": file.in_use,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn a_line_says_what_it_takes_and_how_old_it_is() {
        let file = PartialFile {
            sha1: "8843d7f92416211de9ebb963ff4ce28125932878".parse().unwrap(),
            size: 96 << 20,
            on_disk: 61 << 20,
            changed: SystemTime::now() - Duration::from_secs(3 * DAY + 5),
            in_use: true,
        };
        let expected = "sha1://8843d7f92416211de9ebb963ff4ce28125932878: 61.00 MiB on disk, 96.00 MiB when complete, \
                        last written 3 days ago, being downloaded now";
        assert_eq!(line(&file), expected);
        let today = PartialFile { changed: SystemTime::now(), in_use: false, ..file };
        assert!(line(&today).ends_with("last written today"));
    }
}
