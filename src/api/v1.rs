//! Our own endpoints, under `/api/v1/`. Errors: a 4xx status with `{"error": {"code", "message"}}`; in a stream of
//! newline-delimited JSON, a last line `{"type": "error", "code", "message"}`. [`super::wire`] has the codes and the lines.
//!
//! | | body | answer |
//! | --- | --- | --- |
//! | GET node-info | | version, pid, ports, folders, node ID in both spellings |
//! | GET status | | the same, and channels, swarms, downloads, byte counts |
//! | GET channels | | `{"channels": [{"name", "peers"}]}` |
//! | POST channels/join, channels/leave | `{"channel"}` | as GET channels |
//! | POST find | `{"sha1", "timeout_ms"?}` | lines: `searching`, `found`..., `result` |
//! | POST load | `{"sha1", "timeout_ms"?}` | lines: `started`, `progress`..., `result` or `error` |
//! | POST cancel | `{"load"}` (the number `started` told) | `{"cancelled": bool}` |

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::respond::{json_line, json_lines, refused};
use super::state::{Loads, LongRequests, Shared, Ticket, long_request};
use super::wire::{Asked, Code, FindLine, LoadLine, Problem};
use crate::limits;
use crate::node::{Find, Load, LoadError, LoadOptions, NodeError};
use crate::store::Sha1;

const FIND_TIMEOUT: Duration = Duration::from_secs(4);
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// And at least this often, also when there is none: a client can tell a load that takes long from a daemon that hangs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Lines written ahead of the client. Full: the writer waits, and tells newer progress later.
const LINES_AHEAD: usize = 8;

pub(crate) fn routes(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let full: LongRequests =
        (shared.clone(), || busy(&format!("{} requests are being answered", limits::MAX_API_LONG_REQUESTS)));
    Router::new()
        .route("/api/v1/find", post(find))
        .route("/api/v1/load", post(load))
        .route_layer(from_fn_with_state(full, long_request))
        .route("/api/v1/node-info", get(node_info))
        .route("/api/v1/status", get(status))
        .route("/api/v1/channels", get(channels))
        .route("/api/v1/channels/join", post(join))
        .route("/api/v1/channels/leave", post(leave))
        .route("/api/v1/cancel", post(cancel))
}

async fn node_info(State(shared): State<Arc<Shared>>) -> Response {
    let status = shared.backend.status();
    let mut info = about(&shared);
    info.insert("node_id".into(), status.node_id.into());
    info.insert("node_id_spki".into(), status.node_id_spki.into());
    Json(info).into_response()
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let mut info = about(&shared);
    info.append(&mut fields(&shared.backend.status()));
    Json(info).into_response()
}

async fn channels(State(shared): State<Arc<Shared>>) -> Response {
    channel_list(&shared)
}

async fn join(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Usage> {
    let name = channel(&body)?;
    changed(&shared, shared.backend.join_channel(&name).await)
}

async fn leave(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Usage> {
    let name = channel(&body)?;
    changed(&shared, shared.backend.leave_channel(&name).await)
}

async fn find(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Usage> {
    let (sha1, timeout) = search(&body, FIND_TIMEOUT)?;
    let joined = shared.backend.channels().len();
    let find = shared.backend.find(sha1, timeout.min(limits::MAX_API_FIND_TIMEOUT));
    let (lines, answer) = mpsc::channel(LINES_AHEAD);
    tokio::spawn(report_find(find, joined, lines));
    Ok(json_lines(answer))
}

async fn load(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Usage> {
    let (sha1, timeout) = search(&body, LOAD_TIMEOUT)?;
    let Some(ticket) = Loads::register(&shared) else {
        return Ok(busy(&format!("{} loads are running", limits::MAX_API_LOADS)));
    };
    let load = shared.backend.load(sha1, LoadOptions { timeout, provider: None });
    let (lines, answer) = mpsc::channel(LINES_AHEAD);
    tokio::spawn(report_load(load, ticket, lines));
    Ok(json_lines(answer))
}

async fn cancel(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Usage> {
    let number = object(&body)?.get("load").and_then(Value::as_u64);
    let id =
        number.ok_or_else(|| Usage("load: expected the number that the load's first line told".into()))?;
    Ok(Json(json!({"cancelled": shared.loads.cancel(id)})).into_response())
}

/// Writes the lines of a search until it ends or the client hangs up, which drops the search.
async fn report_find(mut find: Find, joined: usize, lines: mpsc::Sender<Bytes>) {
    let asked = Asked { channels: joined, peers: find.peers_asked };
    if lines.send(json_line(&FindLine::Searching(asked))).await.is_err() {
        return;
    }
    let mut count = 0_u64;
    loop {
        let found = tokio::select! {
            () = lines.closed() => return,
            found = find.found.recv() => found,
        };
        let Some(found) = found else { break };
        count += 1;
        if lines.send(json_line(&FindLine::from(&found))).await.is_err() {
            return;
        }
    }
    // A client that is gone needs no result.
    let _ = lines.send(json_line(&FindLine::Result { found: count, asked })).await;
}

/// Writes the lines of a load until it ends, is cancelled, or the client hangs up; each drops the load.
async fn report_load(mut load: Load, ticket: Ticket, lines: mpsc::Sender<Bytes>) {
    if lines.send(json_line(&LoadLine::Started { load: ticket.id })).await.is_err() {
        return;
    }
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    load.events.mark_changed();
    let mut told = Instant::now();
    let end = loop {
        tokio::select! {
            biased;
            () = lines.closed() => return,
            () = ticket.cancelled.cancelled() => break Err(LoadError::Cancelled),
            done = &mut load.done => break done.unwrap_or(Err(LoadError::Cancelled)),
            _ = tick.tick() => {
                // The node drops the sender when it is done; `done` tells the rest.
                if load.events.has_changed().unwrap_or(false) || told.elapsed() >= SIGN_OF_LIFE {
                    told = Instant::now();
                    let now = LoadLine::Progress((&*load.events.borrow_and_update()).into());
                    if lines.send(json_line(&now)).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let line = match end {
        Ok(loaded) => LoadLine::from(&loaded),
        Err(error) => LoadLine::Error((&error).into()),
    };
    // A client that is gone needs no result.
    let _ = lines.send(json_line(&line)).await;
}

/// `what` says how many of what there are.
fn busy(what: &str) -> Response {
    let problem = Problem::new(Code::Busy, format_args!("{what}: wait for one to end"));
    refused(StatusCode::SERVICE_UNAVAILABLE, problem)
}

fn about(shared: &Shared) -> Map<String, Value> {
    fields(&shared.about)
}

fn channel_list(shared: &Shared) -> Response {
    Json(json!({"channels": shared.backend.channels()})).into_response()
}

fn changed(shared: &Shared, result: Result<(), NodeError>) -> Result<Response, Usage> {
    match result {
        Ok(()) => Ok(channel_list(shared)),
        Err(error @ (NodeError::ChannelName(_) | NodeError::TooManyChannels)) => {
            Err(Usage(error.to_string()))
        }
        Err(error) => Ok(refused(StatusCode::INTERNAL_SERVER_ERROR, Problem::new(Code::Other, error))),
    }
}

/// The fields of something that serialises to an object.
fn fields(value: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// A request that names something wrongly: 400.
pub(super) struct Usage(String);

impl IntoResponse for Usage {
    fn into_response(self) -> Response {
        refused(StatusCode::BAD_REQUEST, Problem::new(Code::Usage, self.0))
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Usage> {
    serde_json::from_slice(body).map_err(|error| Usage(format!("the body is not a JSON object: {error}")))
}

pub(super) fn channel(body: &[u8]) -> Result<String, Usage> {
    match object(body)?.get("channel") {
        Some(Value::String(name)) => Ok(name.clone()),
        _ => Err(Usage("channel: expected a string".into())),
    }
}

pub(super) fn search(body: &[u8], default_timeout: Duration) -> Result<(Sha1, Duration), Usage> {
    let request = object(body)?;
    let text = request.get("sha1").and_then(Value::as_str);
    let sha1 = text
        .ok_or_else(|| Usage("sha1: expected a string".into()))?
        .parse()
        .map_err(|error| Usage(format!("sha1: {error}")))?;
    let timeout = match request.get("timeout_ms").map(Value::as_u64) {
        None => default_timeout,
        Some(Some(wanted)) => Duration::from_millis(wanted),
        Some(None) => return Err(Usage("timeout_ms: expected a whole number of milliseconds".into())),
    };
    Ok((sha1, timeout))
}
