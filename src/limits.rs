//! Every cap of the product that a stranger could push against: value, unit, reason. Those of the network are in
//! [`hyperswarm::limits`]. Nothing is capped elsewhere, and each entry has a test that pushes it to its limit and one beyond.

use std::time::Duration;

// ---- store ----

/// Files whose verification is remembered in memory (the rest is remembered on disk): about 10 MiB when full.
pub const MAX_REMEMBERED_VERDICTS: usize = 65_536;
/// Separate ranges of one download: 3 MiB of journal when full. A source cannot make us keep more by sending crumbs.
pub const MAX_PARTIAL_RANGES: usize = 65_536;
/// Bytes of a download after which it is made to survive a crash: what a crash can cost, against fsyncs per second.
pub const PARTIAL_SYNC_BYTES: u64 = 16 << 20;
/// Unfinished downloads that are kept for another try; the oldest that is not in use is removed first. More than anybody
/// comes back to, and a bound for what claimed sizes leave behind.
pub const MAX_PARTIAL_FILES: usize = 128;
/// An unfinished download to which nothing was written for this long is removed: a month, for a long journey.
pub const MAX_PARTIAL_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of one `.record.json` or `.hints.json`; a larger one is not read.
pub const MAX_HASH_MEMORY_FILE: u64 = 4 << 20;
/// Bytes of the manifest of a folder: room for about 500,000 files.
pub const MAX_MANIFEST_BYTES: usize = 64 << 20;
/// Files and folders that a manifest names: as many as fit with their hashes; names alone would take 100 bytes of memory
/// for 8 of text.
pub const MAX_MANIFEST_NAMES: usize = 1 << 20;
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
/// Bytes of relayed messages queued to a connection beyond which further ones are dropped for it; as many again of
/// relayed answers are always taken.
pub const CONNECTION_QUEUE_RELAY: usize = 1 << 20;
/// Bytes of our own messages queued to a connection at which it is closed as stalled.
pub const CONNECTION_QUEUE_MAX: usize = 4 << 20;
/// Bytes of relayed answers queued in a swarm. One asker may fill half of what others leave free, so alone 8 MiB: the
/// 4 MB that an original 0.2.1 asks for at once are 5.4 MB on the wire.
pub const RELAY_ANSWERS: usize = 16 << 20;
/// Relayed frames queued to a connection: half of `CONNECTION_FRAMES`, so that tiny ones cannot have it closed.
pub const RELAY_FRAMES: usize = CONNECTION_FRAMES / 2;
/// Bytes of a frame that ends a relayed answer up to which it passes where its data does not: `Finished` weighs 1 KB.
pub const RELAY_END_BYTES: usize = 4096;
/// Answers of which a part was dropped, remembered per neighbour so that no later part follows; the oldest is forgotten
/// first. A neighbour has 32 requests at each of several providers.
pub const RELAY_CUTS: usize = 256;
/// New seekings of one peer per second that are handled and relayed: at 0.18 ms each, 9 % of a core. A loader of a
/// folder of small files was measured at 110 files a second.
pub const SEEKINGS_PER_SECOND: usize = 500;
/// Seekings of one peer at once: its `SWARM_SEEKS_MAX` running searches, which it repeats when it connects, and as many
/// that it relays.
pub const SEEKINGS_BURST: usize = 2 * SWARM_SEEKS_MAX;
/// Signatures of others that a node verifies per second for everybody, and as many again in equal shares of all addresses, for what nodes say themselves and for what they relay: at 0.15 ms each at most 23 % of a core. A channel in
/// use has a few messages a second; 500 relayed pieces of files are 16 MiB.
pub const VERIFICATIONS_PER_SECOND: usize = 500;
/// Verifications at once: the [`SEEKINGS_BURST`] of a node, relayed.
pub const VERIFICATIONS_BURST: usize = 2 * SEEKINGS_BURST;
/// Verifications of one connection at once when there are none for everybody: its greeting and its first requests.
pub const CONNECTION_VERIFICATIONS_BURST: usize = 64;
/// Messages that were not even verified, after which nothing is read from their connection for [`UNREAD_PAUSE`]: 640 a
/// second, more than a daemon of ours can have verified and relayed.
pub const UNREAD_AT_ONCE: usize = 16;
/// See [`UNREAD_AT_ONCE`].
pub const UNREAD_PAUSE: Duration = Duration::from_millis(25);
/// A node whose tasks run later than this gets too little of a processor for all that it is sent: it verifies and reads
/// half as much of what strangers send, until it is in time again.
pub const LATE: Duration = Duration::from_millis(40);

// ---- node: transfers ----

/// A requested range without data for this long is given to somebody else (the originals use the same 10 s).
pub const SILENCE: std::time::Duration = std::time::Duration::from_secs(10);
/// Bytes per second below which a provider, or a load, counts as standing still. The originals send 64 KiB in one
/// message, and one message must come within [`SILENCE`], so providers that work are faster anyway. Without this limit,
/// one byte every few seconds would keep a load running, and a requested range taken, for ever.
pub const MINIMUM_RATE: u64 = 4096;
/// Bytes asked of a provider through other peers and not yet here. A relay has [`CONNECTION_QUEUE_RELAY`] for everybody,
/// and drops what does not fit; base64 adds a third.
pub const RELAYED_BYTES: u64 = 256 << 10;
/// Offers one download or search remembers, and providers it may use; more come only from made-up keys.
pub const CANDIDATES: usize = 256;
/// Candidates that one download looks for at the same time while nobody reached them: each may take a transfer swarm,
/// and made-up ones must not take all. Those that are reached do not count.
pub const LOOKED_FOR: usize = 16;
/// Times that one provider may send wrong bytes in one download, if it is the only one: each costs the whole file. A
/// stranger between us and an honest provider may be the one who lies, and may go away.
pub const LIES: u32 = 4;
/// Times that providers are asked again in one download although they sent wrong bytes, all together.
pub const REPEATED_LIARS: usize = 8;
/// Claimed sizes of one file that are tried side by side, each with requests and files of its own. Only sizes count
/// that a reached peer claims; further ones have their turns.
pub const SIZES_AT_ONCE: usize = 4;
/// Bytes kept of each claimed size beside the one that will be there first. With [`SIZES_AT_ONCE`], and the requests
/// in flight, a liar has at most 64 MiB of junk on our disk.
pub const JUNK_PER_SIZE: u64 = 16 << 20;
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
/// Stored files that are hashed at the same time for peers, before any of them is given one, and as many for the user of
/// this machine; further ones wait, holding nothing. One: requests for files that were never verified keep at most one
/// core and the disk's head busy.
pub const STORE_VERIFICATIONS: usize = 1;
/// A request for a file that is not verified within this time hears busy, and may be repeated: well before
/// [`SILENCE`], after which its asker would take us for dead.
pub const VERIFICATION_PATIENCE: Duration = Duration::from_secs(3);
/// Unverified files that are kept in line after their requests heard busy, one per peer; further ones are forgotten, and
/// get into line again when they are asked for again.
pub const VERIFICATIONS_KEPT: usize = 64;
/// Of these for one address, where identities cost nothing. Those that ask through others count as one.
pub const ADDRESS_VERIFICATIONS_KEPT: usize = 4;
/// Stored files that are kept open for peers; further ones are opened for each piece of 128 KiB.
pub const SERVED_FILES: usize = 32;
/// File descriptors that are never spent on peers, for clients of the API and for loads; a quarter of the limit where
/// that is less than 256. Half of them may be spent on connections that loads need.
pub const DESCRIPTOR_RESERVE: u64 = 64;
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
/// Requests answered at once that can take long: searches, loads, files. The other connections are kept for short ones,
/// so that a client which fills these places keeps nobody from `status` and `daemon-stop`.
pub const MAX_API_LONG_REQUESTS: usize = 224;
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
/// Loads through `/api/v1/load` running at once; the next is refused. The other places of [`MAX_API_LONG_REQUESTS`] are
/// kept for searches and files.
pub const MAX_API_LOADS: usize = 192;
/// Bytes read from a file at a time for an HTTP answer, so also the memory of one such answer.
pub const API_STREAM_CHUNK: usize = 256 * 1024;
/// Bytes of a line, or of a whole small answer, that the command line takes from whatever listens on the port.
pub const MAX_API_ANSWER_BYTES: usize = 4 * 1024 * 1024;
