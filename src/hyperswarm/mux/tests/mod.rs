//! Two machines joined back to back, and one fed by hand.

mod batches;
mod limits;
mod operations;
mod pairing;
mod vectors;

use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::*;

/// A machine, what it has sent, and what has happened to it.
#[derive(Default)]
struct Side {
    mux: Mux,
    /// All messages sent so far.
    written: Vec<Bytes>,
    /// How many of them have been delivered.
    delivered: usize,
    events: Vec<Event>,
}

impl Side {
    fn new() -> Self {
        Self::default()
    }

    /// A side that decides about all opens of `protocol`.
    fn pairing(protocol: &str) -> Self {
        let mut side = Self::new();
        side.mux.pair(protocol, b"");
        side
    }

    fn open(&mut self, protocol: &str) -> ChannelId {
        self.mux.open(protocol, b"", options()).expect("opens")
    }

    fn send(&mut self, channel: ChannelId, kind: u64, body: &[u8]) {
        self.mux.send(channel, kind, body).expect("is open");
    }

    /// Takes what is to be sent.
    fn flush(&mut self) {
        self.written.extend(std::iter::from_fn(|| self.mux.poll_transmit()));
    }

    /// Takes all events, letting `answer` react to each.
    fn poll(&mut self, mut answer: impl FnMut(&mut Mux, &Event)) {
        while let Some(event) = self.mux.poll_event() {
            answer(&mut self.mux, &event);
            self.events.push(event);
        }
    }

    fn feed_bytes(&mut self, message: &[u8]) {
        self.mux.handle_message(Bytes::copy_from_slice(message)).expect("wants it");
        self.poll(|_, _| {});
    }

    fn feed(&mut self, hex: &str) {
        self.feed_bytes(&bytes(hex));
    }

    /// What was sent since the last call, in hexadecimal.
    fn replies(&mut self) -> Vec<String> {
        self.delivered = self.written.len();
        self.flush();
        self.written[self.delivered..].iter().map(|message| HEXLOWER.encode(message)).collect()
    }

    fn error(&self) -> Option<&Error> {
        self.events.iter().find_map(|event| match event {
            Event::Failed(error) => Some(error),
            _ => None,
        })
    }

    fn is_paired(&self, of: ChannelId) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Opened { channel, .. } if *channel == of))
    }

    fn bodies(&self) -> Vec<(u64, &[u8])> {
        let bodies = self.events.iter().filter_map(|event| match event {
            Event::Message { kind, body, .. } => Some((*kind, &**body)),
            _ => None,
        });
        bodies.collect()
    }

    /// The oldest open we were asked about.
    fn incoming(&self, number: usize) -> IncomingId {
        let opens = self.events.iter().filter_map(|event| match event {
            Event::RemoteOpen { incoming, .. } => Some(*incoming),
            _ => None,
        });
        opens.collect::<Vec<_>>()[number]
    }
}

/// Delivers from one to the other; whether there was anything.
fn carry(from: &mut Side, to: &mut Side, answer: &mut impl FnMut(&mut Mux, &Event)) -> bool {
    from.flush();
    let mut any = false;
    while from.delivered < from.written.len() && to.mux.wants_message() {
        to.mux.handle_message(from.written[from.delivered].clone()).expect("wants it");
        from.delivered += 1;
        to.poll(&mut *answer);
        any = true;
    }
    any
}

/// Carries everything both ways; `answer` reacts to the events of both.
fn settle_with(a: &mut Side, b: &mut Side, mut answer: impl FnMut(&mut Mux, &Event)) {
    while carry(a, b, &mut answer) | carry(b, a, &mut answer) {}
}

fn settle(a: &mut Side, b: &mut Side) {
    settle_with(a, b, |_, _| {});
}

fn options() -> ChannelOptions {
    ChannelOptions { message_types: 2, ..ChannelOptions::default() }
}

/// Several channels with the same key.
fn shared() -> ChannelOptions {
    ChannelOptions { unique: false, ..options() }
}

fn bytes(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).expect("hex")
}

/// The open of a channel without id and handshake, as the peer sends it.
fn open_frame(channel: u64, protocol: &[u8], id: &[u8], handshake: &[u8]) -> Bytes {
    let mut writer = crate::codec::compact::Writer::new();
    writer.uint(0).uint(1).uint(channel).buffer(protocol).buffer(id).raw(handshake);
    writer.finish()
}
