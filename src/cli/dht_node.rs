//! `dht-node`: a DHT node by itself, so that a laboratory can run its own bootstrap node.

use std::net::SocketAddrV4;

use serde_json::json;

use super::arguments::Network;
use super::failure::{Exit, Failure};
use super::settings::Settings;
use super::signals;
use hyperswarm::net::v2;

/// Runs until it is interrupted; that is its proper end. Prints its address once it listens. Without
/// `--bootstrap-v2` it knows nobody: it is the first node of its network.
pub(super) async fn run(settings: &Settings, network: Network, listen: SocketAddrV4) -> Result<(), Failure> {
    let interrupted = signals::interrupted()?;
    let Network::V2 = network;
    let ready = |address: SocketAddrV4| {
        let text = format!("dht node ready: {address}\n");
        // Without a reader there is nobody to tell; the node works all the same.
        let _ = settings.output.result(&text, json!({"address": address.to_string()}));
    };
    let node = v2::run_dht_node(listen, settings.bootstrap_v2.clone(), ready);
    tokio::select! {
        ended = node => ended.map_err(|error| {
            let what = format!("cannot run a DHT node on {listen}: {error}");
            Failure::new(Exit::Other, what).unless_out_of_files(&error)
        }),
        () = interrupted => Ok(()),
    }
}
