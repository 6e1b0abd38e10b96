//! Connections on their way: what the machine wants done with sockets and streams, and who waits for it.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::connection::Connection;
use super::instance::Instance;
use crate::crypto::PublicKey;
use crate::dht::hyperdht::Target;
use crate::dht::rpc::Via;
use crate::dht::v4::{CLIENT, SERVER};
use crate::holepunch::{Action, Connect, ConnectError, DialId, Event, Role};
use crate::net::udx::{BindOptions, UdxSocket, path_mtu};
use crate::udx::Remote;

/// Says if a peer may connect; called outside all locks, from the task of a socket, so it must not block.
pub(super) type Admit = Arc<dyn Fn(&PublicKey, SocketAddrV4) -> bool + Send + Sync>;

/// What has become of an attempt.
pub(super) enum Stage {
    /// Its stream has a way to the peer, which has not answered on it yet.
    Connected(Box<Connection>),
    /// There will be no connection.
    Failed(ConnectError),
}

/// Who waits for connections, and the sockets that they may use.
pub(super) struct Links {
    /// Those of hole punches; the first two are the node's own.
    sockets: BTreeMap<Via, UdxSocket>,
    dials: HashMap<DialId, mpsc::Sender<Stage>>,
    servers: HashMap<Target, Listener>,
}

/// Who waits at a server.
struct Listener {
    connections: mpsc::Sender<Connection>,
    admit: Option<Admit>,
    /// True once it was tried to announce the server.
    listening: watch::Sender<bool>,
}

/// Something to do when no lock is held.
pub(super) enum Job {
    Open {
        via: Via,
        like: UdxSocket,
    },
    Connect {
        connect: Box<Connect>,
        socket: UdxSocket,
        waiting: Waiter,
    },
    Reroute {
        stream: u32,
        remote_stream: u32,
        socket: UdxSocket,
        to: SocketAddrV4,
    },
    Nudge {
        stream: u32,
        socket: UdxSocket,
    },
    Deliver {
        socket: UdxSocket,
        from: SocketAddrV4,
        packet: Bytes,
    },
    Tell {
        waiting: mpsc::Sender<Stage>,
        error: ConnectError,
    },
    Admit {
        admit: Admit,
        target: Target,
        number: usize,
        remote: PublicKey,
        address: SocketAddrV4,
    },
    /// A socket that is not used any more: dropped here, as that wakes its task.
    Drop(Option<UdxSocket>),
}

/// Who gets a new connection.
pub(super) enum Waiter {
    Dial(mpsc::Sender<Stage>),
    Server(mpsc::Sender<Connection>),
}

impl Links {
    /// With the node's own sockets.
    pub(super) fn new([client, server]: [UdxSocket; 2]) -> Self {
        let sockets = BTreeMap::from([(CLIENT, client), (SERVER, server)]);
        Self { sockets, dials: HashMap::new(), servers: HashMap::new() }
    }

    pub(super) fn add_dial(&mut self, id: DialId, waiting: mpsc::Sender<Stage>) {
        self.dials.insert(id, waiting);
    }

    pub(super) fn forget_dial(&mut self, id: DialId) {
        self.dials.remove(&id);
    }

    pub(super) fn add_server(
        &mut self,
        target: Target,
        connections: mpsc::Sender<Connection>,
        admit: Option<Admit>,
    ) -> watch::Receiver<bool> {
        let (listening, watched) = watch::channel(false);
        self.servers.insert(target, Listener { connections, admit, listening });
        watched
    }

    /// It was tried to announce a server.
    pub(super) fn listening(&self, target: &Target) {
        if let Some(server) = self.servers.get(target) {
            server.listening.send_replace(true);
        }
    }

    pub(super) fn forget_server(&mut self, target: &Target) {
        self.servers.remove(target);
    }

    /// The socket is the stream's alone from now on, if it was opened for a hole punch.
    pub(super) fn release(&mut self, via: Via) -> Option<UdxSocket> {
        if via == CLIENT || via == SERVER { None } else { self.sockets.remove(&via) }
    }

    /// A socket that was opened for a hole punch.
    pub(super) fn add_socket(&mut self, via: Via, socket: UdxSocket) {
        self.sockets.insert(via, socket);
    }

    pub(super) fn tell(&mut self, event: Event) -> Option<Job> {
        match event {
            Event::Failed(id, error) => Some(Job::Tell { waiting: self.dials.remove(&id)?, error }),
            Event::Knock { target, number, remote, address } => {
                let admit = self.servers.get(&target)?.admit.clone()?;
                Some(Job::Admit { admit, target, number, remote, address })
            }
            // Who dials sees it at the stream.
            Event::Established(_) | Event::Dht(_) => None,
        }
    }

    pub(super) fn job(&mut self, action: Action) -> Option<Job> {
        match action {
            Action::OpenSocket(via) => Some(Job::Open { via, like: self.sockets.get(&SERVER)?.clone() }),
            Action::CloseSocket(via) => Some(Job::Drop(self.release(via))),
            Action::Connect(connect) => {
                let socket = self.sockets.get(&connect.via)?.clone();
                let waiting = match connect.role {
                    Role::Client(id) => Waiter::Dial(self.dials.get(&id)?.clone()),
                    Role::Server(target) => {
                        self.release(connect.via);
                        Waiter::Server(self.servers.get(&target)?.connections.clone())
                    }
                };
                Some(Job::Connect { connect, socket, waiting })
            }
            Action::Reroute { stream, remote_stream, via, to } => {
                Some(Job::Reroute { stream, remote_stream, socket: self.sockets.get(&via)?.clone(), to })
            }
            Action::Nudge(stream) => Some(Job::Nudge { stream, socket: self.sockets.get(&SERVER)?.clone() }),
            Action::Deliver { via, from, packet } => {
                Some(Job::Deliver { socket: self.sockets.get(&via)?.clone(), from, packet })
            }
        }
    }
}

impl Job {
    pub(super) fn run(self, instance: &Instance) {
        match self {
            Self::Open { via, like } => {
                let local = SocketAddr::new(like.local_address().ip(), 0);
                match like.bind_sibling(local, BindOptions::default()) {
                    Ok(socket) => {
                        instance.add_socket(via, socket.handle());
                        instance.connect(|_, links, _| links.add_socket(via, socket));
                    }
                    // The hole punch goes on with those that there are.
                    Err(error) => {
                        tracing::debug!(%error, "no further socket for a hole punch");
                        instance.no_socket(via);
                    }
                }
            }
            Self::Connect { connect, socket, waiting } => match Connection::start(&connect, &socket) {
                Ok(connection) => waiting.give(connection),
                Err(error) => tracing::debug!(%error, "no stream for a connection"),
            },
            Self::Reroute { stream, remote_stream, socket, to } => {
                let address = to.into();
                let path_mtu = path_mtu(socket.local_address().ip(), address);
                socket.reroute(stream, Remote { id: remote_stream, address, path_mtu });
            }
            Self::Nudge { stream, socket } => socket.nudge(stream),
            Self::Deliver { socket, from, packet } => socket.deliver(from.into(), &packet),
            // Closed: nobody waits any more.
            Self::Tell { waiting, error } => drop(waiting.try_send(Stage::Failed(error))),
            Self::Admit { admit, target, number, remote, address } => {
                let admitted = admit(&remote, address);
                instance.connect(|machine, _, now| machine.admit(now, target, number, &remote, admitted));
            }
            Self::Drop(socket) => drop(socket),
        }
    }
}

impl Waiter {
    /// Nobody takes it, or too many wait already: it is dropped, and the peer sees a reset.
    fn give(self, connection: Connection) {
        match self {
            Self::Dial(waiting) => drop(waiting.try_send(Stage::Connected(Box::new(connection)))),
            Self::Server(connections) => drop(connections.try_send(connection)),
        }
    }
}
