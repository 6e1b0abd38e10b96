//! Addresses and lists of them, as the npm packages ipv4-peers and @hyperswarm/dht (`peers.js`) write them.

use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of one entry of a list of nodes: id, ip, port.
const NODE_SIZE: usize = 38;

/// A node as others name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its id.
    pub id: [u8; 32],
    /// Where it answers.
    pub addr: SocketAddrV4,
}

/// A peer with the length it announced (hypercore's length; 0 when it announced none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerWithLength {
    /// Where it listens.
    pub addr: SocketAddrV4,
    /// What it announced.
    pub length: u64,
}

/// ip 4 bytes, port 2 bytes big endian.
pub fn encode_address(addr: SocketAddrV4) -> [u8; 6] {
    let [a, b, c, d] = addr.ip().octets();
    let [high, low] = addr.port().to_be_bytes();
    [a, b, c, d, high, low]
}

/// Exactly 6 bytes; a port of 0 is no address.
pub fn decode_address(bytes: &[u8]) -> Option<SocketAddrV4> {
    let [a, b, c, d, high, low] = *bytes else { return None };
    let port = u16::from_be_bytes([high, low]);
    (port != 0).then(|| SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
}

/// The `closerNodes` field: id and address of each node, one after the other.
pub fn encode_nodes<'a>(nodes: impl IntoIterator<Item = &'a NodeRecord>) -> Bytes {
    let mut out = BytesMut::new();
    for node in nodes {
        out.put_slice(&node.id);
        out.put_slice(&encode_address(node.addr));
    }
    out.freeze()
}

/// Decodes `closerNodes` as `ipv4-peers` does: a trailing partial entry is ignored, a port of 0 anywhere makes the
/// whole list empty.
pub fn decode_nodes(bytes: &[u8]) -> Vec<NodeRecord> {
    let (entries, _partial) = bytes.as_chunks::<NODE_SIZE>();
    let decode = |entry: &[u8; NODE_SIZE]| {
        let (id, addr) = entry.split_first_chunk::<32>()?;
        Some(NodeRecord { id: *id, addr: decode_address(addr)? })
    };
    entries.iter().map(decode).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// The `peers` list of a lookup answer. None, as in @hyperswarm/dht, if the length is no multiple of the entry size,
/// or any entry has port 0 or host 0.0.0.0.
pub fn decode_peers(bytes: &[u8]) -> Option<Vec<SocketAddrV4>> {
    let (entries, []) = bytes.as_chunks::<6>() else { return None };
    entries.iter().map(|entry| decode_peer(entry)).collect()
}

/// The `peersWithLength` list of a lookup answer; refused like [`decode_peers`].
pub fn decode_peers_with_length(bytes: &[u8]) -> Option<Vec<PeerWithLength>> {
    let (entries, []) = bytes.as_chunks::<14>() else { return None };
    let decode = |entry: &[u8; 14]| {
        let (addr, length) = entry.split_first_chunk::<6>()?;
        let length = u64::from_be_bytes(length.try_into().ok()?);
        Some(PeerWithLength { addr: decode_peer(addr)?, length })
    };
    entries.iter().map(decode).collect()
}

/// The `localPeers` list of a lookup answer: the last two octets and the port of hosts whose address begins with
/// `prefix`. Refused like [`decode_peers`], except that every host is allowed.
pub fn decode_local_peers(prefix: [u8; 2], bytes: &[u8]) -> Option<Vec<SocketAddrV4>> {
    let (entries, []) = bytes.as_chunks::<4>() else { return None };
    let [a, b] = prefix;
    let decode = |[c, d, high, low]: &[u8; 4]| decode_address(&[a, b, *c, *d, *high, *low]);
    entries.iter().map(decode).collect()
}

fn decode_peer(bytes: &[u8]) -> Option<SocketAddrV4> {
    decode_address(bytes).filter(|addr| !addr.ip().is_unspecified())
}
