//! Providers, whatever protocol they are asked in.

use std::sync::Arc;

use tokio::sync::Notify;

use super::environment::Environment;
use super::inbox::Sink;
use super::legacy;
use crate::node::peer::{Origin, Via};
use crate::node::transfer::{Ask, Offer, Reach};
use crate::store::Sha1;

/// A provider, looked for until this is dropped.
pub(super) enum Source {
    Legacy(legacy::Source),
    #[cfg(test)]
    Played(played::Source),
}

/// A request under way; dropping it cancels what is left of it.
pub(super) enum Asked {
    Legacy(legacy::Asked),
    #[cfg(test)]
    Played(played::Asked),
}

impl Source {
    /// Begins to look for the peer. `changed` is notified whenever it can be reached in another way.
    pub(super) fn open(
        environment: &Environment,
        offer: Offer,
        origin: Origin,
        changed: Arc<Notify>,
    ) -> Self {
        #[cfg(test)]
        if let Some(source) = environment.stage.open(offer, &changed) {
            return Self::Played(source);
        }
        match offer.via {
            Via::Legacy(dialect) => Self::Legacy(legacy::Source::open(
                environment.transfers.clone(),
                (offer.peer, origin),
                dialect,
                changed,
            )),
        }
    }

    /// How it can be reached now.
    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Legacy(source) => source.reach(),
            #[cfg(test)]
            Self::Played(source) => source.reach(),
        }
    }

    /// Asks it; what comes goes to the sink. None: it cannot be asked now.
    pub(super) fn request(&self, sha1: Sha1, ask: Ask, sink: Sink) -> Option<Asked> {
        match self {
            Self::Legacy(source) => source.request(sha1, ask, sink).map(Asked::Legacy),
            #[cfg(test)]
            Self::Played(source) => Some(Asked::Played(source.request(ask, sink))),
        }
    }
}

impl Asked {
    /// Data came for it that was wanted.
    pub(super) fn note_data(&self) {
        match self {
            Self::Legacy(asked) => asked.note_data(),
            #[cfg(test)]
            Self::Played(asked) => asked.note_data(),
        }
    }
}

#[cfg(test)]
pub(super) mod played;
