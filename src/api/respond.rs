//! The shapes of answers: those of Express as the originals used it, and our own.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::Stream;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};
use tokio::sync::mpsc;

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
pub(crate) fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    let value = serde_json::json!({"error": {"code": code, "message": message}});
    typed(status, "application/json; charset=utf-8", value.to_string().into_bytes().into())
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
pub(crate) fn json_line(value: &Value) -> Bytes {
    format!("{value}\n").into_bytes().into()
}

fn typed(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
