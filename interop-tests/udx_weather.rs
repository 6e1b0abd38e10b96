//! Bad weather between two UDP sockets: a proxy that loses, delays and duplicates datagrams, by a seed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Shares of datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) seed: u64,
    pub(crate) lost: f64,
    /// Held back behind later ones.
    pub(crate) late: f64,
    pub(crate) twice: f64,
}

impl Weather {
    /// Everything arrives.
    pub(crate) fn calm() -> Self {
        Self { seed: 0, lost: 0.0, late: 0.0, twice: 0.0 }
    }
}

/// What a proxy saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) lost: usize,
    /// Bytes of the longest datagram to the other side.
    pub(crate) longest_to_them: usize,
}

/// A running proxy.
pub(crate) struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// What `ours` sends to [`address`](Self::address) goes to `theirs`, and back.
    pub(crate) async fn start(ours: SocketAddr, theirs: SocketAddr, weather: Weather) -> Self {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind"));
        let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bind"));
        let address = front.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let line = |from: &Arc<UdpSocket>, to: &Arc<UdpSocket>, destination, towards_them: bool| Line {
            from: Arc::clone(from),
            to: Arc::clone(to),
            destination,
            towards_them,
            weather,
            seen: Arc::clone(&seen),
        };
        let tasks = vec![
            tokio::spawn(line(&front, &back, theirs, true).run()),
            tokio::spawn(line(&back, &front, ours, false).run()),
        ];
        Self { address, seen, tasks }
    }

    /// Where ours should send.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.seen.lock().expect("the proxy runs")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One direction.
struct Line {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    destination: SocketAddr,
    towards_them: bool,
    weather: Weather,
    seen: Arc<Mutex<Seen>>,
}

impl Line {
    async fn run(self) {
        let mut random = StdRng::seed_from_u64(self.weather.seed * 2 + u64::from(self.towards_them));
        let mut buffer = vec![0; 65_536];
        let mut held: Option<Vec<u8>> = None;
        loop {
            // What was held back leaves behind the next datagram, or when none comes.
            let next = tokio::time::timeout(Duration::from_millis(5), self.from.recv(&mut buffer)).await;
            if let Ok(Ok(length)) = next {
                let datagram = &buffer[..length];
                {
                    let mut seen = self.seen.lock().expect("not poisoned");
                    if self.towards_them {
                        seen.longest_to_them = seen.longest_to_them.max(length);
                    }
                    if random.random_bool(self.weather.lost) {
                        seen.lost += 1;
                        continue;
                    }
                }
                if held.is_none() && random.random_bool(self.weather.late) {
                    held = Some(datagram.to_vec());
                    continue;
                }
                self.send(datagram).await;
                if random.random_bool(self.weather.twice) {
                    self.send(datagram).await;
                }
            }
            if let Some(late) = held.take() {
                self.send(&late).await;
            }
        }
    }

    async fn send(&self, datagram: &[u8]) {
        // A process that is gone refuses datagrams: that is weather too.
        let _ = self.to.send_to(datagram, self.destination).await;
    }
}
