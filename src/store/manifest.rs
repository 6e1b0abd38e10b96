//! Manifests of folders: `{"files": {name: {"size": n, "sha1": hash}, ...}, "dirs": {name: manifest, ...}}`, as Python's
//! kachery 0.6.3 writes and reads them. They come from strangers: bounded in size, depth and number of names, read
//! entry by entry so that memory stays below three times the text, and their names are checked before anything is
//! written to disk.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{ContentHash, python_json};
use crate::limits::{MAX_MANIFEST_BYTES, MAX_MANIFEST_DEPTH, MAX_MANIFEST_NAMES};

mod parse;

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
    /// See [`MAX_MANIFEST_NAMES`].
    #[error("the manifest names more than {MAX_MANIFEST_NAMES} files and folders")]
    TooManyNames,
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
        parse::parse(text)
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

    /// As [`Manifest::look_up`], if that is a folder. Keeps the rest only until then.
    pub(super) fn into_directory(mut self, path: &str) -> Option<Manifest> {
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let place = self.dirs.iter().position(|(given, _)| given == name)?;
            self = self.dirs.swap_remove(place).1;
        }
        Some(self)
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
    use super::super::Algorithm;
    use super::*;
    use serde_json::Value;

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
        for folder in ["", "/", "sub", "sub/"] {
            let Some(Found::Directory(found)) = manifest.look_up(folder) else { panic!("{folder}") };
            assert_eq!(manifest.clone().into_directory(folder).as_ref(), Some(found), "{folder}");
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
    fn of_entries_with_one_name_the_last_counts_in_the_place_of_the_first() {
        let text = r#"{"files": {"a": {"size": 1}, "b": {"size": 2}, "a": {"size": 3}, "c": {"size": 4}, "a": {"size": 5},
            "b": {"size": 6}}, "dirs": {}}"#;
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        let found: Vec<_> =
            manifest.files.iter().map(|(name, file)| (name.to_str().unwrap(), file.size)).collect();
        assert_eq!(found, [("a", Some(5)), ("b", Some(6)), ("c", Some(4))]);
    }

    #[test]
    fn as_many_names_as_allowed_are_read_and_one_more_is_refused() {
        let text = |count: usize| {
            let names = vec!["\"a\":0"; count - 1].join(",");
            format!("{{\"files\":{{{names}}},\"dirs\":{{\"d\":{{\"files\":{{}},\"dirs\":{{}}}}}}}}")
        };
        assert!(Manifest::parse(text(MAX_MANIFEST_NAMES).as_bytes()).is_ok());
        let error = Manifest::parse(text(MAX_MANIFEST_NAMES + 1).as_bytes()).unwrap_err();
        assert!(matches!(error, ManifestError::TooManyNames), "{error}");
    }

    #[test]
    fn what_is_said_about_a_file_beside_size_and_hash_is_passed_over() {
        let long = format!("{{\"sha1\": \"{}\", \"note\": \"{}\"}}", "0".repeat(40), "n".repeat(5000));
        for (entry, known) in [
            (
                r#"{"size": 7, "note": {"deep": [[[1]]]}, "sha1": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}"#,
                true,
            ),
            (r#"{"size": -1, "sha1": "no hash"}"#, false),
            (r#"{"size": 1.5, "sha1": 3}"#, false),
            ("[1, 2]", false),
            ("null", false),
            (&long, false),
        ] {
            let text = format!("{{\"files\": {{\"x\": {entry}}}, \"more\": [1], \"dirs\": {{}}}}");
            let manifest = Manifest::parse(text.as_bytes()).unwrap();
            let [(_, file)] = &manifest.files[..] else { panic!("{manifest:?}") };
            assert_eq!((file.hash.is_some(), file.size), (known, known.then_some(7)), "{entry:.60}");
        }
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
