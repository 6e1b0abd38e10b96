//! What a program asks of the system before it begins.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Exit, Failure};

/// Starts a runtime, in which a write beyond the limit on the size of files (`ulimit -f`) fails with an error.
pub(super) fn start(runtime: &mut Builder) -> Result<Runtime, Failure> {
    let cannot =
        |error| Failure::new(Exit::Other, format!("cannot start: {error}")).unless_out_of_files(&error);
    // A runtime needs about as many descriptors, and panics if those for signals are missing.
    let room: io::Result<Vec<_>> = (0..3).map(|_| UnixStream::pair()).collect();
    drop(room.map_err(cannot)?);
    let runtime = runtime.enable_all().build().map_err(cannot)?;
    // Without a handler this signal ends the process. The handler stays when its stream is dropped.
    let handler = {
        let _inside = runtime.enter();
        signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))
    };
    drop(handler.map_err(cannot)?);
    Ok(runtime)
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
