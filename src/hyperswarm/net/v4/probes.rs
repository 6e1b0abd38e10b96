//! Datagrams of no or one byte, with which peers open their NATs for each other (hyperdht `lib/holepuncher.js`).

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::limits::v4::{MAX_WAITING_PROBES, PROBE_QUEUE};
use crate::net::udp::{Batch, Haste, Outgoing, Protocol, SocketId, Way};
use crate::net::udx::UdxSocket;

/// Bytes of a probe, as hyperdht sends it.
const PROBE: [u8; 1] = [0];
/// Routers that a probe passes which is to open our own NAT and to end before the peer's.
const SHORT_TTL: u8 = 5;
/// Routers that any other probe passes at most.
const USUAL_TTL: u8 = 64;

/// How far a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Through our own NAT, hardly to the peer's: past five routers.
    Near,
    /// To the peer.
    Far,
}

/// The probes of all sockets of a node.
#[derive(Default)]
pub struct Probes {
    state: Mutex<HashMap<SocketId, Place>>,
}

/// What concerns one socket.
#[derive(Default)]
struct Place {
    to_send: VecDeque<(SocketAddrV4, Probe)>,
    listener: Option<mpsc::Sender<SocketAddrV4>>,
}

impl Probes {
    /// Sends a probe.
    pub fn send(&self, socket: &UdxSocket, to: SocketAddrV4, probe: Probe) {
        let mut state = self.state.lock();
        let to_send = &mut state.entry(socket.id()).or_default().to_send;
        // When full, the probe is dropped, as the network may do.
        if to_send.len() < MAX_WAITING_PROBES {
            to_send.push_back((to, probe));
        }
        drop(state);
        socket.handle().transmit();
    }

    /// The senders of probes that come in on this socket, from now on; an earlier listener hears no more. When 64 of them
    /// wait, further ones are dropped, as the network may do. Without a listener all are.
    pub fn listen(&self, socket: &UdxSocket) -> mpsc::Receiver<SocketAddrV4> {
        let (sender, receiver) = mpsc::channel(PROBE_QUEUE);
        self.state.lock().entry(socket.id()).or_default().listener = Some(sender);
        receiver
    }
}

#[cfg(test)]
impl Probes {
    /// Probes that have yet to leave a socket.
    pub(super) fn waiting(&self, socket: &UdxSocket) -> usize {
        self.state.lock().get(&socket.id()).map_or(0, |place| place.to_send.len())
    }
}

impl Protocol for Probes {
    fn receive(&self, _now: Instant, socket: SocketId, batch: &mut Batch<'_>) -> Haste {
        let state = self.state.lock();
        let listener = state.get(&socket).and_then(|place| place.listener.as_ref());
        batch.offer(|from, datagram| {
            let is_probe = datagram.len() <= PROBE.len();
            if let (true, Some(listener), SocketAddr::V4(from)) = (is_probe, listener, from) {
                let _ = listener.try_send(from);
            }
            is_probe
        });
        Haste::Soon
    }

    fn poll_transmit(&self, _now: Instant, socket: SocketId, out: &mut Outgoing) {
        let mut state = self.state.lock();
        let Some(place) = state.get_mut(&socket) else { return };
        while !out.is_full()
            && let Some((to, probe)) = place.to_send.pop_front()
        {
            let ttl = if probe == Probe::Near { SHORT_TTL } else { USUAL_TTL };
            out.push(to.into(), &PROBE, Way::Ttl(ttl));
        }
    }

    fn turn(&self, _now: Instant, _socket: SocketId) -> bool {
        false
    }

    fn arm(&self) -> Option<Instant> {
        None
    }

    fn disarm(&self, _at: Instant) {}

    fn closed(&self, socket: SocketId, _died: bool) {
        self.state.lock().remove(&socket);
    }
}
