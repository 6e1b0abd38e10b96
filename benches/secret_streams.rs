//! A secret-stream over UDX between two processes, for `scripts/bench streams`: the same roles as
//! `interop-tests/node/bench_stream.js`, so that each can be either side, and as `benches/quinn`.
//!
//! ```text
//! secret-streams serve --listen ADDR --remote ADDR              one stream, then it ends
//! secret-streams load  --listen ADDR --remote ADDR --bytes N    takes N bytes from the server (--pause SECONDS: with a rest)
//! secret-streams ask   --listen ADDR --remote ADDR --count N    N requests of 1 KiB, one after the other
//! ```
//!
//! The server's stream id is 1, the client's 2; the client initiates an in-band Noise XX handshake. A request of 8 bytes
//! (u64, little endian) says how many bytes the client wants; 0: echo. Each side prints one JSON line at its end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use hyperswarm::crypto::KeyPair;
use hyperswarm::net::secret_stream::{Options, SecretStream};
use hyperswarm::net::udx::{BindOptions, UdxSocket, UdxStream};
use hyperswarm::udx::StreamOptions;
use serde_json::{Map, Value, json};

const PIECE_BYTES: usize = 64 * 1024;
const REQUEST_BYTES: usize = 1024;

/// What a side measured, by name.
type Figures = Map<String, Value>;

#[derive(Parser)]
struct Arguments {
    role: Role,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    remote: SocketAddr,
    /// How much to load.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Seconds for which the one that loads stops reading, after a tenth of the bytes.
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// How often to ask.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Threads of the runtime; 1: everything on one, as in the quinn of the comparison.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Role {
    Serve,
    Load,
    Ask,
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` runs every benchmark without a role; this one needs two processes.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        println!("see scripts/bench streams");
        return Ok(());
    }
    let arguments = Arguments::parse();
    let mut builder = match arguments.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(arguments.threads).enable_all().build()?;
    // On a thread of the runtime itself: the thread that waits for it is not one of them.
    let mut figures = runtime.block_on(async { tokio::spawn(run(arguments)).await? })?;
    figures.insert("cpu".to_owned(), cpu_seconds().into());
    figures.insert("peak_mib".to_owned(), peak_mib().into());
    println!("{}", Value::Object(figures));
    Ok(())
}

async fn run(arguments: Arguments) -> anyhow::Result<Figures> {
    let serves = arguments.role == Role::Serve;
    let (own, other) = if serves { (1, 2) } else { (2, 1) };
    let socket = UdxSocket::bind(arguments.listen, BindOptions::default())?;
    let stream = socket.open(StreamOptions { id: Some(own), framed: true, ..StreamOptions::default() })?;
    stream.connect(other, arguments.remote)?;
    let keys = KeyPair::from_seed(&[own as u8; 32]);
    if serves {
        println!("ready");
        let stream = SecretStream::accept(stream, &keys, Options::default()).await?;
        return serve(stream).await;
    }
    let stream = SecretStream::initiate(stream, &keys, Options::default()).await?;
    match arguments.role {
        Role::Ask => ask(stream, arguments.count).await,
        _ => load(stream, arguments.bytes, Duration::from_secs(arguments.pause)).await,
    }
}

async fn serve(mut stream: SecretStream<UdxStream>) -> anyhow::Result<Figures> {
    let request = stream.next().await.context("no request")??;
    let wanted = u64::from_le_bytes(request.as_ref().try_into().context("the request has not 8 bytes")?);
    let piece = vec![7; PIECE_BYTES];
    let mut left = wanted;
    while left > 0 {
        let length = left.min(PIECE_BYTES as u64);
        stream.send(piece.get(..length as usize).unwrap_or_default()).await?;
        left -= length;
    }
    stream.flush().await?;
    // Until the client is satisfied and goes.
    while let Some(Ok(request)) = stream.next().await {
        stream.send(&request).await?;
        stream.flush().await?;
    }
    let stats = stream.transport().stats();
    Ok(figures([
        ("packets", json!(stats.packets_sent)),
        ("retransmitted", json!(stats.packets_retransmitted)),
    ]))
}

async fn load(mut stream: SecretStream<UdxStream>, bytes: u64, pause: Duration) -> anyhow::Result<Figures> {
    let started = Instant::now();
    stream.send(&bytes.to_le_bytes()).await?;
    stream.flush().await?;
    let mut received = 0;
    let mut pause = Some(pause).filter(|pause| !pause.is_zero());
    while received < bytes {
        received += stream.next().await.context("ended early")??.len() as u64;
        if let Some(pause) = pause.take_if(|_| received > bytes / 10) {
            tokio::time::sleep(pause).await;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(figures([("bytes", json!(received)), ("seconds", json!(seconds))]))
}

async fn ask(mut stream: SecretStream<UdxStream>, count: usize) -> anyhow::Result<Figures> {
    stream.send(&0_u64.to_le_bytes()).await?;
    let request = [7; REQUEST_BYTES];
    let mut trips = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        stream.send(&request).await?;
        stream.flush().await?;
        let answer = stream.next().await.context("ended early")??;
        ensure!(answer.len() == REQUEST_BYTES, "an answer of {} bytes", answer.len());
        trips.push(started.elapsed().as_secs_f64() * 1e6);
    }
    trips.sort_by(f64::total_cmp);
    let at = |percent: usize| trips.get(trips.len() * percent / 100).copied();
    Ok(figures([("median_us", json!(at(50))), ("p99_us", json!(at(99)))]))
}

fn figures<const N: usize>(measured: [(&str, Value); N]) -> Figures {
    measured.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The most memory this process has had resident, in MiB; 0 where the system does not say.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    peak.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

/// Processor time of this process so far, user and system.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
