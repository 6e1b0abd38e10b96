//! The endpoints of the original daemons 0.1.2 and 0.2.1, as both generations of the Python client call them.
//!
//! Agrees with `kachery-p2p-daemon`'s `apiServer.js`; where the original hangs or breaks its client, this answers
//! what keeps the client's own retry loop alive: `/findFile` and `/downloadFile` are always 200, and what fails
//! ends early.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::stream::{self, Stream, StreamExt};
use serde_json::{Map, Value, json};
use tokio_util::io::ReaderStream;

use super::respond::{html_error, json_bytes, pretty_json, raw_stream};
use super::state::{LongRequests, Shared, long_request};
use super::wire::Provider;
use crate::limits;
use crate::node::{Find, Load, LoadOptions, NodeError};
use crate::store::Sha1;

/// A search that names no time ends after this, as in the originals.
const FIND_TIMEOUT: Duration = Duration::from_secs(4);
/// A download without progress ends after this (0.2.1: 10 s; here other providers are tried in that time).
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn routes(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    // As other failures of these two: 200 with nothing in it, which the Python client tries again.
    let busy: LongRequests = (shared.clone(), || raw_stream(stream::empty()));
    Router::new()
        .route("/findFile", post(find_file))
        .route("/downloadFile", post(download_file))
        .route_layer(from_fn_with_state(busy, long_request))
        .route("/probe", get(probe))
        .route("/halt", get(halt))
        .route("/getState", post(state))
        .route("/joinChannel", post(join_channel))
        .route("/leaveChannel", post(leave_channel))
}

async fn probe() -> Response {
    success()
}

/// The one GET that changes something; the guard keeps browsers away from it.
async fn halt(State(shared): State<Arc<Shared>>) -> Response {
    tracing::info!("stopping: a client asked for it");
    shared.halt.cancel();
    success()
}

async fn state(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Refused> {
    object(&body)?;
    let channels: Vec<Value> = shared
        .backend
        .channels()
        .into_iter()
        .map(|channel| json!({"name": channel.name, "numPeers": channel.peers}))
        .collect();
    Ok(pretty_json(&json!({"success": true, "state": {"channels": channels}})))
}

async fn join_channel(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Refused> {
    let name = channel_name(&body)?;
    Ok(outcome(shared.backend.join_channel(&name).await))
}

async fn leave_channel(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Refused> {
    let name = channel_name(&body)?;
    Ok(outcome(shared.backend.leave_channel(&name).await))
}

async fn find_file(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Refused> {
    let request = object(&body)?;
    let Some(sha1) = file_key(&request) else { return Ok(raw_stream(stream::empty())) };
    let timeout = request
        .get("timeoutMsec")
        .and_then(Value::as_f64)
        .map_or(FIND_TIMEOUT, |wanted| Duration::from_millis(wanted.max(0.0) as u64))
        .min(limits::MAX_API_FIND_TIMEOUT);
    Ok(raw_stream(frames(shared.backend.find(sha1, timeout))))
}

async fn download_file(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Refused> {
    let request = object(&body)?;
    let Some(sha1) = file_key(&request) else { return Ok(raw_stream(stream::empty())) };
    // 0.1.x sends no size; the node takes the one it was told when it found the file, if it remembers.
    let size = request.get("fileSize").and_then(Value::as_u64).filter(|size| *size > 0);
    let provider = request.get("primaryNodeId").and_then(Value::as_str).map(|node| (node.to_owned(), size));
    let load = shared.backend.load(sha1, LoadOptions { timeout: DOWNLOAD_TIMEOUT, provider });
    Ok(raw_stream(stream::once(content(load)).flatten()))
}

/// One json-socket frame per provider: the length of the JSON in bytes, `#`, the JSON.
fn frames(find: Find) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(find, |mut find| async {
        let found = find.found.recv().await?;
        let json = json_bytes(&Provider::from(&found));
        let frame = [format!("{}#", json.len()).as_bytes(), &json].concat();
        Some((Ok(frame.into()), find))
    })
}

/// The file's bytes once it is verified. A failure ends the answer, empty or short: the Python client compares the
/// hash and tries the next provider, while any other status or a broken connection would end its whole load.
async fn content(load: Load) -> stream::BoxStream<'static, io::Result<Bytes>> {
    let Load { done, .. } = load;
    match done.await {
        Ok(Ok(loaded)) => match open(&loaded.path).await {
            Ok(bytes) => return bytes.boxed(),
            Err(error) => tracing::warn!("downloadFile: {}: {error}", loaded.path.display()),
        },
        Ok(Err(error)) => tracing::info!("downloadFile: {error}"),
        Err(_) => tracing::info!("downloadFile: the node has stopped"),
    }
    stream::empty().boxed()
}

async fn open(path: &Path) -> io::Result<impl Stream<Item = io::Result<Bytes>> + use<>> {
    let file = tokio::fs::File::open(path).await?;
    // A read error ends the answer short, for the reason given at `content`.
    Ok(ReaderStream::with_capacity(file, limits::API_STREAM_CHUNK).take_while(|read| {
        if let Err(error) = read {
            tracing::warn!("downloadFile: read: {error}");
        }
        std::future::ready(read.is_ok())
    }))
}

/// A request that is answered with an error.
pub(super) enum Refused {
    /// 400, as body-parser's.
    Malformed(String),
    /// 200 with `success` false, which the Python client raises.
    Failure(&'static str),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::Malformed(why) => html_error(StatusCode::BAD_REQUEST, &format!("SyntaxError: {why}")),
            Self::Failure(error) => failure(error),
        }
    }
}

/// The body as body-parser's strict mode reads it: an object (an array has no fields); nothing means `{}`.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refused> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(Value::Array(_)) => Ok(Map::new()),
        Ok(_) => Err(Refused::Malformed("the body is not a JSON object".into())),
        Err(error) => Err(Refused::Malformed(error.to_string())),
    }
}

pub(super) fn file_key(request: &Map<String, Value>) -> Option<Sha1> {
    request.get("fileKey")?.get("sha1")?.as_str()?.parse().ok()
}

pub(super) fn channel_name(body: &[u8]) -> Result<String, Refused> {
    match object(body)?.get("channelName") {
        Some(Value::String(name)) => Ok(name.clone()),
        Some(_) => Err(Refused::Failure("channelName: expected a string")),
        // The original would join the channel "undefined".
        None => Err(Refused::Failure("channelName: missing")),
    }
}

fn success() -> Response {
    pretty_json(&json!({"success": true}))
}

/// The Python client raises with this text.
fn failure(error: &str) -> Response {
    pretty_json(&json!({"success": false, "error": error}))
}

fn outcome(result: Result<(), NodeError>) -> Response {
    match result {
        Ok(()) => success(),
        Err(error) => failure(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_download_is_read_in_bounded_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (size, chunks) in [
            (limits::API_STREAM_CHUNK, vec![limits::API_STREAM_CHUNK]),
            (limits::API_STREAM_CHUNK + 1, vec![limits::API_STREAM_CHUNK, 1]),
        ] {
            std::fs::write(&path, vec![1; size]).unwrap();
            let lengths = open(&path).await.unwrap().map(|chunk| chunk.unwrap().len());
            assert_eq!(lengths.collect::<Vec<_>>().await, chunks);
        }
    }
}
