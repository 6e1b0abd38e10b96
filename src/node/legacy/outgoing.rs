//! Frames to be sent, prepared (base64, signatures) on whichever thread has time, once for all neighbours.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::envelope::{Signer, write_signature};
pub(crate) use super::message::AnswerPart;
use super::message::{Message, NodeMessage};
use super::reader::{Broadcast, Direction};
use super::{NodeId, Protocol, Style, WireId, frame, json};
use crate::limits;
use hyperswarm::crypto::Signature;
use hyperswarm::crypto::v2::hypersign::SignableError;

/// A frame that waits to be signed and sent. Shared by all connections to which it goes; [`Self::prepare`] does the
/// work once, and the others get the same bytes.
#[derive(Debug)]
pub struct OutgoingFrame {
    content: Content,
    prepared: OnceLock<Option<Bytes>>,
}

#[derive(Debug)]
pub(crate) enum Content {
    Initial {
        protocol: Protocol,
        id: NodeId,
        direction: Direction,
    },
    Ready(Style),
    KeepAlive(Style),
    /// Ours: both signatures are made.
    Own {
        from: NodeId,
        id: WireId,
        message: Message,
        exclude: Option<Vec<NodeId>>,
    },
    /// Another node's, passed on: its signature is checked first if nobody has yet.
    Relay {
        broadcast: Arc<Broadcast>,
        exclude: Option<Vec<NodeId>>,
    },
}

/// An answer of one node to another, a part of which passes here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) provider: NodeId,
    pub(crate) asker: NodeId,
    pub(crate) request: WireId,
    pub(crate) part: AnswerPart,
}

impl OutgoingFrame {
    pub(crate) fn new(content: Content) -> Arc<Self> {
        Arc::new(Self { content, prepared: OnceLock::new() })
    }

    /// The bytes to write to the socket; None: nothing must be sent (a relayed broadcast with a wrong signature, a text
    /// too long for a 0.1.2 signature, or a frame at which its reader would close the connection). Up to 0.8 ms of
    /// computing for 64 KiB of file data; call it on several threads for several frames, but write the frames of a
    /// connection in the order of their `Output::Send`.
    pub fn prepare(&self, signer: &Signer) -> Option<Bytes> {
        let short = |frame: &Bytes| frame.len() <= limits::FRAME_MAX;
        self.prepared.get_or_init(|| self.content.build(signer).ok().flatten().filter(short)).clone()
    }

    /// True if [`Self::prepare`] has nothing left to do.
    pub(crate) fn is_prepared(&self) -> bool {
        self.prepared.get().is_some()
    }

    /// Roughly its bytes on the wire, for queue bounds; the same before and after `prepare`.
    pub fn weight(&self) -> usize {
        match &self.content {
            Content::Initial { .. } | Content::Ready(_) | Content::KeepAlive(_) => 200,
            Content::Relay { broadcast, exclude } => {
                600 + broadcast.text.len() + exclude.as_ref().map_or(0, |nodes| nodes.len() * 96)
            }
            Content::Own { message, exclude, .. } => {
                let text = match message {
                    Message::ToNode { message: NodeMessage::Response { data: Some(data), .. }, .. } => {
                        data.len() / 3 * 4
                    }
                    Message::ToNode { message: NodeMessage::Error { text, .. }, .. } => text.len(),
                    _ => 0,
                };
                900 + text + exclude.as_ref().map_or(0, |nodes| nodes.len() * 96)
            }
        }
    }

    /// True if it is file data of ours.
    pub(crate) fn is_own_data(&self) -> bool {
        let Content::Own { message: Message::ToNode { message, .. }, .. } = &self.content else {
            return false;
        };
        matches!(message, NodeMessage::Response { data: Some(_), .. })
    }

    /// True if it is another node's, so that it may be dropped for a slow neighbour.
    pub(crate) fn is_relay(&self) -> bool {
        matches!(self.content, Content::Relay { .. })
    }

    /// The answer to which it belongs, if it is another node's and does.
    pub(crate) fn answer(&self) -> Option<Answer> {
        let Content::Relay { broadcast, .. } = &self.content else { return None };
        let Message::ToNode { to, message: NodeMessage::Passing { request, part } } = broadcast.message
        else {
            return None;
        };
        Some(Answer { provider: broadcast.from, asker: to, request, part })
    }
}

impl Content {
    fn build(&self, signer: &Signer) -> Result<Option<Bytes>, SignableError> {
        match self {
            Self::Initial { protocol, id, direction } => Ok(Some(initial(*protocol, *id, *direction))),
            Self::Ready(style) => signed(signer, *style, 64, |out| {
                out.extend_from_slice(b"{\"type\":\"ready\"}");
                Ok(())
            })
            .map(Some),
            Self::KeepAlive(style) => signed(signer, *style, 64, |out| {
                out.extend_from_slice(b"{\"type\":\"keepAlive\"}");
                Ok(())
            })
            .map(Some),
            Self::Own { from, id, message, exclude } => {
                let size = 1024 + message_size(message);
                let write = |out: &mut Vec<u8>| {
                    let start = broadcast_start(*from, out);
                    write_inner(*from, *id, message, out);
                    let signature = signer.sign(from.style, out.get(start..).unwrap_or_default())?;
                    broadcast_end(&signature, exclude.as_deref(), out);
                    Ok(())
                };
                signed(signer, from.style, size, write).map(Some)
            }
            Self::Relay { broadcast, .. } if !broadcast.is_verified() => Ok(None),
            Self::Relay { broadcast, exclude } => {
                let write = |out: &mut Vec<u8>| {
                    broadcast_start(broadcast.from, out);
                    out.extend_from_slice(&broadcast.text);
                    broadcast_end(&broadcast.signature, exclude.as_deref(), out);
                    Ok(())
                };
                signed(signer, broadcast.from.style, 1024 + broadcast.text.len(), write).map(Some)
            }
        }
    }
}

fn message_size(message: &Message) -> usize {
    match message {
        Message::ToNode { message: NodeMessage::Response { data: Some(data), .. }, .. } => {
            data.len() / 3 * 4 + 4
        }
        _ => 512,
    }
}

/// `{"messageId":..,"message":..}`: what the originator signs.
fn write_inner(from: NodeId, id: WireId, message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"messageId\":\"");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    message.write(from, out);
    out.push(b'}');
}

/// Up to where the inner text begins, which is returned.
fn broadcast_start(from: NodeId, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(b"{\"type\":\"broadcast\",\"fromNodeId\":\"");
    from.write(out);
    out.extend_from_slice(b"\",\"body\":");
    out.len()
}

fn broadcast_end(signature: &Signature, exclude: Option<&[NodeId]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"signature\":\"");
    write_signature(signature, out);
    out.push(b'"');
    if let Some(nodes) = exclude {
        out.extend_from_slice(b",\"excludeNodeIds\":{");
        for (at, node) in nodes.iter().enumerate() {
            out.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
            node.write(out);
            out.extend_from_slice(b"\":true");
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// Room for the length prefix of a frame, which is known last and written in front.
const PREFIX_ROOM: usize = 12;

/// A whole frame around a body. Everything is written once into one buffer; what is signed are slices of it.
pub(super) fn signed(
    signer: &Signer,
    style: Style,
    size: usize,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), SignableError>,
) -> Result<Bytes, SignableError> {
    let mut out = Vec::with_capacity(PREFIX_ROOM + 200 + size);
    out.resize(PREFIX_ROOM, b' ');
    out.extend_from_slice(b"{\"body\":");
    let start = out.len();
    body(&mut out)?;
    let signature = signer.sign(style, out.get(start..).unwrap_or_default())?;
    out.extend_from_slice(b",\"signature\":\"");
    write_signature(&signature, &mut out);
    out.extend_from_slice(b"\"}");
    if !out.is_ascii() {
        let text = out.split_off(PREFIX_ROOM);
        return Ok(frame::encode(&json::escape_non_ascii(text)));
    }
    let prefix = format!("{}#", out.len() - PREFIX_ROOM);
    let begin = PREFIX_ROOM.saturating_sub(prefix.len());
    if let Some(room) = out.get_mut(begin..PREFIX_ROOM) {
        room.copy_from_slice(prefix.as_bytes());
    }
    Ok(Bytes::from(out).slice(begin..))
}

pub(super) fn initial(protocol: Protocol, id: NodeId, direction: Direction) -> Bytes {
    let text = format!(
        "{{\"type\":\"initial\",\"from\":\"{}\",\"nodeId\":\"{id}\",\"protocolVersion\":\"{}\"}}",
        direction.role_sent(),
        protocol.name()
    );
    frame::encode(text.as_bytes())
}
