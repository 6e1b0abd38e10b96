//! Reading a manifest entry by entry: of the text nothing is kept but names, sizes and hashes.

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Manifest, ManifestError, ManifestFile};
use crate::limits::{MAX_MANIFEST_DEPTH, MAX_MANIFEST_NAMES};
use crate::store::{Algorithm, ContentHash};

/// Bytes of what a manifest says about one file; a hash and a size take less than 100. A longer one gives no hash.
const MAX_ENTRY: usize = 4096;

pub(super) fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
    let reading = Reading::default();
    let mut json = serde_json::Deserializer::from_slice(text);
    let read = Folder { reading: &reading, depth: 0 }.deserialize(&mut json);
    match read.and_then(|manifest| json.end().map(|()| manifest)) {
        Ok(manifest) => Ok(manifest),
        Err(_) if reading.too_deep.get() => Err(ManifestError::TooDeep),
        Err(_) if reading.names.get() > MAX_MANIFEST_NAMES => Err(ManifestError::TooManyNames),
        Err(error) => Err(ManifestError::Malformed(error.to_string())),
    }
}

/// What is counted over the whole manifest.
#[derive(Default)]
struct Reading {
    names: Cell<usize>,
    too_deep: Cell<bool>,
}

/// Takes one folder.
#[derive(Clone, Copy)]
struct Folder<'a> {
    reading: &'a Reading,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Folder<'_> {
    type Value = Manifest;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Manifest, D::Error> {
        if self.depth > MAX_MANIFEST_DEPTH {
            self.reading.too_deep.set(true);
            return Err(D::Error::custom("too deep"));
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Folder<'_> {
    type Value = Manifest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the fields files and dirs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Manifest, A::Error> {
        let (mut files, mut dirs) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let names = &self.reading.names;
            match key.as_str() {
                "files" => files = Some(map.next_value_seed(Names { names, field: "files", entry: File })?),
                "dirs" => {
                    let entry = Folder { depth: self.depth + 1, ..self };
                    dirs = Some(map.next_value_seed(Names { names, field: "dirs", entry })?);
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let files = files.ok_or_else(|| A::Error::missing_field("files"))?;
        let dirs = dirs.ok_or_else(|| A::Error::missing_field("dirs"))?;
        Ok(Manifest { files, dirs })
    }
}

/// Takes the entries of one field, with their names.
struct Names<'a, S> {
    names: &'a Cell<usize>,
    field: &'static str,
    entry: S,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Names<'_, S> {
    type Value = Vec<(OsString, S::Value)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for Names<'_, S> {
    type Value = Vec<(OsString, S::Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object in the field {}", self.field)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            self.names.set(self.names.get() + 1);
            if self.names.get() > MAX_MANIFEST_NAMES {
                return Err(A::Error::custom("too many names"));
            }
            if entries.len() == entries.capacity() {
                // Doubling would need more than three times the text while it copies.
                entries.reserve_exact(entries.len() / 8 + 4);
            }
            entries.push((OsString::from(name), map.next_value_seed(self.entry)?));
        }
        Ok(last_of_each_name(entries))
    }
}

/// Of entries with one name the last counts, in the place of the first, as in Python.
fn last_of_each_name<T>(mut entries: Vec<(OsString, T)>) -> Vec<(OsString, T)> {
    let mut order: Vec<(&OsString, usize)> = entries.iter().map(|(name, _)| name).zip(0..).collect();
    order.sort_unstable();
    let repeated = order.windows(2).filter_map(|pair| match pair {
        [(name, first), (again, second)] if name == again => Some((*first, *second)),
        _ => None,
    });
    // From the back: a third one goes to the second and from there to the first.
    let mut repeated: Vec<(usize, usize)> = repeated.collect();
    repeated.sort_unstable_by_key(|(_, second)| *second);
    for (first, second) in repeated.iter().rev() {
        entries.swap(*first, *second);
    }
    let mut gone = repeated.iter().map(|(_, second)| *second).peekable();
    let mut place = 0..;
    entries.retain(|_| place.next().is_some_and(|place| gone.next_if_eq(&place).is_none()));
    entries
}

/// Takes what is said about one file.
#[derive(Clone, Copy)]
struct File;

impl<'de> DeserializeSeed<'de> for File {
    type Value = ManifestFile;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ManifestFile, D::Error> {
        let text = <&RawValue as serde::Deserialize>::deserialize(deserializer)?.get();
        let entry = (text.len() <= MAX_ENTRY).then(|| serde_json::from_str(text)).transpose();
        Ok(file(&entry.map_err(D::Error::custom)?.unwrap_or_default()))
    }
}

/// MD5 wins if both are there, as in the original.
fn file(entry: &Value) -> ManifestFile {
    let text = |algorithm: Algorithm| Some((algorithm, entry.get(algorithm.name())?.as_str()?));
    let hash = text(Algorithm::Md5).or_else(|| text(Algorithm::Sha1));
    ManifestFile {
        size: entry.get("size").and_then(Value::as_u64),
        hash: hash.and_then(|(algorithm, text)| ContentHash::parse(algorithm, text)),
    }
}
