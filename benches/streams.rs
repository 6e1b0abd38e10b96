//! How fast streams are, between two processes: one serves, the other asks.
//!
//!     streams udx-server --listen ADDRESS [--threads N]
//!     streams udx-client --connect ADDRESS [--mode download|upload|rtt] [--mib N] [--rounds N] [--threads N]
//!
//! The server listens for TCP on ADDRESS (port 0: any; it prints the one it got) and takes one order per connection:
//! both sides tell each other the UDP ports and stream ids, move the data over one UDX stream, and the server reports
//! the processor time it took. The client prints one line of JSON. In the mode `rtt` requests of 1 KiB are answered
//! with as much, one at a time, and the median and the 99th percentile of the round trips are printed.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum};
use hyperswarm::net::udx::{BindOptions, UdxSocket, UdxStream};
use hyperswarm::udx::StreamOptions;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const CHUNK_BYTES: usize = 64 * 1024;
const REQUEST_BYTES: usize = 1024;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Serves raw UDX.
    UdxServer(Server),
    /// Asks a server for raw UDX.
    UdxClient(Client),
}

#[derive(clap::Args)]
struct Server {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Threads of the runtime; 1: everything on one.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Ends after one order.
    #[arg(long)]
    once: bool,
}

#[derive(clap::Args)]
struct Client {
    #[arg(long)]
    connect: SocketAddr,
    #[arg(long, value_enum, default_value = "download")]
    mode: Mode,
    /// How much to move.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// How many requests in the mode `rtt`.
    #[arg(long, default_value_t = 20_000)]
    rounds: usize,
    /// Threads of the runtime; 1: everything on one.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Download,
    Upload,
    Rtt,
}

/// What both sides tell each other.
#[derive(Serialize, Deserialize)]
struct Hello {
    port: u16,
    id: u32,
    mode: Mode,
    bytes: u64,
}

/// What the server reports at the end.
#[derive(Serialize, Deserialize)]
struct Report {
    cpu_seconds: f64,
    packets_sent: u64,
    packets_retransmitted: u64,
}

fn main() -> anyhow::Result<()> {
    // `cargo bench` without a subcommand: a short run of everything.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        return on_workers(2, everything());
    }
    match Arguments::parse().command {
        Command::UdxServer(server) => on_workers(server.threads, serve(server)),
        Command::UdxClient(client) => {
            let line = on_workers(client.threads, ask(client))?;
            println!("{line}");
            Ok(())
        }
    }
}

/// Runs `work` on a thread of the runtime itself: the thread that waits for it is not one of them.
fn on_workers<T: Send + 'static>(
    threads: usize,
    work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<T> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads).enable_all().build()?;
    runtime.block_on(async { tokio::spawn(work).await? })
}

async fn everything() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let connect = listener.local_addr()?;
    let server = tokio::spawn(async move {
        loop {
            order(listener.accept().await?.0).await?;
        }
        #[allow(unreachable_code)]
        anyhow::Ok(())
    });
    for mode in [Mode::Download, Mode::Upload, Mode::Rtt] {
        println!("{}", ask(Client { connect, mode, mib: 256, rounds: 5000, threads: 2 }).await?);
    }
    server.abort();
    Ok(())
}

async fn serve(server: Server) -> anyhow::Result<()> {
    let listener = TcpListener::bind(server.listen).await?;
    println!("{}", serde_json::json!({ "event": "ready", "address": listener.local_addr()? }));
    loop {
        let (connection, _) = listener.accept().await?;
        if let Err(error) = order(connection).await {
            eprintln!("order failed: {error:#}");
        }
        if server.once {
            return Ok(());
        }
    }
}

/// Opens a stream and exchanges ids and ports with the other side.
async fn meet(
    control: &mut BufReader<TcpStream>,
    mode: Option<(Mode, u64)>,
) -> anyhow::Result<(UdxStream, Hello)> {
    let socket =
        UdxSocket::bind(SocketAddr::new(control.get_ref().local_addr()?.ip(), 0), BindOptions::default())?;
    let stream = socket.open(StreamOptions::default())?;
    let (port, id) = (socket.local_address().port(), stream.id());
    let theirs = match mode {
        Some((mode, bytes)) => {
            say(control, &Hello { port, id, mode, bytes }).await?;
            hear(control).await?
        }
        None => {
            let theirs: Hello = hear(control).await?;
            say(control, &Hello { port, id, ..theirs }).await?;
            theirs
        }
    };
    let ip: IpAddr = control.get_ref().peer_addr()?.ip();
    stream.connect(theirs.id, SocketAddr::new(ip, theirs.port))?;
    Ok((stream, theirs))
}

async fn order(connection: TcpStream) -> anyhow::Result<()> {
    connection.set_nodelay(true)?;
    let mut control = BufReader::new(connection);
    let before = cpu_seconds();
    let (stream, hello) = meet(&mut control, None).await?;
    match hello.mode {
        Mode::Download => {
            send(&stream, hello.bytes).await?;
        }
        Mode::Upload => {
            receive(&stream, hello.bytes).await?;
            stream.finish().await?;
        }
        Mode::Rtt => {
            // Ends with the client's END.
            while let Some(request) = read_exactly(&stream, REQUEST_BYTES).await? {
                stream.write_chunk(request).await?;
                stream.flush_now()?;
            }
            stream.finish().await?;
        }
    }
    say(&mut control, &report(&stream, before)).await
}

fn report(stream: &UdxStream, before: f64) -> Report {
    let stats = stream.stats();
    Report {
        cpu_seconds: cpu_seconds() - before,
        packets_sent: stats.packets_sent,
        packets_retransmitted: stats.packets_retransmitted,
    }
}

async fn ask(client: Client) -> anyhow::Result<serde_json::Value> {
    let connection = TcpStream::connect(client.connect).await.context("connect to the server")?;
    connection.set_nodelay(true)?;
    let mut control = BufReader::new(connection);
    let bytes = client.mib << 20;
    let before = cpu_seconds();
    let (stream, _) = meet(&mut control, Some((client.mode, bytes))).await?;
    let start = Instant::now();
    let mut trips = Vec::new();
    match client.mode {
        Mode::Download => {
            // The server learns the address from TCP, so it may send at once.
            receive(&stream, bytes).await?;
        }
        Mode::Upload => send(&stream, bytes).await?,
        Mode::Rtt => trips = round_trips(&stream, client.rounds).await?,
    }
    let seconds = start.elapsed().as_secs_f64();
    let ours = report(&stream, before);
    // The stream lives until the server has reported, so that the server's end is acknowledged.
    let theirs: Report = hear(&mut control).await?;
    let result = match client.mode {
        Mode::Rtt => {
            trips.sort_unstable();
            let at = |share: usize| trips.get((trips.len() * share / 100).min(trips.len().saturating_sub(1)));
            let micros = |share| at(share).map(|trip: &Duration| trip.as_secs_f64() * 1e6);
            serde_json::json!({
                "rounds": trips.len(), "median_microseconds": micros(50), "p99_microseconds": micros(99),
            })
        }
        Mode::Download | Mode::Upload => serde_json::json!({
            "bytes": bytes, "mib_per_second": (bytes >> 20) as f64 / seconds,
            "cpu_seconds_per_gib": (ours.cpu_seconds + theirs.cpu_seconds) / (bytes as f64 / f64::from(1 << 30)),
        }),
    };
    Ok(serde_json::json!({
        "mode": client.mode, "seconds": seconds, "result": result,
        "client_cpu_seconds": ours.cpu_seconds, "server_cpu_seconds": theirs.cpu_seconds,
        "packets": ours.packets_sent.max(theirs.packets_sent),
        "retransmitted": ours.packets_retransmitted + theirs.packets_retransmitted,
    }))
}

async fn send(stream: &UdxStream, bytes: u64) -> anyhow::Result<()> {
    let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        stream.write_chunk(chunk.slice(..length)).await?;
        left -= length as u64;
    }
    Ok(stream.finish().await?)
}

async fn receive(stream: &UdxStream, bytes: u64) -> anyhow::Result<()> {
    let mut received = 0;
    while let Some(chunk) = stream.read_chunk().await? {
        received += chunk.len() as u64;
    }
    ensure!(received == bytes, "received {received} bytes of {bytes}");
    Ok(())
}

async fn round_trips(stream: &UdxStream, rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let request = Bytes::from(vec![7; REQUEST_BYTES]);
    let mut trips = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        stream.write_chunk(request.clone()).await?;
        stream.flush_now()?;
        if read_exactly(stream, REQUEST_BYTES).await?.is_none() {
            bail!("the server ended early");
        }
        trips.push(start.elapsed());
    }
    stream.finish().await?;
    Ok(trips)
}

/// `length` bytes; none at the end of the stream.
async fn read_exactly(stream: &UdxStream, length: usize) -> anyhow::Result<Option<Bytes>> {
    let mut all = Vec::new();
    loop {
        let left = length - all.len();
        let Some(chunk) = std::future::poll_fn(|context| stream.poll_read_chunk(context, left)).await? else {
            ensure!(all.is_empty(), "ended within a request");
            return Ok(None);
        };
        if chunk.len() == length {
            return Ok(Some(chunk));
        }
        all.extend_from_slice(&chunk);
        if all.len() == length {
            return Ok(Some(all.into()));
        }
    }
}

async fn say(control: &mut BufReader<TcpStream>, message: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(control.write_all(&line).await?)
}

async fn hear<T: for<'de> Deserialize<'de>>(control: &mut BufReader<TcpStream>) -> anyhow::Result<T> {
    let mut line = String::new();
    control.read_line(&mut line).await?;
    serde_json::from_str(&line).with_context(|| format!("the other side said {line:?}"))
}

/// Processor time of this process so far, user and system.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
