//! Writes protobuf fields in whatever order the caller gives them.

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::encode_varint;

/// Wire type of a varint field.
const VARINT: u64 = 0;
/// Wire type of a field with a length: bytes and strings.
const LENGTH_DELIMITED: u64 = 2;

/// The bytes written so far. Fields that are `None` are not written.
#[derive(Default)]
pub(super) struct Emitter {
    out: BytesMut,
}

impl Emitter {
    /// A number.
    pub(super) fn varint(&mut self, field: u64, value: Option<u64>) {
        if let Some(value) = value {
            encode_varint(field << 3 | VARINT, &mut self.out);
            encode_varint(value, &mut self.out);
        }
    }

    /// Bytes or a string.
    pub(super) fn bytes(&mut self, field: u64, value: Option<&[u8]>) {
        if let Some(value) = value {
            encode_varint(field << 3 | LENGTH_DELIMITED, &mut self.out);
            encode_varint(value.len() as u64, &mut self.out);
            self.out.put_slice(value);
        }
    }

    /// The whole message.
    pub(super) fn finish(self) -> Bytes {
        self.out.freeze()
    }
}
