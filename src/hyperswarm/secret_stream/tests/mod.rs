//! The recorded streams of `secret-stream.json`, and what a hostile peer can send.

mod hostile;
mod opening;
mod recorded;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use serde_json::Value;
use zeroize::Zeroizing;

use super::*;
use crate::crypto::PublicKey;
use crate::limits::MAX_SECRET_FRAME_BYTES;

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("a string").as_bytes()).expect("hex")
}

/// The keys of the recorded stream, for either role.
fn keys(initiator: bool) -> Keys {
    let handshake = &crate::crypto::vectors("secret-stream.json")["handshake"];
    let key = |name: &str| Zeroizing::new(<[u8; 32]>::try_from(hex(&handshake[name])).expect("32 bytes"));
    let (tx, rx) = if initiator { (key("tx"), key("rx")) } else { (key("rx"), key("tx")) };
    let handshake_hash = hex(&handshake["hash"]).try_into().expect("64 bytes");
    Keys { initiator, remote: PublicKey([0; 32]), handshake_hash, tx, rx }
}

/// A sender of one role, what it has sent, and the receiver of the other side.
struct Pipe {
    sender: Sender,
    wire: Vec<u8>,
    receiver: Receiver,
}

fn pipe() -> Pipe {
    let (sender, header) = Sender::new(&keys(true), &[9; HEADER_BYTES]);
    let receiver = Receiver::new(&keys(false), MAX_SECRET_FRAME_BYTES);
    Pipe { sender, wire: header.to_vec(), receiver }
}

impl Pipe {
    fn send(&mut self, message: &[u8]) -> &mut Self {
        self.sender.seal(message, &mut self.wire).expect("short enough");
        self
    }

    /// Delivers what was sent since the last time, whole.
    fn deliver(&mut self) -> Result<Vec<Bytes>, Error> {
        let wire = std::mem::take(&mut self.wire);
        self.receiver.receive(wire.into());
        drain(&mut self.receiver)
    }
}

fn drain(receiver: &mut Receiver) -> Result<Vec<Bytes>, Error> {
    let mut messages = Vec::new();
    while let Some(message) = receiver.next_message()? {
        messages.push(message);
    }
    Ok(messages)
}
