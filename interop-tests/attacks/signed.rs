//! A stranger floods a channel with new, rightly signed messages, each of which costs a verification.

use std::time::Duration;

use crate::bar::{SIZE, long};
use crate::lab::Lab;

/// A load must end within this, of unoptimised daemons that share their cores with the flood; without a budget it found
/// nothing in 22 s. Optimised daemons need 1 to 3 s.
const BAR: Duration = Duration::from_secs(20);
const ADDRESSES: u8 = 10;

fn flooded(message: &str, rate: &str) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", SIZE);
    let provider = lab.daemon("provider");
    provider.store(&content);
    let victim = lab.daemon("victim");
    victim.connected(1);
    let id = victim.node_id();
    let addresses: Vec<_> = (1..=ADDRESSES).map(|number| format!("127.0.{number}.1")).collect();
    let mut arguments = vec!["flood", "--victim", &id, "--message", message, "--rate", rate];
    addresses.iter().for_each(|address| arguments.extend(["--address", address]));
    let attacker = lab.attacker(&arguments);
    let held = attacker.event("ready", Duration::ZERO, |_| true)["held"].as_u64().expect("a number");
    let loading = victim.load_within(Duration::from_secs(40), &content.sha1, 20);
    println!(
        "check 13: measured {rate} signed messages ({message}) a second on each of {held} connections: a load of 8 MiB ends with \
         exit code {:?} after {:.2} s, bar 0 within {} s, seed none",
        loading.code,
        loading.took.as_secs_f64(),
        BAR.as_secs()
    );
    assert!(held > 0, "the attacker was not let in\n{}", attacker.process);
    assert!(loading.code == Some(0) && loading.took <= BAR, "after {:?}\n{}", loading.took, loading.shown);
    assert!(std::fs::read(victim.destination()).expect("a loaded file") == content.bytes, "the bytes differ");
}

#[test]
fn a_flood_of_new_signed_messages_does_not_hold_a_load_up() {
    if long() {
        ["unknown", "seeking", "answer"].into_iter().for_each(|message| flooded(message, "3000"));
    } else {
        // A rate at which unoptimised daemons can just read them.
        flooded("unknown", "1000");
    }
}
