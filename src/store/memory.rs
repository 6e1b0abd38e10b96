//! The hash memory shared with Python's kachery: `.record.json` (the hash of a file in a certain state, so that it is
//! not hashed twice) and `.hints.json` (where files with a hash were seen). Only for files of 100000 bytes or more.
//!
//! It is a convenience: whatever cannot be read, locked or written is skipped, and unreadable JSON is deleted, as in
//! the original. What a hint says serves local users only, never peers. What another user wrote, or could have written,
//! is neither believed nor changed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha1::Digest;

use super::disk::{self, During, Folder};
use super::layout;
use super::python_json;
use super::{Algorithm, ContentHash, StoreError};
use crate::limits::MAX_HASH_MEMORY_FILE;

/// Files below this many bytes are always hashed afresh.
pub(super) const SMALL: u64 = 100_000;
/// How long another process may hold a JSON file before we do without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Python's description of the state of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stat {
    path: PathBuf,
    size: u64,
    inode: u64,
    modified: f64,
    changed: f64,
}

/// As CPython computes `st_mtime`.
fn seconds(seconds: i64, nanoseconds: i64) -> f64 {
    seconds as f64 + 1e-9 * nanoseconds as f64
}

impl Stat {
    /// None: not an existing regular file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let path = absolute(path)?;
        let metadata = std::fs::metadata(&path).ok().filter(|m| m.is_file())?;
        Some(Stat {
            path,
            size: metadata.size(),
            inode: metadata.ino(),
            modified: seconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: seconds(metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Equal but for the ctime, which a new hard link changes?
    pub(super) fn same_content(&self, other: &Stat) -> bool {
        Stat { changed: 0.0, ..self.clone() } == Stat { changed: 0.0, ..other.clone() }
    }

    fn texts(&self) -> [(&'static str, String); 5] {
        [
            ("path", python_json::string(&self.path)),
            ("size", self.size.to_string()),
            ("ino", self.inode.to_string()),
            ("mtime", python_json::float(self.modified)),
            ("ctime", python_json::float(self.changed)),
        ]
    }

    fn object(mut texts: [(&'static str, String); 5], sorted: bool) -> String {
        if sorted {
            texts.sort();
        }
        format!("{{{}}}", texts.map(|(key, value)| format!("\"{key}\": {value}")).join(", "))
    }

    /// The hash under which its record is kept.
    fn record_id(&self) -> String {
        data_encoding::HEXLOWER.encode(&sha1::Sha1::digest(Self::object(self.texts(), true)))
    }

    /// What is written about it: `{"stat": {...}, "sha1": "..."}`.
    fn record(&self, hash: ContentHash) -> String {
        let stat = Self::object(self.texts(), false);
        format!("{{\"stat\": {stat}, \"{}\": \"{hash}\"}}", hash.algorithm().name())
    }

    fn equals(&self, stat: &Value) -> bool {
        let number = |key: &str| stat.get(key).and_then(Value::as_f64);
        stat.get("path").and_then(Value::as_str).map(Path::new) == Some(&self.path)
            && stat.get("size").and_then(Value::as_u64) == Some(self.size)
            && stat.get("ino").and_then(Value::as_u64) == Some(self.inode)
            && number("mtime") == Some(self.modified)
            && number("ctime") == Some(self.changed)
    }
}

/// As Python's `os.path.abspath`: `.` and `..` resolved by their text, links kept.
fn absolute(path: &Path) -> Option<PathBuf> {
    use std::path::Component;
    let mut out = PathBuf::new();
    for component in std::path::absolute(path).ok()?.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    Some(out)
}

/// Keeps the lock file open; closing it unlocks.
struct Locked {
    _lock: File,
}

/// Locks `name` the way Python does. None: not within [`PATIENCE`], or not possible.
fn lock(folder: &Folder, name: &str, exclusive: bool) -> Option<Locked> {
    let file = folder.open_or_create_file(&format!("{name}.lock")).ok()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let taken = if exclusive { file.try_lock() } else { file.try_lock_shared() };
        if taken.is_ok() {
            return Some(Locked { _lock: file });
        }
        if Instant::now() >= deadline {
            tracing::warn!(file = %folder.path_of(name).display(), "another program keeps this file locked; going on without it");
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The JSON in `name`, read under the lock. Unreadable JSON is deleted.
fn read_json(folder: &Folder, name: &str) -> Option<Value> {
    // Looked for first: a lock file is not to appear beside what does not exist.
    folder.open_own_file(name).ok()??;
    let locked = lock(folder, name, false)?;
    let file = folder.open_own_file(name).ok()??;
    let mut text = Vec::new();
    file.take(MAX_HASH_MEMORY_FILE + 1).read_to_end(&mut text).ok()?;
    if text.len() as u64 > MAX_HASH_MEMORY_FILE {
        return None;
    }
    match serde_json::from_slice(&text) {
        Ok(value) => Some(value),
        // Names that are not UTF-8 stand in Python's JSON as lone surrogates, which is no damage.
        Err(_) if text.windows(3).any(|w| w == b"\\ud") => None,
        Err(_) => {
            drop(locked);
            let path = folder.path_of(name);
            tracing::warn!(file = %path.display(), "this file is damaged and is deleted; its content is only a memory");
            let _locked = lock(folder, name, true)?;
            folder.remove(name).ok()?;
            None
        }
    }
}

fn write_text(folder: &Folder, name: &str, text: &str) -> Result<(), StoreError> {
    let path = folder.path_of(name);
    let Some(_locked) = lock(folder, name, true) else { return Ok(()) };
    let file = folder.open_or_create_file(name)?;
    if !disk::is_ours(&file.metadata().during("look at", &path)?) {
        return Ok(());
    }
    disk::set_length(&file, &path, 0)?;
    disk::write_at(&file, &path, 0, text.as_bytes())
}

fn hash_of(record: &Value, algorithm: Algorithm) -> Option<ContentHash> {
    ContentHash::parse(algorithm, record.get(algorithm.name())?.as_str()?)
}

fn shard(root: &Folder, algorithm: Algorithm, hash: &str) -> Option<Folder> {
    let [a, b, c] = layout::shards(hash);
    layout::descend(root, &[algorithm.name(), a, b, c]).ok()?
}

/// The hash of a file that was hashed before in the state it is in.
pub(super) fn recall(root: &Folder, stat: &Stat, algorithm: Algorithm) -> Option<ContentHash> {
    let id = stat.record_id();
    let folder = shard(root, algorithm, &id)?;
    let record = read_json(&folder, &format!("{id}.record.json"))?;
    record.get("stat").filter(|s| stat.equals(s)).and_then(|_| hash_of(&record, algorithm))
}

/// Remembers the hash of a file in a state.
pub(super) fn remember(root: &Folder, stat: &Stat, hash: ContentHash) {
    if stat.size >= SMALL
        && let Err(error) = write_both(root, stat, hash)
    {
        tracing::debug!(%error, "the hash of a file could not be remembered");
    }
}

fn write_both(root: &Folder, stat: &Stat, hash: ContentHash) -> Result<(), StoreError> {
    let (id, algorithm) = (stat.record_id(), hash.algorithm());
    let [a, b, c] = layout::shards(&id);
    let folder = layout::descend_or_create(root, &[algorithm.name(), a, b, c])?;
    write_text(&folder, &format!("{id}.record.json"), &stat.record(hash))?;
    let folder = layout::content_folder_or_create(root, hash)?;
    let name = format!("{hash}.hints.json");
    let hints = read_json(&folder, &name);
    let old = hints.as_ref().and_then(|h| h.get("files")).and_then(Value::as_array);
    let known = old.is_some_and(|files| files.iter().any(|f| f.get("stat").is_some_and(|s| stat.equals(s))));
    if known {
        return Ok(());
    }
    let mut files: Vec<String> = old.into_iter().flatten().map(to_python).collect();
    files.push(stat.record(hash));
    write_text(&folder, &name, &format!("{{\"files\": [{}]}}", files.join(", ")))
}

/// A parsed value as Python would write it again.
fn to_python(value: &Value) -> String {
    match value {
        Value::String(text) => python_json::string(Path::new(text)),
        Value::Number(n) if n.is_f64() => python_json::float(n.as_f64().unwrap_or_default()),
        Value::Array(items) => format!("[{}]", items.iter().map(to_python).collect::<Vec<_>>().join(", ")),
        Value::Object(items) => {
            let entries =
                items.iter().map(|(k, v)| format!("{}: {}", python_json::string(Path::new(k)), to_python(v)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A file outside the store that had this content when it was last hashed and did not change since.
pub(super) fn find_by_hints(root: &Folder, hash: ContentHash) -> Option<PathBuf> {
    let folder = shard(root, hash.algorithm(), &hash.to_string())?;
    let hints = read_json(&folder, &format!("{hash}.hints.json"))?;
    hints.get("files")?.as_array()?.iter().find_map(|file| {
        let stat = file.get("stat")?;
        let path = Path::new(stat.get("path")?.as_str()?);
        let now = Stat::of(path).filter(|now| now.path == path && now.equals(stat))?;
        (hash_of(file, hash.algorithm())? == hash).then_some(now.path)
    })
}

#[cfg(test)]
mod tests;
