//! Every cap a stranger could push against: value, unit, reason. Nothing is capped elsewhere, and each entry has
//! a test that pushes it to its limit and one beyond.

// ---- hyperswarm: DHT and mDNS ----

// ---- hyperswarm: swarm and connections ----

// ---- store ----

/// Files whose verification is remembered in memory (the rest is remembered on disk): about 10 MiB when full.
pub const MAX_REMEMBERED_VERDICTS: usize = 65_536;
/// Separate ranges of one download: 3 MiB of journal when full. A source cannot make us keep more by sending crumbs.
pub const MAX_PARTIAL_RANGES: usize = 65_536;
/// Bytes of a download after which it is made to survive a crash: what a crash can cost, against fsyncs per second.
pub const PARTIAL_SYNC_BYTES: u64 = 16 << 20;

// ---- node: frames and messages ----

// ---- node: transfers ----

// ---- api ----
