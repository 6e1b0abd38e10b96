//! Providers that send next to nothing, beside an honest one.

use std::time::Duration;

use crate::bar::{SIZE, attempt, long};
use crate::lab::Lab;

/// Bytes per second of the honest provider: so few that the others are asked, too.
const RATE: usize = 4 << 20;
const HONEST: Duration = Duration::from_secs((SIZE / RATE) as u64);

/// Identities of one stranger that trickle are connected before the honest provider. They claim to have the file within two
/// seconds, so that some are asked when all of the file is being waited for: they get second halves of what the first ones hold.
fn trickling(identities: usize) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", SIZE);
    let victim = lab.daemon("victim");
    let claim = format!("{SIZE}:{identities}:trickle:{}", 1600 / identities);
    let attacker = lab.attacker(&["claims", "--sha1", &content.sha1, "--claim", &claim]);
    victim.connected(1);
    let _provider = lab.peer("0.2.1", &[&content], &["--rate", &RATE.to_string()]);
    victim.connected(2);
    let attempt = attempt(26, &format!("{identities} identities that trickle"), &victim, &content, HONEST);
    attempt.must_have_succeeded(&victim, &content);
    assert!(
        attacker.process.has_printed(|line| line.starts_with(r#"{"event":"asked""#)),
        "the attacker was not asked\n{}",
        attacker.process
    );
}

#[test]
fn four_identities_that_trickle_do_not_stop_a_load() {
    trickling(4);
}

#[test]
fn thirty_two_identities_that_trickle_do_not_stop_a_load() {
    trickling(32);
}

#[test]
fn any_number_of_identities_that_trickle_does_not_stop_a_load() {
    // The short form is the two tests above.
    if long() {
        [1, 2, 3, 8, 16].into_iter().for_each(trickling);
    }
}

/// Two liars faster than the honest provider send most of the first, wrong, file; asked again, they trickle.
#[test]
fn fast_liars_that_trickle_when_asked_alone_do_not_stop_a_load() {
    const SLOW: usize = 1 << 20;
    const SMALL: usize = 4 << 20;
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", SMALL);
    let victim = lab.daemon("victim");
    let claim = format!("{SMALL}:2:junk-then-trickle");
    let attacker = lab.attacker(&["claims", "--sha1", &content.sha1, "--claim", &claim]);
    victim.connected(1);
    let provider = lab.peer("0.2.1", &[&content], &["--rate", &SLOW.to_string()]);
    victim.connected(2);
    let honest = Duration::from_secs((SMALL / SLOW) as u64);
    let attempt = attempt(28, "2 fast liars that trickle when asked again", &victim, &content, honest);
    attempt.must_have_succeeded(&victim, &content);
    assert!(provider.was_asked());
    assert!(attacker.events("asked").len() > 2, "{}", attacker.process);
}

/// Identities of one machine spoil the hash, and are slow when they are asked alone.
#[test]
fn identities_of_one_address_that_are_slow_in_their_turns_do_not_hold_a_load_up() {
    const LARGE: usize = 16 << 20;
    const IDENTITIES: usize = 24;
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", LARGE);
    let victim = lab.daemon("victim");
    let claim = format!("{LARGE}:{IDENTITIES}:junk-then-slow:10");
    let attack = ["claims", "--sha1", &content.sha1, "--claim", &claim, "--address", "127.0.0.9"];
    let attacker = lab.attacker(&attack);
    victim.connected(1);
    let provider = lab.peer("0.2.1", &[&content], &["--rate", &RATE.to_string()]);
    victim.connected(2);
    let honest = Duration::from_secs((LARGE / RATE) as u64);
    let attempt = attempt(28, "24 identities that are slow in their turns", &victim, &content, honest);
    attempt.must_have_succeeded(&victim, &content);
    assert!(provider.was_asked());
    assert!(attacker.events("asked").len() > 2, "{}", attacker.process);
}
