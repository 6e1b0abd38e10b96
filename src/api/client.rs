//! A small HTTP client for our own API on this machine: for the command line, and to name whoever holds a port.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::wire::{Code, Problem, Refusal};
use crate::limits;

/// For the whole of a question whose answer is one small JSON value, and for the beginning of a longer answer; an
/// original daemon takes a second to answer `/probe`.
const SMALL_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request got no answer, or no sensible one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("nothing listens on 127.0.0.1:{port}: {source}")]
    Unreachable {
        /// The port.
        port: u16,
        /// The system's error.
        source: io::Error,
    },
    /// The connection broke, or the other end does not speak HTTP.
    #[error("the daemon's answer broke off: {0}")]
    Broken(#[source] hyper::Error),
    /// Too slow.
    #[error("nothing came from 127.0.0.1:{port} for {} s", time.as_secs())]
    Timeout {
        /// The port.
        port: u16,
        /// How long it was waited for.
        time: Duration,
    },
    /// Not what this API answers; `0` says what is wrong.
    #[error("not an answer of this program's daemon: {0}")]
    Unexpected(String),
    /// The daemon refused the request.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The reason.
        code: Code,
        /// In words.
        message: String,
    },
}

/// Talks to the daemon on one port of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    port: u16,
}

impl Client {
    /// For the API on 127.0.0.1:`port`.
    pub fn new(port: u16) -> Self {
        Self { port }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// GET, the answer one small JSON value.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.in_time(async { self.request(Method::GET, path, Bytes::new()).await?.json().await }).await
    }

    /// POST of JSON, the answer one small JSON value.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let body = body.to_string().into_bytes().into();
        self.in_time(async { self.request(Method::POST, path, body).await?.json().await }).await
    }

    /// POST of JSON, the answer as it comes. A daemon from which nothing comes for `silence`, or for the beginning of the
    /// answer for 5 s if that is longer, hangs.
    pub async fn open(&self, path: &str, body: &Value, silence: Duration) -> Result<Answer, ClientError> {
        let body = body.to_string().into_bytes().into();
        let answer = self.request(Method::POST, path, body);
        let answer = in_time(self.port, silence.max(SMALL_ANSWER_TIMEOUT), answer).await?;
        Ok(Answer { silence, ..answer })
    }

    async fn in_time<T>(
        &self,
        question: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        in_time(self.port, SMALL_ANSWER_TIMEOUT, question).await
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let socket = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
            .await
            .map_err(|source| ClientError::Unreachable { port: self.port, source })?;
        tracing::debug!("asking the daemon on port {}: {method} {path}", self.port);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(ClientError::Broken)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("api client: {error}");
            }
        }));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("localhost:{}", self.port))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .body(Full::new(body))
            .map_err(|error| ClientError::Unexpected(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(ClientError::Broken)?;
        let status = response.status();
        let answer = Answer {
            port: self.port,
            silence: SMALL_ANSWER_TIMEOUT,
            body: response.into_body(),
            buffer: Vec::new(),
            searched: 0,
            _connection: connection,
        };
        if status.is_success() { Ok(answer) } else { Err(answer.refusal(status).await) }
    }
}

/// An answer that is coming in; dropping it hangs up, which makes the daemon stop what it did for it.
pub struct Answer {
    port: u16,
    /// How long nothing may come.
    silence: Duration,
    body: Incoming,
    /// Bytes after the last line taken.
    buffer: Vec<u8>,
    /// How many of them are known to hold no end of line.
    searched: usize,
    _connection: AbortOnDropHandle<()>,
}

impl Answer {
    /// The next line of newline-delimited JSON. None: the answer has ended.
    pub async fn next_line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let end = self.buffer.iter().skip(self.searched).position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| end + self.searched) {
                self.searched = 0;
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return parse(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > limits::MAX_API_ANSWER_BYTES {
                return Err(ClientError::Unexpected("a line is too long".into()));
            }
            let frame = async { Ok(self.body.frame().await) };
            match in_time(self.port, self.silence, frame).await? {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(ClientError::Unexpected("the last line is incomplete".into())),
                Some(frame) => {
                    if let Ok(data) = frame.map_err(ClientError::Broken)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    async fn bytes(self) -> Result<Bytes, ClientError> {
        let whole = Limited::new(self.body, limits::MAX_API_ANSWER_BYTES).collect().await;
        match whole {
            Ok(whole) => Ok(whole.to_bytes()),
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(broken) => Err(ClientError::Broken(*broken)),
                Err(other) => Err(ClientError::Unexpected(other.to_string())),
            },
        }
    }

    async fn json(self) -> Result<Value, ClientError> {
        parse(&self.bytes().await?)
    }

    async fn refusal(self, status: StatusCode) -> ClientError {
        let body = self.bytes().await.unwrap_or_default();
        match serde_json::from_slice(&body) {
            Ok(Refusal { error: Problem { code, message } }) => {
                ClientError::Refused { status, code, message }
            }
            Err(_) => ClientError::Unexpected(format!("HTTP status {status}")),
        }
    }
}

async fn in_time<T>(
    port: u16,
    time: Duration,
    question: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(time, question).await.unwrap_or(Err(ClientError::Timeout { port, time }))
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(text).map_err(|error| ClientError::Unexpected(format!("bad JSON: {error}")))
}

/// The program that answers on a port that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A daemon of this program.
    Daemon {
        /// Its process id.
        pid: u64,
        /// Its config folder.
        config_dir: String,
    },
    /// A daemon of the original program.
    Original,
    /// Something else, or nothing that answers.
    Unknown,
}

impl Holder {
    /// Asks the port.
    pub async fn of(port: u16) -> Self {
        let client = Client::new(port);
        if let Ok(info) = client.get("/api/v1/node-info").await
            && let Some(pid) = info.get("pid").and_then(Value::as_u64)
        {
            let config_dir = info.get("config_dir").and_then(Value::as_str).unwrap_or("unknown").to_owned();
            return Self::Daemon { pid, config_dir };
        }
        match client.get("/probe").await {
            Ok(answer) if answer.get("success") == Some(&Value::Bool(true)) => Self::Original,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daemon { pid, config_dir } => write!(
                f,
                "a kachery-p2p daemon that is already running (process {pid}, config folder {config_dir})"
            ),
            Self::Original => f.write_str("a daemon of the original kachery-p2p (it answers /probe)"),
            Self::Unknown => f.write_str("another program, which does not answer as a kachery-p2p daemon"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// Whatever listens on the port instead of a daemon: answers one request with this body.
    fn impostor(body: Vec<u8>) -> Client {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 1000];
            let _ = socket.read(&mut request).unwrap();
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            // The client may hang up before the end.
            let _ = socket.write_all(&body);
        });
        Client::new(port)
    }

    /// A JSON string of this many bytes, quotes included.
    fn json_of(length: usize) -> Vec<u8> {
        let mut text = vec![b'x'; length];
        text[0] = b'"';
        text[length - 1] = b'"';
        text
    }

    #[tokio::test]
    async fn an_answer_is_taken_up_to_its_limit() {
        let fits = impostor(json_of(limits::MAX_API_ANSWER_BYTES));
        assert!(fits.get("/").await.is_ok());
        let one_more = impostor(json_of(limits::MAX_API_ANSWER_BYTES + 1));
        assert!(matches!(one_more.get("/").await, Err(ClientError::Unexpected(_))));
    }

    #[tokio::test]
    async fn a_line_is_taken_up_to_its_limit() {
        let mut fits = json_of(limits::MAX_API_ANSWER_BYTES);
        fits.push(b'\n');
        let mut answer = impostor(fits).open("/", &Value::Null, SMALL_ANSWER_TIMEOUT).await.unwrap();
        assert!(matches!(answer.next_line().await, Ok(Some(Value::String(_)))));
        assert!(matches!(answer.next_line::<Value>().await, Ok(None)));
        let endless = impostor(vec![b' '; 2 * limits::MAX_API_ANSWER_BYTES]);
        let mut answer = endless.open("/", &Value::Null, SMALL_ANSWER_TIMEOUT).await.unwrap();
        let Err(error) = answer.next_line::<Value>().await else { panic!("took a line without end") };
        assert_eq!(error.to_string(), "not an answer of this program's daemon: a line is too long");
        assert!(answer.buffer.len() < limits::MAX_API_ANSWER_BYTES * 3 / 2, "{}", answer.buffer.len());
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        let mut answer = impostor(b"{\"a\":1}\n{\"b\"".to_vec())
            .open("/", &Value::Null, SMALL_ANSWER_TIMEOUT)
            .await
            .unwrap();
        assert!(matches!(answer.next_line::<Value>().await, Ok(Some(_))));
        assert!(matches!(answer.next_line::<Value>().await, Err(ClientError::Unexpected(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_takes_the_request_and_says_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = Client::new(listener.local_addr().unwrap().port());
        let silence = Duration::from_secs(25);
        let (began, mute) = (tokio::time::Instant::now(), client.open("/", &Value::Null, silence).await);
        assert!(matches!(mute, Err(ClientError::Timeout { time, .. }) if time == silence));
        assert!(began.elapsed() < silence + SMALL_ANSWER_TIMEOUT);
    }

    #[tokio::test]
    async fn a_daemon_that_stops_in_the_middle_of_an_answer_is_given_up() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 1000]).unwrap();
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}\n{");
            // Until the client hangs up.
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let mut answer = Client::new(port).open("/", &Value::Null, Duration::from_millis(1)).await.unwrap();
        let mut lines = 0;
        let end = loop {
            match answer.next_line::<Value>().await {
                Ok(Some(_)) => lines += 1,
                end => break end,
            }
        };
        assert!(lines <= 1 && matches!(end, Err(ClientError::Timeout { .. })), "{lines} {end:?}");
    }
}
