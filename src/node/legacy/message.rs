//! The messages inside broadcasts: parsed strictly, written in the exact key order of the originals.

use std::fmt;

use bytes::Bytes;

use super::json::{self, JsObject};
use super::{NodeId, Protocol};
use crate::limits;
use crate::store::Sha1;
use hyperswarm::crypto::PublicKey;

/// A message or request ID: 1 to 32 ASCII letters and digits (the originals draw 10).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WireId {
    length: u8,
    bytes: [u8; limits::WIRE_ID_MAX],
}

impl WireId {
    /// Parses an ID from a message.
    pub fn from_bytes(text: &[u8]) -> Option<Self> {
        if text.is_empty() || !text.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut bytes = [0; limits::WIRE_ID_MAX];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { length: text.len() as u8, bytes })
    }

    /// A fresh ID of 10 characters, as npm `kachery-p2p-daemon`'s `randomAlphaString(10)`.
    pub fn random(rng: &mut impl rand::Rng) -> Self {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut bytes = [0; limits::WIRE_ID_MAX];
        for byte in bytes.iter_mut().take(10) {
            // The remainder is below 62, so the character exists; the bias of 2^32 mod 62 does not matter.
            *byte = ALPHABET.get((rng.next_u32() % 62) as usize).copied().unwrap_or(b'A');
        }
        Self { length: 10, bytes }
    }

    /// The characters.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Display for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|b| write!(f, "{}", char::from(*b)))
    }
}

impl fmt::Debug for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireId({self})")
    }
}

/// A request that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRequest {
    /// The whole file (0.1.x).
    Whole {
        /// The file.
        sha1: Sha1,
    },
    /// Bytes `start..end` of the file (0.2.1), not empty, at most [`limits::V021_MAX_RANGE`] long.
    Range {
        /// The file.
        sha1: Sha1,
        /// First byte.
        start: u64,
        /// One past the last byte.
        end: u64,
    },
}

impl FileRequest {
    /// The file.
    pub fn sha1(&self) -> Sha1 {
        match self {
            Self::Whole { sha1 } | Self::Range { sha1, .. } => *sha1,
        }
    }
}

/// What a node asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestBody {
    File(FileRequest),
    /// To be answered with this error (0.2.1).
    Refused(String),
    /// Another type: the originals answer Received and nothing more.
    Other,
}

/// A message directed at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeMessage {
    Received {
        request: WireId,
    },
    /// File data, decoded. None: a response without valid data.
    Response {
        request: WireId,
        data: Option<Bytes>,
    },
    Error {
        request: WireId,
        text: String,
    },
    Finished {
        request: WireId,
    },
    /// A part of an answer that is not for us: its data is not decoded.
    Passing {
        request: WireId,
        part: AnswerPart,
    },
    /// Another type.
    Opaque,
}

/// What a part of an answer is, for those who pass it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerPart {
    /// Received.
    Word,
    /// File data.
    Data,
    /// Finished, or an error.
    End,
}

/// A broadcast message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Seeking {
        sha1: Sha1,
    },
    /// primaryNodeId and swarmName are the sender.
    Providing {
        sha1: Sha1,
        size: u64,
    },
    Request {
        to: NodeId,
        request: WireId,
        body: RequestBody,
    },
    ToNode {
        to: NodeId,
        message: NodeMessage,
    },
    /// Another type: relayed, not handled.
    Unknown,
}

/// A field that is missing or wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("missing or wrong field: {0}")]
pub struct WrongField(pub &'static str);

/// What a parser must know to judge a message.
#[derive(Clone, Copy)]
pub(crate) struct Context {
    pub(crate) protocol: Protocol,
    /// Our key: data for others is not decoded.
    pub(crate) own: PublicKey,
    /// The originator of the broadcast.
    pub(crate) from: NodeId,
}

impl Message {
    pub(crate) fn parse(message: &JsObject<'_>, context: Context) -> Result<Self, WrongField> {
        match message.string("type").ok_or(WrongField("message.type"))? {
            b"seeking" => Ok(Self::Seeking { sha1: file_key(message)? }),
            b"providing" => providing(message, context.from),
            b"requestToNode" => Ok(Self::Request {
                to: node_id(message, "toNodeId")?,
                request: wire_id(message)?,
                body: request_body(message, context.protocol)?,
            }),
            b"messageToNode" => {
                let to = node_id(message, "toNodeId")?;
                let body = message.object("messageBody").ok_or(WrongField("messageBody"))?;
                let for_us = to.key == context.own;
                Ok(Self::ToNode { to, message: if for_us { node_message(body)? } else { passing(body) } })
            }
            _ => Ok(Self::Unknown),
        }
    }

    /// Appends the canonical text. `from` is the sender (providing names it).
    pub(crate) fn write(&self, from: NodeId, out: &mut Vec<u8>) {
        match self {
            Self::Seeking { sha1 } => {
                out.extend_from_slice(b"{\"type\":\"seeking\",");
                write_file_key(*sha1, out);
                out.push(b'}');
            }
            Self::Providing { sha1, size } => {
                out.extend_from_slice(b"{\"type\":\"providing\",");
                write_file_key(*sha1, out);
                for name in ["primaryNodeId", "swarmName"] {
                    write_node_id(name, from, out);
                }
                out.extend_from_slice(
                    format!(",\"fileInfo\":{{\"size\":{size},\"sha1\":\"{sha1}\"}}}}").as_bytes(),
                );
            }
            Self::Request { to, request, body } => {
                out.extend_from_slice(b"{\"type\":\"requestToNode\"");
                write_node_id("toNodeId", *to, out);
                write_request_id(*request, out);
                out.extend_from_slice(b",\"requestBody\":");
                write_request_body(body, out);
                out.push(b'}');
            }
            Self::ToNode { to, message } => {
                out.extend_from_slice(b"{\"type\":\"messageToNode\"");
                write_node_id("toNodeId", *to, out);
                out.extend_from_slice(b",\"messageBody\":");
                write_node_message(message, out);
                out.push(b'}');
            }
            Self::Unknown => out.extend_from_slice(b"{}"),
        }
    }

    /// The node it is directed at; none: everybody.
    pub(crate) fn recipient(&self) -> Option<NodeId> {
        match self {
            Self::Request { to, .. } | Self::ToNode { to, .. } => Some(*to),
            Self::Seeking { .. } | Self::Providing { .. } | Self::Unknown => None,
        }
    }
}

/// The SHA-1 is parsed here, at the decoder: nothing else of it ever goes further (the originals put the text into
/// a shell command).
fn file_key(message: &JsObject<'_>) -> Result<Sha1, WrongField> {
    let key = message.object("fileKey").ok_or(WrongField("fileKey"))?;
    sha1(key.string("sha1")).ok_or(WrongField("fileKey.sha1"))
}

fn sha1(text: Option<&[u8]>) -> Option<Sha1> {
    std::str::from_utf8(text?).ok()?.parse().ok()
}

fn node_id(message: &JsObject<'_>, field: &'static str) -> Result<NodeId, WrongField> {
    message.string(field).and_then(|text| NodeId::from_bytes(text).ok()).ok_or(WrongField(field))
}

fn wire_id(message: &JsObject<'_>) -> Result<WireId, WrongField> {
    message.string("requestId").and_then(WireId::from_bytes).ok_or(WrongField("requestId"))
}

fn providing(message: &JsObject<'_>, from: NodeId) -> Result<Message, WrongField> {
    let sha1_sought = file_key(message)?;
    // The originals let anybody provide in anybody's name.
    for field in ["primaryNodeId", "swarmName"] {
        if node_id(message, field)? != from {
            return Err(WrongField(field));
        }
    }
    let info = message.object("fileInfo").ok_or(WrongField("fileInfo"))?;
    if info.field("sha1").is_some() && sha1(info.string("sha1")) != Some(sha1_sought) {
        return Err(WrongField("fileInfo.sha1"));
    }
    let size = info.field("size").and_then(|size| size.as_count()).ok_or(WrongField("fileInfo.size"))?;
    Ok(Message::Providing { sha1: sha1_sought, size })
}

fn request_body(message: &JsObject<'_>, protocol: Protocol) -> Result<RequestBody, WrongField> {
    let body = message.object("requestBody").ok_or(WrongField("requestBody"))?;
    if body.string("type") != Some(b"downloadFile") {
        return Ok(RequestBody::Other);
    }
    let sha1 = file_key(body)?;
    match protocol {
        Protocol::KacheryP2p3 => Ok(RequestBody::File(FileRequest::Whole { sha1 })),
        Protocol::Daemon02 => Ok(range(body, sha1)),
    }
}

/// The error texts are those of 0.2.1.
fn range(body: &JsObject<'_>, sha1: Sha1) -> RequestBody {
    let byte = |field| body.field(field).and_then(json::JsValue::as_count);
    let (Some(start), Some(end)) = (byte("startByte"), byte("endByte")) else {
        return RequestBody::Refused(
            "Missing or incorrect fields in request: startByte, endByte.".to_owned(),
        );
    };
    match end.checked_sub(start) {
        None | Some(0) => {
            RequestBody::Refused(format!("Expected startByte < endByte, but got: {start} {end}"))
        }
        Some(length) if length > limits::V021_MAX_RANGE => RequestBody::Refused(format!(
            "Too many bytes in single download request: {length} > {}",
            limits::V021_MAX_RANGE
        )),
        Some(_) => RequestBody::File(FileRequest::Range { sha1, start, end }),
    }
}

fn node_message(body: &JsObject<'_>) -> Result<NodeMessage, WrongField> {
    Ok(match body.string("type").ok_or(WrongField("messageBody.type"))? {
        b"requestToNodeReceived" => NodeMessage::Received { request: wire_id(body)? },
        b"requestToNodeResponse" => {
            let text = body.object("responseBody").and_then(|response| response.string("data_b64"));
            let data = text.and_then(|text| base64_simd::STANDARD.decode_to_vec(text).ok()).map(Bytes::from);
            NodeMessage::Response { request: wire_id(body)?, data }
        }
        b"requestToNodeError" => {
            let text = printable(body.string("errorString").unwrap_or_default());
            NodeMessage::Error { request: wire_id(body)?, text }
        }
        b"requestToNodeFinished" => NodeMessage::Finished { request: wire_id(body)? },
        _ => NodeMessage::Opaque,
    })
}

/// A message for another node. What is wrong with it is for that node to judge.
fn passing(body: &JsObject<'_>) -> NodeMessage {
    let part = match body.string("type") {
        Some(b"requestToNodeReceived") => AnswerPart::Word,
        Some(b"requestToNodeResponse") => AnswerPart::Data,
        Some(b"requestToNodeError" | b"requestToNodeFinished") => AnswerPart::End,
        _ => return NodeMessage::Opaque,
    };
    match wire_id(body) {
        Ok(request) => NodeMessage::Passing { request, part },
        Err(WrongField(_)) => NodeMessage::Opaque,
    }
}

/// A peer's text, fit for a log: short and without control characters.
pub(crate) fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(limits::PEER_ERROR_MAX).collect()
}

fn write_file_key(sha1: Sha1, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\"fileKey\":{{\"sha1\":\"{sha1}\"}}").as_bytes());
}

fn write_node_id(field: &str, id: NodeId, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b"\":\"");
    id.write(out);
    out.push(b'"');
}

fn write_request_id(id: WireId, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"requestId\":\"");
    out.extend_from_slice(id.as_bytes());
    out.push(b'"');
}

fn write_request_body(body: &RequestBody, out: &mut Vec<u8>) {
    let RequestBody::File(request) = body else {
        // We make no other requests.
        return out.extend_from_slice(b"{}");
    };
    out.extend_from_slice(b"{\"type\":\"downloadFile\",");
    write_file_key(request.sha1(), out);
    if let FileRequest::Range { start, end, .. } = request {
        out.extend_from_slice(format!(",\"startByte\":{start},\"endByte\":{end}").as_bytes());
    }
    out.push(b'}');
}

fn write_node_message(message: &NodeMessage, out: &mut Vec<u8>) {
    let (kind, request) = match message {
        NodeMessage::Received { request } => ("Received", request),
        NodeMessage::Response { request, .. } => ("Response", request),
        NodeMessage::Error { request, .. } => ("Error", request),
        NodeMessage::Finished { request } => ("Finished", request),
        // We send no other.
        NodeMessage::Passing { .. } | NodeMessage::Opaque => return out.extend_from_slice(b"{}"),
    };
    out.extend_from_slice(format!("{{\"type\":\"requestToNode{kind}\"").as_bytes());
    write_request_id(*request, out);
    match message {
        NodeMessage::Response { data, .. } => {
            out.extend_from_slice(b",\"responseBody\":{");
            if let Some(data) = data {
                out.extend_from_slice(b"\"data_b64\":\"");
                base64_simd::STANDARD.encode_append(data, out);
                out.push(b'"');
            }
            out.push(b'}');
        }
        NodeMessage::Error { text, .. } => {
            out.extend_from_slice(b",\"errorString\":");
            json::write_string(text.as_bytes(), out);
        }
        NodeMessage::Received { .. }
        | NodeMessage::Finished { .. }
        | NodeMessage::Passing { .. }
        | NodeMessage::Opaque => {}
    }
    out.push(b'}');
}
