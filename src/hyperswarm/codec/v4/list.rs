//! Lists of items of one size.

use std::fmt;
use std::net::{SocketAddrV4, SocketAddrV6};

use crate::codec::compact::{DecodeError, Reader, Writer};
use crate::limits::MAX_ARRAY_ITEMS;

/// An item of a [`List`]: always of the same size, and any bytes of that size are one.
pub trait ListItem: Copy {
    /// Its size.
    const BYTES: usize;

    /// Takes one off the front.
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Appends it.
    fn write(self, out: &mut Writer);
}

impl ListItem for SocketAddrV4 {
    const BYTES: usize = 6;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.ipv4_address("address")
    }

    fn write(self, out: &mut Writer) {
        out.ipv4_address(self);
    }
}

impl ListItem for SocketAddrV6 {
    const BYTES: usize = 18;

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.ipv6_address("address")
    }

    fn write(self, out: &mut Writer) {
        out.ipv6_address(self);
    }
}

/// An `array` of compact-encoding whose items have one size: a piece of a datagram, or a slice that is to be encoded.
/// Neither is copied. Lists are equal if their items are.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Items<'a, T>);

#[derive(Clone, Copy)]
enum Items<'a, T> {
    /// A multiple of the size of an item.
    Encoded(&'a [u8]),
    Values(&'a [T]),
}

impl<'a, T: ListItem> List<'a, T> {
    /// Reads a whole array, of which the list has the first `most` items.
    pub(super) fn decode(
        reader: &mut Reader<'a>,
        field: &'static str,
        most: usize,
    ) -> Result<Self, DecodeError> {
        let count = reader.uint(field)?;
        if count > MAX_ARRAY_ITEMS {
            return Err(DecodeError::TooManyItems(field));
        }
        // At most 2^20 items of a few bytes, which every usize can count.
        let items = reader.take(count as usize * T::BYTES, field)?;
        Ok(Self(Items::Encoded(items)).first(most))
    }

    /// Appends the count and the items.
    pub(super) fn encode(&self, out: &mut Writer) {
        out.uint(self.len() as u64);
        match self.0 {
            Items::Encoded(bytes) => {
                out.raw(bytes);
            }
            Items::Values(items) => items.iter().for_each(|item| item.write(out)),
        }
    }

    /// The first `most` items, or all.
    #[must_use]
    pub fn first(self, most: usize) -> Self {
        Self(match self.0 {
            Items::Encoded(bytes) => {
                Items::Encoded(bytes.get(..most.saturating_mul(T::BYTES)).unwrap_or(bytes))
            }
            Items::Values(items) => Items::Values(items.get(..most).unwrap_or(items)),
        })
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        match self.0 {
            Items::Encoded(bytes) => bytes.len() / T::BYTES,
            Items::Values(items) => items.len(),
        }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items in order, decoded one by one.
    pub fn iter(&self) -> Iter<'a, T> {
        Iter(*self)
    }
}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(items: &'a [T]) -> Self {
        Self(Items::Values(items))
    }
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self(Items::Values(&[]))
    }
}

impl<T: ListItem + PartialEq> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: ListItem + Eq> Eq for List<'_, T> {}

impl<T: ListItem + fmt::Debug> fmt::Debug for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: ListItem> IntoIterator for List<'a, T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The items of a [`List`].
#[derive(Clone)]
pub struct Iter<'a, T>(List<'a, T>);

impl<T: ListItem> Iterator for Iter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match &mut self.0.0 {
            Items::Encoded(bytes) => {
                let (item, rest) = bytes.split_at_checked(T::BYTES)?;
                *bytes = rest;
                // Never fails: any bytes of this size are an item.
                T::read(&mut Reader::new(item)).ok()
            }
            Items::Values(items) => {
                let (item, rest) = items.split_first()?;
                *items = rest;
                Some(*item)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl<T: ListItem> ExactSizeIterator for Iter<'_, T> {}
