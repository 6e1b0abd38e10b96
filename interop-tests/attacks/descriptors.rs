//! Strangers use up the descriptors of a daemon that was started with few.

use std::fs;
use std::time::{Duration, Instant};

use crate::lab::{Lab, SOON, get};

const SIZE: usize = 1 << 20;
/// Channels joined besides the first: with all places of all ports taken, and all requests made, more than 1024 descriptors.
const MORE_CHANNELS: usize = 12;
/// Connections from each of two addresses to each port: as many as there are places.
const EACH: &str = "12";

/// The API must answer within this while a debug build checks thousands of signatures, and a load must end within this.
const API: Duration = Duration::from_secs(5);
const LOAD: Duration = Duration::from_secs(20);

/// Starts the daemon with this soft limit, or, `hard`, with no way to raise it.
fn few_descriptors(limit: u32, hard: bool) {
    let Some(lab) = Lab::new() else { return };
    let (offered, wanted) = (lab.file("offered", SIZE), lab.file("wanted", SIZE));
    let kind = if hard { "-n" } else { "-Sn" };
    let command = format!("ulimit {kind} {limit} && exec \"$0\" \"$@\"");
    let victim = lab.daemon_started_by("victim", &["sh", "-c", &command]);
    victim.store(&offered);
    let provider = lab.daemon("provider");
    provider.store(&wanted);
    victim.connected(1);
    let channels: Vec<_> =
        if limit > 64 { (1..=MORE_CHANNELS).map(|n| format!("more-{n}")).collect() } else { Vec::new() };
    let (id, size) = (victim.node_id(), SIZE.to_string());
    let mut arguments =
        vec!["readers", "--victim", &id, "--sha1", &offered.sha1, "--size", &size, "--count", EACH];
    arguments.extend(["--address", "127.0.1.1", "--address", "127.0.2.1"]);
    for channel in &channels {
        victim.joins(channel);
        arguments.extend(["--channel", channel]);
    }
    let attacker = lab.attacker(&arguments);
    let held = attacker.event("ready", SOON, |_| true)["held"].clone();
    let started = Instant::now();
    let state = get(victim.api_port, "/api/v1/status");
    let answered = started.elapsed();
    let open =
        fs::read_dir(format!("/proc/{}/fd", victim.process.id())).expect("the daemon's descriptors").count();
    let started = Instant::now();
    let loading = loop {
        let loading = victim.load_within(LOAD, &wanted.sha1, 10);
        if loading.code == Some(0) || started.elapsed() > LOAD {
            break loading;
        }
    };
    println!(
        "check 32: measured {} limit {limit}, {held} connections of strangers: {open} open, the API answers in {:.2} s, a load: exit code {:?} after {:.1} s, \
         bar answers within {} s, 0 within {} s, seed none",
        if hard { "hard" } else { "soft" },
        answered.as_secs_f64(),
        loading.code,
        started.elapsed().as_secs_f64(),
        API.as_secs(),
        LOAD.as_secs()
    );
    assert!(state.is_object() && answered < API, "the API does not answer: {state}\n{}", victim.process);
    assert!(
        !loading.shown.contains("disk full") && !loading.shown.contains("free some space"),
        "{}",
        loading.shown
    );
    assert_eq!(loading.code, Some(0), "{}", loading.shown);
}

#[test]
fn a_soft_limit_of_64_descriptors_is_raised() {
    few_descriptors(64, false);
}

#[test]
fn a_soft_limit_of_1024_descriptors_is_raised() {
    few_descriptors(1024, false);
}

#[test]
fn a_hard_limit_of_1024_descriptors_keeps_a_reserve_for_loads() {
    few_descriptors(1024, true);
}
