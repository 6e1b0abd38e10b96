//! The only way from the provider to the loader is through a peer that relays: the provider refuses everybody else.

use std::time::Duration;

use crate::bar::long;
use crate::lab::{Content, Daemon, Lab, Peer, SOON};

const MIB: usize = 1 << 20;

fn sizes() -> &'static [usize] {
    if long() { &[MIB, 2 * MIB, 16 * MIB, 64 * MIB] } else { &[MIB, 2 * MIB, 8 * MIB] }
}

fn contents(lab: &Lab) -> Vec<Content> {
    sizes().iter().map(|size| lab.file(&format!("relayed {size}"), *size)).collect()
}

/// A provider that is connected to the node `only`, and to nobody else.
fn hidden_provider(lab: &Lab, files: &[Content], only: &[String]) -> Peer {
    let arguments: Vec<_> = only.iter().flat_map(|node| ["--only", node]).collect();
    lab.peer("0.2.1", &files.iter().collect::<Vec<_>>(), &arguments)
}

/// Each file is loaded once; the last one again by nobody: an honest provider that was blamed would not be asked a second time.
fn load_all(what: &str, loader: &Daemon, files: &[Content]) {
    for file in files {
        let loading = loader.load_within(Duration::from_secs(40), &file.sha1, 20);
        let mib = file.bytes.len() / MIB;
        println!(
            "check 25: measured {mib} MiB through {what}: exit code {:?} after {:.1} s, bar 0, seed name",
            loading.code,
            loading.took.as_secs_f64()
        );
        assert_eq!(loading.code, Some(0), "{mib} MiB through {what}\n{}", loading.shown);
        assert!(std::fs::read(loader.stored(&file.sha1)).expect("a loaded file") == file.bytes, "the bytes differ");
        assert!(!loading.shown.contains("wrong bytes"), "somebody honest was blamed\n{}", loading.shown);
    }
}

#[test]
fn a_load_through_a_daemon_of_ours_completes() {
    let Some(lab) = Lab::new() else { return };
    let mut files = contents(&lab);
    files.push(lab.file("makes the relay join the provider's swarm", 1000));
    let relay = lab.daemon("relay");
    let provider = hidden_provider(&lab, &files, &[relay.node_id()]);
    relay.connected(1);
    let joins = files.pop().expect("just added");
    relay.loads(&joins);
    let loader = lab.daemon("loader");
    loader.connected(1);
    load_all("a daemon of ours", &loader, &files);
    assert!(provider.was_asked());
}

/// A relay that loses some of what it should forward.
fn lossy(percent: u32) {
    let Some(lab) = Lab::new() else { return };
    let files = contents(&lab);
    let relay = lab.peer("0.2.1", &[], &["--relay", "--relay-loss", &percent.to_string()]);
    let provider = hidden_provider(&lab, &files, &[relay.node_id()]);
    let id = provider.node_id();
    relay.event("peer", SOON, |event| event["nodeId"] == id.as_str() && event["swarm"] == format!("file-transfer:{id}"));
    let loader = lab.daemon("loader");
    loader.connected(1);
    load_all(&format!("a relay that loses {percent} %"), &loader, &files);
    assert!(provider.was_asked());
}

#[test]
fn a_load_through_a_relay_that_loses_nothing_completes() {
    lossy(0);
}

#[test]
fn a_load_through_a_relay_that_loses_one_percent_completes() {
    lossy(1);
}

#[test]
fn a_load_through_a_relay_that_loses_five_percent_completes() {
    lossy(5);
}
