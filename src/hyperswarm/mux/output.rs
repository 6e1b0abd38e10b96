use std::collections::VecDeque;

use bytes::Bytes;

use crate::codec::compact::Writer;
use crate::limits::{MUX_BATCH_BYTES, MUX_MESSAGE_BYTES, MUX_SEND_BYTES};

/// Bytes of the longest header of a message: channel and type as the longest `uint`.
const HEADER: usize = 18;

/// A frame for the control channel.
#[derive(Debug)]
pub(super) enum Control<'a> {
    Open { channel: u64, protocol: &'a str, id: &'a [u8], handshake: &'a [u8] },
    Reject { channel: u64 },
    Close { channel: u64 },
}

/// Messages waiting for the stream, and the batch that is being collected.
#[derive(Debug, Default)]
pub(super) struct Output {
    queue: VecDeque<Queued>,
    batch: Option<Batch>,
    corks: usize,
    /// Bytes of the queue, without the batch.
    queued: usize,
    /// Of queue and batch, the bytes a peer made us send.
    replies: usize,
    /// True if it has been above the high water mark since the owner was last told that it is below.
    full: bool,
}

#[derive(Debug)]
struct Queued {
    bytes: Bytes,
    replies: usize,
}

/// Always has at least one item.
#[derive(Debug)]
struct Batch {
    writer: Writer,
    channel: u64,
    replies: usize,
}

impl Output {
    /// `Protomux.cork`: until the matching `uncork`, frames are collected.
    pub(super) fn cork(&mut self) {
        self.corks += 1;
    }

    /// `Protomux.uncork`.
    pub(super) fn uncork(&mut self) {
        self.corks = self.corks.saturating_sub(1);
        if self.corks == 0 {
            self.send_batch();
        }
    }

    /// `_sendBatch`: sends what is collected, if anything. Further frames start a new batch while corked.
    pub(super) fn send_batch(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.push(batch.writer.finish(), batch.replies);
        }
    }

    /// A message of one of our channels. Its length was checked with [`fits`].
    pub(super) fn data(&mut self, channel: u64, kind: u64, body: &[u8]) {
        if self.corks > 0 {
            let length = uint_length(kind) + body.len();
            self.batched(channel, length, false, |batch| {
                batch.uint(kind).raw(body);
            });
        } else {
            let mut writer = Writer::with_capacity(body.len() + HEADER);
            writer.uint(channel).uint(kind).raw(body);
            self.push(writer.finish(), 0);
        }
    }

    /// A control frame. `reply`: the peer made us send it.
    pub(super) fn control(&mut self, control: &Control<'_>, reply: bool) {
        let mut writer = Writer::new();
        match *control {
            Control::Open { channel, protocol, id, handshake } => {
                writer.uint(1).uint(channel).string(protocol).buffer(id).raw(handshake)
            }
            Control::Reject { channel } => writer.uint(2).uint(channel),
            Control::Close { channel } => writer.uint(3).uint(channel),
        };
        if self.corks > 0 {
            self.batched(0, writer.len(), reply, |batch| {
                batch.raw(writer.as_slice());
            });
        } else {
            let mut whole = Writer::with_capacity(writer.len() + 1);
            whole.uint(0).raw(writer.as_slice());
            let replies = if reply { whole.len() } else { 0 };
            self.replies += replies;
            self.push(whole.finish(), replies);
        }
    }

    /// `_pushBatch`: an item of `length` bytes.
    fn batched(&mut self, channel: u64, length: usize, reply: bool, item: impl FnOnce(&mut Writer)) {
        let collected = self.batch.as_ref().map_or(0, |batch| batch.writer.len());
        // The second is ours: upstream would build a frame that no secret stream can carry.
        if collected >= MUX_BATCH_BYTES || collected + length + HEADER > MUX_MESSAGE_BYTES {
            self.send_batch();
        }
        let batch = self.batch.get_or_insert_with(|| {
            let mut writer = Writer::with_capacity(length + HEADER);
            writer.uint(0).uint(0).uint(channel);
            Batch { writer, channel, replies: 0 }
        });
        let before = batch.writer.len();
        if batch.channel != channel {
            batch.writer.uint(0).uint(channel);
            batch.channel = channel;
        }
        batch.writer.uint(length as u64);
        item(&mut batch.writer);
        if reply {
            let grown = batch.writer.len() - before;
            batch.replies += grown;
            self.replies += grown;
        }
        self.full |= self.pending() >= MUX_SEND_BYTES;
    }

    fn push(&mut self, bytes: Bytes, replies: usize) {
        self.queued += bytes.len();
        self.queue.push_back(Queued { bytes, replies });
        self.full |= self.pending() >= MUX_SEND_BYTES;
    }

    /// Takes the next message, and whether room has been made for the owner by that.
    pub(super) fn pop(&mut self) -> Option<(Bytes, bool)> {
        let Queued { bytes, replies } = self.queue.pop_front()?;
        self.queued -= bytes.len();
        self.replies -= replies;
        let drained = self.full && self.has_room();
        self.full &= !drained;
        Some((bytes, drained))
    }

    /// Bytes not taken yet.
    pub(super) fn pending(&self) -> usize {
        self.queued + self.batch.as_ref().map_or(0, |batch| batch.writer.len())
    }

    pub(super) fn has_room(&self) -> bool {
        self.pending() < MUX_SEND_BYTES
    }

    /// Bytes not taken yet that the peer made us send.
    pub(super) fn replies(&self) -> usize {
        self.replies
    }

    /// Sends what is collected, and collects no more.
    pub(super) fn uncork_all(&mut self) {
        self.corks = 0;
        self.send_batch();
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// True if a message fits a frame of its own, and a batch of its own.
pub(super) fn fits(body: &[u8]) -> bool {
    body.len() + 2 * HEADER <= MUX_MESSAGE_BYTES
}

fn uint_length(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}
