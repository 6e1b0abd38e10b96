//! `GET /sha1/HASH`: files of the local store by name, whole or in part, for compute nodes behind this one and for
//! anything that speaks HTTP.

use std::io::{self, Seek, SeekFrom};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::range::{Wanted, wanted};
use super::respond;
use super::state::{LongRequests, Shared, long_request};
use crate::limits;
use crate::store::{ServedFile, Sha1};

pub(crate) fn routes(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let busy: LongRequests = (shared.clone(), || {
        respond::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many requests are being answered: try again later",
        )
    });
    Router::new().route("/sha1/{hash}", get(stored)).route_layer(from_fn_with_state(busy, long_request))
}

async fn stored(
    State(shared): State<Arc<Shared>>,
    Path(hash): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let sha1: Sha1 = match hash.parse() {
        Ok(sha1) => sha1,
        Err(error) => return respond::text(StatusCode::BAD_REQUEST, &format!("{hash}: {error}")),
    };
    let tag = format!("\"{sha1}\"");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // As for a peer: the hash is checked, once per state of the file, which can take a while.
    let served = match shared.backend.open_stored(sha1).await {
        Ok(Some(served)) => served,
        Ok(None) => return respond::text(StatusCode::NOT_FOUND, "not in the local store"),
        Err(error) => return respond::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    };
    // A condition is about a file that is here; of one that is not, the client would believe its old copy.
    if text(header::IF_NONE_MATCH).is_some_and(|tags| tags == "*" || tags.contains(&tag)) {
        return plain(StatusCode::NOT_MODIFIED, &tag, Body::empty());
    }
    let size = served.size();
    let same_file = text(header::IF_RANGE).is_none_or(|known| known == tag);
    let range = text(header::RANGE).filter(|_| same_file);
    let (status, start, end, content_range) = match wanted(range, size) {
        Wanted::Whole => (StatusCode::OK, 0, size, None),
        Wanted::Part { start, end } => {
            (StatusCode::PARTIAL_CONTENT, start, end, Some(format!("bytes {start}-{}/{size}", end - 1)))
        }
        Wanted::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0, Some(format!("bytes */{size}"))),
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        match bytes(served, start, end).await {
            Ok(body) => body,
            Err(error) => return respond::text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    };
    let mut response = plain(status, &tag, body);
    set(&mut response, header::CONTENT_LENGTH, &(end - start).to_string());
    if let Some(content_range) = content_range {
        set(&mut response, header::CONTENT_RANGE, &content_range);
    }
    response
}

/// Streams `start..end`, a chunk at a time as the client reads.
async fn bytes(served: ServedFile, start: u64, end: u64) -> io::Result<Body> {
    let open = move || {
        let mut file = served.file().map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(start)).map(|_| file)
    };
    let file = tokio::task::spawn_blocking(open).await.map_err(io::Error::other)??;
    let part = tokio::fs::File::from_std(file).take(end - start);
    Ok(Body::from_stream(ReaderStream::with_capacity(part, limits::API_STREAM_CHUNK)))
}

/// The headers every answer has. A name is its content's hash, so an answer stays good for ever. A stored file may
/// be a web page made by anybody: it must not run in a browser as if it were a page of this API.
fn plain(status: StatusCode, tag: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::ETAG, tag);
    set(&mut response, header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    set(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    set(&mut response, header::CONTENT_DISPOSITION, "attachment");
    set(&mut response, header::CONTENT_SECURITY_POLICY, "sandbox");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    // Digits, hex and constants: always a valid value.
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ContentHash, PutOptions, Store};
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_stored_file_is_read_in_bounded_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let limit = limits::API_STREAM_CHUNK;
        let stored = store.put_reader(&mut &vec![1; 3 * limit][..], &PutOptions::default()).unwrap();
        let ContentHash::Sha1(sha1) = stored.hash else { panic!("stored by another hash") };
        for (end, chunks) in [(5 + limit, vec![limit]), (5 + limit + 1, vec![limit, 1])] {
            let served = store.open_served(sha1).unwrap().unwrap();
            let mut body = bytes(served, 5, end as u64).await.unwrap();
            let mut lengths = Vec::new();
            while let Some(frame) = body.frame().await {
                lengths.push(frame.unwrap().into_data().unwrap().len());
            }
            assert_eq!(lengths, chunks);
        }
    }
}
