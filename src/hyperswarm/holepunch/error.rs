//! Why a connection attempt failed.

use thiserror::Error;

/// Why a connection attempt failed. [`code`](Self::code) is what hyperdht calls it; the message says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No node of the DHT knows the key.
    #[error("nobody listens under this key, as far as the DHT knows (PEER_NOT_FOUND)")]
    NotFound,
    /// Nodes know the key, but through none of them came an answer: it refuses us, or is gone without notice.
    #[error(
        "the peer was announced, but does not answer: it is gone, or refuses us (PEER_CONNECTION_FAILED)"
    )]
    NoAnswer,
    /// The peer speaks another version of the handshake.
    #[error("the peer speaks another version of the handshake (SERVER_INCOMPATIBLE)")]
    Incompatible,
    /// The peer reports an error, or offers no stream.
    #[error("the peer refuses the connection with error {0} (SERVER_ERROR)")]
    Refused(u64),
    /// Neither of the two can be reached, and the peer has no relay for a hole punch.
    #[error("the peer is behind a NAT or firewall and takes part in no hole punch (CANNOT_HOLEPUNCH)")]
    CannotHolepunch,
    /// The hole punch did not succeed.
    #[error("no way through the NATs or firewalls between us: {0} (HOLEPUNCH_ABORTED)")]
    Holepunch(HolepunchError),
    /// There are too many attempts already.
    #[error("{0} connection attempts are under way already")]
    TooMany(usize),
}

/// Why a hole punch did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HolepunchError {
    /// Nothing of the peer arrived in time.
    #[error("nothing arrives from the peer")]
    Silence,
    /// The peer gave up.
    #[error("the peer gave up with error {0} (REMOTE_ABORTED)")]
    RemoteAborted(u64),
    /// A message of the peer cannot be read.
    #[error("a message of the peer cannot be read (HOLEPUNCH_INVALID)")]
    Invalid,
    /// No relay passes our messages on, or the peer answers none.
    #[error("the peer answers no message through its relay")]
    NoAnswer,
    /// One of the two does not know its NAT: fewer than three nodes of the DHT answer it.
    #[error(
        "one of the two cannot find out what NAT it is behind: it needs three DHT nodes that answer (HOLEPUNCH_PROBE_TIMEOUT)"
    )]
    UnknownNat,
    /// Both NATs have another port for each destination.
    #[error(
        "both NATs use another port for each destination, which only a relay can bridge (HOLEPUNCH_DOUBLE_RANDOMIZED_NATS)"
    )]
    BothRandom,
    /// The peer does not punch.
    #[error("the peer does not punch (REMOTE_NOT_HOLEPUNCHING)")]
    RemoteNotPunching,
    /// The peer has shown no address to punch to.
    #[error("the peer has shown no address to punch to (REMOTE_NOT_HOLEPUNCHABLE)")]
    RemoteNotPunchable,
}

impl ConnectError {
    /// The code of the same error in hyperdht.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "PEER_NOT_FOUND",
            Self::NoAnswer => "PEER_CONNECTION_FAILED",
            Self::Incompatible => "SERVER_INCOMPATIBLE",
            Self::Refused(_) => "SERVER_ERROR",
            Self::CannotHolepunch => "CANNOT_HOLEPUNCH",
            // Upstream reports this whatever the cause.
            Self::Holepunch(_) => "HOLEPUNCH_ABORTED",
            Self::TooMany(_) => "TOO_MANY_ATTEMPTS",
        }
    }
}

impl From<HolepunchError> for ConnectError {
    fn from(cause: HolepunchError) -> Self {
        Self::Holepunch(cause)
    }
}

impl From<super::strategy::Hopeless> for HolepunchError {
    fn from(hopeless: super::strategy::Hopeless) -> Self {
        match hopeless {
            super::strategy::Hopeless::BothRandom => Self::BothRandom,
            super::strategy::Hopeless::Unknown => Self::UnknownNat,
            super::strategy::Hopeless::NoAddress => Self::RemoteNotPunchable,
        }
    }
}
