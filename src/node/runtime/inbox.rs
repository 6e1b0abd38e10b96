//! Where protocols hand over what they hear: the leaf that both sides use.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::node::peer::Origin;
use crate::node::transfer::keys::RequestKey;
use crate::node::transfer::{Arrival, Offer};

/// Where the answers to a request go.
pub(crate) struct Sink {
    /// The download's inbox. When it is full, the connection that brings an answer is not read.
    pub(crate) inbox: mpsc::Sender<Arrival>,
    /// The plan's name for the request.
    pub(crate) request: RequestKey,
}

/// An answer to a search.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) offer: Offer,
    /// The channel in which it came.
    pub(crate) channel: Arc<str>,
    pub(crate) origin: Origin,
}
