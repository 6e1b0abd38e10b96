//! Caps of the v2 network: its records, multicast DNS, and the swarm of hyperswarm 2.14.

// ---- DHT ----

/// Bytes: value of a mutable or immutable record, as in @hyperswarm/hypersign, so that it fits a datagram.
pub const MAX_STORED_VALUE_BYTES: usize = 1000;
/// Bytes: salt of a mutable record, as in @hyperswarm/hypersign.
pub const MAX_SALT_BYTES: usize = 64;
/// Peers taken from one lookup answer; the original names at most 50, or 32 local ones.
pub const MAX_PEERS_PER_ANSWER: usize = 82;
/// Records: announcements (peers of topics) kept in the fresh generation, as in @hyperswarm/dht; twice this in all,
/// about 25 MiB at worst.
pub const MAX_PEER_RECORDS: usize = 65_536;
/// Records: announcements inside local networks, kept like the others.
pub const MAX_LOCAL_PEER_RECORDS: usize = 16_384;
/// Records of one topic, kept like the others: what an answer is chosen from. Far more than a channel has members, and
/// few enough to be sorted by host for each answer.
pub const MAX_RECORDS_PER_TOPIC: usize = 1024;
/// Local records in one lookup answer, as in @hyperswarm/dht.
pub const MAX_LOCAL_PEERS_ANSWERED: usize = 32;
/// Remote records in one lookup answer, less two for each local one, as in @hyperswarm/dht.
pub const MAX_PEERS_ANSWERED: usize = 50;
/// Values (mutable and immutable together) kept in the fresh generation, as in @hyperswarm/dht; twice this in all,
/// about 14 MiB.
pub const MAX_STORED_VALUES: usize = 5000;
/// Holepunch messages relayed at once for one host, or answers sent because of it; refilled in a minute. A node
/// with 24 peers behind one relay needs up to three times 24.
pub const HOLEPUNCH_BURST: u32 = 96;

// ---- multicast DNS ----

/// Bytes of one mDNS datagram that are read: ours have at most 1400; longer ones are cut and then do not decode.
pub const MDNS_PACKET: usize = 4096;
/// Records about hyperswarm topics in one mDNS packet: an original sends two per topic instance of a host.
pub const MDNS_RECORDS_KEPT: usize = 64;
/// Compression pointers followed in one DNS name; every jump goes backwards, so this only bounds the work.
pub const MDNS_NAME_JUMPS: usize = 16;
/// Topic instances named in one mDNS response: seven pairs of records are 1376 bytes, one Ethernet frame.
pub const MDNS_SERVICES_PER_PACKET: usize = 7;
/// Peers taken from one mDNS packet and not yet collected; a packet names no more than its kept records.
pub const MDNS_EVENTS: usize = 64;
/// Topics that wait for the mDNS task to take them; joining waits when there are more.
pub const MDNS_JOINS: usize = 8;

// ---- swarm and connections ----

/// Datagrams handled per wake-up of a socket, before the task looks after its timers and connections again.
pub const UDP_BATCH: usize = 64;
/// Connections of one topic, dialled and accepted, attempts included (hyperswarm `maxPeers`).
pub const SWARM_PEERS: usize = 24;
/// Connections of one topic that lost their place and are not closed yet. The application closes them at once; while
/// it does not, nobody else loses a place.
pub const SWARM_LEAVING: usize = SWARM_PEERS;
/// Places that dials leave to those who come, unless somebody has more than a fair share: so newcomers find room in a
/// channel of more members than places, and nobody dials to win back a place lost to them.
pub const PLACES_NOT_DIALLED: usize = 8;
/// Connections of one topic that do not give way to newcomers with an equal share: those that were of most use. The
/// others change hands however useful they look, because what looks useful strangers can do.
pub const PLACES_KEPT: usize = SWARM_PEERS / 2;
/// Networks remembered per topic because they won or lost a place lately: two of each exchange, of which there are at most 30 in
/// the minute that counts. The oldest is forgotten first.
pub const EXCHANGES_REMEMBERED: usize = 64;
/// Dials of one topic that run at once: dead candidates hold a dial for 10 s each, and dials occupy slots.
pub const DIALS_AT_ONCE: usize = 4;
/// Most dials at once to one host, however many of its ports are named to us.
pub const DIALS_PER_HOST: usize = 2;
/// Dials to one host that may fail in a row, and further ones only as time gives them back, one a second: anybody in
/// the DHT can name any number of ports of anybody. A laboratory behind one address has 60 or so.
pub const FAILED_DIALS_PER_HOST: u32 = 16;
/// Hosts whose failed dials are counted; with more of them no new host is dialled until one has its dials back.
pub const DIALLED_HOSTS: usize = 1024;
/// Candidates of one topic that the DHT named: anybody can announce any number.
pub const QUEUE_REMOTE: usize = 192;
/// Candidates of one topic that the local network named.
pub const QUEUE_LOCAL: usize = 64;
/// New candidates per topic and minute from the local network, whose packets nobody has to prove anything for.
pub const QUEUE_LOCAL_PER_MINUTE: usize = 32;
/// Banned addresses remembered per topic; beyond that the oldest is forgotten.
pub const QUEUE_BANNED: usize = 64;
