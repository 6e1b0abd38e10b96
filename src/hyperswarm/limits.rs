//! Every cap a stranger could push against: value, unit, reason. Nothing is capped elsewhere, and each entry has
//! a test that pushes it to its limit and one beyond. Caps of one generation of the network are in a module of its own.

use std::time::Duration;

pub mod v2;
pub mod v4;

// ---- DHT ----

/// Bytes: longest DHT datagram looked at. The longest honest answer (20 closer nodes and a record of 1000 bytes with
/// salt, signature and token) has about 1,990; longer ones are dropped unread.
pub const MAX_DHT_DATAGRAM_BYTES: usize = 2048;
/// Nodes: one bucket of the routing table, and the "k closest" of every answer and query.
pub const MAX_BUCKET_NODES: usize = 20;
/// Nodes of one host, and of one /24 outside private networks, among the 20 of an answer or a query, as long as other
/// hosts are known: else one host with ids beside a topic would be all that anybody asks about it.
pub const MAX_NODES_PER_HOST: usize = 2;
/// See [`MAX_NODES_PER_HOST`].
pub const MAX_NODES_PER_NETWORK: usize = 4;
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
/// Requests of one query that one host leaves without an answer to the first datagram, before the query goes on without
/// that host: it could name ever more addresses where nobody is, and each would be waited for 7 s.
pub const MAX_QUERY_SILENT_PER_HOST: usize = 8;
/// Events waiting for the owner. The owner drains them after every call; should it not, found peers are dropped.
pub const MAX_DHT_EVENTS: usize = 4096;
/// Datagrams waiting to be sent. The driver drains them after every call; should it not, further ones are dropped
/// (like any lost datagram they are sent again, or asked for again).
pub const MAX_DHT_TRANSMITS: usize = 4096;
/// Addresses known to receive what we send them, each for ten minutes; the one proven longest ago makes room.
pub const MAX_VALIDATED_HOSTS: usize = 4096;
/// What nodes say of our own address: so many of the latest are compared.
pub const NAT_SAMPLES: usize = 16;
/// Unproven hosts whose traffic is counted one by one. While more of them wait for their allowance to come back, all are
/// counted in shared cells.
pub const RATE_FEW_HOSTS: usize = 64;
/// Cells in which the traffic of unproven hosts is counted. Hosts share cells by a secret hash, so that no flood
/// of spoofed addresses can grow them or wash a victim's count away.
pub const RATE_CELLS: usize = 8192;
/// Bytes sent at once to a host that has proved nothing (beyond three times what it sent), refilled in three
/// minutes: in no minute more than 16 KiB beyond that.
pub const UNVALIDATED_BURST_BYTES: u32 = 12 * 1024;

// ---- encrypted streams (UDX, secret-stream, protomux) ----

/// Streams of one UDX endpoint, those that are over but not forgotten included; opening more fails. 13 MiB when
/// all are new, 28 MiB when all are idle after use.
pub const MAX_UDX_STREAMS: usize = 4096;
/// Bytes of the receive window of a new stream: with `UDX_WINDOW_SLACK_BYTES` and an eighth for overhead exactly 4 MiB.
pub const UDX_WINDOW_BYTES: usize = 3584 * 1024;
/// Bytes to which the window of a fast stream grows: 1 Gbit/s over 100 ms are 12.5 MB, and as much may queue. No more
/// is believed of a peer's window either (npm's is 4 MiB): what it does not acknowledge has to be kept for it.
pub const UDX_WINDOW_MAX_BYTES: usize = 21 << 20;
/// Bytes that all streams of one UDX endpoint hold for their readers together, unless its owner sets another budget.
/// One stalled stream of 1 Gbit/s over 100 ms takes a quarter of it; check 13 allows a flood 64 MiB.
pub const UDX_RECEIVE_BUDGET_BYTES: usize = 64 << 20;
/// Bytes in order that every stream may hold even if the budget is spent, so that none starves: one datagram of the
/// largest size, or 16 round trips per MiB.
pub const UDX_GUARANTEED_WINDOW_BYTES: usize = 64 * 1024;
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
/// Bytes of one such frame that a stream takes unless its owner asks for more. Bulk data comes in frames of 64 KiB, and
/// of what JavaScript sends, only batches of protomux and messages that an application makes longer are beyond it.
pub const SECRET_DEFAULT_FRAME_BYTES: usize = 1 << 20;
/// Time for the handshake of a secret stream as a whole, unless its owner asks for another: ten round trips of a bad
/// path, its retransmissions included.
pub const SECRET_HANDSHAKE_TIME: Duration = Duration::from_secs(30);
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
/// Bytes of a batch at which it is sent. Protomux collects 8 MiB; so much would not fit the frame that a stream takes by
/// default, nor would anything be gained by it.
pub const MUX_BATCH_BYTES: usize = 512 << 10;
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

// ---- UDP sockets ----

/// Bytes asked for as a UDP socket's send and receive buffer. The system caps it; this much holds 5 ms of 1 GiB/s,
/// and a flood of datagrams cannot make the kernel hold more for us.
pub const UDP_SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Slots of 64 KiB that one receive call fills, each with a datagram or a batch of coalesced ones; also how much is
/// processed before anything else gets its turn with the lock.
pub const UDP_RECEIVE_SLOTS: usize = 8;
/// The same where datagrams are not coalesced, as they come from many senders: as many as quinn-udp takes, which costs a
/// fifth less for each of them than 8.
pub const UDP_SMALL_RECEIVE_SLOTS: usize = 32;
/// Receive calls in one turn of a socket's task. A flood that fills them all lets timers, sending and other tasks run
/// before the next ones.
pub const UDP_RECEIVE_CALLS: usize = 4;
/// Bursts sent in one go, by a writer or in a turn of the socket's task; the rest waits for the task's next turn, so
/// that sending starves nobody.
pub const UDP_TRANSMIT_BATCHES: usize = 16;
/// Datagrams, or batches of them to one destination, in a burst.
pub const UDP_SEND_SLOTS: usize = 64;
/// Bytes at which a burst is full. What is added last may exceed it by a batch.
pub const UDP_BURST_BYTES: usize = 32 * 1024;
/// Bytes written after which a stream's writer sends by itself instead of leaving it to the socket's task: a full
/// batch.
pub const UDX_DIRECT_SEND_BYTES: usize = 64 * 1024;
