//! Bodies of the fuzz targets: anything a peer can send to one machine, and anything the owners of two machines
//! can do. They panic when something is not as it should be.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::*;
use crate::limits::{MUX_BUFFERED_BYTES, MUX_CHANNELS, MUX_PENDING_OVERHEAD, MUX_REPLY_BYTES, MUX_UNDECIDED};

/// Feeds `data` to a machine, as one message and in pieces (a length byte before each). Whether it was taken
/// without an error.
pub fn frames(data: &[u8]) -> bool {
    let whole = feed([data].into_iter());
    let mut rest = data;
    let pieces = std::iter::from_fn(|| {
        let (length, tail) = rest.split_first()?;
        let (piece, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        Some(piece)
    });
    feed(pieces) | whole
}

fn feed<'a>(messages: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut mux = Mux::new();
    mux.pair("late", b"");
    let _ = mux.open("test", b"", ChannelOptions::default());
    let mut failed = false;
    for message in messages {
        if !mux.wants_message() {
            break;
        }
        let _ = mux.handle_message(Bytes::copy_from_slice(message));
        while let Some(event) = mux.poll_event() {
            check_events(&mux);
            match event {
                Event::RemoteOpen { incoming, handshake, .. } if handshake.len() % 2 == 0 => {
                    let _ = mux.accept(incoming, ChannelOptions::default());
                }
                Event::Failed(_) => failed = true,
                _ => {}
            }
        }
        check_bounds(&mux, message.len());
        let most = MUX_REPLY_BYTES + REPLY_SLACK;
        assert!(mux.pending_bytes() <= most, "{} bytes pending", mux.pending_bytes());
        while mux.poll_transmit().is_some() {}
    }
    !failed
}

/// Bytes of the opens with which all undecided channels can be accepted while a peer that takes nothing is not read.
const REPLY_SLACK: usize = 32 * MUX_UNDECIDED;

/// What one peer, whose longest message has `longest` bytes, can make a machine keep.
fn check_bounds(mux: &Mux, longest: usize) {
    assert!(mux.undecided <= MUX_UNDECIDED);
    assert!(mux.remote.len() <= MUX_CHANNELS && mux.local.len() <= MUX_CHANNELS);
    assert!(mux.groups.len() <= mux.local.len() + mux.undecided);
    assert!(mux.buffered <= MUX_BUFFERED_BYTES + longest + 1024, "{} bytes buffered", mux.buffered);
    assert!(mux.output.replies() <= MUX_REPLY_BYTES + REPLY_SLACK);
}

/// Of the events that wait, each took its part of the buffer before its channel was decided, but for `Drained`, the
/// one that was just received, and the ends of all channels.
fn check_events(mux: &Mux) {
    let ends = if mux.is_closed() { MUX_CHANNELS + 1 } else { 0 };
    let most = MUX_BUFFERED_BYTES / MUX_PENDING_OVERHEAD + 3 + ends;
    assert!(mux.events.len() <= most, "{} events", mux.events.len());
}

/// A list of operations on two machines that talk to each other: opens, accepts, rejects, closes, messages, corks
/// and deliveries in any order, with handles that may be stale; sometimes bytes of a stranger in between.
/// No message may be lost or reordered inside a channel, and both sides must agree in the end who is open.
pub fn operations(data: &[u8]) {
    let mut choices = data.iter().copied();
    let mut pair = Pair::new();
    while let Some(operation) = choices.next() {
        let mut choose = || usize::from(choices.next().unwrap_or(0));
        pair.step(operation, &mut choose);
    }
    if !pair.disturbed {
        pair.finish();
    }
}

/// Handshakes are tags, so that each side knows whom the other believes to be paired with.
type Tag = u32;

#[derive(Default)]
struct Side {
    mux: Mux,
    /// Messages on their way to the other side.
    sent: VecDeque<Bytes>,
    /// Every channel ever opened, by tag.
    channels: BTreeMap<Tag, Own>,
    incoming: Vec<IncomingId>,
    corks: usize,
}

struct Own {
    id: ChannelId,
    /// The other's tag, when paired.
    peer: Option<Tag>,
    sent: u32,
    received: u32,
}

struct Pair {
    sides: [Side; 2],
    next_tag: Tag,
    disturbed: bool,
}

impl Pair {
    fn new() -> Self {
        let mut sides = [Side::default(), Side::default()];
        for side in &mut sides {
            side.mux.pair("decided", b"");
        }
        Self { sides, next_tag: 1, disturbed: false }
    }

    fn step(&mut self, operation: u8, choose: &mut impl FnMut() -> usize) {
        let here = usize::from(operation & 1);
        let [first, second] = &mut self.sides;
        let (side, other) = if here == 0 { (first, second) } else { (second, first) };
        match operation >> 1 & 15 {
            0..=2 => {
                self.next_tag += 1;
                side.open(self.next_tag, choose());
            }
            3..=6 => side.send(choose(), choose()),
            7 => side.close(choose()),
            8 => {
                side.mux.cork();
                side.corks += 1;
            }
            9 => {
                side.mux.uncork();
                side.corks = side.corks.saturating_sub(1);
            }
            10 => {
                self.next_tag += 1;
                side.decide(self.next_tag, choose(), self.disturbed);
            }
            11 if choose() == 255 => {
                let length = choose() % 16;
                let message = (0..length).map(|_| choose() as u8).collect();
                other.sent.push_back(message);
                self.disturbed = true;
            }
            _ => {
                for _ in 0..=choose() % 4 {
                    side.receive(other, self.disturbed);
                }
            }
        }
    }

    /// Carries everything, decides about everything, and compares.
    fn finish(&mut self) {
        let [a, b] = &mut self.sides;
        for side in [&mut *a, &mut *b] {
            (0..side.corks).for_each(|_| side.mux.uncork());
        }
        loop {
            let mut any = false;
            while a.receive(b, false) | b.receive(a, false) {
                any = true;
            }
            for side in [&mut *a, &mut *b] {
                any |= !side.incoming.is_empty();
                for incoming in std::mem::take(&mut side.incoming) {
                    side.mux.reject(incoming);
                }
            }
            if !any {
                break;
            }
        }
        a.agrees_with(b);
        b.agrees_with(a);
    }
}

impl Side {
    fn open(&mut self, tag: Tag, choice: usize) {
        let protocol = if choice & 1 == 0 { "decided" } else { "agreed" };
        let id: &[u8] = if choice & 2 == 0 { b"" } else { b"x" };
        if let Ok(id) = self.mux.open(protocol, id, options(tag, choice & 4 == 0)) {
            self.channels.insert(tag, Own { id, peer: None, sent: 0, received: 0 });
        }
    }

    /// Any channel, closed ones too.
    fn pick(&mut self, choice: usize) -> Option<(&Tag, &mut Own)> {
        let count = self.channels.len();
        self.channels.iter_mut().nth(choice % count.max(1))
    }

    fn send(&mut self, choice: usize, length: usize) {
        let Some((tag, own)) = self.pick(choice) else { return };
        let mut body = [tag.to_le_bytes(), own.sent.to_le_bytes()].concat();
        body.resize(8 + length * 16, 7);
        let (id, sent) = (own.id, &mut own.sent);
        // Counted as sent only if the channel is open.
        *sent += 1;
        if self.mux.send(id, 0, &body).is_err()
            && let Some((_, own)) = self.pick(choice)
        {
            own.sent -= 1;
        }
    }

    fn close(&mut self, choice: usize) {
        if let Some((_, own)) = self.pick(choice) {
            let id = own.id;
            self.mux.close(id);
            assert!(!self.mux.is_open(id));
        }
    }

    fn decide(&mut self, tag: Tag, choice: usize, disturbed: bool) {
        if self.incoming.is_empty() {
            return;
        }
        let incoming = self.incoming.remove(choice % self.incoming.len());
        if choice & 64 == 0 {
            match self.mux.accept(incoming, options(tag, false)) {
                Ok(id) => drop(self.channels.insert(tag, Own { id, peer: None, sent: 0, received: 0 })),
                Err(OpenError::OutOfTurn) => self.incoming.push(incoming),
                Err(_) => {}
            }
        } else {
            self.mux.reject(incoming);
        }
        self.events(disturbed);
    }

    /// Takes one message of the other side; whether there was one, or an event.
    fn receive(&mut self, other: &mut Self, disturbed: bool) -> bool {
        other.sent.extend(std::iter::from_fn(|| other.mux.poll_transmit()));
        let mut any = self.events(disturbed);
        if self.mux.wants_message()
            && let Some(message) = other.sent.pop_front()
        {
            let length = message.len();
            assert!(self.mux.handle_message(message).is_ok());
            self.events(disturbed);
            check_bounds(&self.mux, length);
            any = true;
        }
        any
    }

    fn events(&mut self, disturbed: bool) -> bool {
        let mut any = false;
        while let Some(event) = self.mux.poll_event() {
            check_events(&self.mux);
            any = true;
            match event {
                Event::RemoteOpen { incoming, .. } => self.incoming.push(incoming),
                Event::Withdrawn { incoming } => self.incoming.retain(|other| *other != incoming),
                Event::Failed(error) => assert!(disturbed, "{error}"),
                Event::Closed { channel, .. } => assert!(!self.mux.is_open(channel)),
                Event::Drained => {}
                Event::Opened { .. } | Event::Message { .. } if disturbed => {}
                Event::Opened { channel, handshake } => {
                    let own = self.own(channel);
                    assert_eq!(own.peer, None, "opened twice");
                    own.peer = Some(number(&handshake, 0));
                }
                Event::Message { channel, body, .. } => {
                    let own = self.own(channel);
                    assert_eq!(own.peer, Some(number(&body, 0)), "a message of another channel");
                    assert_eq!(own.received, number(&body, 4), "lost or reordered");
                    own.received += 1;
                }
            }
        }
        any
    }

    #[allow(clippy::expect_used)] // A fuzz target panics when an invariant does not hold.
    fn own(&mut self, channel: ChannelId) -> &mut Own {
        self.channels.values_mut().find(|own| own.id == channel).expect("a channel of ours")
    }

    fn agrees_with(&self, other: &Self) {
        for (tag, own) in self.channels.iter().filter(|(_, own)| self.mux.is_open(own.id)) {
            let Some(peer) = own.peer else { continue };
            let theirs = other.channels.get(&peer);
            assert!(theirs.is_some_and(|theirs| other.mux.is_open(theirs.id)), "{peer} is closed there");
            assert_eq!(theirs.and_then(|theirs| theirs.peer), Some(*tag), "paired with another");
            assert_eq!(theirs.map(|theirs| theirs.received), Some(own.sent), "messages of {tag}");
        }
    }
}

fn options(tag: Tag, unique: bool) -> ChannelOptions {
    let handshake = Bytes::copy_from_slice(&tag.to_le_bytes());
    ChannelOptions { unique, handshake, ..ChannelOptions::default() }
}

/// The number at `at`, which the other side has put there.
fn number(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(u32::MAX, u32::from_le_bytes)
}
