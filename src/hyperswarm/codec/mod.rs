//! Bytes to values and back. Decoders never read past their input, never reserve more memory than the input could
//! fill, and name the field they refuse.

pub mod compact;
pub mod mdns;
pub mod v2;
