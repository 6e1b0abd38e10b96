//! The names of files and folders, `sha1://HASH/label` and its relatives, read exactly as Python's kachery 0.6.3
//! (`_get_info_from_hash_url`) reads them, oddities included.

use super::{Algorithm, ContentHash};

/// What the protocol of a URI begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriAlgorithm {
    /// `sha1` or `md5`.
    Hash(Algorithm),
    /// `key`: parses, but names nothing in a store.
    Key,
}

/// The parts of a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// What is before the first `:`, for instance `sha1dir`.
    pub protocol: String,
    /// What the protocol begins with.
    pub algorithm: UriAlgorithm,
    /// The hash as it stands there; possibly none at all.
    pub hash: String,
    /// What follows the hash and a slash: a label, or a path inside a folder.
    pub rest: String,
}

/// The text is not a URI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// No `protocol://hash`.
    #[error("not a URI: expected something like sha1://HASH/name")]
    TooShort,
    /// The protocol is none of ours.
    #[error("unexpected protocol: {0}")]
    UnexpectedProtocol(String),
}

/// Does the text begin like a URI of a stored file or folder? Anything else is a plain path.
pub fn is_hash_uri(text: &str) -> bool {
    ["sha1://", "sha1dir://", "md5://", "md5dir://"].iter().any(|start| text.starts_with(start))
}

impl std::str::FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let mut elements = text.splitn(4, '/');
        let protocol = elements.next().unwrap_or_default().replace(':', "");
        let hash = elements.nth(1).ok_or(UriError::TooShort)?;
        let algorithm = match &protocol {
            p if p.starts_with("sha1") => UriAlgorithm::Hash(Algorithm::Sha1),
            p if p.starts_with("md5") => UriAlgorithm::Hash(Algorithm::Md5),
            p if p.starts_with("key") => UriAlgorithm::Key,
            _ => return Err(UriError::UnexpectedProtocol(protocol)),
        };
        let hash = hash.split('.').next().unwrap_or_default().to_owned();
        Ok(Uri { protocol, algorithm, hash, rest: elements.next().unwrap_or_default().to_owned() })
    }
}

impl Uri {
    /// The name of the file, or of the manifest of the folder. None: no file can have this name.
    pub fn content_hash(&self) -> Option<ContentHash> {
        match self.algorithm {
            UriAlgorithm::Hash(algorithm) => ContentHash::parse(algorithm, &self.hash),
            UriAlgorithm::Key => None,
        }
    }

    /// Does it name a folder, or something in one?
    pub fn is_directory(&self) -> bool {
        self.protocol == "sha1dir" || self.protocol == "md5dir"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_vector_of_the_original_parses_alike() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/interop-tests/vectors/v2/kachery_store.json");
        let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let cases = vectors["uris"].as_array().unwrap();
        assert!(cases.len() >= 25);
        for case in cases {
            let text = case["uri"].as_str().unwrap();
            assert_eq!(is_hash_uri(text), case["is_hash_url"].as_bool().unwrap(), "{text}");
            let expected = &case["parsed_protocol_algorithm_hash_rest"];
            match text.parse::<Uri>() {
                Ok(uri) => {
                    let algorithm = match uri.algorithm {
                        UriAlgorithm::Hash(algorithm) => algorithm.name(),
                        UriAlgorithm::Key => "key",
                    };
                    assert_eq!(
                        serde_json::json!([uri.protocol, algorithm, uri.hash, uri.rest]),
                        *expected,
                        "{text}"
                    );
                }
                Err(UriError::TooShort) => {
                    assert!(expected.as_str().unwrap().contains("IndexError"), "{text}")
                }
                Err(UriError::UnexpectedProtocol(protocol)) => {
                    assert_eq!(
                        format!("EXC Exception: Unexpected protocol: {protocol}"),
                        expected.as_str().unwrap()
                    );
                }
            }
        }
    }

    #[test]
    fn hostile_names_name_no_file() {
        let long = format!("sha1://{}", "a".repeat(65_536));
        let names =
            ["sha1://../../etc/passwd", "sha1://..", "sha1://\0", "sha1://$(reboot)", "sha1:////x", &long];
        for name in names {
            assert_eq!(name.parse::<Uri>().unwrap().content_hash(), None, "{name:.60}");
        }
        let upper = "sha1://F572D396FAE9206628714FB2CE00F72E94F2258F";
        assert_eq!(upper.parse::<Uri>().unwrap().content_hash(), None);
    }
}
