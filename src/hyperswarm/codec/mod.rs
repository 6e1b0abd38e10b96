//! Bytes to values and back. Decoders never read past their input, never reserve more memory than the input could
//! fill, and name the field they refuse.

pub mod compact;
#[cfg(any(test, feature = "testkit"))]
pub mod fuzz;
pub mod mdns;
pub mod v2;
