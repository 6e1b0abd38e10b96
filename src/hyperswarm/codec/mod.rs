//! Bytes to values and back. Decoders never read past their input, never reserve more memory than the input could
//! fill, and name the field they refuse.

pub mod compact;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
pub mod v2;
pub mod v4;

/// 2^53 - 1, `Number.MAX_SAFE_INTEGER`: JavaScript counts exactly up to here, so that no original writes a larger
/// number, and decoders refuse one.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
