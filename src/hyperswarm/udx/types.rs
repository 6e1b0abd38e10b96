//! The small types of the public interface.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::congestion::Controller;
use super::congestion::bbr::Bbr;
use crate::limits::UDX_RECEIVE_BUDGET_BYTES;

/// UDP payload bytes of the largest datagram there is.
pub(super) const LARGEST_DATAGRAM: u16 = 65_507;

/// What all streams of an endpoint share.
#[derive(Clone, Copy)]
pub struct Config {
    /// Number of the first packet, the same on both sides. 0 on the network; tests let it wrap.
    pub initial_sequence: u32,
    /// Bytes of the largest datagram that our sockets receive; told to peers of this program, which then send such
    /// datagrams where the path allows it. 0: say nothing.
    pub largest_datagram: u16,
    /// Bytes that all streams together hold for readers that do not read; [`UDX_RECEIVE_BUDGET_BYTES`] by default.
    pub receive_budget: usize,
    /// Makes the congestion controller of a stream, given the bytes of a full packet and a seed.
    pub controller: fn(u64, u64) -> Box<dyn Controller>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial_sequence: 0,
            largest_datagram: LARGEST_DATAGRAM,
            receive_budget: UDX_RECEIVE_BUDGET_BYTES,
            controller: |packet, seed| Box::new(Bbr::new(packet, seed)),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("initial_sequence", &self.initial_sequence)
            .field("largest_datagram", &self.largest_datagram)
            .field("receive_budget", &self.receive_budget)
            .finish_non_exhaustive()
    }
}

/// A stream by its local id: the one the peer puts into its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A socket, as its owner numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// The peer's end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The peer's local id of the stream.
    pub id: u32,
    /// Where its datagrams go.
    pub address: SocketAddr,
    /// Bytes of the largest IP packet on the route as the operating system knows it; 0 if unknown (then 1500).
    pub path_mtu: u16,
}

/// Who may speak to a stream that is not connected, or from another socket than the one it is connected on (the
/// `firewall` callback of udx-native, which says true to reject). It is data, not a function: a function would run
/// inside the machine, where it could touch neither a stream nor a socket. [`Event::FirstContact`] tells the owner of a
/// packet that was let in, and [`Stream::set_firewall`](super::Stream::set_firewall) changes the answer at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Firewall {
    /// Everybody who knows the id.
    #[default]
    Accept,
    /// Nobody; packets vanish.
    Reject,
    /// These addresses. Port 0 stands for every port of its host, as a host behind a NAT may use any.
    Only(HashSet<SocketAddr>),
}

impl Firewall {
    /// True if packets from this address are let in.
    pub(super) fn accepts(&self, from: SocketAddr) -> bool {
        match self {
            Self::Accept => true,
            Self::Reject => false,
            Self::Only(allowed) => {
                allowed.contains(&from) || allowed.contains(&SocketAddr::new(from.ip(), 0))
            }
        }
    }
}

/// How a stream is opened.
#[derive(Debug, Default)]
pub struct StreamOptions {
    /// The local id; chosen at random if none.
    pub id: Option<u32>,
    /// Who may speak to it before it is connected.
    pub firewall: Firewall,
    /// A heartbeat is sent when nothing was sent for this long (`setInterval` of udx-native's keep-alive); none by
    /// default.
    pub keep_alive: Option<Duration>,
    /// What is written are frames: 3 bytes of length, little endian, then as many bytes, as secret streams write them
    /// (`framed` of udx-native's createStream, which hyperdht always sets). Towards npm's receivers packets then end
    /// with frames, which is a fifth faster there; nothing else changes, not even if it is not true.
    pub framed: bool,
}

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The id is taken.
    #[error("udx stream {0}: id in use")]
    InUse(StreamId),
    /// `MAX_UDX_STREAMS` are open.
    #[error("no more than {0} udx streams at a time")]
    TooMany(usize),
}

/// What a stream cannot do in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// It has a peer already: only `change_remote` can give it another.
    #[error("udx stream {0}: already connected")]
    Connected(StreamId),
    /// It has no peer yet.
    #[error("udx stream {0}: not connected")]
    NotConnected(StreamId),
    /// It is over.
    #[error("udx stream {0}: closed")]
    Closed(StreamId),
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// See there.
    #[error(transparent)]
    State(#[from] StateError),
    /// It does not fit one packet.
    #[error("udx stream {stream}: message of {length} bytes, at most {limit}")]
    TooLong {
        /// Whose message.
        stream: StreamId,
        /// Its bytes.
        length: usize,
        /// What fits one packet now.
        limit: usize,
    },
    /// Too many messages wait. Like any message, it may be dropped.
    #[error("udx stream {stream}: {waiting} messages wait already")]
    Full {
        /// Whose message.
        stream: StreamId,
        /// Messages that wait.
        waiting: usize,
    },
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CloseReason {
    /// Both sides ended and know it.
    #[error("ended by both sides")]
    Ended,
    /// [`Stream::destroy`](super::Stream::destroy) was called.
    #[error("destroyed")]
    Destroyed,
    /// The peer destroyed it (ECONNRESET of udx-native).
    #[error("destroyed by the peer")]
    Reset,
    /// Nothing was acknowledged in seven transmissions (ETIMEDOUT of udx-native).
    #[error("the peer acknowledged nothing for seven transmissions of packet {seq}")]
    TimedOut {
        /// The first packet that is not acknowledged, counted from the stream's start.
        seq: u64,
    },
    /// The stream it relays to closed.
    #[error("relayed stream {0} closed")]
    RelayClosed(StreamId),
    /// The task that moves its datagrams has ended.
    #[error("the task of its socket has ended")]
    SocketClosed,
}

/// How which stream ended, as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("udx stream {stream}: {reason}")]
pub struct Closed {
    /// The stream.
    pub stream: StreamId,
    /// Why it is over.
    pub reason: CloseReason,
}

/// What happened to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It belonged to a stream.
    Handled,
    /// No UDX packet, or of no stream here: another protocol on this socket may know it.
    NotUdx,
}

/// What a stream's owner should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first packet before the stream was connected, let in by the firewall: time to connect it.
    FirstContact {
        /// Where it arrived.
        socket: SocketId,
        /// The sender.
        from: SocketAddr,
    },
    /// A connected stream was sent a packet that could be its peer's, from elsewhere than its peer's address or on
    /// another socket than its own: the peer may have moved, or have found a shorter way. Nothing changes by itself. Told
    /// once per path, until [`Stream::forget_other_path`](super::Stream::forget_other_path). It proves nothing: somebody
    /// who has seen packets of the stream can forge one.
    OtherPath {
        /// Where it arrived.
        socket: SocketId,
        /// The sender.
        from: SocketAddr,
    },
    /// Bytes can be read.
    Readable,
    /// There is room to write after there was none.
    Writable,
    /// A message can be read.
    Message,
    /// The peer ends its direction: after what can be read now nothing follows.
    Ended,
    /// The peer has everything written here, the end included.
    Finished,
    /// Everything sent to the old remote is acknowledged.
    RemoteChanged,
    /// The stream is over. What was received in order can still be read;
    /// [`Endpoint::forget`](super::Endpoint::forget) frees the stream.
    Closed(CloseReason),
}

/// Datagrams to send, in the buffer given to [`Endpoint::poll_transmit`](super::Endpoint::poll_transmit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where they go.
    pub destination: SocketAddr,
    /// Bytes of each datagram; the last may be shorter.
    pub segment_size: usize,
    /// Bytes of all of them.
    pub length: usize,
    /// One datagram, larger than the path seems to take: it may leave without "do not fragment". Its number is on the
    /// wire already, so it cannot be cut into smaller packets.
    pub may_fragment: bool,
}

/// How a stream fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Smoothed round trip, once measured.
    pub rtt: Option<Duration>,
    /// Bytes of the largest IP packet sent to the peer.
    pub mtu: usize,
    /// Bytes the congestion controller allows under way.
    pub congestion_window: u64,
    /// Bytes under way.
    pub in_flight: u64,
    /// Bytes the peer said it can take.
    pub peer_window: u32,
    /// Bytes that can arrive before the reader must read.
    pub window: u32,
    /// Bytes held for the reader, in order and out of order, with an allowance per packet.
    pub buffered: usize,
    /// Data and end packets sent, retransmissions included.
    pub packets_sent: u64,
    /// Packets received that belong to this stream.
    pub packets_received: u64,
    /// Packets found lost.
    pub packets_lost: u64,
    /// Packets sent again.
    pub packets_retransmitted: u64,
    /// Received packets ignored: malformed, beyond the window, or acknowledging what was never sent.
    pub packets_ignored: u64,
}
