//! The only way from the provider to the loader is through a peer that relays: the provider refuses everybody else.

use std::time::{Duration, Instant};

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

/// Loads each file: after one failure in which the provider was blamed, all others fail.
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
        assert!(
            std::fs::read(loader.stored(&file.sha1)).expect("a loaded file") == file.bytes,
            "the bytes differ"
        );
        assert!(!loading.shown.contains("wrong bytes"), "somebody honest was blamed\n{}", loading.shown);
    }
}

/// A lab with a daemon of ours between provider and loader.
fn with_our_relay(test: impl FnOnce(&Peer, &Daemon, &[Content])) {
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
    test(&provider, &loader, &files);
    assert!(provider.was_asked());
}

#[test]
fn a_load_through_a_daemon_of_ours_completes() {
    with_our_relay(|_, loader, files| load_all("a daemon of ours", loader, files));
}

/// What the relay cannot pass on while the loader's machine is busy elsewhere must not be lost for good.
#[test]
fn a_load_through_a_daemon_of_ours_survives_a_pause_of_the_loader() {
    with_our_relay(|provider, loader, files| {
        let file = files.last().expect("a file");
        let (started, before) = (Instant::now(), provider.events("serving").len());
        let mut loading = loader.begin_load(&file.sha1, 20);
        while provider.events("serving").len() == before {
            assert!(started.elapsed() < SOON, "the provider is not asked\n{loading}");
            std::thread::sleep(Duration::from_millis(2));
        }
        loader.process.signal("STOP");
        std::thread::sleep(Duration::from_secs(2));
        loader.process.signal("CONT");
        let code = loading.end_within(Duration::from_secs(40)).and_then(|status| status.code());
        println!(
            "check 25: measured {} MiB through a daemon of ours, the loader stopped for 2 s: exit code {code:?} after {:.1} s, \
             bar 0, seed name",
            file.bytes.len() / MIB,
            started.elapsed().as_secs_f64()
        );
        assert_eq!(code, Some(0), "{loading}\n{}", loader.process);
        load_all("the same daemon afterwards", loader, files);
    });
}

/// A relay that loses some of what it should forward.
fn lossy(percent: u32) {
    const SEED: &str = "2463534242";
    let Some(lab) = Lab::new() else { return };
    let files = contents(&lab);
    let relay =
        lab.peer("0.2.1", &[], &["--relay", "--relay-loss", &percent.to_string(), "--relay-seed", SEED]);
    let provider = hidden_provider(&lab, &files, &[relay.node_id()]);
    let id = provider.node_id();
    relay.event("peer", SOON, |event| {
        event["nodeId"] == id.as_str() && event["swarm"] == format!("file-transfer:{id}")
    });
    let loader = lab.daemon("loader");
    loader.connected(1);
    load_all(&format!("a relay that loses {percent} % (seed {SEED})"), &loader, &files);
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
