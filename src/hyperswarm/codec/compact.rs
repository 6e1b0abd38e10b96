//! The encodings of npm compact-encoding 3.5 (`index.js`), and of compact-encoding-bitfield 1, that generation v4
//! is made of.
//!
//! A [`Reader`] borrows its input and hands out slices of it; to keep such a slice without copying, take
//! `bytes::Bytes::slice_ref` of the message it was read from. What follows a decoded structure is ignored, as
//! upstream: that is how newer versions add fields.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

/// Why bytes are not what they should be. The field is named by whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input, or the frame around the field, ends before the field does ("Out of bounds").
    #[error("truncated: {0}")]
    Truncated(&'static str),
    /// JavaScript could not tell it from its neighbours.
    #[error("number above 2^53 - 1: {0}")]
    TooLarge(&'static str),
    /// More items than [`MAX_ARRAY_ITEMS`](crate::limits::MAX_ARRAY_ITEMS) ("Array is too big").
    #[error("array of more than 1048576 items: {0}")]
    TooManyItems(&'static str),
}
