//! The multicast DNS packets by which hyperswarm v2 nodes of one local network find each other: what
//! `@hyperswarm/discovery` 1.11.5 sends through `multicast-dns` 7.2.5 and `dns-packet`.
//!
//! This is not a general DNS codec (the crates for that reserve memory for the record counts that a packet claims,
//! up to 65535 each in a packet of 12 bytes). The whole packet is walked with bounds, compressed names included, and
//! only what speaks about `*.hyperswarm.local` is kept; everything else on the group is somebody else's.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use data_encoding::HEXLOWER;

use crate::limits::v2::{MDNS_NAME_JUMPS, MDNS_RECORDS_KEPT};
use crate::topic::Topic;

/// Where the packets go: group and port.
pub const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);

const FLAG_RESPONSE: u16 = 0x8000;
const FLAGS_ANSWER: u16 = 0x8400;
const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;
const TYPE_SRV: u16 = 33;
const CLASS_IN: u16 = 1;
const SUFFIX: &str = ".hyperswarm.local";
const REFERRER: &str = "referrer.hyperswarm.local";
const ID_PREFIX: &[u8] = b"id=";
/// Longest name in bytes as text, by RFC 1035.
const NAME_MAX: usize = 255;

/// A topic as it appears in names: its first 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicName(pub [u8; 20]);

impl From<Topic> for TopicName {
    fn from(topic: Topic) -> Self {
        let [a @ .., _, _, _, _, _, _, _, _, _, _, _, _] = topic.0;
        Self(a)
    }
}

/// 32 random bytes by which a topic instance recognises its own packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceId(pub [u8; 32]);

/// A decoded packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who is there?
    Query(Query),
    /// I am.
    Response(Response),
}

/// Asks for the members of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// One SRV question each.
    pub questions: Vec<TopicName>,
    /// Instances that need not answer (the original sends none, but honours them).
    pub known: Vec<(TopicName, InstanceId)>,
}

/// Names members of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// One SRV record each, with the TXT record that belongs to it.
    pub services: Vec<Service>,
    /// Whom this answers (the record `referrer.hyperswarm.local`, which receivers ignore).
    pub asker: Option<Ipv4Addr>,
}

/// A member of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Of which topic.
    pub name: TopicName,
    /// TCP and UDP port.
    pub port: u16,
    /// Its address; 0.0.0.0 stands for the sender's.
    pub target: Ipv4Addr,
    /// Its own mark, if it sent one.
    pub id: Option<InstanceId>,
}

/// Why a packet was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The packet ends inside the field.
    #[error("truncated mDNS packet: {0}")]
    Truncated(&'static str),
    /// A name that is too long, loops, or uses a reserved label type.
    #[error("bad name in mDNS packet: {0}")]
    Name(&'static str),
    /// More records about hyperswarm topics than any node sends.
    #[error("mDNS packet has more than {MDNS_RECORDS_KEPT} hyperswarm records")]
    TooManyRecords,
}

impl Message {
    /// Reads one datagram (`dns-packet` `decode`). Records that concern no hyperswarm topic are skipped; bytes after
    /// the last record are ignored, as upstream does.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { packet, at: 0, end: packet.len() };
        reader.u16("transaction id")?;
        let flags = reader.u16("flags")?;
        let questions = reader.u16("question count")?;
        let answers = reader.u16("answer count")?;
        let authorities = reader.u16("authority count")?;
        let additionals = reader.u16("additional count")?;
        let mut found = Found::default();
        for _ in 0..questions {
            found.question(&mut reader)?;
        }
        for _ in 0..answers {
            found.answer(&mut reader)?;
        }
        // Upstream reads only the answers; the rest has to be well formed, no more.
        for _ in 0..u32::from(authorities) + u32::from(additionals) {
            reader.name("record name")?;
            reader.record("record")?;
        }
        Ok(if flags & FLAG_RESPONSE == 0 {
            Self::Query(Query { questions: found.questions, known: found.ids })
        } else {
            Self::Response(found.into_response())
        })
    }

    /// The bytes to send (`dns-packet` `encode`: nothing compressed, every TTL 0).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self {
            Self::Query(query) => {
                write_header(&mut out, 0, query.questions.len(), query.known.len());
                for name in &query.questions {
                    write_name(&mut out, &name.text());
                    out.extend(TYPE_SRV.to_be_bytes());
                    out.extend(CLASS_IN.to_be_bytes());
                }
                for (name, id) in &query.known {
                    write_id(&mut out, *name, *id);
                }
            }
            Self::Response(response) => {
                let ids = response.services.iter().filter(|s| s.id.is_some()).count();
                let records = response.services.len() + ids + usize::from(response.asker.is_some());
                write_header(&mut out, FLAGS_ANSWER, 0, records);
                for service in &response.services {
                    write_service(&mut out, service);
                }
                if let Some(asker) = response.asker {
                    write_record(&mut out, REFERRER, TYPE_A, &asker.octets());
                }
            }
        }
        out
    }
}

impl TopicName {
    fn text(self) -> String {
        HEXLOWER.encode(&self.0) + SUFFIX
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let hex = text.strip_suffix(SUFFIX.as_bytes())?;
        let bytes = HEXLOWER.decode(hex).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

fn write_header(out: &mut Vec<u8>, flags: u16, questions: usize, answers: usize) {
    // Both counts are bounded by our own number of topics; a count that did not fit could only be a bug, and
    // saturating makes it visible to every decoder.
    let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    out.extend([0, 0]);
    out.extend(flags.to_be_bytes());
    out.extend(count(questions));
    out.extend(count(answers));
    out.extend([0; 4]);
}

fn write_service(out: &mut Vec<u8>, service: &Service) {
    let mut data = Vec::with_capacity(24);
    data.extend([0; 4]); // priority, weight
    data.extend(service.port.to_be_bytes());
    write_name(&mut data, &service.target.to_string());
    write_record(out, &service.name.text(), TYPE_SRV, &data);
    if let Some(id) = service.id {
        write_id(out, service.name, id);
    }
}

fn write_id(out: &mut Vec<u8>, name: TopicName, id: InstanceId) {
    let mut data = vec![35]; // length of the one string
    data.extend(ID_PREFIX);
    data.extend(id.0);
    write_record(out, &name.text(), TYPE_TXT, &data);
}

fn write_record(out: &mut Vec<u8>, name: &str, kind: u16, data: &[u8]) {
    write_name(out, name);
    out.extend(kind.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    out.extend([0; 4]); // TTL
    // No record of ours is longer than a name and a few numbers.
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.') {
        // Our labels are 40 characters at most.
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
}

/// The records of a packet that concern us.
#[derive(Default)]
struct Found {
    questions: Vec<TopicName>,
    services: Vec<(TopicName, u16, Ipv4Addr)>,
    ids: Vec<(TopicName, InstanceId)>,
    asker: Option<Ipv4Addr>,
}

impl Found {
    fn question(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let name = reader.name("question name")?;
        let kind = reader.u16("question type")?;
        reader.u16("question class")?;
        if let (TYPE_SRV, Some(name)) = (kind, TopicName::parse(&name)) {
            self.questions.push(name);
        }
        self.check()
    }

    fn answer(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let name = reader.name("answer name")?;
        let (kind, mut data) = reader.record("answer")?;
        if (kind, name.as_slice()) == (TYPE_A, REFERRER.as_bytes()) {
            self.asker = Some(Ipv4Addr::from(data.array::<4>("address record")?));
        }
        let Some(name) = TopicName::parse(&name) else { return Ok(()) };
        match kind {
            TYPE_SRV => {
                data.take(4, "SRV priority and weight")?;
                let port = data.u16("SRV port")?;
                let target = data.name("SRV target")?;
                // A host name as target would have to be resolved; no implementation sends one.
                if let Some(target) = std::str::from_utf8(&target).ok().and_then(|t| t.parse().ok()) {
                    self.services.push((name, port, target));
                }
            }
            TYPE_TXT => {
                let text = data.first_string()?;
                if let Some(id) = text.strip_prefix(ID_PREFIX).and_then(|id| id.try_into().ok()) {
                    self.ids.push((name, InstanceId(id)));
                }
            }
            _ => {}
        }
        self.check()
    }

    fn check(&self) -> Result<(), DecodeError> {
        let kept = self.questions.len() + self.services.len() + self.ids.len();
        if kept > MDNS_RECORDS_KEPT { Err(DecodeError::TooManyRecords) } else { Ok(()) }
    }

    /// The n-th SRV of a name belongs to the n-th TXT of that name (upstream compares every SRV with the first TXT
    /// only, and so hides a second instance of one host behind the first).
    fn into_response(self) -> Response {
        let nth_id = |at: usize, name: TopicName| {
            let nth = self.services.iter().take(at).filter(|s| s.0 == name).count();
            let mut ids = self.ids.iter().filter(|id| id.0 == name).map(|id| id.1);
            ids.nth(nth)
        };
        let services = self.services.iter().enumerate();
        let services =
            services.map(|(at, &(name, port, target))| Service { name, port, target, id: nth_id(at, name) });
        Response { services: services.collect(), asker: self.asker }
    }
}

/// Reads forward up to `end`; names may point back into the whole packet.
struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.end);
        let bytes = end.and_then(|end| self.packet.get(self.at..end)).ok_or(DecodeError::Truncated(what))?;
        self.at += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        self.take(N, what)?.try_into().map_err(|_| DecodeError::Truncated(what))
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    /// The part of a record after its name: type and a reader over its data, which cannot leave the record.
    fn record(&mut self, what: &'static str) -> Result<(u16, Reader<'a>), DecodeError> {
        let kind = self.u16(what)?;
        self.take(6, what)?; // class, TTL
        let length = usize::from(self.u16(what)?);
        let at = self.at;
        self.take(length, what)?;
        Ok((kind, Reader { packet: self.packet, at, end: self.at }))
    }

    /// The first character string of a TXT record; empty if it has none.
    fn first_string(&mut self) -> Result<&'a [u8], DecodeError> {
        if self.at == self.end {
            return Ok(&[]);
        }
        let length = self.u8("TXT string")?;
        self.take(usize::from(length), "TXT string")
    }

    /// A name as text with dots. A pointer must point before the name it continues, and further pointers before that
    /// one, so that no packet can make us loop.
    fn name(&mut self, what: &'static str) -> Result<Vec<u8>, DecodeError> {
        let mut text = Vec::new();
        let mut lowest = self.at;
        let mut jumps = 0;
        // Where reading goes on after a pointer: only the first one moves our own position.
        let mut behind: Option<(usize, usize)> = None;
        let result = loop {
            let length = self.u8(what)?;
            match length {
                0 => break Ok(text),
                1..=63 => {
                    let label = self.take(usize::from(length), what)?;
                    if !text.is_empty() {
                        text.push(b'.');
                    }
                    text.extend(label);
                    if text.len() > NAME_MAX {
                        break Err(DecodeError::Name(what));
                    }
                }
                0xc0.. => {
                    let target = usize::from(length & 0x3f) << 8 | usize::from(self.u8(what)?);
                    jumps += 1;
                    if target >= lowest || jumps > MDNS_NAME_JUMPS {
                        break Err(DecodeError::Name(what));
                    }
                    behind.get_or_insert((self.at, self.end));
                    (self.at, self.end, lowest) = (target, self.packet.len(), target);
                }
                _ => break Err(DecodeError::Name(what)),
            }
        };
        if let Some(behind) = behind {
            (self.at, self.end) = behind;
        }
        result
    }
}
