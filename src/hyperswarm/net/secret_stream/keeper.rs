//! The task that sends when nobody else does.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use tokio::time::{Instant, Sleep, sleep_until};

use super::shared::{Keep, Shared};
use super::transport::Transport;

/// Starts the keeper of a stream. It does not keep the stream.
pub(super) fn start<T: Transport>(shared: &Arc<Shared<T>>) {
    let task = tokio::spawn(keep(Arc::downgrade(shared)));
    // Only called once per stream.
    let _ = shared.keeper.set(task.abort_handle());
}

async fn keep<T: Transport>(shared: Weak<Shared<T>>) {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| {
        loop {
            let Some(shared) = shared.upgrade() else { return Poll::Ready(()) };
            match shared.keep(context) {
                None => return Poll::Ready(()),
                Some(Keep::WhenWoken) => return Poll::Pending,
                Some(Keep::Until(deadline)) => {
                    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
                    if timer.deadline() != deadline {
                        timer.as_mut().reset(deadline);
                    }
                    if timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    })
    .await;
}
