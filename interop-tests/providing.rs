//! Ours provides, JavaScript loads.

use crate::lab::{LARGE, Lab};

fn js_loads(dialect: &str, size: usize) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("stored", size);
    let daemon = lab.daemon("ours");
    daemon.store(&content);
    let took = lab.js_loads(dialect, &content);
    println!(
        "check 22: measured {dialect} loads {size} bytes from ours in {:.1} s, bar every byte, seed name",
        took.as_secs_f64()
    );
}

#[test]
fn a_0_1_2_loads_100_bytes_from_ours() {
    js_loads("0.1.2", 100);
}

#[test]
fn a_0_1_2_loads_300_kb_from_ours() {
    js_loads("0.1.2", 300_000);
}

/// More than any original 0.1.2 could serve: in pieces whose envelopes it can verify.
#[test]
fn a_0_1_2_loads_1_mib_from_ours() {
    js_loads("0.1.2", 1 << 20);
}

#[test]
fn a_0_1_6_loads_100_bytes_from_ours() {
    js_loads("0.1.6", 100);
}

#[test]
fn a_0_1_6_loads_300_kb_from_ours() {
    js_loads("0.1.6", 300_000);
}

#[test]
fn a_0_1_6_loads_64_mib_from_ours() {
    js_loads("0.1.6", LARGE);
}

#[test]
fn a_0_2_1_loads_100_bytes_from_ours() {
    js_loads("0.2.1", 100);
}

#[test]
fn a_0_2_1_loads_300_kb_from_ours() {
    js_loads("0.2.1", 300_000);
}

#[test]
fn a_0_2_1_loads_64_mib_from_ours() {
    js_loads("0.2.1", LARGE);
}

#[test]
fn one_daemon_serves_every_dialect_and_passes_on_what_it_loaded() {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("passed on", 200_000);
    let source = lab.peer("0.2.1", &[&content], &[]);
    let daemon = lab.daemon("ours");
    daemon.connected(1);
    daemon.loads(&content);
    drop(source);
    for dialect in ["0.1.2", "0.1.6", "0.2.1"] {
        lab.js_loads(dialect, &content);
    }
}

#[test]
fn ours_loads_from_ours() {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("between ours", LARGE);
    let provider = lab.daemon("provider");
    provider.store(&content);
    let loader = lab.daemon("loader");
    loader.connected(1);
    let took = loader.loads(&content);
    println!(
        "check 22: measured ours loads {LARGE} bytes from ours in {:.1} s, bar every byte, seed name",
        took.as_secs_f64()
    );
}
