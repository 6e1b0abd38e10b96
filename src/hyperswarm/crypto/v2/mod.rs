//! What only the v2 network signs.

pub mod hypersign;
