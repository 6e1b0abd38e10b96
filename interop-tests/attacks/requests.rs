//! Strangers ask a provider for more than it can give.

use crate::bar::{SIZE, attempt, honest_time};
use crate::lab::{Lab, SOON};

const LARGE: usize = 32 << 20;
const ADDRESSES: u8 = 4;

/// From each of four addresses `count` identities ask so often a second for so many bytes, and read all that comes.
fn asked(attack: &str, count: &str, rate: &str, length: &str) {
    let Some(lab) = Lab::new() else { return };
    let honest = honest_time();
    let (offered, wanted) = (lab.file("offered", LARGE), lab.file("wanted", SIZE));
    let provider = lab.daemon("provider");
    provider.store(&offered);
    provider.store(&wanted);
    let loader = lab.daemon("loader");
    loader.connected(1);
    let (id, size) = (provider.node_id(), LARGE.to_string());
    let addresses: Vec<_> = (2..2 + ADDRESSES).map(|number| format!("127.0.{number}.1")).collect();
    let mut arguments = vec!["requests", "--victim", &id, "--sha1", &offered.sha1, "--size", &size];
    arguments.extend(["--count", count, "--rate", rate, "--length", length]);
    addresses.iter().for_each(|address| arguments.extend(["--address", address]));
    let attacker = lab.attacker(&arguments);
    let attempt = attempt(13, attack, &loader, &wanted, honest * u32::from(ADDRESSES + 1));
    attempt.must_have_succeeded(&loader, &wanted);
    attacker.event("received", SOON, |_| true);
}

#[test]
fn sixteen_identities_that_ask_for_all_they_can_leave_an_honest_loader_its_share() {
    asked("16 identities at 4 addresses that ask for 4 MB 50 times a second", "4", "50", "4000000");
}

#[test]
fn requests_for_single_bytes_leave_an_honest_loader_its_share() {
    asked("16 identities at 4 addresses that ask for single bytes", "4", "100", "1");
}
