//! Where packets end on a framed stream.
//!
//! A framed stream carries frames: 3 bytes of length, little endian, then as many bytes. udx-native's receiver hands
//! one up as a whole as long as every frame ends with a packet. The first packet that holds the end of one and the
//! start of the next makes it hand up each packet by itself from then on, which costs JavaScript more than opening
//! the frames does.

use std::collections::VecDeque;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 3;
/// Packets may stay empty by this many bytes, and by an eighth of what was sent: many small frames written at once are
/// better off sharing packets.
const EMPTY_BYTES: u64 = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Offsets behind the frames with unsent bytes.
    ends: VecDeque<u64>,
    /// Offset of the first byte behind the newest frame whose length is known.
    next: u64,
    /// What there is of the length of the frame after it.
    length: [u8; 4],
    /// Bytes by which packets stayed empty for a frame to end with them.
    empty: u64,
}

impl Frames {
    /// `chunk` was written at offset `start`.
    pub(super) fn written(&mut self, start: u64, chunk: &[u8]) {
        let end = start + chunk.len() as u64;
        while self.next < end {
            let from = usize::try_from(self.next.saturating_sub(start)).unwrap_or(usize::MAX);
            let known = usize::try_from(start.saturating_sub(self.next)).unwrap_or(usize::MAX);
            for (digit, byte) in
                self.length.iter_mut().take(LENGTH_BYTES).skip(known).zip(chunk.iter().skip(from))
            {
                *digit = *byte;
            }
            if end < self.next + LENGTH_BYTES as u64 {
                return;
            }
            self.next += LENGTH_BYTES as u64 + u64::from(u32::from_le_bytes(self.length));
            self.ends.push_back(self.next);
        }
    }

    /// Bytes from `offset` to the first end of a frame, if that is at most `most` away.
    pub(super) fn end_within(&self, offset: u64, most: usize) -> Option<usize> {
        let length = usize::try_from(self.ends.front()?.checked_sub(offset)?).ok()?;
        (length <= most).then_some(length)
    }

    /// Everything below `offset` was sent, in a last packet that could have held `room` bytes more of what waits.
    /// Whether it is still worth it to end packets with frames.
    pub(super) fn sent(&mut self, offset: u64, room: usize) -> bool {
        while self.ends.front().is_some_and(|end| *end <= offset) {
            self.ends.pop_front();
        }
        self.empty += room as u64;
        self.empty <= EMPTY_BYTES + offset / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let [a, b, c, ..] = length.to_le_bytes();
        [vec![a, b, c], vec![7; length]].concat()
    }

    #[test]
    fn ends_of_frames_are_found_however_the_bytes_are_cut() {
        let bytes = [frame(5), frame(0), frame(70_000), frame(1)].concat();
        for cut in [1, 2, 3, 4, 7, 100_000] {
            let mut frames = Frames::default();
            for (n, chunk) in bytes.chunks(cut).enumerate() {
                frames.written((n * cut) as u64, chunk);
            }
            assert_eq!(frames.ends, [8, 11, 70_014, 70_018], "cut at {cut}");
        }
    }

    #[test]
    fn a_packet_reaches_to_the_first_end_that_was_not_sent() {
        let mut frames = Frames::default();
        frames.written(0, &[frame(5), frame(20)].concat());
        assert_eq!((frames.end_within(0, 7), frames.end_within(0, 8)), (None, Some(8)));
        assert!(frames.sent(8, 0));
        assert_eq!((frames.end_within(8, 22), frames.end_within(8, 23)), (None, Some(23)));
        assert!(frames.sent(31, 0));
        assert_eq!(frames.end_within(31, 1000), None);
    }

    #[test]
    fn it_is_worth_an_eighth_of_what_is_sent_and_no_more() {
        let mut frames = Frames::default();
        assert!(frames.sent(80_000, EMPTY_BYTES as usize + 10_000));
        assert!(!frames.sent(80_000, 1));
    }
}
