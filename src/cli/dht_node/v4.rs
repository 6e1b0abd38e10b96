//! `dht-node --network v4`: persistent nodes of today's DHT. Several in one process, so that a private network needs one
//! machine only: two peers punch holes into their NATs with the help of three nodes that answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use futures::future::{join_all, select_ok};
use hyperswarm::dht::v4::Persistence;
use hyperswarm::net::v4::{Dht, DhtOptions};
use serde_json::json;
use tokio::net::lookup_host;
use tokio::time::sleep;

use super::super::arguments::DhtNode;
use super::super::failure::{Exit, Failure};
use super::super::settings::Settings;
use super::{failed, whose};

const COMMAND: &str = "kachery-p2p dht-node --network v4";
/// Three have to answer two peers that punch, and one may be busy.
const DEFAULT_NODES: u16 = 4;
/// Until bootstrap nodes of which none answers are asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Runs the nodes until this future is dropped; prints their addresses when others can enter the network through all of
/// them.
pub(super) async fn run(settings: &Settings, node: &DhtNode) -> Result<(), Failure> {
    let count = node.nodes.unwrap_or(DEFAULT_NODES);
    let listen = node.listen;
    check(listen, count, !node.bootstrap.is_empty())?;
    let bootstrap = entrances(settings, node).await?;
    let nodes = bind(listen, count, bootstrap)?;
    let addresses = join_all(nodes.iter().map(address)).await;
    let Some(addresses) = addresses.into_iter().collect::<Option<Vec<_>>>() else {
        return Err(unreachable(listen, count));
    };
    let text: String = addresses.iter().map(|address| format!("dht node ready: {address}\n")).collect();
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    // Without a reader there is nobody to tell; the nodes work all the same.
    let _ = settings.output.result(&text, json!({"nodes": names}));
    if let Some(first) = addresses.first() {
        settings.output.note(&for_others(*first));
    }
    std::future::pending().await
}

/// The first node of a network has nobody to ask for its address; and each node needs a port.
fn check(listen: SocketAddrV4, count: u16, has_bootstrap: bool) -> Result<(), Failure> {
    let port = listen.port();
    if port != 0 && port.checked_add(count).is_none() {
        return Err(Failure::usage(format!("{count} nodes need as many ports from {port} on, up to 65534"))
            .next(format!("{COMMAND} --listen {}:49737", listen.ip())));
    }
    if listen.ip().is_unspecified() && !has_bootstrap {
        return Err(Failure::usage("the first node of a network has to know the address that others use for it")
            .likely("0.0.0.0 is every address of this machine; only the nodes named by --bootstrap could tell which of them others see")
            .next(format!("{COMMAND} --listen THIS-MACHINE'S-ADDRESS:{port}   (or add --bootstrap HOST:PORT to enter a network)")));
    }
    Ok(())
}

/// Waits until one of the bootstrap nodes answers: nodes that entered without them would be a network of their own. Returns
/// their addresses.
async fn entrances(settings: &Settings, node: &DhtNode) -> Result<Vec<SocketAddrV4>, Failure> {
    if node.bootstrap.is_empty() {
        return Ok(Vec::new());
    }
    let host = *node.listen.ip();
    let options = DhtOptions { persistence: Persistence::Ephemeral, ..DhtOptions::private(host, []) };
    let asking = Dht::bind(options).map_err(|error| cannot_bind(node.listen, &error))?;
    let mut told = false;
    loop {
        let found = join_all(node.bootstrap.iter().map(resolve)).await;
        let addresses: Vec<SocketAddrV4> = found.into_iter().flatten().collect();
        let pings = addresses.iter().map(|address| Box::pin(asking.ping(*address)));
        // It panics without any.
        let answer = if addresses.is_empty() { None } else { select_ok(pings).await.ok() };
        match answer {
            Some((answer, _)) if host.is_unspecified() || *answer.to.ip() == host => return Ok(addresses),
            Some((answer, _)) => return Err(translated(node.listen, *answer.to.ip())),
            None if !told => {
                let names = node.bootstrap.join(", ");
                settings.output.note(&format!("no bootstrap node answers ({names}); trying until one does"));
                told = true;
            }
            None => {}
        }
        sleep(ASK_AGAIN).await;
    }
}

/// An address and a port, or a name and a port.
async fn resolve(name: &String) -> Option<SocketAddrV4> {
    lookup_host(name).await.ok()?.find_map(|address| match address {
        SocketAddr::V4(address) => Some(address),
        SocketAddr::V6(_) => None,
    })
}

/// Binds all nodes; they enter the network at the same time. An address that is known need not be learnt and is not
/// checked; then the first node is an entrance for the others.
fn bind(listen: SocketAddrV4, count: u16, mut bootstrap: Vec<SocketAddrV4>) -> Result<Vec<Dht>, Failure> {
    let host = *listen.ip();
    let known = !host.is_unspecified();
    let mut nodes = Vec::new();
    for i in 0..count {
        let port = if listen.port() == 0 { 0 } else { listen.port().saturating_add(i) };
        let options = DhtOptions {
            ports: port..if port == 0 { 0 } else { port.saturating_add(1) },
            any_port: false,
            open: known,
            public_host: known.then_some(host),
            ..DhtOptions::private(host, bootstrap.clone())
        };
        let bound = Dht::bind(options);
        let node = bound.map_err(|error| cannot_bind(SocketAddrV4::new(host, port), &error))?;
        if known && i == 0 {
            bootstrap.push(SocketAddrV4::new(host, node.local_address().port()));
        }
        nodes.push(node);
    }
    Ok(nodes)
}

fn cannot_bind(address: SocketAddrV4, error: &io::Error) -> Failure {
    let failure = failed(COMMAND, address, error);
    match error.kind() {
        // All addresses will not do for the first node.
        io::ErrorKind::AddrNotAvailable => {
            failure.next("ip -4 address   (shows the addresses of this machine)")
        }
        _ => failure,
    }
}

/// Waits until a node has entered. Its address as others see it; None if they cannot reach it.
async fn address(node: &Dht) -> Option<SocketAddrV4> {
    let status = node.until(|status| status.ready).await;
    status.address.filter(|_| status.id.is_some())
}

/// How others use these nodes.
fn for_others(first: SocketAddrV4) -> String {
    let listen = if first.ip().is_loopback() { " --listen 127.0.0.1:0" } else { "" };
    format!("on {}: {COMMAND}{listen} --bootstrap {first}", whose(first))
}

/// A NAT lies between this machine and the bootstrap nodes.
fn translated(listen: SocketAddrV4, seen: Ipv4Addr) -> Failure {
    let what = format!("others see this machine at {seen}, not at {}", listen.ip());
    Failure::new(Exit::Other, what).likely("a NAT translates its addresses").next(format!(
        "{COMMAND} --listen 0.0.0.0:{} --bootstrap HOST:PORT   (learns the address)",
        listen.port()
    ))
}

fn unreachable(listen: SocketAddrV4, count: u16) -> Failure {
    let ports = match listen.port() {
        0 => "its UDP ports".to_owned(),
        first => format!("UDP ports {first} to {}", first.saturating_add(count.saturating_sub(1))),
    };
    Failure::new(Exit::Other, "other nodes cannot reach this machine, so that it cannot serve them")
        .likely(format!("a firewall or a NAT in front of it keeps {ports} closed"))
        .next("open these ports, or forward them to this machine, then run the command again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_other_machines_enters_this_network() {
        for (address, expected) in [
            ("10.0.0.5:7", "on the other machines: kachery-p2p dht-node --network v4 --bootstrap 10.0.0.5:7"),
            (
                "127.0.0.1:7",
                "on this machine only: kachery-p2p dht-node --network v4 --listen 127.0.0.1:0 --bootstrap 127.0.0.1:7",
            ),
        ] {
            assert_eq!(for_others(address.parse().unwrap()), expected);
        }
    }

    #[test]
    fn each_node_needs_a_port() {
        let check = |listen: &str, count| check(listen.parse().unwrap(), count, false);
        assert!(check("127.0.0.1:65531", 4).is_ok());
        assert!(check("127.0.0.1:0", 1000).is_ok());
        assert_eq!(check("127.0.0.1:65532", 4).unwrap_err().exit, Exit::Usage);
    }
}
