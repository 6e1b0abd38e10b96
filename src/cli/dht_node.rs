//! `dht-node`: DHT nodes by themselves, so that a laboratory can run its own network.

mod v4;

use std::io;
use std::net::SocketAddrV4;

use serde_json::json;

use super::arguments::{DhtNode, Network};
use super::failure::{Exit, Failure};
use super::settings::Settings;
use super::signals;
use hyperswarm::net::v2;

/// Runs until it is interrupted; that is its proper end. Prints its address once it takes part. Without bootstrap nodes it
/// knows nobody: it is the first node of its network.
pub(super) async fn run(settings: &Settings, node: &DhtNode) -> Result<(), Failure> {
    let interrupted = signals::interrupted()?;
    let work = async {
        match node.network {
            Network::V2 => run_v2(settings, node).await,
            Network::V4 => v4::run(settings, node).await,
        }
    };
    tokio::select! {
        ended = work => ended,
        () = interrupted => Ok(()),
    }
}

async fn run_v2(settings: &Settings, node: &DhtNode) -> Result<(), Failure> {
    if node.nodes.is_some() || !node.bootstrap.is_empty() {
        return Err(Failure::usage("--nodes and --bootstrap are for --network v4")
            .next("kachery-p2p dht-node --network v4, or --bootstrap-v2 HOST:PORT for this network"));
    }
    let listen = node.listen;
    let ready = |address: SocketAddrV4| {
        let text = format!("dht node ready: {address}\n");
        // Without a reader there is nobody to tell; the node works all the same.
        let _ = settings.output.result(&text, json!({"address": address.to_string()}));
        settings.output.note(&for_others(address));
    };
    let ended = v2::run_dht_node(listen, settings.bootstrap_v2.clone(), ready).await;
    ended.map_err(|error| failed("kachery-p2p dht-node", listen, &error))
}

/// How the other machines use this node.
fn for_others(address: SocketAddrV4) -> String {
    let (ip, port) = (address.ip(), address.port());
    let host = if ip.is_unspecified() { "THIS-MACHINE".to_owned() } else { ip.to_string() };
    format!("on {}: kachery-p2p daemon-start --channel NAME --bootstrap-v2 {host}:{port}", whose(address))
}

/// The machines that can use this address.
fn whose(address: SocketAddrV4) -> &'static str {
    if address.ip().is_loopback() { "this machine only" } else { "the other machines" }
}

/// Why a node cannot run there; `command` is what may be run with another address.
fn failed(command: &str, listen: SocketAddrV4, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::Other, format!("cannot run a DHT node on {listen}: {error}"));
    let other_port =
        SocketAddrV4::new(*listen.ip(), if listen.port() == u16::MAX { 0 } else { listen.port() + 1 });
    match error.kind() {
        io::ErrorKind::AddrInUse => failure
            .likely("another DHT node, or another program, listens on this UDP port")
            .next(format!("{command} --listen {other_port}")),
        io::ErrorKind::AddrNotAvailable => failure
            .likely("this machine does not have that address")
            .next(format!("{command} --listen 0.0.0.0:{}", listen.port())),
        _ => failure.unless_out_of_files(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_other_machines_names_an_address_that_they_can_use() {
        for (address, start, end) in [
            ("0.0.0.0:7", "on the other machines: ", " --bootstrap-v2 THIS-MACHINE:7"),
            ("10.0.0.5:7", "on the other machines: ", " --bootstrap-v2 10.0.0.5:7"),
            ("127.0.0.1:7", "on this machine only: ", " --bootstrap-v2 127.0.0.1:7"),
        ] {
            let line = for_others(address.parse().unwrap());
            assert!(line.starts_with(start) && line.ends_with(end), "{line}");
        }
    }
}
