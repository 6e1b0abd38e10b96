//! Daemons that start in the same second.

use std::time::{Duration, Instant};

use crate::bar::long;
use crate::lab::Lab;

const BAR: Duration = Duration::from_secs(2);

/// Each pair on its own DHT node, one pair after the other; in short form 10, in long form 50.
#[test]
fn pairs_that_start_in_the_same_second_meet_within_two_seconds() {
    let pairs = if long() { 50 } else { 10 };
    let mut times = Vec::new();
    for number in 0..pairs {
        let Some(lab) = Lab::with_our_bootstrap() else { return };
        let pair = std::thread::scope(|scope| {
            let start = |name| {
                let lab = &lab;
                scope.spawn(move || lab.daemon(name))
            };
            let started = [start("one"), start("other")];
            started.map(|starting| starting.join().expect("a daemon"))
        });
        let ready = Instant::now();
        while pair.iter().any(|daemon| daemon.peers() == 0) && ready.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        times.push(ready.elapsed());
        println!("pair {number}: {:?}", ready.elapsed());
    }
    let slowest = times.iter().max().expect("a pair");
    let met = times.iter().filter(|took| **took <= BAR).count();
    println!(
        "check 33: measured {met} of {pairs} pairs met within {} s, the slowest in {:.2} s, bar {pairs} of {pairs}, seed none",
        BAR.as_secs(),
        slowest.as_secs_f64()
    );
    assert_eq!(met, pairs, "{times:?}");
}
