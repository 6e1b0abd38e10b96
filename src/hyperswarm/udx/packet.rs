//! The bytes of a UDX packet: header, SACK blocks, extension block (libudx `udx__process_packet` and
//! `udx__init_packet_header`).

use thiserror::Error;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 20;
const MAGIC: u8 = 0xff;
const VERSION: u8 = 1;

/// Bits of a packet's type; none set is a plain acknowledgement.
pub mod flag {
    /// Carries bytes of the stream; uses a sequence number.
    pub const DATA: u8 = 1;
    /// The stream ends here; uses a sequence number (the same as the data it rides on).
    pub const END: u8 = 2;
    /// Carries selective acknowledgements.
    pub const SACK: u8 = 4;
    /// Carries an unordered message.
    pub const MESSAGE: u8 = 8;
    /// The sender gave the stream up.
    pub const DESTROY: u8 = 16;
    /// Asks for an acknowledgement.
    pub const HEARTBEAT: u8 = 32;
}

/// Why a datagram is no UDX packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Shorter than a header.
    #[error("truncated udx packet: header ({length} of 20 bytes)")]
    Truncated {
        /// Bytes there are.
        length: usize,
    },
    /// Another protocol.
    #[error("not a udx packet: magic byte {0:#04x}")]
    Magic(u8),
    /// A later generation.
    #[error("unknown udx version {0}")]
    Version(u8),
    /// The payload would begin after the packet's end.
    #[error("udx data offset {offset} exceeds the {remaining} bytes after the header")]
    DataOffset {
        /// As the header says.
        offset: u8,
        /// Bytes after the header.
        remaining: usize,
    },
}

/// The fixed part of every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bits of [`flag`].
    pub flags: u8,
    /// Bytes between header and payload.
    pub data_offset: u8,
    /// Id of the receiver's stream.
    pub stream: u32,
    /// Bytes the sender can still take.
    pub window: u32,
    /// Number of this packet, or the sender's next one.
    pub seq: u32,
    /// The number the sender expects next.
    pub ack: u32,
}

impl Header {
    /// Reads the first 20 bytes.
    pub fn decode(datagram: &[u8]) -> Result<Self, PacketError> {
        let header = datagram.first_chunk::<HEADER_BYTES>();
        let &[magic, version, flags, data_offset, ref words @ ..] =
            header.ok_or(PacketError::Truncated { length: datagram.len() })?;
        if magic != MAGIC {
            return Err(PacketError::Magic(magic));
        }
        if version != VERSION {
            return Err(PacketError::Version(version));
        }
        let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = words;
        Ok(Self {
            flags,
            data_offset,
            stream: u32::from_le_bytes([a, b, c, d]),
            window: u32::from_le_bytes([e, f, g, h]),
            seq: u32::from_le_bytes([i, j, k, l]),
            ack: u32::from_le_bytes([m, n, o, p]),
        })
    }

    /// The 20 bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.stream.to_le_bytes();
        let [e, f, g, h] = self.window.to_le_bytes();
        let [i, j, k, l] = self.seq.to_le_bytes();
        let [m, n, o, p] = self.ack.to_le_bytes();
        [MAGIC, VERSION, self.flags, self.data_offset, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// Whether the packet has this bit of [`flag`].
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// A whole packet, borrowed from its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The header.
    pub header: Header,
    /// Everything after the header.
    rest: &'a [u8],
    /// What follows the data offset: data, message, or (for libudx too) the SACK blocks of a pure acknowledgement.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a datagram apart. Nothing is copied.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, PacketError> {
        let header = Header::decode(datagram)?;
        let rest = datagram.get(HEADER_BYTES..).unwrap_or_default();
        let offset = header.data_offset;
        let payload = rest
            .get(usize::from(offset)..)
            .ok_or(PacketError::DataOffset { offset, remaining: rest.len() })?;
        Ok(Self { header, rest, payload })
    }

    /// The SACK blocks: before the payload, or the whole rest of the packet without a data offset. A last block that
    /// is cut off is left out.
    pub fn sack_blocks(&self) -> SackBlocks<'a> {
        if !self.header.has(flag::SACK) {
            return SackBlocks { area: &[] };
        }
        let offset = usize::from(self.header.data_offset);
        let area = if offset > 0 && offset < self.rest.len() { self.rest.get(..offset) } else { None };
        SackBlocks { area: area.unwrap_or(self.rest) }
    }

    /// The extension block at the beginning of the data offset's bytes, if one of our own peers put it there.
    pub fn extension(&self) -> Option<Extension> {
        if self.header.has(flag::SACK) || usize::from(self.header.data_offset) < Extension::BYTES {
            return None;
        }
        Extension::decode(self.rest)
    }
}

/// Half-open ranges of sequence numbers that arrived out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackBlocks<'a> {
    area: &'a [u8],
}

impl Iterator for SackBlocks<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let (&[a, b, c, d, e, f, g, h], rest) = self.area.split_first_chunk::<8>()?;
        self.area = rest;
        Some((u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])))
    }
}

/// What only nodes of this program tell each other, in bytes that npm's receivers skip as padding: how large the
/// datagrams may be. 8 bytes: the magic `kp2` and version 1, a kind, a zero, the size as u16 (little endian).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Largest datagram (UDP payload bytes) the sender can receive. On the first packet of a stream.
    Announce(u16),
    /// A probe of this many bytes; to be answered if it arrived whole.
    Probe(u16),
    /// A probe of this many bytes arrived.
    Reply(u16),
}

impl Extension {
    /// Bytes of the block.
    pub const BYTES: usize = 8;
    const MAGIC: [u8; 4] = *b"kp2\x01";

    /// Reads the block at the beginning of `area`; none if it is something else, such as padding.
    pub fn decode(area: &[u8]) -> Option<Self> {
        let (&[a, b, c, d, kind, _, low, high], _) = area.split_first_chunk::<8>()?;
        if [a, b, c, d] != Self::MAGIC {
            return None;
        }
        let size = u16::from_le_bytes([low, high]);
        match kind {
            0 => Some(Self::Announce(size)),
            1 => Some(Self::Probe(size)),
            2 => Some(Self::Reply(size)),
            _ => None,
        }
    }

    /// The block.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let (kind, size) = match self {
            Self::Announce(size) => (0, size),
            Self::Probe(size) => (1, size),
            Self::Reply(size) => (2, size),
        };
        let [a, b, c, d] = Self::MAGIC;
        let [low, high] = size.to_le_bytes();
        [a, b, c, d, kind, 0, low, high]
    }
}
