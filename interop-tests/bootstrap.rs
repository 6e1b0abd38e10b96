//! Whose DHT node the others start from.

use crate::lab::Lab;

#[test]
fn javascript_peers_meet_through_our_dht_node() {
    let Some(lab) = Lab::with_our_bootstrap() else { return };
    let content = lab.file("through ours", 100_000);
    for dialect in ["0.1.6", "0.2.1"] {
        let provider = lab.peer(dialect, &[&content], &[]);
        lab.js_loads(dialect, &content);
        assert!(provider.was_asked());
    }
}

#[test]
fn ours_and_javascript_meet_through_our_dht_node() {
    let Some(lab) = Lab::with_our_bootstrap() else { return };
    let content = lab.file("through ours", 100_000);
    let provider = lab.peer("0.2.1", &[&content], &[]);
    let daemon = lab.daemon("ours");
    daemon.connected(1);
    daemon.loads(&content);
    drop(provider);
    lab.js_loads("0.1.6", &content);
}

#[test]
fn ours_meet_each_other_through_our_dht_node() {
    let Some(lab) = Lab::with_our_bootstrap() else { return };
    let content = lab.file("all ours", 100_000);
    let provider = lab.daemon("provider");
    provider.store(&content);
    let loader = lab.daemon("loader");
    loader.connected(1);
    loader.loads(&content);
}
