//! Strangers use up the descriptors of a daemon that was started with few.

use std::fs;
use std::time::{Duration, Instant};

use crate::lab::{Lab, SOON, get};

const SIZE: usize = 1 << 20;

/// Starts the daemon with this soft limit, or, `hard`, with no way to raise it.
fn few_descriptors(limit: u32, hard: bool) {
    let Some(lab) = Lab::new() else { return };
    let (offered, wanted) = (lab.file("offered", SIZE), lab.file("wanted", SIZE));
    let kind = if hard { "-n" } else { "-Sn" };
    let command = format!("ulimit {kind} {limit} && exec \"$0\" \"$@\"");
    let victim = lab.daemon_started_by("victim", &["sh", "-c", &command]);
    victim.store(&offered);
    let (id, size) = (victim.node_id(), SIZE.to_string());
    let attacker = lab.attacker(&[
        "readers", "--victim", &id, "--sha1", &offered.sha1, "--size", &size, "--count", "160",
        "--address", "127.0.1.1", "--address", "127.0.2.1",
    ]);
    attacker.event("ready", SOON, |_| true);
    let provider = lab.daemon("provider");
    provider.store(&wanted);
    let started = Instant::now();
    let state = get(victim.api_port, "/api/v1/status");
    let answered = started.elapsed();
    let open = fs::read_dir(format!("/proc/{}/fd", victim.process.id())).expect("the daemon's descriptors").count();
    let started = Instant::now();
    let loading = loop {
        let loading = victim.load_within(Duration::from_secs(20), &wanted.sha1, 10);
        if loading.code == Some(0) || started.elapsed() > Duration::from_secs(20) {
            break loading;
        }
    };
    println!(
        "check 32: measured {} limit {limit}: {open} open, the API answers in {:.2} s, a load: exit code {:?} after {:.1} s, \
         bar answers within 1 s, 0 within 20 s, seed none",
        if hard { "hard" } else { "soft" },
        answered.as_secs_f64(),
        loading.code,
        started.elapsed().as_secs_f64()
    );
    assert!(state.is_object() && answered < Duration::from_secs(1), "the API does not answer: {state}\n{}", victim.process);
    assert!(!loading.shown.contains("disk full") && !loading.shown.contains("free some space"), "{}", loading.shown);
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
