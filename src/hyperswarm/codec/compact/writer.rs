use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use bytes::Bytes;

use crate::codec::MAX_SAFE_INTEGER;

/// Appends values to a buffer of its own. Methods return the writer, so that a message can be written as a chain.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Starts empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts empty, with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// What has been written, without a copy.
    pub fn finish(self) -> Bytes {
        Bytes::from(self.bytes)
    }

    /// Forgets what has been written and keeps the room for the next message.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What has been written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// `uint`, in its shortest form. No decoder takes values above 2^53 - 1.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        debug_assert!(value <= MAX_SAFE_INTEGER, "{value} cannot be decoded again");
        if let Ok(value @ ..=0xfc) = u8::try_from(value) {
            self.uint8(value)
        } else if let Ok(value) = u16::try_from(value) {
            self.uint8(0xfd).uint16(value)
        } else if let Ok(value) = u32::try_from(value) {
            self.uint8(0xfe).uint32(value)
        } else {
            self.uint8(0xff).uint64(value)
        }
    }

    /// `int`: zig-zag, then `uint`. For values of less than 2^52 either way.
    pub fn int(&mut self, value: i64) -> &mut Self {
        self.uint(((value << 1) ^ (value >> 63)) as u64)
    }

    /// One byte.
    pub fn uint8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// Two bytes, little endian.
    pub fn uint16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// The low three bytes, little endian.
    pub fn uint24(&mut self, value: u32) -> &mut Self {
        self.low_bytes::<3>(value.into())
    }

    /// Four bytes, little endian.
    pub fn uint32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// The low five bytes, little endian.
    pub fn uint40(&mut self, value: u64) -> &mut Self {
        self.low_bytes::<5>(value)
    }

    /// The low six bytes, little endian.
    pub fn uint48(&mut self, value: u64) -> &mut Self {
        self.low_bytes::<6>(value)
    }

    /// The low seven bytes, little endian. No decoder takes values above 2^53 - 1.
    pub fn uint56(&mut self, value: u64) -> &mut Self {
        self.low_bytes::<7>(value)
    }

    /// Eight bytes, little endian. No decoder takes values above 2^53 - 1.
    pub fn uint64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.uint8(u8::from(value))
    }

    /// `raw`, and `fixed32` or `fixed64`: the bytes as they are.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// `buffer`: the length, then the bytes.
    pub fn buffer(&mut self, value: &[u8]) -> &mut Self {
        self.uint(value.len() as u64).raw(value)
    }

    /// `optionalBuffer`: like `buffer`; none is written like empty.
    pub fn optional_buffer(&mut self, value: Option<&[u8]>) -> &mut Self {
        self.buffer(value.unwrap_or_default())
    }

    /// `string`: the length in bytes, then UTF-8.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.buffer(value.as_bytes())
    }

    /// `array`: the count, then what `item` writes for each.
    pub fn array<T>(&mut self, items: &[T], mut item: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.uint(items.len() as u64);
        for value in items {
            item(self, value);
        }
        self
    }

    /// `frame`: the length of what `body` writes, then that.
    pub fn frame(&mut self, body: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inside = Self::new();
        body(&mut inside);
        self.buffer(&inside.bytes)
    }

    /// `ipv4`: four octets as they are written.
    pub fn ipv4(&mut self, address: Ipv4Addr) -> &mut Self {
        self.raw(&address.octets())
    }

    /// `ipv6`: sixteen octets in network order.
    pub fn ipv6(&mut self, address: Ipv6Addr) -> &mut Self {
        self.raw(&address.octets())
    }

    /// `ip`: the family, 4 or 6, then the address.
    pub fn ip(&mut self, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.uint8(4).ipv4(address),
            IpAddr::V6(address) => self.uint8(6).ipv6(address),
        }
    }

    /// `ipv4Address`: the address, then the port, little endian.
    pub fn ipv4_address(&mut self, address: SocketAddrV4) -> &mut Self {
        self.ipv4(*address.ip()).uint16(address.port())
    }

    /// `ipv6Address`: the address, then the port, little endian.
    pub fn ipv6_address(&mut self, address: SocketAddrV6) -> &mut Self {
        self.ipv6(*address.ip()).uint16(address.port())
    }

    /// `ipAddress`: the family, the address, then the port, little endian.
    pub fn ip_address(&mut self, address: SocketAddr) -> &mut Self {
        self.ip(address.ip()).uint16(address.port())
    }

    /// `bitfield(7)`: one byte, of which the most significant bit must be clear.
    pub fn bitfield(&mut self, bits: u8) -> &mut Self {
        debug_assert!(bits < 0x80, "a bitfield(7) has seven bits: {bits:#x}");
        self.uint8(bits)
    }

    fn low_bytes<const N: usize>(&mut self, value: u64) -> &mut Self {
        self.bytes.extend(value.to_le_bytes().iter().take(N));
        self
    }
}
