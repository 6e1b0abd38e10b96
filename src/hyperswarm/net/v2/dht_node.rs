//! A DHT node by itself: what `kachery-p2p dht-node` runs, and what private networks use as bootstrap.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Instant;

use tokio::net::UdpSocket;

use super::bootstrap::Resolver;
use super::endpoint::Endpoint;
use crate::dht::v2::{Config, Ephemeral, Node};
use crate::net::random;
use crate::net::sleep_until;

/// A DHT node by itself (`kachery-p2p dht-node`): answers until the future is dropped. `listen` port 0 picks one;
/// `on_ready` hears the bound address.
///
/// # Errors
/// A bootstrap entry that is not `host:port`, or an address that cannot be bound.
pub async fn run_dht_node(
    listen: SocketAddrV4,
    bootstrap: Vec<String>,
    on_ready: impl FnOnce(SocketAddrV4),
) -> io::Result<()> {
    let resolver = Resolver::start(&bootstrap)?;
    let mut addresses = resolver.addresses();
    let known = addresses.borrow_and_update().clone();
    let socket = UdpSocket::bind(listen).await?;
    let SocketAddr::V4(bound) = socket.local_addr()? else { return Err(io::ErrorKind::Unsupported.into()) };
    let config = Config { bootstrap: known, ephemeral: Ephemeral::Never };
    let mut endpoint = Endpoint::new(socket, Node::new(Instant::now(), config, random::seed()?));
    on_ready(bound);
    loop {
        endpoint.node.handle_timeout(Instant::now());
        // Nobody here waits for events, but they must not pile up.
        while endpoint.node.poll_event().is_some() {}
        endpoint.transmit().await;
        let deadline = endpoint.node.poll_timeout();
        tokio::select! {
            () = endpoint.readable() => { endpoint.receive(Instant::now()); }
            Ok(()) = addresses.changed() => {
                let known = addresses.borrow_and_update().clone();
                endpoint.node.set_bootstrap(Instant::now(), known);
            }
            () = sleep_until(deadline) => {}
        }
    }
}
