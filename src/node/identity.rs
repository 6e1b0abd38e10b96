//! The node's key pair in the config folder, in the files of all three original versions.

use std::path::{Path, PathBuf};

use crate::hyperswarm::crypto::KeyPair;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// Step and path.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A key file that cannot be used; it was not touched.
    #[error(
        "{}: {why}; restore it from a backup, or move it away to start with a new identity (other nodes will see a new node)",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Reads the key pair of this folder, or creates one; writes the files that are missing. Files: `publickey` and
/// `secretkey` (0.1.2, raw), `public.pem` and `private.pem` (0.1.6, 0.2.1). The folder must exist.
#[allow(unused_variables)]
pub fn load_or_create(config_dir: &Path) -> Result<KeyPair, IdentityError> {
    todo!()
}
