//! Being asked to end.

use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Exit, Failure};

/// Resolves at the first Ctrl-C, SIGTERM or SIGHUP after this call.
pub(super) fn interrupted() -> Result<impl Future<Output = ()> + use<>, Failure> {
    let watch =
        |kind| signal(kind).map_err(|e| Failure::new(Exit::Other, format!("cannot watch signals: {e}")));
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hang_up = watch(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}
