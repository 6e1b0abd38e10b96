//! What a program asks of the system before it begins.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Exit, Failure};

/// Makes a write beyond the limit on the size of files (`ulimit -f`) fail with an error. Without a handler for its signal
/// it would end the process. The handler stays when this returns. Needs a runtime.
pub(super) fn report_files_too_large() -> Result<(), Failure> {
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))
        .map(drop)
        .map_err(|error| Failure::new(Exit::Other, format!("cannot handle signals: {error}")))
}

/// Allows this process as many open files as the system lets it: each peer, stored file and client is one, and the usual
/// soft limit (1,024) is only there for programs that use `select`.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("the limit on open files stays at {:?}: {error}", limit.current);
    }
}
