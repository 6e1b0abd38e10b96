//! The shapes of answers: those of Express as the originals used it, and our own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::Stream;
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};
use tokio::sync::mpsc;

use super::wire::{Problem, Refusal};

/// 200 with a JSON value as the originals print it: `res.json` of Express with `json spaces` 4, no final newline.
pub(crate) fn pretty_json(value: &Value) -> Response {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    match value.serialize(&mut serializer) {
        Ok(()) => typed(StatusCode::OK, "application/json; charset=utf-8", text.into()),
        Err(error) => typed(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain; charset=utf-8",
            error.to_string().into_bytes().into(),
        ),
    }
}

/// Any status with compact JSON: an error of our own endpoints.
pub(crate) fn refused(status: StatusCode, error: Problem) -> Response {
    typed(status, "application/json; charset=utf-8", json_bytes(&Refusal { error }).into())
}

/// An error page as Express's finalhandler writes it.
pub(crate) fn html_error(status: StatusCode, message: &str) -> Response {
    let text = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n\
         <body>\n<pre>{text}</pre>\n</body>\n</html>\n"
    );
    let mut response = typed(status, "text/html; charset=utf-8", page.into_bytes().into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Plain text with a status.
pub(crate) fn text(status: StatusCode, message: &str) -> Response {
    typed(status, "text/plain; charset=utf-8", format!("{message}\n").into_bytes().into())
}

/// 200 without a type, the body as it comes: how the originals answer `/findFile` and `/downloadFile`.
pub(crate) fn raw_stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Response {
    Response::new(Body::from_stream(stream))
}

/// 200, newline-delimited JSON as it comes.
pub(crate) fn json_lines(lines: mpsc::Receiver<Bytes>) -> Response {
    let stream = futures::stream::unfold(lines, |mut lines| async {
        lines.recv().await.map(|line| (Ok::<_, io::Error>(line), lines))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

/// One line of such an answer.
pub(crate) fn json_line(value: &impl Serialize) -> Bytes {
    let mut line = json_bytes(value);
    line.push(b'\n');
    line.into()
}

/// What is made of texts and numbers can always be written.
pub(crate) fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// A body that keeps something until it is sent or dropped.
pub(crate) fn held<T: Send + Unpin + 'static>(body: Body, held: T) -> Body {
    Body::new(Held { body, _held: held })
}

struct Held<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn typed(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
