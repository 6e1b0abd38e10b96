//! The one place of `hyperswarm` where randomness comes from: seeds for the machines.

use std::io;

use rand::TryRng;
use rand::rngs::SysRng;

/// A fresh seed from the operating system.
pub(super) fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}
