//! Bodies of the fuzz targets of this room. Each says whether the bytes were a value.

use std::fmt::Debug;

use bytes::Bytes;

use super::compact::{DecodeError, Reader, Writer};
use super::v2::{self, mdns};
use super::v4;

/// Every type of compact-encoding, one after the other from where the one before ended.
pub fn compact(data: &[u8]) -> bool {
    let mut decoded = 0;
    let (first, data) = data.split_first().unwrap_or((&0, data));
    let kinds = COMPACT.iter().cycle().skip(usize::from(*first) % COMPACT.len());
    let mut reader = Reader::new(data);
    for kind in kinds.take(COMPACT.len()) {
        let before = reader.remaining();
        if kind(&mut reader).is_err() {
            break;
        }
        assert!(reader.remaining() <= before);
        decoded += 1;
    }
    decoded > 3
}

/// Reads a value of one type; what it encodes to must decode to the same.
type Kind = fn(&mut Reader<'_>) -> Result<(), DecodeError>;

const COMPACT: &[Kind] = &[
    |r| again(r, |r| r.uint("uint"), |w, value| w.uint(*value)),
    |r| again(r, |r| r.int("int"), |w, value| w.int(*value)),
    |r| again(r, |r| r.uint8("uint8"), |w, value| w.uint8(*value)),
    |r| again(r, |r| r.uint16("uint16"), |w, value| w.uint16(*value)),
    |r| again(r, |r| r.uint24("uint24"), |w, value| w.uint24(*value)),
    |r| again(r, |r| r.uint32("uint32"), |w, value| w.uint32(*value)),
    |r| again(r, |r| r.uint40("uint40"), |w, value| w.uint40(*value)),
    |r| again(r, |r| r.uint48("uint48"), |w, value| w.uint48(*value)),
    |r| again(r, |r| r.uint56("uint56"), |w, value| w.uint56(*value)),
    |r| again(r, |r| r.uint64("uint64"), |w, value| w.uint64(*value)),
    |r| again(r, |r| r.bool("bool"), |w, value| w.bool(*value)),
    |r| again(r, |r| r.fixed::<32>("fixed32"), |w, value| w.raw(value)),
    |r| again(r, |r| r.buffer("buffer").map(<[u8]>::to_vec), |w, value| w.buffer(value)),
    |r| {
        let read = |r: &mut Reader<'_>| Ok(r.optional_buffer("optionalBuffer")?.map(<[u8]>::to_vec));
        again(r, read, |w, value: &Option<Vec<u8>>| w.optional_buffer(value.as_deref()))
    },
    |r| again(r, |r| r.string("string").map(|text| text.into_owned()), |w, value| w.string(value)),
    |r| {
        let read = |r: &mut Reader<'_>| r.array("array", |r| r.ip_address("item"));
        again(r, read, |w, value| w.array(value, |w, item| drop_ref(w.ip_address(*item))))
    },
    |r| {
        let inner = |r: &mut Reader<'_>| r.array("inner", |r| r.uint("item"));
        let read = move |r: &mut Reader<'_>| r.array("outer", inner);
        let write = |w: &mut Writer, item: &Vec<u64>| drop_ref(w.array(item, |w, n| drop_ref(w.uint(*n))));
        again(r, read, |w, value: &Vec<Vec<u64>>| w.array(value, write))
    },
    |r| again(r, |r| r.ip("ip"), |w, value| w.ip(*value)),
    |r| again(r, |r| r.ipv4_address("ipv4Address"), |w, value| w.ipv4_address(*value)),
    |r| again(r, |r| r.ipv6_address("ipv6Address"), |w, value| w.ipv6_address(*value)),
    |r| r.bitfield("bitfield").map(drop),
    |r| r.frame("frame").and_then(|mut inside| inside.uint("inside").map(drop)),
];

/// For closures that have to give nothing.
fn drop_ref(_: &mut Writer) {}

fn again<T: PartialEq + Debug>(
    reader: &mut Reader<'_>,
    read: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
    write: impl for<'w> Fn(&'w mut Writer, &T) -> &'w mut Writer,
) -> Result<(), DecodeError> {
    let value = read(reader)?;
    let mut writer = Writer::new();
    write(&mut writer, &value);
    let bytes = writer.finish();
    assert_eq!(read(&mut Reader::new(&bytes)).as_ref(), Ok(&value));
    Ok(())
}

/// Messages and values of the DHT of generation v2.
pub fn dht_v2(data: &[u8]) -> bool {
    v2::decode_nodes(data);
    v2::decode_peers(data);
    v2::decode_peers_with_length(data);
    v2::decode_local_peers([10, 0], data);
    v2_again(data, v2::Holepunch::decode, v2::Holepunch::encode);
    v2_again(data, v2::PeersInput::decode, v2::PeersInput::encode);
    v2_again(data, v2::PeersOutput::decode, v2::PeersOutput::encode);
    v2_again(data, v2::Mutable::decode, v2::Mutable::encode);
    v2_again(data, v2::Message::decode, v2::Message::encode)
}

/// What decodes is what its encoding decodes to.
fn v2_again<T: PartialEq + Debug>(
    data: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, v2::DecodeError>,
    encode: impl Fn(&T) -> Bytes,
) -> bool {
    let Ok(value) = decode(data) else { return false };
    assert_eq!(decode(&encode(&value)).as_ref(), Ok(&value));
    true
}

/// Multicast DNS packets of hyperswarm.
pub fn mdns(data: &[u8]) -> bool {
    let Ok(message) = mdns::Message::decode(data) else { return false };
    assert_eq!(mdns::Message::decode(&message.encode()), Ok(message));
    true
}

/// A datagram of the DHT of generation v4 and the value in it, or such a value by itself.
pub fn dht_v4(data: &[u8]) -> bool {
    let Ok(packet) = v4::Packet::decode(data) else { return values_v4(data) };
    let bytes = encoded(|out| packet.encode(out));
    assert_eq!(v4::Packet::decode(&bytes), Ok(packet));
    let (v4::Packet::Request(v4::Request { value, .. }) | v4::Packet::Reply(v4::Reply { value, .. })) =
        packet;
    v4::decode_nat_port(value);
    v4::decode_down_hint(value);
    v4::decode_ping_delay(value);
    let _ = value.is_some_and(values_v4);
    true
}

/// The bytes as a value of each kind. Gives whether they were one.
fn values_v4(data: &[u8]) -> bool {
    macro_rules! again {
        ($($kind:ident)*) => {
            [$(v4::$kind::decode(data).is_ok_and(|value| {
                let bytes = encoded(|out| value.encode(out));
                assert_eq!(v4::$kind::decode(&bytes), Ok(value));
                true
            })),*]
        };
    }
    let understood = again!(
        Handshake NoisePayload Holepunch HolepunchPayload Peer Announce MutablePut MutableValue
        MutableSignable PluginRequest
    );
    understood.contains(&true) | lookup_v4(data)
}

/// The bytes as the reply to a lookup.
fn lookup_v4(data: &[u8]) -> bool {
    let Ok(reply) = v4::LookupReply::decode(data) else { return false };
    let records: Vec<_> = reply.peers.iter().map(|peer| encoded(|out| peer.encode(out))).collect();
    assert_eq!(records.len(), reply.peers.len());
    let bytes =
        encoded(|out| v4::encode_lookup_reply(records.iter().map(|record| &**record), reply.bump, out));
    let again = v4::LookupReply::decode(&bytes);
    assert!(again.is_ok_and(|again| again.bump == reply.bump && again.peers.iter().eq(reply.peers.iter())));
    true
}

fn encoded(encode: impl FnOnce(&mut Writer)) -> Bytes {
    let mut out = Writer::new();
    encode(&mut out);
    out.finish()
}
