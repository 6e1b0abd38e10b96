//! Connections by public key, as their users have them.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::Dht;
use super::instance::Instance;
use super::links::{Admit, Stage};
use crate::crypto::{KeyPair, PublicKey};
use crate::dht::hyperdht::{ListenError, Target};
use crate::dht::rpc::Via;
use crate::holepunch::{Connect, ConnectError, DialId, DialOptions, ListenOptions, Role};
use crate::limits::v4::MAX_UNTAKEN_CONNECTIONS;
use crate::net::secret_stream::{Options, SecretStream};
use crate::net::udx::{UdxSocket, UdxStream};
use crate::topic::Topic;
use crate::udx::StreamOptions;

/// An empty message leaves when nothing else did for so long (hyperdht `connectionKeepAlive`): NATs forget sooner than
/// in a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A connection to a peer, encrypted both ways. Read and write it as the [`SecretStream`] that it is.
pub struct Connection {
    stream: SecretStream<UdxStream>,
    initiator: bool,
    remote_address: SocketAddr,
    topics: Vec<Topic>,
}

impl Connection {
    /// Opens the stream that the machine has agreed on.
    pub(super) fn start(connect: &Connect, socket: &UdxSocket) -> io::Result<Self> {
        let remote_address = connect.to.into();
        let options = StreamOptions { id: Some(connect.stream), framed: true, ..StreamOptions::default() };
        let stream = socket.open(options)?;
        stream.connect(connect.remote_stream, remote_address)?;
        let options = Options { keep_alive: Some(KEEP_ALIVE), ..Options::default() };
        let stream = SecretStream::with_keys(stream, &connect.keys, options).map_err(io::Error::other)?;
        Ok(Self {
            stream,
            initiator: matches!(connect.role, Role::Client(_)),
            remote_address,
            topics: Vec::new(),
        })
    }

    /// Topics in which a swarm has found the peer; none if the peer has found us, or there is no swarm.
    pub fn topics(&self) -> &[Topic] {
        &self.topics
    }

    pub(super) fn set_topics(&mut self, topics: Vec<Topic>) {
        self.topics = topics;
    }

    /// True if we dialled.
    pub fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// Where the peer was when the connection was made.
    pub fn remote_address(&self) -> SocketAddr {
        self.remote_address
    }

    /// The stream alone.
    pub fn into_stream(self) -> SecretStream<UdxStream> {
        self.stream
    }
}

impl Deref for Connection {
    type Target = SecretStream<UdxStream>;

    fn deref(&self) -> &Self::Target {
        &self.stream
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.stream
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({:?} at {})", self.stream.remote(), self.remote_address)
    }
}

/// Who accepts a server's connections; the server ends when this is dropped, its connections go on.
pub struct Server {
    announced: Announced,
    public_key: PublicKey,
    connections: mpsc::Receiver<Connection>,
}

/// Where a server is announced.
#[derive(Clone)]
pub(super) struct Announced {
    instance: Arc<Instance>,
    target: Target,
    listening: watch::Receiver<bool>,
}

impl Announced {
    /// Waits until it was tried for the first time to announce the server.
    pub(super) async fn listening(&self) {
        // An error: the server has ended.
        let _ = self.listening.clone().wait_for(|listening| *listening).await;
    }

    pub(super) fn relay_addresses(&self) -> Vec<SocketAddrV4> {
        let relays = self.instance.connect(|machine, _, _| machine.dht().relay_addresses(&self.target));
        relays.unwrap_or_default()
    }
}

impl Server {
    /// The next connection; None if the node was closed.
    pub async fn accept(&mut self) -> Option<Connection> {
        self.connections.recv().await
    }

    /// The hash of its key, under which it is announced.
    pub fn target(&self) -> Target {
        self.announced.target
    }

    /// The key that peers dial.
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Waits until it was tried for the first time to announce the server, which takes some round trips: before, nobody
    /// finds it.
    pub async fn listening(&self) {
        self.announced.listening().await;
    }

    /// Where handshakes reach it, to be announced with topics.
    pub fn relay_addresses(&self) -> Vec<SocketAddrV4> {
        self.announced.relay_addresses()
    }

    pub(super) fn announced(&self) -> &Announced {
        &self.announced
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Announced { instance, target, .. } = &self.announced;
        instance.connect(|machine, links, now| {
            links.forget_server(target);
            machine.unlisten(now, *target);
        });
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({:?})", self.public_key)
    }
}

/// Ends an attempt that nobody waits for.
struct Dialling {
    instance: Arc<Instance>,
    id: DialId,
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.instance.connect(|machine, links, now| {
            links.forget_dial(self.id);
            machine.cancel(now, self.id);
        });
    }
}

impl Dht {
    /// Accepts connections under a key of ours, and keeps it announced.
    pub fn serve(&self, keys: KeyPair, options: ListenOptions) -> Result<Server, ListenError> {
        self.serve_those(keys, ListenOptions { ask: false, ..options }, None)
    }

    /// The same, for those peers only for which `admit` says so: it is given the peer's key, and its address as a relay
    /// sees it. It must not block.
    pub fn serve_if(
        &self,
        keys: KeyPair,
        options: ListenOptions,
        admit: impl Fn(&PublicKey, SocketAddrV4) -> bool + Send + Sync + 'static,
    ) -> Result<Server, ListenError> {
        self.serve_those(keys, ListenOptions { ask: true, ..options }, Some(Arc::new(admit)))
    }

    fn serve_those(
        &self,
        keys: KeyPair,
        options: ListenOptions,
        admit: Option<Admit>,
    ) -> Result<Server, ListenError> {
        let instance = Arc::clone(&self.inner.instance);
        let public_key = keys.public();
        let (sender, connections) = mpsc::channel(MAX_UNTAKEN_CONNECTIONS);
        let listening = instance.connect(|machine, links, now| {
            let target = machine.listen(now, keys, options)?;
            Ok((target, links.add_server(target, sender, admit)))
        });
        // A node that is closed, which cannot be as long as this handle is there, would never accept anybody.
        let (target, listening) = listening.unwrap_or(Ok((Target::default(), watch::channel(true).1)))?;
        let announced = Announced { instance, target, listening };
        Ok(Server { announced, public_key, connections })
    }

    /// Connects to the peer that listens under `remote`, as the owner of `keys`. Completes when the peer has answered on
    /// the connection itself. Dropping it ends the attempt.
    pub fn connect(
        &self,
        keys: &Arc<KeyPair>,
        remote: PublicKey,
        options: DialOptions,
    ) -> impl Future<Output = Result<Connection, ConnectError>> + Send + use<> {
        let (sender, mut stages) = mpsc::channel(2);
        let instance = Arc::clone(&self.inner.instance);
        let dialled = instance.connect(|machine, links, now| {
            let id = machine.dial(now, Arc::clone(keys), remote, options)?;
            links.add_dial(id, sender);
            Ok(id)
        });
        let dialling = dialled.unwrap_or(Err(ConnectError::NotFound)).map(|id| Dialling { instance, id });
        async move {
            let dialling = dialling?;
            let connection = match stages.recv().await {
                Some(Stage::Connected(connection)) => *connection,
                Some(Stage::Failed(error)) => return Err(error),
                None => return Err(ConnectError::NotFound),
            };
            tokio::select! {
                biased;
                heard = connection.stream.transport().heard() => match heard {
                    Ok(()) => {}
                    Err(_) => return Err(failure(&mut stages)),
                },
                Some(Stage::Failed(error)) = stages.recv() => return Err(error),
            }
            let id = connection.stream.transport().id();
            let via = dialling.instance.via(connection.stream.transport().socket_id());
            dialling.instance.connect(|machine, links, now| {
                machine.stream_heard(now, id, via);
                links.release(via)
            });
            Ok(connection)
        }
    }
}

/// The stream is over before anything was heard.
fn failure(stages: &mut mpsc::Receiver<Stage>) -> ConnectError {
    match stages.try_recv() {
        Ok(Stage::Failed(error)) => error,
        _ => ConnectError::Holepunch(crate::holepunch::HolepunchError::Silence),
    }
}

/// Our addresses in local networks, if the sockets are bound to `host`; the loopback address if there is no other.
pub(super) fn local_hosts(host: Ipv4Addr) -> Vec<Ipv4Addr> {
    if !host.is_unspecified() {
        return vec![host];
    }
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let four = all.into_iter().filter_map(|interface| match interface.ip() {
        std::net::IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
        _ => None,
    });
    let hosts: Vec<_> = four.collect();
    if hosts.is_empty() { vec![Ipv4Addr::LOCALHOST] } else { hosts }
}

/// Used where a socket is not known any more.
pub(super) const NO_SOCKET: Via = Via(u16::MAX);
