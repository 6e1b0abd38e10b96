//! Listening, and a connection's life. Tasks: one accept loop per address, one task per connection.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::{Connections, Patience, Slot, Watched};
use super::state::Shared;
use super::{About, Backend, client, guard, legacy, respond, stored, v1};
use crate::limits;

/// How long running answers may take once the daemon stops.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// Before accepting again when the system refuses (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A refusal is said in the log at most this often.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Somebody else listens there.
    #[error("port {port} is in use by {holder}")]
    PortInUse {
        /// The port.
        port: u16,
        /// The program that answered there.
        holder: client::Holder,
    },
    /// The system said no.
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Listen {
        /// The port.
        port: u16,
        /// The system's error.
        source: io::Error,
    },
}

/// The API, bound to its port; requests are answered from [`Api::serve`] on.
pub struct Api {
    listeners: Vec<TcpListener>,
    port: u16,
}

impl Api {
    /// Binds 127.0.0.1 and, where the machine has it, \[::1\]. Port 0 picks one.
    pub async fn bind(port: u16) -> Result<Self, ApiError> {
        let v4 = listen(IpAddr::V4(Ipv4Addr::LOCALHOST), port).await?;
        let chosen = v4.local_addr().map_err(|source| ApiError::Listen { port, source })?.port();
        let mut listeners = vec![v4];
        match listen(IpAddr::V6(Ipv6Addr::LOCALHOST), chosen).await {
            Ok(v6) => listeners.push(v6),
            // A fixed port that another program has on [::1] would send clients of `localhost` there.
            Err(error @ ApiError::PortInUse { .. }) if port != 0 => return Err(error),
            // No IPv6 on this machine, or a picked port whose twin is taken: 127.0.0.1 alone does.
            Err(_) => {}
        }
        Ok(Self { listeners, port: chosen })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers until `halt` is cancelled, by the caller or by a client's `/halt`; running answers then get a
    /// moment to finish.
    pub async fn serve(self, backend: Arc<dyn Backend>, about: About, halt: CancellationToken) {
        let router = router(Shared::new(backend, about, halt.clone()));
        let connections = Connections::new(limits::MAX_API_CONNECTIONS);
        let tasks = TaskTracker::new();
        let here = self.listeners.into_iter().filter_map(|listener| {
            // To the runtime that serves it, which may be another than the one that bound it.
            let moved = listener.into_std().and_then(TcpListener::from_std);
            moved.inspect_err(|error| tracing::error!("api: cannot serve: {error}")).ok()
        });
        for listener in here {
            tasks.spawn(accept(listener, router.clone(), connections.clone(), tasks.clone(), halt.clone()));
        }
        halt.cancelled().await;
        tasks.close();
        let _ = tokio::time::timeout(LAST_WORDS, tasks.wait()).await;
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .merge(legacy::routes(&shared))
        .merge(v1::routes(&shared))
        .merge(stored::routes(&shared))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(shared)
}

async fn not_found(method: Method, target: Uri) -> Response {
    respond::html_error(StatusCode::NOT_FOUND, &format!("Cannot {method} {}", target.path()))
}

async fn listen(address: IpAddr, port: u16) -> Result<TcpListener, ApiError> {
    // tokio sets SO_REUSEADDR, so a restart does not wait for old connections to fade.
    match TcpListener::bind(SocketAddr::new(address, port)).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(ApiError::PortInUse { port, holder: client::Holder::of(port).await })
        }
        Err(source) => Err(ApiError::Listen { port, source }),
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    tasks: TaskTracker,
    halt: CancellationToken,
) {
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = halt.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                // A full table in which everybody is at work: the newcomer is turned away by closing its socket.
                if let Some(slot) = connections.admit() {
                    prepare(&socket);
                    tasks.spawn(converse(socket, slot, router.clone(), halt.clone()));
                }
            }
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE) {
                    tracing::warn!("api: cannot accept a connection: {error}");
                    complained = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Progress lines are small and should arrive at once.
fn prepare(socket: &TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!("api: TCP_NODELAY: {error}");
    }
}

/// Serves one connection until it ends, is closed for another, or the daemon stops.
async fn converse(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    slot: Slot,
    router: Router,
    halt: CancellationToken,
) {
    let patience = slot.patience.clone();
    let service = service_fn(move |request| {
        let (router, patience) = (router.clone(), patience.clone());
        async move { Ok::<_, Infallible>(answer(request, router, &patience).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::API_HEADER_TIMEOUT)
        .max_buf_size(limits::MAX_API_HEADER_BYTES)
        .serve_connection(TokioIo::new(Watched { socket, patience: slot.patience.clone() }), service);
    tokio::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!("api: connection: {error}");
                }
                return;
            }
            () = slot.patience.taken() => return,
            () = halt.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(request: hyper::Request<Incoming>, router: Router, patience: &Arc<Patience>) -> Response {
    let (head, body) = request.into_parts();
    if let Err(refusal) = guard::check(&head) {
        return respond::text(StatusCode::FORBIDDEN, &refusal.to_string());
    }
    let body = match tokio::time::timeout(limits::API_BODY_TIMEOUT, read_body(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) => return refused,
        Err(_) => return respond::text(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    };
    let working = patience.working();
    match TowerToHyperService::new(router).call(Request::from_parts(head, body)).await {
        Ok(response) => response.map(|body| respond::held(body, working)),
        Err(never) => match never {},
    }
}

/// The whole body, or the answer that refuses it (body-parser's 413; 400 when the client fails to send it).
/// What is too much is thrown away but, up to a point, read: a socket closed with bytes unread is reset, and the
/// client would not see the answer.
async fn read_body(mut body: Incoming) -> Result<Body, Response> {
    let mut kept = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            respond::html_error(StatusCode::BAD_REQUEST, &format!("BadRequestError: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length <= limits::MAX_API_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else if length > limits::MAX_API_DISCARDED_BYTES {
            break;
        }
    }
    if length > limits::MAX_API_BODY_BYTES {
        let message = "PayloadTooLargeError: request entity too large";
        return Err(respond::html_error(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(Body::from(kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    /// One connection to a router that answers everything with 404, in virtual time.
    fn connection() -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let slot = Connections::new(1).admit().expect("a free table");
        tokio::spawn(converse(server, slot, Router::new().fallback(not_found), CancellationToken::new()));
        client
    }

    /// Sends one byte every ten seconds until the server closes; how long it took, and what it said.
    async fn trickle(mut client: DuplexStream, request: &[u8]) -> (Duration, String) {
        let begun = Instant::now();
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let mut said = String::new();
        let sending = async {
            for byte in request.iter().cycle() {
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sending => {}
            _ = reader.read_to_string(&mut said) => {}
        }
        (begun.elapsed(), said)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_is_cut_off() {
        let (took, said) = trickle(connection(), b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ").await;
        assert!(took <= limits::API_HEADER_TIMEOUT + Duration::from_secs(1), "{took:?}: {said}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_is_cut_off() {
        let mut client = connection();
        let head =
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";
        client.write_all(format!("{head}Content-Length: 1000\r\n\r\n").as_bytes()).await.unwrap();
        let (took, said) = trickle(client, b"{").await;
        assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
        assert!(took <= limits::API_BODY_TIMEOUT + Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_just_in_time_is_answered() {
        let mut client = connection();
        tokio::time::sleep(limits::API_HEADER_TIMEOUT - Duration::from_millis(10)).await;
        let head =
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n";
        client.write_all(format!("{head}Content-Length: 2\r\n\r\n{{").as_bytes()).await.unwrap();
        tokio::time::sleep(limits::API_BODY_TIMEOUT - Duration::from_millis(10)).await;
        client.write_all(b"}").await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_names_its_holder() {
        let other = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        // Answers anything with something that is not HTTP.
        std::thread::spawn(move || {
            while let Ok((mut socket, _)) = other.accept() {
                let _ = io::Write::write_all(&mut socket, b"SSH-2.0\r\n");
            }
        });
        let Err(error) = Api::bind(port).await else { panic!("bound a port that is taken") };
        let expected = "is in use by another program, which does not answer as a kachery-p2p daemon";
        assert_eq!(error.to_string(), format!("port {port} {expected}"));
    }
}
