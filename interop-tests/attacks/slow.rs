//! Providers that send next to nothing, beside an honest one.

use std::time::Duration;

use crate::bar::{SIZE, honest_time, must_load};
use crate::lab::Lab;

/// Identities of one stranger that trickle are connected before the honest provider.
fn trickling(identities: usize) {
    let Some(lab) = Lab::new() else { return };
    let honest = honest_time();
    let content = lab.file("wanted", SIZE);
    let victim = lab.daemon("victim");
    let claim = format!("{SIZE}:{identities}:trickle");
    let attacker = lab.attacker(&["claims", "--sha1", &content.sha1, "--claim", &claim]);
    victim.connected(1);
    let provider = lab.daemon("provider");
    provider.store(&content);
    victim.connected(2);
    must_load(26, &format!("{identities} identities that trickle"), &victim, &content, honest);
    assert!(
        attacker.process.has_printed(|line| line.starts_with(r#"{"event":"asked""#)),
        "the attacker was not asked\n{}",
        attacker.process
    );
}

#[test]
fn one_identity_that_trickles_does_not_stop_a_load() {
    trickling(1);
}

#[test]
fn four_identities_that_trickle_do_not_stop_a_load() {
    trickling(4);
}

#[test]
fn thirty_two_identities_that_trickle_do_not_stop_a_load() {
    trickling(32);
}

/// Two liars faster than the honest provider send most of the first, wrong, file; asked again, they trickle.
#[test]
fn fast_liars_that_trickle_when_asked_alone_do_not_stop_a_load() {
    const RATE: usize = 2 << 20;
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", SIZE);
    let victim = lab.daemon("victim");
    let claim = format!("{SIZE}:2:junk-then-trickle");
    let attacker = lab.attacker(&["claims", "--sha1", &content.sha1, "--claim", &claim]);
    victim.connected(1);
    let provider = lab.peer("0.2.1", &[&content], &["--rate", &RATE.to_string()]);
    victim.connected(2);
    let honest = Duration::from_secs((SIZE / RATE) as u64);
    must_load(28, "2 fast liars that trickle when asked again", &victim, &content, honest);
    assert!(provider.was_asked());
    assert!(attacker.events("asked").len() > 2, "{}", attacker.process);
}
