//! A QUIC peer on quinn that does what `benches/secret_streams.rs` does on UDX: bulk data and small requests, encrypted.
//!
//! ```text
//! quinn-peer serve --listen ADDR --certificate FILE                      one connection, then it ends
//! quinn-peer load  --remote ADDR --certificate FILE --bytes N            takes N bytes from the server
//! quinn-peer ask   --remote ADDR --certificate FILE --count N            N requests of 1 KiB, one after the other
//! ```
//!
//! The server writes its certificate to FILE and prints `ready`. Each side prints one JSON line at its end: bytes and
//! seconds (`load`), median and 99th percentile of round trips in microseconds (`ask`), processor seconds (all).
//! One thread per process, socket buffers of 2 MiB and large windows, as in quinn's own benchmark.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use rustix::net::sockopt;
use rustix::time::{ClockId, clock_gettime};

type Failure = Box<dyn Error + Send + Sync>;

const WINDOW: u32 = 24 << 20;
const SOCKET_BUFFER: usize = 2 << 20;
const PIECE: usize = 64 << 10;
const REQUEST: usize = 1024;

mod options;
use options::Options;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = Options::from_arguments()?;
    match options.role.as_str() {
        "serve" => serve(&options).await,
        "load" => load(&options).await,
        "ask" => ask(&options).await,
        other => Err(format!("unknown role {other}: serve, load or ask").into()),
    }
}

async fn serve(options: &Options) -> Result<(), Failure> {
    let identity = rcgen::generate_simple_self_signed(vec!["bench".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
    let certificate = CertificateDer::from(identity.cert);
    std::fs::write(&options.certificate, &certificate)?;
    let mut config = ServerConfig::with_single_cert(vec![certificate], key)?;
    config.transport = transport();
    let endpoint = endpoint(options.address, Some(config))?;
    println!("ready");
    let connection = endpoint.accept().await.ok_or("closed")?.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let mut wanted = [0; 8];
    receive.read_exact(&mut wanted).await?;
    let mut wanted = u64::from_le_bytes(wanted);
    if wanted == 0 {
        let mut request = [0; REQUEST];
        while receive.read_exact(&mut request).await.is_ok() {
            send.write_all(&request).await?;
        }
    }
    let piece = vec![7; PIECE];
    while wanted > 0 {
        let length = wanted.min(PIECE as u64);
        send.write_all(&piece[..length as usize]).await?;
        wanted -= length;
    }
    let _ = send.finish();
    connection.closed().await;
    println!("{{\"cpu\": {:.6}}}", processor_seconds());
    Ok(())
}

async fn load(options: &Options) -> Result<(), Failure> {
    let (endpoint, connection) = connect(options).await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let started = Instant::now();
    send.write_all(&options.amount.to_le_bytes()).await?;
    let mut received = 0;
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        received += chunk.bytes.len() as u64;
    }
    let seconds = started.elapsed().as_secs_f64();
    end(&endpoint, &connection).await;
    println!("{{\"bytes\": {received}, \"seconds\": {seconds:.6}, \"cpu\": {:.6}}}", processor_seconds());
    Ok(())
}

async fn ask(options: &Options) -> Result<(), Failure> {
    let (endpoint, connection) = connect(options).await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&0_u64.to_le_bytes()).await?;
    let mut times = Vec::new();
    let mut buffer = [7; REQUEST];
    for _ in 0..options.amount {
        let started = Instant::now();
        send.write_all(&buffer).await?;
        receive.read_exact(&mut buffer).await?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    end(&endpoint, &connection).await;
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!("{{\"median_us\": {:.1}, \"p99_us\": {:.1}, \"cpu\": {:.6}}}", at(0.5), at(0.99), processor_seconds());
    Ok(())
}

async fn end(endpoint: &Endpoint, connection: &Connection) {
    connection.close(VarInt::from_u32(0), b"done");
    endpoint.wait_idle().await;
}

async fn connect(options: &Options) -> Result<(Endpoint, Connection), Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(&options.certificate)?))?;
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots))?;
    config.transport_config(transport());
    let mut endpoint = endpoint("0.0.0.0:0".parse()?, None)?;
    endpoint.set_default_client_config(config);
    let connection = endpoint.connect(options.address, "bench")?.await?;
    Ok((endpoint, connection))
}

fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> Result<Endpoint, Failure> {
    let socket = UdpSocket::bind(address)?;
    sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)?;
    sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER)?;
    Ok(Endpoint::new(EndpointConfig::default(), server, socket, Arc::new(TokioRuntime))?)
}

fn transport() -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config.stream_receive_window(VarInt::from_u32(WINDOW)).receive_window(VarInt::from_u32(WINDOW)).send_window(u64::from(WINDOW));
    Arc::new(config)
}

/// User and system time of this process so far.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
