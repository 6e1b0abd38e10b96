//! The receiving side of one connection: bytes in, verified messages out. Pure, so that it runs on the connection's
//! own task beside the machine.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use super::envelope::{parse_signature, verify};
use super::frame::{FrameDecoder, FrameError};
use super::json::{self, JsObject, JsValue, JsonError};
use super::message::{Context, Message, WrongField, printable};
use super::{NodeId, Protocol, WireId};
use crate::limits;
use hyperswarm::crypto::{PublicKey, Signature};

/// Which side opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// We dialled.
    Dialled,
    /// The peer dialled.
    Accepted,
}

impl Direction {
    /// The `from` of our `initial`: it names the *other* side's role.
    pub(crate) fn role_sent(self) -> &'static str {
        match self {
            Self::Dialled => "server",
            Self::Accepted => "client",
        }
    }

    fn role_expected(self) -> &'static str {
        match self {
            Self::Dialled => "client",
            Self::Accepted => "server",
        }
    }
}

/// What a connection's bytes mean. All but `Initial`, `PeerError`, `Unread` and `Known` are signed by the neighbour.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// The first frame: who the neighbour says it is.
    Initial(NodeId),
    /// The neighbour has our `initial`.
    Ready,
    /// Nothing but a sign of life.
    KeepAlive,
    /// A flooded message.
    Broadcast(Arc<Broadcast>),
    /// A flooded message that was received before: a sign of life and nothing else. No signature of it was looked at.
    Known,
    /// Signed, but not understood or not acceptable: dropped, counts as a sign of life. Why, for the log.
    Ignored(&'static str),
    /// More than is parsed, or than is verified, so not even its signature was looked at: dropped. Why, for the log. The
    /// connection goes on, or somebody whose message just passes here could have us relay it, a little larger, and be left
    /// by everybody.
    Unread(&'static str),
    /// The unsigned error frame of an original; the connection is over.
    PeerError(String),
}

/// What a message says it is, before anything of it is verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    /// Originator and ID, if it is a broadcast.
    pub(crate) name: Option<(NodeId, WireId)>,
    /// The node that answers and the request, if it is an answer to us.
    pub(crate) answers: Option<(NodeId, WireId)>,
    /// The node that asks, if it is a request to us or to a node behind us.
    pub(crate) asks: Option<NodeId>,
    /// True if somebody else than the neighbour signed it too.
    pub(crate) is_relayed: bool,
}

/// What is to be done with a message that is not verified yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It was received before.
    Known,
    /// It may cost us a verification.
    Verifying,
    /// There are too many.
    Dropping,
}

/// A received broadcast.
#[derive(Debug)]
pub struct Broadcast {
    pub(crate) from: NodeId,
    pub(crate) id: WireId,
    pub(crate) message: Message,
    pub(crate) exclude: Vec<NodeId>,
    /// Canonical text of `{"messageId":..,"message":..}`; a slice of the frame where that is large and canonical.
    pub(crate) text: Bytes,
    pub(crate) signature: Signature,
    verified: OnceLock<bool>,
}

impl Broadcast {
    /// True if the originator signed it; computed once, on whichever thread asks first.
    ///
    /// For a broadcast that its originator sent us itself this is left until it must be relayed: the neighbour's
    /// signature, by the same key, already covers the whole text including `fromNodeId`, so it proves as much to us
    /// as the inner one would. Others can only check the inner one, so it is checked before relaying.
    pub(crate) fn is_verified(&self) -> bool {
        *self.verified.get_or_init(|| verify(self.from, &self.text, &self.signature))
    }
}

/// Why a connection must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Framing.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The frame's text.
    #[error("frame: {0}")]
    Json(#[from] JsonError),
    /// The first frame is no acceptable `initial`.
    #[error("initial: {0}")]
    Initial(WrongField),
    /// Body or signature is missing.
    #[error("envelope: {0}")]
    Envelope(WrongField),
    /// Not signed by the node that `initial` named.
    #[error("envelope: wrong signature")]
    Signature,
}

/// Reads one connection.
pub struct ConnectionReader {
    protocol: Protocol,
    own: PublicKey,
    direction: Direction,
    decoder: FrameDecoder,
    neighbour: Option<NodeId>,
}

impl ConnectionReader {
    /// For a new connection. `own` is our key: file data for other nodes is not decoded.
    pub fn new(protocol: Protocol, own: PublicKey, direction: Direction) -> Self {
        Self { protocol, own, direction, decoder: FrameDecoder::default(), neighbour: None }
    }

    /// Read from the socket into this (`read_buf`), then take messages until there is none.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.decoder.buffer()
    }

    /// The next message, without a memory of those before and without a limit. None: more bytes are needed.
    pub fn next_message(&mut self) -> Result<Option<Incoming>, ReadError> {
        self.next_worthwhile(|_| Worth::Verifying)
    }

    /// The next message; None: more bytes are needed. After an error the connection must be closed.
    ///
    /// Costs one signature verification (0.2 ms for 64 KiB of file data), of a relayed message two, and none of a
    /// broadcast that is known (by its node and ID): in a channel of many members every neighbour brings a copy of
    /// every message. A forged copy does no more than a recorded `keepAlive`, whose text is constant. `worth` is asked once
    /// for each message that would be verified.
    pub(crate) fn next_worthwhile(
        &mut self,
        worth: impl FnOnce(&Claim) -> Worth,
    ) -> Result<Option<Incoming>, ReadError> {
        let Some(frame) = self.decoder.next_frame()? else { return Ok(None) };
        self.message(&frame, worth).map(Some)
    }

    fn message(&mut self, frame: &Bytes, worth: impl FnOnce(&Claim) -> Worth) -> Result<Incoming, ReadError> {
        let value = match json::parse(frame) {
            Err(JsonError::TooManyValues) if self.neighbour.is_some() => {
                return Ok(Incoming::Unread("too many values"));
            }
            Err(JsonError::TooDeep) if self.neighbour.is_some() => {
                return Ok(Incoming::Unread("nested too deeply"));
            }
            parsed => parsed?,
        };
        let Some(object) = value.as_object() else {
            // The original reader turns null, false, 0 and "" into {}; neither that nor anything else is signed.
            return Err(ReadError::Envelope(WrongField("body")));
        };
        if object.field("success") == Some(&JsValue::Bool(false)) {
            return Ok(Incoming::PeerError(printable(object.string("error").unwrap_or_default())));
        }
        match self.neighbour {
            None => {
                let node = self.initial(object).map_err(ReadError::Initial)?;
                self.neighbour = Some(node);
                Ok(Incoming::Initial(node))
            }
            Some(neighbour) => self.envelope(object, neighbour, frame, worth),
        }
    }

    fn initial(&self, frame: &JsObject<'_>) -> Result<NodeId, WrongField> {
        let is = |field: &'static str, wanted: &str| match frame.string(field) == Some(wanted.as_bytes()) {
            true => Ok(()),
            false => Err(WrongField(field)),
        };
        is("type", "initial")?;
        is("protocolVersion", self.protocol.name())?;
        is("from", self.direction.role_expected())?;
        let node = frame.string("nodeId").and_then(|id| NodeId::from_bytes(id).ok());
        node.filter(|node| self.protocol.dialect(node.style).is_some()).ok_or(WrongField("nodeId"))
    }

    fn envelope(
        &self,
        envelope: &JsObject<'_>,
        neighbour: NodeId,
        frame: &Bytes,
        worth: impl FnOnce(&Claim) -> Worth,
    ) -> Result<Incoming, ReadError> {
        let body = envelope.object("body").ok_or(ReadError::Envelope(WrongField("body")))?;
        match worth(&self.claim(body, neighbour)) {
            Worth::Known => return Ok(Incoming::Known),
            Worth::Dropping => return Ok(Incoming::Unread("too many messages")),
            Worth::Verifying => {}
        }
        let signature = envelope.string("signature").and_then(parse_signature);
        let signature = signature.ok_or(ReadError::Envelope(WrongField("signature")))?;
        if !verify(neighbour, &body.canonical_text(), &signature) {
            return Err(ReadError::Signature);
        }
        Ok(match body.string("type") {
            Some(b"ready") => Incoming::Ready,
            Some(b"keepAlive") => Incoming::KeepAlive,
            Some(b"broadcast") => match self.broadcast(body, neighbour, frame) {
                Ok(broadcast) => Incoming::Broadcast(Arc::new(broadcast)),
                Err(WrongField(field)) => Incoming::Ignored(field),
            },
            _ => Incoming::Ignored("type"),
        })
    }

    fn claim(&self, body: &JsObject<'_>, neighbour: NodeId) -> Claim {
        let name = name_of(body);
        let from = name.map(|(from, _)| from);
        let answers = from.zip(answered_request(body, self.own));
        let asks = from.filter(|_| is_request(body));
        Claim { name, answers, asks, is_relayed: from.is_some_and(|from| from != neighbour) }
    }

    fn broadcast(
        &self,
        body: &JsObject<'_>,
        neighbour: NodeId,
        frame: &Bytes,
    ) -> Result<Broadcast, WrongField> {
        let from = body.string("fromNodeId").and_then(|id| NodeId::from_bytes(id).ok());
        // Of another style: its signature could not be checked by those to whom it would be relayed.
        let from = from.filter(|from| from.style == neighbour.style).ok_or(WrongField("fromNodeId"))?;
        let inner = body.object("body").ok_or(WrongField("body.body"))?;
        let signature = body.string("signature").and_then(parse_signature);
        let message = inner.object("message").ok_or(WrongField("message"))?;
        let text = match inner.canonical_text() {
            std::borrow::Cow::Borrowed(text) if text.len() <= limits::BROADCAST_COPIED_BYTES => {
                Bytes::copy_from_slice(text)
            }
            std::borrow::Cow::Borrowed(text) => frame.slice_ref(text),
            std::borrow::Cow::Owned(text) => text.into(),
        };
        let context = Context { protocol: self.protocol, own: self.own, from };
        let broadcast = Broadcast {
            from,
            id: inner.string("messageId").and_then(WireId::from_bytes).ok_or(WrongField("messageId"))?,
            message: Message::parse(message, context)?,
            exclude: excluded(body),
            text,
            signature: signature.ok_or(WrongField("body.signature"))?,
            verified: OnceLock::new(),
        };
        match from == neighbour || broadcast.is_verified() {
            true => Ok(broadcast),
            false => Err(WrongField("body.signature")),
        }
    }
}

/// The originator and the ID of a broadcast, which name it.
fn name_of(body: &JsObject<'_>) -> Option<(NodeId, WireId)> {
    body.string("type").filter(|kind| *kind == b"broadcast")?;
    let from = NodeId::from_bytes(body.string("fromNodeId")?).ok()?;
    Some((from, body.object("body")?.string("messageId").and_then(WireId::from_bytes)?))
}

/// The request that a broadcast answers, if that is one of this node.
fn answered_request(body: &JsObject<'_>, own: PublicKey) -> Option<WireId> {
    let message = body.object("body")?.object("message")?;
    message.string("type").filter(|kind| *kind == b"messageToNode")?;
    NodeId::from_bytes(message.string("toNodeId")?).ok().filter(|to| to.key == own)?;
    message.object("messageBody")?.string("requestId").and_then(WireId::from_bytes)
}

/// True if a broadcast is a request.
fn is_request(body: &JsObject<'_>) -> bool {
    let message = body.object("body").and_then(|body| body.object("message"));
    message.is_some_and(|message| message.string("type") == Some(b"requestToNode"))
}

/// The nodes to which a relay shall not send it.
fn excluded(body: &JsObject<'_>) -> Vec<NodeId> {
    let Some(list) = body.object("excludeNodeIds") else { return Vec::new() };
    let ids = list.entries().iter().filter_map(|(id, _)| NodeId::from_bytes(id).ok());
    ids.take(limits::EXCLUDED_NODES_MAX).collect()
}
