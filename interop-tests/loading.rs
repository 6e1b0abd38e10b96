//! JavaScript provides, ours loads.

use crate::lab::{LARGE, Lab, SOON};

fn ours_loads(dialect: &str, size: usize) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("offered", size);
    let peer = lab.peer(dialect, &[&content], &[]);
    let daemon = lab.daemon("ours");
    daemon.connected(1);
    let took = daemon.loads(&content);
    assert!(peer.was_asked(), "the bytes came from somewhere else\n{}", peer.process);
    println!(
        "check 22: measured ours loads {size} bytes from {dialect} in {:.1} s, bar every byte, seed name",
        took.as_secs_f64()
    );
}

#[test]
fn ours_loads_100_bytes_from_0_1_2() {
    ours_loads("0.1.2", 100);
}

#[test]
fn ours_loads_378_bytes_from_0_1_2() {
    ours_loads("0.1.2", 378);
}

#[test]
fn ours_loads_100_bytes_from_0_1_6() {
    ours_loads("0.1.6", 100);
}

#[test]
fn ours_loads_300_kb_from_0_1_6() {
    ours_loads("0.1.6", 300_000);
}

#[test]
fn ours_loads_64_mib_from_0_1_6() {
    ours_loads("0.1.6", LARGE);
}

#[test]
fn ours_loads_100_bytes_from_0_2_1() {
    ours_loads("0.2.1", 100);
}

#[test]
fn ours_loads_300_kb_from_0_2_1() {
    ours_loads("0.2.1", 300_000);
}

#[test]
fn ours_loads_64_mib_from_0_2_1() {
    ours_loads("0.2.1", LARGE);
}

/// A request for 568 bytes or more kills an original 0.1.2; one for 379 to 567 gives nothing.
#[test]
fn ours_never_kills_a_0_1_2_provider() {
    let Some(lab) = Lab::new() else { return };
    for size in [379, 568, 300_000] {
        let content = lab.file(&format!("too much {size}"), size);
        let mut peer = lab.peer("0.1.2", &[&content], &[]);
        let daemon = lab.daemon(&format!("ours {size}"));
        daemon.connected(1);
        daemon.fails_to_load(&content);
        assert!(peer.process.is_running(), "the request for {size} bytes killed it\n{}", peer.process);
    }
}

#[test]
fn ours_prefers_the_provider_that_can_deliver() {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("both have it", 300_000);
    let mut old = lab.peer("0.1.2", &[&content], &[]);
    let new = lab.peer("0.2.1", &[&content], &["--answer-delay", "300"]);
    let daemon = lab.daemon("ours");
    daemon.connected(2);
    daemon.loads(&content);
    assert!(old.process.is_running() && new.was_asked());
}

#[test]
fn two_providers_share_the_work() {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("shared work", LARGE);
    let peers = [lab.peer("0.2.1", &[&content], &[]), lab.peer("0.2.1", &[&content], &[])];
    let daemon = lab.daemon("ours");
    daemon.connected(2);
    daemon.loads(&content);
    assert!(peers.iter().all(|peer| peer.was_asked()), "only one was asked");
}

#[test]
fn what_nobody_has_is_exit_code_3() {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("unknown to all", 100);
    let peer = lab.peer("0.2.1", &[], &[]);
    let daemon = lab.daemon("ours");
    daemon.connected(1);
    let loading = daemon.load(&content.sha1, 10);
    assert_eq!((loading.code, loading.stdout.as_str()), (Some(3), ""), "{}", loading.shown);
    peer.event("peer", SOON, |_| true);
}
