//! Every cap a stranger could push against: value, unit, reason. Nothing is capped elsewhere, and each entry has
//! a test that pushes it to its limit and one beyond.

use std::time::Duration;

// ---- hyperswarm: DHT and mDNS ----

/// Bytes: longest DHT datagram looked at. The longest honest answer (20 closer nodes and a record of 1000 bytes with
/// salt, signature and token) has about 1,990; longer ones are dropped unread.
pub const MAX_DHT_DATAGRAM_BYTES: usize = 2048;
/// Bytes: value of a mutable or immutable record, as in @hyperswarm/hypersign, so that it fits a datagram.
pub const MAX_STORED_VALUE_BYTES: usize = 1000;
/// Bytes: salt of a mutable record, as in @hyperswarm/hypersign.
pub const MAX_SALT_BYTES: usize = 64;
/// Nodes: one bucket of the routing table, and the "k closest" of every answer and query.
pub const MAX_BUCKET_NODES: usize = 20;
/// Buckets of the routing table: one per bit of an id, so at most 5120 nodes (about 1 MiB).
pub const MAX_BUCKETS: usize = 256;
/// Full buckets whose oldest nodes are pinged at the same time for the sake of a newcomer: each costs up to three
/// pings, and strangers cause them. Further newcomers are discarded.
pub const MAX_BUCKET_PINGS: usize = 16;
/// Requests of our own waiting for an answer or for their turn. Request ids are 16 bits; honest use stays below
/// 100. Further requests fail at once.
pub const MAX_REQUESTS: usize = 1024;
/// Queries of our own running at a time. Further ones end at once as failed.
pub const MAX_QUERIES: usize = 256;
/// Requests of one iterative query, both phases together. Honest queries take below 100; a liar who always knows a
/// closer node would otherwise keep one running for ever.
pub const MAX_QUERY_REQUESTS: usize = 512;
/// Peers taken from one lookup answer; the original names at most 50, or 32 local ones.
pub const MAX_PEERS_PER_ANSWER: usize = 82;
/// Events waiting for the owner. The owner drains them after every call; should it not, found peers are dropped.
pub const MAX_DHT_EVENTS: usize = 4096;
/// Datagrams waiting to be sent. The driver drains them after every call; should it not, further ones are dropped
/// (like any lost datagram they are sent again, or asked for again).
pub const MAX_DHT_TRANSMITS: usize = 4096;
/// Records: announcements (peers of topics) kept in the fresh generation, as in @hyperswarm/dht; twice this in all,
/// about 25 MiB at worst.
pub const MAX_PEER_RECORDS: usize = 65_536;
/// Records: announcements inside local networks, kept like the others.
pub const MAX_LOCAL_PEER_RECORDS: usize = 16_384;
/// Local records in one lookup answer, as in @hyperswarm/dht.
pub const MAX_LOCAL_PEERS_ANSWERED: usize = 32;
/// Remote records in one lookup answer, less two for each local one, as in @hyperswarm/dht.
pub const MAX_PEERS_ANSWERED: usize = 50;
/// Values (mutable and immutable together) kept in the fresh generation, as in @hyperswarm/dht; twice this in all,
/// about 14 MiB.
pub const MAX_STORED_VALUES: usize = 5000;
/// Addresses known to receive what we send them, each for ten minutes; the one proven longest ago makes room.
pub const MAX_VALIDATED_HOSTS: usize = 4096;
/// Cells in which the traffic of unproven hosts is counted. Hosts share cells by a secret hash, so that no flood
/// of spoofed addresses can grow them or wash a victim's count away.
pub const RATE_CELLS: usize = 8192;
/// Bytes sent at once to a host that has proved nothing (beyond three times what it sent), refilled in three
/// minutes: in no minute more than 16 KiB beyond that.
pub const UNVALIDATED_BURST_BYTES: u32 = 12 * 1024;
/// Holepunch messages relayed at once for one host, or answers sent because of it; refilled in a minute. A node
/// with 24 peers behind one relay needs up to three times 24.
pub const HOLEPUNCH_BURST: u32 = 96;

// ---- hyperswarm: encrypted streams (UDX, secret-stream, protomux) ----

/// Streams of one UDX endpoint, those that are over but not forgotten included; opening more fails. 13 MiB when
/// all are new, 28 MiB when all are idle after use.
pub const MAX_UDX_STREAMS: usize = 4096;
/// Bytes of the receive window of a new stream: with `UDX_WINDOW_SLACK_BYTES` and an eighth for overhead exactly 4 MiB.
pub const UDX_WINDOW_BYTES: usize = 3584 * 1024;
/// Bytes to which the window of a fast stream grows: 1 Gbit/s over 100 ms are 12.5 MB, and as much may queue. No more
/// is believed of a peer's window either (npm's is 4 MiB): what it does not acknowledge has to be kept for it.
pub const UDX_WINDOW_MAX_BYTES: usize = 21 << 20;
/// Bytes held beyond the window and its eighth: one datagram of the largest size.
pub const UDX_WINDOW_SLACK_BYTES: usize = 64 * 1024;
/// Packets kept out of order, and how far ahead of the expected one a packet may be. A window of 21 MiB of the
/// smallest full packets is 19,400.
pub const MAX_UDX_OUT_OF_ORDER: usize = 20_480;
/// Bytes a packet kept out of order counts beyond its payload (allocation, tree): empty ones are not free.
pub const UDX_OUT_OF_ORDER_OVERHEAD: usize = 128;
/// Used up chunks of 128 KiB that a thread keeps to be filled again: 2 MiB, what arrives in one turn of a socket.
pub const UDX_SPARE_CHUNKS: usize = 16;
/// SACK blocks in one acknowledgement: what fits the smallest datagram. libudx sends at most 50, and takes any number.
pub const MAX_UDX_SACK_BLOCKS: usize = 128;
/// Of the SACK blocks of an acknowledgement that cannot have all, those for what arrived last; the others are the
/// lowest, which the reader waits for.
pub const UDX_RECENT_SACK_BLOCKS: usize = 32;
/// Messages received and not yet read, or waiting to be sent, per stream. Further ones are dropped, as a network may.
pub const MAX_UDX_MESSAGES: usize = 256;
/// Bytes of those messages, each way.
pub const MAX_UDX_MESSAGE_BYTES: usize = 256 * 1024;
/// Bytes written and not yet sent at which a writer should wait (advice to the owner, who may exceed it).
pub const UDX_SEND_QUEUE_BYTES: usize = 512 * 1024;
/// Datagrams of relayed and closed streams waiting for their socket, per endpoint; further ones are dropped, as a
/// network may.
pub const MAX_UDX_LOOSE_DATAGRAMS: usize = 1024;
/// Bytes of those datagrams, of which each may have 65,507.
pub const MAX_UDX_LOOSE_BYTES: usize = 4 << 20;
/// Streams ended by both sides whose last acknowledgement is repeated if it was lost; the oldest makes room.
pub const MAX_UDX_LINGERING: usize = 1024;

/// Items of one array of compact-encoding, as upstream. Lists grow as their items are read, so this only bounds what
/// a message of megabytes could hold.
pub const MAX_ARRAY_ITEMS: u64 = 0x10_0000;
/// Bytes of a handshake message, as Noise has it.
pub const MAX_NOISE_MESSAGE_BYTES: usize = 65_535;
/// Bytes of one frame of a secret stream after its length: all that three bytes can say, as JavaScript may send it.
/// Memory grows with what has arrived of a frame, not with what its length announces.
pub const MAX_SECRET_FRAME_BYTES: usize = 0xff_ffff;
/// Bytes kept ready for a frame that has begun, beyond twice what has arrived of it.
pub const SECRET_FRAME_HEADROOM: usize = 64 * 1024;
/// Bytes taken from a transport at a time, so also what a reader who pauses leaves decrypted or half decrypted.
pub const SECRET_READ_BYTES: usize = 256 * 1024;
/// Bytes of plaintext sealed at a time for a writer of bytes, so also what waits for a transport without room.
pub const SECRET_WRITE_BYTES: usize = 256 * 1024;

/// Channels either side of one protomux connection may have. The original has no limit; 4096 numbers are 64 KiB.
pub const MUX_CHANNELS: usize = 4096;
/// Channels opened by the peer that wait for the owner's decision; further ones are rejected.
pub const MUX_UNDECIDED: usize = 64;
/// Bytes that undecided channels have sent ahead before the connection is no longer read, as in protomux.
pub const MUX_BUFFERED_BYTES: usize = 32_768;
/// Bytes counted for each such message (and handshake) besides its own, as in protomux.
pub const MUX_PENDING_OVERHEAD: usize = 512;
/// Bytes of a protocol name, and of an id. Ids in use have 32; longer ones are rejected like unknown protocols.
pub const MUX_NAME_BYTES: usize = 255;
/// Bytes of a channel's handshake. Those in use have below 100; a longer one destroys the connection.
pub const MUX_HANDSHAKE_BYTES: usize = 16_384;
/// Batches inside each other. The original never nests them.
pub const MUX_BATCH_DEPTH: usize = 4;
/// Bytes of a batch at which it is sent, as in protomux.
pub const MUX_BATCH_BYTES: usize = 8 << 20;
/// Bytes of a message with its header: the longest plaintext of a secret-stream frame, 2^24 - 1 less 17.
pub const MUX_MESSAGE_BYTES: usize = (1 << 24) - 18;
/// Bytes waiting to be sent at which senders wait.
pub const MUX_SEND_BYTES: usize = 256 << 10;
/// Bytes of rejects, of opens that answer the peer's and the like waiting to be sent at which the peer that causes
/// them is no longer read.
pub const MUX_REPLY_BYTES: usize = 64 << 10;
/// Bytes of a received message up to which a small part of it may keep it in memory; parts of longer ones are copied.
pub const MUX_SHARED_BYTES: usize = 4096;
/// Bytes received for all channels of a connection and not taken by their readers, with 512 more for each message,
/// at which the connection is no longer read. Room for 15 of the largest frames of bulk data.
pub const MUX_INBOX_BYTES: usize = 1 << 20;
/// Messages one connection carries each way before other tasks get a turn.
pub const MUX_TURN_MESSAGES: usize = 64;
/// Time for a peer to take what is left to send when a connection is closed: 1 MiB at 28 kbit/s. A UDX peer that is
/// gone is given up long before; this one is there and reads nothing.
pub const MUX_SENDING_TIME: Duration = Duration::from_secs(300);
/// Time for a peer to end its side too, once it has everything.
pub const MUX_CLOSING_TIME: Duration = Duration::from_secs(5);

// ---- hyperswarm: swarm and connections ----

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
/// Datagrams handled per wake-up of a socket, before the task looks after its timers and connections again.
pub const UDP_BATCH: usize = 64;
/// Connections of one topic, dialled and accepted, attempts included (hyperswarm `maxPeers`).
pub const SWARM_PEERS: usize = 24;
/// Connections accepted from one host (not loopback): leaves a third of the slots to everybody else.
pub const INCOMING_PER_HOST: usize = 16;
/// Dials of one topic that run at once: dead candidates hold a dial for 10 s each, and dials occupy slots.
pub const DIALS_AT_ONCE: usize = 4;
/// Candidates of one topic that the DHT named: anybody can announce any number.
pub const QUEUE_REMOTE: usize = 192;
/// Candidates of one topic that the local network named.
pub const QUEUE_LOCAL: usize = 64;
/// New candidates per topic and minute from the local network, whose packets nobody has to prove anything for.
pub const QUEUE_LOCAL_PER_MINUTE: usize = 32;
/// Banned addresses remembered per topic; beyond that the oldest is forgotten.
pub const QUEUE_BANNED: usize = 64;

// ---- hyperswarm: UDP sockets of encrypted streams ----

/// Bytes asked for as a UDP socket's send and receive buffer. The system caps it; this much holds 5 ms of 1 GiB/s,
/// and a flood of datagrams cannot make the kernel hold more for us.
pub const UDP_SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Slots of 64 KiB that one receive call fills, each with a datagram or a batch of coalesced ones; also how much is
/// processed before anything else gets its turn with the lock.
pub const UDP_RECEIVE_SLOTS: usize = 8;
/// Receive calls in one turn of a socket's task. A flood that fills them all lets timers, sending and other tasks run
/// before the next ones.
pub const UDP_RECEIVE_CALLS: usize = 4;
/// Batches of up to 64 KiB sent in one go, by a writer or in a turn of the socket's task; the rest waits for the
/// task's next turn, so that sending starves nobody.
pub const UDP_TRANSMIT_BATCHES: usize = 16;
/// Bytes written after which a stream's writer sends by itself instead of leaving it to the socket's task: a full
/// batch.
pub const UDX_DIRECT_SEND_BYTES: usize = 64 * 1024;
/// Bytes of a datagram of another protocol that is passed on. Those of the DHT are below 2 KiB.
pub const MAX_FOREIGN_DATAGRAM_BYTES: usize = 4096;

// ---- store ----

/// Files whose verification is remembered in memory (the rest is remembered on disk): about 10 MiB when full.
pub const MAX_REMEMBERED_VERDICTS: usize = 65_536;
/// Separate ranges of one download: 3 MiB of journal when full. A source cannot make us keep more by sending crumbs.
pub const MAX_PARTIAL_RANGES: usize = 65_536;
/// Bytes of a download after which it is made to survive a crash: what a crash can cost, against fsyncs per second.
pub const PARTIAL_SYNC_BYTES: u64 = 16 << 20;
/// Bytes of one `.record.json` or `.hints.json`; a larger one is not read.
pub const MAX_HASH_MEMORY_FILE: u64 = 4 << 20;
/// Bytes of the manifest of a folder: room for about 500,000 files.
pub const MAX_MANIFEST_BYTES: usize = 64 << 20;
/// Folders inside folders in a manifest: each is two levels of JSON, of which the parser takes 127.
pub const MAX_MANIFEST_DEPTH: usize = 60;

// ---- node: frames and messages ----

/// Bytes of one json-socket frame. Originals send up to 88 KB; 0.1.2 and relays stay far below. Bounds what a
/// connection can make us buffer.
pub const FRAME_MAX: usize = 1 << 20;
/// Characters before the `#` of a frame: enough for the digits of `FRAME_MAX` and the little junk the original accepts.
pub const FRAME_MAX_LENGTH_DIGITS: usize = 16;
/// Bytes of a broadcast's text up to which it is copied out of the buffer it was read into (256 KiB and more), so that
/// no small message that waits to be relayed keeps such a buffer in memory. File data is larger, and shared.
pub const BROADCAST_COPIED_BYTES: usize = 64 * 1024;
/// Levels of nested arrays and objects. Messages in use have 7; bounds the stack.
pub const JSON_MAX_DEPTH: usize = 32;
/// Values in one frame. Messages in use have about 20, and one per excluded node. Frames with more are passed over.
pub const JSON_MAX_VALUES: usize = 4096;
/// Characters of a message or request ID. Originals use 10.
pub const WIRE_ID_MAX: usize = 32;
/// Characters of an error text from a peer that are kept.
pub const PEER_ERROR_MAX: usize = 300;
/// Nodes in an `excludeNodeIds` that we read or send; more are ignored (then copies cross, which is harmless).
pub const EXCLUDED_NODES_MAX: usize = 256;
/// Bytes of the largest file an original 0.1.2 can serve; a request for more kills it.
pub const V012_MAX_FILE: u64 = 378;
/// Bytes of the largest range an original 0.2.1 serves in one request.
pub const V021_MAX_RANGE: u64 = 20_000_000;
/// Raw bytes in one data message to a peer without the hypersign limit: two disk reads of the originals, which take
/// messages of any length. Each message costs two signatures and a check.
pub const DATA_PIECE: usize = 131_072;
/// Message IDs remembered per swarm. At full download speed (1300 messages a second) this is 50 s, else ten minutes.
pub const SEEN_MESSAGES_MAX: usize = 65_536;
/// Seconds for which a message or request ID is remembered.
pub const SEEN_SECONDS: u64 = 600;
/// Request IDs remembered per swarm, so that each is processed once.
pub const SEEN_REQUESTS_MAX: usize = 8192;
/// Connections per swarm (one machine); more are closed at once.
pub const SWARM_CONNECTIONS_MAX: usize = 256;
/// Connections of one node in a swarm: one each way, and as many again that the originals forget to close.
pub const NODE_CONNECTIONS_MAX: usize = 4;
/// Addresses whose node ID style is remembered per swarm, the oldest forgotten first.
pub const REMEMBERED_STYLES_MAX: usize = 256;
/// Requests of one node that are served at once; more are refused (0.2.1) or not answered, as by the originals.
pub const NODE_REQUESTS_MAX: usize = 32;
/// Requests served at once per swarm.
pub const SWARM_REQUESTS_MAX: usize = 256;
/// Searches running at once per swarm; more are refused.
pub const SWARM_SEEKS_MAX: usize = 1024;
/// Bytes queued to a connection at which data messages wait. A few pieces keep the socket busy.
pub const CONNECTION_QUEUE_ROOM: usize = 512 * 1024;
/// Bytes queued to a connection at which relayed messages are dropped for it.
pub const CONNECTION_QUEUE_RELAY: usize = 1 << 20;
/// Bytes queued to a connection at which it is closed as stalled.
pub const CONNECTION_QUEUE_MAX: usize = 4 << 20;

// ---- node: transfers ----

/// A requested range without data for this long is given to somebody else (the originals use the same 10 s).
pub const SILENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// Offers one download or search remembers, and providers it may use; more come only from made-up keys.
pub const CANDIDATES: usize = 256;
/// Liars that are remembered, the oldest forgotten first.
pub const REMEMBERED_LIARS: usize = 1024;
/// Answers to searches that are remembered for clients that name a provider, the oldest forgotten first.
pub const REMEMBERED_OFFERS: usize = 1024;
/// Frames queued to one connection. The machine bounds their bytes; a peer behind this many small frames does not
/// read, and is closed.
pub const CONNECTION_FRAMES: usize = 2048;
/// Looks into the store for peers at the same time; further ones wait.
pub const STORE_LOOKS: usize = 16;
/// Looks under way and waiting for all peers; further seekings are dropped.
pub const STORE_LOOKS_WAITING: usize = 1024;
/// Of these for one node. A loader with many files to find asks for several at once, in three dialects.
pub const STORE_LOOKS_PER_NODE: usize = 64;
/// Disk reads for peers at the same time; further ones wait.
pub const STORE_READS: usize = 8;
/// Stored files that are hashed at the same time, before anybody is given them; further ones wait, holding nothing. One:
/// requests for files that were never verified keep at most one core and the disk's head busy.
pub const STORE_VERIFICATIONS: usize = 1;
/// A request whose data is not taken for this long is given up: its asker is alive, but reads nothing, or too slowly
/// for all that it has asked for.
pub const SERVE_STALL: std::time::Duration = std::time::Duration::from_secs(60);
/// Transfer swarms of other nodes that are joined at the same time: each is a port, a DHT node and connections.
pub const TRANSFER_SWARMS: usize = 64;
/// Channels joined at the same time: each is two ports.
pub const CHANNELS: usize = 64;
/// Downloads active at the same time; the others wait for their turn.
pub const ACTIVE_DOWNLOADS: usize = 8;
/// Downloads active and waiting; more are refused.
pub const WAITING_DOWNLOADS: usize = 1024;
/// The longest search: a client's time-out cannot keep one for ever.
pub const SEARCH_TIME: std::time::Duration = std::time::Duration::from_secs(3600);

// ---- api ----

/// Connections to the API open at once. Each costs a file descriptor and some 20 KiB; clients are a handful of
/// programs on this machine.
pub const MAX_API_CONNECTIONS: usize = 256;
/// Bytes of a request's head. Real ones have a few hundred; this is also the buffer of one connection.
pub const MAX_API_HEADER_BYTES: usize = 16 * 1024;
/// Bytes of a request's body, the limit of the originals (Express's 100 KB).
pub const MAX_API_BODY_BYTES: usize = 100 * 1024;
/// Bytes of a body that are read at most, those thrown away because the body is too large included.
pub const MAX_API_DISCARDED_BYTES: usize = 10 * MAX_API_BODY_BYTES;
/// Time for a request's head to arrive; programs on the same machine send it in one piece.
pub const API_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request's body to arrive, for the same reason.
pub const API_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest search a client may ask for: it keeps a connection and asks peers all that time.
pub const MAX_API_FIND_TIMEOUT: Duration = Duration::from_secs(600);
/// Loads through `/api/v1/load` running at once; the next is refused.
pub const MAX_API_LOADS: usize = 64;
/// Bytes read from a file at a time for an HTTP answer, so also the memory of one such answer.
pub const API_STREAM_CHUNK: usize = 256 * 1024;
/// Bytes of a line, or of a whole small answer, that the command line takes from whatever listens on the port.
pub const MAX_API_ANSWER_BYTES: usize = 4 * 1024 * 1024;
