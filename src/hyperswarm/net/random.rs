//! Where randomness comes from: seeds for the machines and for keys, from the operating system.

use std::io;

use rand::TryRng;
use rand::rngs::SysRng;

/// A fresh seed from the operating system.
///
/// # Errors
/// The system has none to give, as in a sandbox without it.
pub fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}
