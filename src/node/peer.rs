//! Peers, whatever protocol they are met in.

use std::net::IpAddr;

use super::legacy::{Dialect, NodeId};
use hyperswarm::crypto::PublicKey;
use hyperswarm::dht::shares::network_of;

/// The key of a peer: the same in all protocols and in all forms of its ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerKey(pub(crate) PublicKey);

/// The protocol in which a peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Via {
    /// That of the original daemons.
    Legacy(Dialect),
}

/// How a connection to a peer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Path {
    /// Through other peers, which may drop what they cannot hold.
    Relayed,
    /// To the peer itself, at this address. Peers at one address may be one peer under many names.
    Direct(IpAddr),
}

/// Where a claim came from. Keys cost a stranger nothing; connections, hosts and networks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    /// The host of the neighbour that brought the claim, if that is known.
    pub(crate) host: Option<IpAddr>,
    /// The neighbour.
    pub(crate) neighbour: PeerKey,
    /// True if the neighbour speaks for itself, so that the key is not made up.
    pub(crate) own: bool,
}

/// A group of origins that shares what there is with the groups of the same level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Network(Option<IpAddr>),
    Host(Option<IpAddr>),
    Neighbour(Option<IpAddr>, PeerKey),
    Origin(Origin),
}

impl Origin {
    /// The groups that it belongs to, the widest first.
    pub(crate) fn groups(self) -> [Group; 4] {
        let network = self.host.map(|host| match host {
            IpAddr::V4(host) => network_of(host).into(),
            IpAddr::V6(_) => host,
        });
        [
            Group::Network(network),
            Group::Host(self.host),
            Group::Neighbour(self.host, self.neighbour),
            Group::Origin(self),
        ]
    }
}

/// What a peer can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Any range of bytes.
    Ranges,
    /// Ranges, each of which costs the peer a process (the original daemon-0.2): large ones.
    LargeRanges,
    /// Only the whole file.
    Whole,
}

impl Unit {
    /// True if it need not be the whole file.
    pub(crate) fn has_ranges(self) -> bool {
        self != Self::Whole
    }
}

impl Via {
    /// What peers can be asked for in this protocol.
    pub(crate) const fn unit(self) -> Unit {
        match self {
            // Unless more is known of the peer, it may be an original.
            Self::Legacy(dialect) if dialect.has_ranges() => Unit::LargeRanges,
            Self::Legacy(_) => Unit::Whole,
        }
    }

    /// True if a peer can be asked for a file of so many bytes without harm to it.
    pub(crate) const fn may_request(self, size: u64) -> bool {
        match self {
            Self::Legacy(dialect) => dialect.may_request(size),
        }
    }

    /// The protocol's name, as in its topics.
    pub(crate) const fn protocol(self) -> &'static str {
        match self {
            Self::Legacy(dialect) => dialect.protocol().name(),
        }
    }

    /// The ID of a peer as it is written in this protocol.
    pub(crate) fn id_of(self, peer: PeerKey) -> String {
        match self {
            Self::Legacy(dialect) => NodeId::new(peer.0, dialect.style()).to_string(),
        }
    }
}
