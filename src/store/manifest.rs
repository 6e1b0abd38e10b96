//! Manifests of folders: `{"files": {name: {"size": n, "sha1": hash}, ...}, "dirs": {name: manifest, ...}}`, as Python's
//! kachery 0.6.3 writes and reads them. They come from strangers: bounded in size and depth, and their names are
//! checked before anything is written to disk.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use super::{Algorithm, ContentHash, python_json};
use crate::limits::{MAX_MANIFEST_BYTES, MAX_MANIFEST_DEPTH};

/// What a manifest says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    /// Bytes, if it says so.
    pub size: Option<u64>,
    /// Its name in the store. None: the manifest gives nothing that can be a hash.
    pub hash: Option<ContentHash>,
}

/// A folder. Names are kept in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Its files.
    pub files: Vec<(OsString, ManifestFile)>,
    /// Its folders.
    pub dirs: Vec<(OsString, Manifest)>,
}

/// What a path inside a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A folder (also when a file has the same name).
    Directory(&'a Manifest),
    /// A file.
    File(ManifestFile),
}

/// Why a text is no manifest, or not one that may be written to disk.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// See [`MAX_MANIFEST_BYTES`].
    #[error("the manifest is larger than {MAX_MANIFEST_BYTES} bytes")]
    TooLarge,
    /// See [`MAX_MANIFEST_DEPTH`].
    #[error("the folders are nested deeper than {MAX_MANIFEST_DEPTH}")]
    TooDeep,
    /// Not JSON of the right shape.
    #[error("not a manifest of a folder: {0}")]
    Malformed(String),
    /// A name that would lead elsewhere, or that no file can have.
    #[error("unsafe name in the manifest: {0:?}")]
    UnsafeName(OsString),
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let value: Value =
            serde_json::from_slice(text).map_err(|e| ManifestError::Malformed(e.to_string()))?;
        from_value(&value, 0)
    }

    /// The text that Python would have written, with the names in the order they are in here.
    pub fn to_text(&self) -> Result<String, ManifestError> {
        let mut out = String::new();
        write(self, 0, &mut out)?;
        if out.len() > MAX_MANIFEST_BYTES { Err(ManifestError::TooLarge) } else { Ok(out) }
    }

    /// What `path`, elements separated by single slashes, names. The empty path and one slash at the end are this folder.
    pub fn look_up(&self, path: &str) -> Option<Found<'_>> {
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Some(Found::Directory(self));
        }
        let (name, rest) = path.split_once('/').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let named = |given: &OsString| given == name;
        let dir = self.dirs.iter().find(|(given, _)| named(given)).map(|(_, dir)| dir);
        match (dir, rest) {
            (Some(dir), None) => Some(Found::Directory(dir)),
            (Some(_), Some("")) => None,
            (Some(dir), Some(rest)) => dir.look_up(rest),
            (None, Some(_)) => None,
            (None, None) => {
                self.files.iter().find(|(given, _)| named(given)).map(|(_, file)| Found::File(*file))
            }
        }
    }

    /// Can every name be the name of one file in one folder?
    pub fn check_names(&self) -> Result<(), ManifestError> {
        let names = self.files.iter().map(|(name, _)| name).chain(self.dirs.iter().map(|(name, _)| name));
        for name in names {
            let bytes = name.as_bytes();
            let special = matches!(bytes, b"" | b"." | b"..");
            if special || bytes.contains(&b'/') || bytes.contains(&0) || bytes.len() > 255 {
                return Err(ManifestError::UnsafeName(name.clone()));
            }
        }
        self.dirs.iter().try_for_each(|(_, dir)| dir.check_names())
    }
}

fn malformed(what: &str) -> ManifestError {
    ManifestError::Malformed(what.to_owned())
}

fn from_value(value: &Value, depth: usize) -> Result<Manifest, ManifestError> {
    if depth > MAX_MANIFEST_DEPTH {
        return Err(ManifestError::TooDeep);
    }
    let part = |key: &str| value.get(key).and_then(Value::as_object);
    let files = part("files").ok_or_else(|| malformed("field files"))?;
    let dirs = part("dirs").ok_or_else(|| malformed("field dirs"))?;
    let file = |(name, entry): (&String, &Value)| (OsString::from(name), file_from_value(entry));
    let files = files.iter().map(file).collect();
    let dir = |(name, dir): (&String, &Value)| Ok((OsString::from(name), from_value(dir, depth + 1)?));
    Ok(Manifest { files, dirs: dirs.iter().map(dir).collect::<Result<_, _>>()? })
}

/// MD5 wins if both are there, as in the original.
fn file_from_value(entry: &Value) -> ManifestFile {
    let text = |algorithm: Algorithm| Some((algorithm, entry.get(algorithm.name())?.as_str()?));
    let hash = text(Algorithm::Md5).or_else(|| text(Algorithm::Sha1));
    ManifestFile {
        size: entry.get("size").and_then(Value::as_u64),
        hash: hash.and_then(|(algorithm, text)| ContentHash::parse(algorithm, text)),
    }
}

fn write(manifest: &Manifest, depth: usize, out: &mut String) -> Result<(), ManifestError> {
    if depth > MAX_MANIFEST_DEPTH {
        return Err(ManifestError::TooDeep);
    }
    out.push_str("{\"files\": {");
    for (number, (name, file)) in manifest.files.iter().enumerate() {
        let separator = if number == 0 { "" } else { ", " };
        let mut fields = Vec::new();
        fields.extend(file.size.map(|size| format!("\"size\": {size}")));
        fields.extend(file.hash.map(|hash| format!("\"{}\": \"{hash}\"", hash.algorithm().name())));
        let name = python_json::string(Path::new(name));
        out.push_str(&format!("{separator}{name}: {{{}}}", fields.join(", ")));
    }
    out.push_str("}, \"dirs\": {");
    for (number, (name, dir)) in manifest.dirs.iter().enumerate() {
        let separator = if number == 0 { "" } else { ", " };
        out.push_str(&format!("{separator}{}: ", python_json::string(Path::new(name))));
        write(dir, depth + 1, out)?;
    }
    out.push_str("}}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (String, Manifest) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/vectors/v2/kachery_store.json");
        let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let text = vectors["manifest_example"]["text"].as_str().unwrap().to_owned();
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        (text, manifest)
    }

    fn nested(depth: usize) -> String {
        let (mut text, mut end) = (String::new(), String::new());
        for _ in 0..depth {
            text.push_str(r#"{"files": {}, "dirs": {"d": "#);
            end.push_str("}}");
        }
        format!("{text}{{\"files\": {{}}, \"dirs\": {{}}}}{end}")
    }

    #[test]
    fn the_vector_reads_and_writes_back_byte_for_byte() {
        let (text, manifest) = example();
        assert_eq!(manifest.to_text().unwrap(), text);
        for length in 0..text.len() {
            assert!(Manifest::parse(&text.as_bytes()[..length]).is_err());
        }
    }

    #[test]
    fn paths_are_looked_up_with_the_quirks_of_the_original() {
        let (_, manifest) = example();
        assert!(matches!(manifest.look_up(""), Some(Found::Directory(_))));
        assert!(matches!(manifest.look_up("sub"), Some(Found::Directory(_))));
        assert!(matches!(manifest.look_up("sub/"), Some(Found::Directory(_))));
        assert!(matches!(manifest.look_up("sub/s.txt"), Some(Found::File(f)) if f.size == Some(2)));
        for missing in ["sub//s.txt", "/sub", "s.txt", "a.txt/x", "..", "sub/..", "sub//"] {
            assert_eq!(manifest.look_up(missing), None, "{missing}");
        }
    }

    #[test]
    fn a_name_in_both_is_a_folder_and_md5_wins() {
        let text = r#"{"files": {"x": {"size": 1}, "y": {"sha1": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "md5": "d41d8cd98f00b204e9800998ecf8427e"}}, "dirs": {"x": {"files": {}, "dirs": {}}}}"#;
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert!(matches!(manifest.look_up("x"), Some(Found::Directory(_))));
        assert!(
            matches!(manifest.look_up("y"), Some(Found::File(f)) if f.hash.unwrap().algorithm() == Algorithm::Md5)
        );
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_for_the_disk() {
        let long = "n".repeat(256);
        for name in ["..", ".", "", "a/b", "/etc", "a\\u0000b", &long] {
            let file = format!(r#"{{"files": {{"{name}": {{"size": 1}}}}, "dirs": {{}}}}"#);
            let dir = format!(
                r#"{{"files": {{}}, "dirs": {{"ok": {{"files": {{}}, "dirs": {{"{name}": {{"files": {{}}, "dirs": {{}}}}}}}}}}}}"#
            );
            for text in [file, dir] {
                let manifest = Manifest::parse(text.as_bytes()).unwrap();
                assert!(matches!(manifest.check_names(), Err(ManifestError::UnsafeName(_))), "{name:.20}");
            }
        }
        example().1.check_names().unwrap();
    }

    #[test]
    fn depth_and_size_are_bounded_both_ways() {
        let deepest = Manifest::parse(nested(MAX_MANIFEST_DEPTH).as_bytes()).unwrap();
        assert_eq!(deepest.to_text().unwrap(), nested(MAX_MANIFEST_DEPTH));
        assert!(matches!(
            Manifest::parse(nested(MAX_MANIFEST_DEPTH + 1).as_bytes()),
            Err(ManifestError::TooDeep)
        ));
        assert!(Manifest::parse(nested(100_000).as_bytes()).is_err());
        let deeper = Manifest { dirs: vec![("d".into(), deepest)], ..Manifest::default() };
        assert!(matches!(deeper.to_text(), Err(ManifestError::TooDeep)));
        let mut text = nested(0).into_bytes();
        text.resize(MAX_MANIFEST_BYTES, b' ');
        assert!(Manifest::parse(&text).is_ok());
        text.push(b' ');
        assert!(matches!(Manifest::parse(&text), Err(ManifestError::TooLarge)));
    }

    #[test]
    fn other_json_is_an_error_that_names_the_field() {
        for text in [
            "",
            "3",
            "[]",
            "{}",
            r#"{"files": {}}"#,
            r#"{"files": [], "dirs": {}}"#,
            r#"{"files": {}, "dirs": {"a": 1}}"#,
        ] {
            assert!(matches!(Manifest::parse(text.as_bytes()), Err(ManifestError::Malformed(_))), "{text}");
        }
        assert!(Manifest::parse(br#"{"dirs": {}}"#).unwrap_err().to_string().contains("files"));
    }
}
