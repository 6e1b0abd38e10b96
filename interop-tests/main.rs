//! Our programs against JavaScript peers that behave like the daemons of 2020, on the real npm packages.
//!
//! Every test has a [`lab::Lab`]: a private DHT on loopback, temporary folders, our daemons and the peers of
//! `interop-tests/node/`, each in its own process, all ended and removed with the lab. Multicast DNS is off, so
//! that tests that run at the same time do not see each other; `scripts/lab` tests it in network namespaces.
//!
//! * [`loading`]: JavaScript provides, ours loads.
//! * [`providing`]: ours provides, JavaScript loads.
//! * [`misbehaving`]: providers that die, lie, stall or send garbage.
//! * [`bootstrap`]: whose DHT node the others start from.
//! * [`connections`]: our swarm and a bare hyperswarm 2.14, below kachery.
//! * [`dht_v4`]: nodes of today's DHT, ours and npm's hyperdht, in networks made of either.
//! * [`udx_streams`]: our UDX streams and those of udx-native, in good and in bad [weather](udx_weather).
//! * [`secret_streams`]: our secret streams and those of @hyperswarm/secret-stream, over TCP and UDX.
//! * [`protomux`]: our channels and those of npm's protomux, on secret streams over TCP and UDX.
//!
//! Without Node.js or its packages the tests say so loudly and pass; where `CI` is set that is a failure.
//! Every wait has a bound, and a failure shows what the processes printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod bootstrap;
mod connections;
mod dht_v4;
#[allow(dead_code, reason = "the attacks need the rest of it")]
mod lab;
mod loading;
mod misbehaving;
#[allow(dead_code, reason = "the attacks need the rest of it")]
mod process;
mod protomux;
mod providing;
mod secret_streams;
mod stream_peers;
mod udx_streams;
mod udx_weather;
