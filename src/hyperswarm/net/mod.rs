//! The only place of `hyperswarm` with sockets, tasks and a clock: it drives the machines of the other rooms.

pub mod mux;
pub mod random;
pub mod secret_stream;
pub(crate) mod udp;
pub mod udx;
pub mod v2;
pub mod v4;

/// Sleeps until the deadline of a machine, forever without one. Must be called in a tokio runtime.
pub async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
