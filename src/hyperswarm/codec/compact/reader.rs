use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::DecodeError;
use crate::codec::MAX_SAFE_INTEGER;
use crate::limits::MAX_ARRAY_ITEMS;

/// Takes values off the front of a slice. Every method names the field it reads, for the error; after an error the
/// position is unspecified, and the message is to be dropped.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// `uint`: one byte up to 0xFC, else 0xFD, 0xFE or 0xFF and two, four or eight bytes. Longer forms than needed
    /// are accepted, values above 2^53 - 1 are not.
    pub fn uint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        match self.uint8(field)? {
            0xfd => self.uint16(field).map(u64::from),
            0xfe => self.uint32(field).map(u64::from),
            0xff => self.uint64(field),
            small => Ok(u64::from(small)),
        }
    }

    /// `int`: zig-zag (0, -1, 1, -2 are 0, 1, 2, 3), then `uint`.
    pub fn int(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        let zigzag = self.uint(field)?;
        // At most 2^53 - 1, so that neither cast can change the value.
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// One byte.
    pub fn uint8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        let [byte] = self.fixed(field)?;
        Ok(byte)
    }

    /// Two bytes, little endian.
    pub fn uint16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.fixed(field).map(u16::from_le_bytes)
    }

    /// Three bytes, little endian.
    pub fn uint24(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let [a, b, c] = self.fixed(field)?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    /// Four bytes, little endian.
    pub fn uint32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.fixed(field).map(u32::from_le_bytes)
    }

    /// Five bytes, little endian.
    pub fn uint40(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let [a, b, c, d, e] = self.fixed(field)?;
        Ok(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]))
    }

    /// Six bytes, little endian.
    pub fn uint48(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let [a, b, c, d, e, f] = self.fixed(field)?;
        Ok(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// Seven bytes, little endian, at most 2^53 - 1.
    pub fn uint56(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let [a, b, c, d, e, f, g] = self.fixed(field)?;
        safe(u64::from_le_bytes([a, b, c, d, e, f, g, 0]), field)
    }

    /// Eight bytes, little endian, at most 2^53 - 1.
    pub fn uint64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        safe(self.fixed(field).map(u64::from_le_bytes)?, field)
    }

    /// One byte; only 1 is true.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.uint8(field)? == 1)
    }

    /// Exactly `N` bytes without a length (`fixed32` is `fixed::<32>`).
    pub fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(*value)
    }

    /// `buffer`: a `uint` length and that many bytes.
    pub fn buffer(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.uint(field)?;
        self.take(usize::try_from(length).map_err(|_| DecodeError::Truncated(field))?, field)
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (value, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(value)
    }

    /// `optionalBuffer`: like `buffer`, but empty is none.
    pub fn optional_buffer(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        Ok(Some(self.buffer(field)?).filter(|value| !value.is_empty()))
    }

    /// `string`: like `buffer`; what is not UTF-8 becomes U+FFFD.
    pub fn string(&mut self, field: &'static str) -> Result<Cow<'a, str>, DecodeError> {
        Ok(String::from_utf8_lossy(self.buffer(field)?))
    }

    /// `raw`: everything that is left.
    pub fn raw(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// `array`: a `uint` count, and that many times what `item` reads. An item has at least one byte, as all types
    /// here do, so that a count costs nothing before its items are seen.
    pub fn array<T>(
        &mut self,
        field: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.uint(field)?;
        if count > MAX_ARRAY_ITEMS {
            return Err(DecodeError::TooManyItems(field));
        }
        if count > self.rest.len() as u64 {
            return Err(DecodeError::Truncated(field));
        }
        // Grows as items come: reserving for the count would let a few bytes claim megabytes.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `frame`: a `uint` length, and a reader that ends there. What it leaves unread is skipped.
    pub fn frame(&mut self, field: &'static str) -> Result<Reader<'a>, DecodeError> {
        self.buffer(field).map(Reader::new)
    }

    /// `ipv4`: four octets as they are written.
    pub fn ipv4(&mut self, field: &'static str) -> Result<Ipv4Addr, DecodeError> {
        self.fixed::<4>(field).map(Ipv4Addr::from)
    }

    /// `ipv6`: sixteen octets in network order.
    pub fn ipv6(&mut self, field: &'static str) -> Result<Ipv6Addr, DecodeError> {
        self.fixed::<16>(field).map(Ipv6Addr::from)
    }

    /// `ip`: a family byte and the address. Any family but 4 is read as IPv6, as upstream.
    pub fn ip(&mut self, field: &'static str) -> Result<IpAddr, DecodeError> {
        match self.uint8(field)? {
            4 => self.ipv4(field).map(IpAddr::V4),
            _ => self.ipv6(field).map(IpAddr::V6),
        }
    }

    /// `ipv4Address`: the address, then a little endian port. Port 0 is read like any other.
    pub fn ipv4_address(&mut self, field: &'static str) -> Result<SocketAddrV4, DecodeError> {
        Ok(SocketAddrV4::new(self.ipv4(field)?, self.uint16(field)?))
    }

    /// `ipv6Address`: the address, then a little endian port.
    pub fn ipv6_address(&mut self, field: &'static str) -> Result<SocketAddrV6, DecodeError> {
        Ok(SocketAddrV6::new(self.ipv6(field)?, self.uint16(field)?, 0, 0))
    }

    /// `ipAddress`: a family byte, the address, then a little endian port.
    pub fn ip_address(&mut self, field: &'static str) -> Result<SocketAddr, DecodeError> {
        Ok(SocketAddr::new(self.ip(field)?, self.uint16(field)?))
    }

    /// `bitfield(7)`: one byte of bits, the first the least significant. The first eight bits of a wider field
    /// (0xFD, 0xFE or 0xFF, then two, four or eight bytes) are read as well, as upstream.
    pub fn bitfield(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        match self.uint8(field)? {
            0xfd => self.fixed(field).map(|[bits, _]: [u8; 2]| bits),
            0xfe => self.fixed(field).map(|[bits, ..]: [u8; 4]| bits),
            0xff => self.fixed(field).map(|[bits, ..]: [u8; 8]| bits),
            bits => Ok(bits),
        }
    }
}

fn safe(value: u64, field: &'static str) -> Result<u64, DecodeError> {
    if value > MAX_SAFE_INTEGER { Err(DecodeError::TooLarge(field)) } else { Ok(value) }
}
