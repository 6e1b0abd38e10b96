//! A stranger replays what a node signed once.

use std::time::Duration;

use crate::bar::attempt;
use crate::lab::{Lab, SOON};

/// Impostors that hold the places of the real node at its provider.
#[test]
fn sixteen_impostors_do_not_lock_the_real_node_out() {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", 1 << 20);
    let victim = lab.daemon("victim");
    let provider = lab.daemon("provider");
    provider.store(&content);
    victim.connected(1);
    let (of, at) = (victim.node_id(), provider.node_id());
    let attacker = lab.attacker(&["replay", "--victim", &of, "--of", &at, "--count", "16"]);
    let held = attacker.event("ready", SOON, |_| true)["held"].as_u64().expect("a number");
    assert!(held > 0, "no impostor was let in\n{}", attacker.process);
    let attempt =
        attempt(31, &format!("{held} impostors at the provider"), &victim, &content, Duration::from_secs(1));
    attempt.must_have_succeeded(&victim, &content);
    // The other way: the impostors' victim serves what it loaded.
    let third = lab.daemon("third");
    third.connected(1);
    third.loads(&content);
}
