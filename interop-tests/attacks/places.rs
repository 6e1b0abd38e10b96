//! A stranger holds connections on every port of a daemon.

use std::time::Duration;

use crate::bar::long;
use crate::lab::{Lab, SOON};

/// A new honest peer must be connected and serve within this.
const BAR: Duration = Duration::from_secs(10);
/// Connections to each port, all addresses together: twice as many as there are places.
const CONNECTIONS: usize = 48;

fn all_places_taken(addresses: &[String]) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", 1 << 20);
    let victim = lab.daemon("victim");
    let (id, each) = (victim.node_id(), CONNECTIONS.div_ceil(addresses.len()).to_string());
    let mut arguments = vec!["places", "--victim", &id, "--count", &each];
    for address in addresses {
        arguments.extend(["--address", address]);
    }
    let attacker = lab.attacker(&arguments);
    let held = attacker.event("ready", SOON, |_| true)["held"].as_u64().expect("a number");
    let provider = lab.daemon("provider");
    provider.store(&content);
    let started = std::time::Instant::now();
    let loading = loop {
        let loading = victim.load_within(BAR, &content.sha1, 5);
        if loading.code == Some(0) || started.elapsed() > BAR {
            break loading;
        }
    };
    let took = started.elapsed();
    println!(
        "check 30: measured {held} places taken from {} addresses: exit code {:?} after {:.1} s, bar 0 within {} s, seed none",
        addresses.len(),
        loading.code,
        took.as_secs_f64(),
        BAR.as_secs()
    );
    assert!(held > 0, "the attacker was not let in\n{}", attacker.process);
    assert!(loading.code == Some(0) && took <= BAR, "after {took:?}\n{}", loading.shown);
}

#[test]
fn two_addresses_that_take_all_places_do_not_keep_an_honest_peer_out() {
    all_places_taken(&["127.0.1.1".to_owned(), "127.0.2.1".to_owned()]);
}

#[test]
fn ten_networks_that_take_all_places_do_not_keep_an_honest_peer_out() {
    all_places_taken(&(1..=10).map(|network| format!("127.1.{network}.1")).collect::<Vec<_>>());
}

/// All daemons of a laboratory have one address, and one file. In short form 12 of them, in long form 60.
#[test]
fn many_daemons_behind_one_address_all_load_a_file() {
    let Some(lab) = Lab::new() else { return };
    let count = if long() { 60 } else { 12 };
    let content = lab.file("for everybody", 1 << 20);
    let provider = lab.daemon("provider");
    provider.store(&content);
    let daemons: Vec<_> = (1..count).map(|number| lab.daemon(&format!("daemon {number}"))).collect();
    let mut slowest = Duration::ZERO;
    for daemon in &daemons {
        daemon.connected(1);
        slowest = slowest.max(daemon.loads(&content));
    }
    println!(
        "check 30: measured {count} daemons behind one address: {} load a file, the slowest in {:.1} s, bar {}, {} s, seed none",
        daemons.len(),
        slowest.as_secs_f64(),
        daemons.len(),
        BAR.as_secs()
    );
    assert!(slowest <= BAR, "a load took {slowest:?}");
}
