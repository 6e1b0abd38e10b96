//! Every cap a stranger could push against: value, unit, reason. Nothing is capped elsewhere, and each entry has
//! a test that pushes it to its limit and one beyond.

// ---- hyperswarm: DHT and mDNS ----

// ---- hyperswarm: swarm and connections ----

// ---- store ----

// ---- node: frames and messages ----

// ---- node: transfers ----

// ---- api ----
