//! What the handlers of requests share: the node, the loads that can be cancelled, and the places for long requests.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::respond::held;
use super::{About, Backend};
use crate::limits;

/// What the handlers share.
pub(crate) struct Shared {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) about: About,
    pub(crate) halt: CancellationToken,
    pub(crate) loads: Loads,
    /// One permit per long request. None left: the next is refused.
    long: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(backend: Arc<dyn Backend>, about: About, halt: CancellationToken) -> Arc<Self> {
        let long = Arc::new(Semaphore::new(limits::MAX_API_LONG_REQUESTS));
        Arc::new(Self { backend, about, halt, loads: Loads::default(), long })
    }
}

/// The node, and what is answered when all places for long requests are taken.
pub(crate) type LongRequests = (Arc<Shared>, fn() -> Response);

/// Middleware of every route whose answer can take long: a request has one of the places for them until its answer is
/// sent. Short requests, such as `status` and `halt`, need none, so they are answered whatever the long ones do.
pub(crate) async fn long_request(
    State((shared, refuse)): State<LongRequests>,
    request: Request,
    next: Next,
) -> Response {
    match shared.long.clone().try_acquire_owned() {
        Ok(place) => next.run(request).await.map(|body| held(body, place)),
        Err(_) => refuse(),
    }
}

/// The loads that can be cancelled by number, at most [`limits::MAX_API_LOADS`].
#[derive(Default)]
pub(crate) struct Loads(Mutex<Running>);

#[derive(Default)]
struct Running {
    last_id: u64,
    loads: HashMap<u64, CancellationToken>,
}

/// A running load's place among them, given back when dropped.
pub(crate) struct Ticket {
    pub(crate) id: u64,
    pub(crate) cancelled: CancellationToken,
    shared: Arc<Shared>,
}

impl Loads {
    /// A place for a load; none if too many are running.
    pub(crate) fn register(shared: &Arc<Shared>) -> Option<Ticket> {
        let mut running = shared.loads.0.lock();
        if running.loads.len() >= limits::MAX_API_LOADS {
            return None;
        }
        running.last_id += 1;
        let (id, cancelled) = (running.last_id, CancellationToken::new());
        running.loads.insert(id, cancelled.clone());
        Some(Ticket { id, cancelled, shared: shared.clone() })
    }

    /// True if a load had this number.
    pub(crate) fn cancel(&self, id: u64) -> bool {
        let running = self.0.lock();
        running.loads.get(&id).inspect(|load| load.cancel()).is_some()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shared.loads.0.lock().loads.remove(&self.id);
    }
}
