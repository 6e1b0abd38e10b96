//! How much of a processor this node gets, seen by how late its tasks run.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::node::legacy::SharedBudget;

/// It is looked at this often.
const LOOK: Duration = Duration::from_millis(100);

/// Keeps the pace of the budget until the node ends.
pub(super) async fn keep(budget: SharedBudget, ended: CancellationToken) {
    loop {
        let due = Instant::now() + LOOK;
        tokio::select! {
            () = ended.cancelled() => return,
            () = tokio::time::sleep_until(due) => {}
        }
        // The task was woken when the timer was seen, and waits behind all that was woken before.
        tokio::task::yield_now().await;
        let (before, now) = (budget.pace(), budget.pace().after(due.elapsed()));
        if before != now {
            tracing::debug!(?before, ?now, "another pace");
            budget.set_pace(now);
        }
    }
}
