//! Streams on the simulated network: how fast they are on long and lossy paths, what they do to others, and that
//! every byte arrives in any weather (RELIABILITY 5, 8, 21).
//!
//! `WEATHER_SEEDS=200 cargo test -p hyperswarm --lib udx::tests::weather -- --nocapture` runs the long form.

mod fairness;
mod host;
mod reliability;
mod throughput;

use std::time::Duration;

use crate::testkit::Link;
use crate::udx::Config;

const MS: Duration = Duration::from_millis(1);
/// More bytes than any test sends.
const ENDLESS: u64 = 1 << 40;

/// Seeds of each kind of weather: 5, more in the long form.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("WEATHER_SEEDS").ok().and_then(|count| count.parse().ok());
    0..count.unwrap_or(5)
}

fn config() -> Config {
    Config::default()
}

/// A link of so many Mbit/s with this delay one way and a queue of 100 ms, and its way back.
fn path(megabits: u64, delay: Duration) -> (Link, Link) {
    let forth = Link::megabits(megabits, delay, 100 * MS);
    (forth, Link { rate: None, ..forth })
}
