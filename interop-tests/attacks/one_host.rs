//! One host floods the DHT that two honest daemons meet by.

use std::time::{Duration, Instant};

use crate::bar::long;
use crate::lab::Lab;

/// Two honest daemons must meet within this.
const BAR: Duration = Duration::from_secs(5);
const HOST: &str = "127.0.3.1";

/// How long two daemons need to meet; None if they do not within 12 s.
fn meet(lab: &Lab) -> Option<Duration> {
    let one = lab.daemon("one");
    let other = lab.daemon("other");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(12) {
        if one.peers() > 0 && other.peers() > 0 {
            return Some(started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

fn must_meet(attack: &str, lab: &Lab) {
    let met = meet(lab);
    let shown = met.map_or("not at all".to_owned(), |took| format!("after {:.2} s", took.as_secs_f64()));
    println!("check 33: measured {attack}: two daemons meet {shown}, bar {} s, seed none", BAR.as_secs());
    assert!(met.is_some_and(|took| took <= BAR), "{attack}: they meet {shown}");
}

fn announces() -> &'static str {
    if long() { "200000" } else { "20000" }
}

#[test]
fn a_host_that_announces_for_a_channels_topics_does_not_hide_two_daemons() {
    let Some(lab) = Lab::with_our_bootstrap() else { return };
    let attacker = lab.attacker(&["records", "--address", HOST, "--count", announces()]);
    let stored = attacker.event("ready", Duration::ZERO, |_| true)["stored"].clone();
    must_meet(&format!("{stored} announces of one host for the channel"), &lab);
}

/// The first daemon's record was there before the flood for other topics, and must be found after it.
#[test]
fn a_host_that_announces_for_other_topics_does_not_evict_an_honest_record() {
    let Some(lab) = Lab::with_our_bootstrap() else { return };
    let _first = lab.daemon("first");
    let attacker =
        lab.attacker(&["records", "--address", HOST, "--count", announces(), "--topics", "others"]);
    let stored = attacker.event("ready", Duration::ZERO, |_| true)["stored"].clone();
    must_meet(&format!("{stored} announces of one host for other topics"), &lab);
}

#[test]
fn nodes_of_one_host_beside_each_topic_do_not_hide_two_daemons() {
    let Some(lab) = Lab::with_our_bootstrap() else { return };
    let count = if long() { "50" } else { "25" };
    let _attacker = lab.attacker(&["beside", "--address", HOST, "--count", count]);
    must_meet(&format!("{count} nodes of one host beside each topic"), &lab);
}
