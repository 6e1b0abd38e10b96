//! Where to enter the network: addresses as given, and host names resolved in a task of their own.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::dht::v2::Bootstrap;

/// Wait after a failed resolution; doubles up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait between two attempts, and shortest between a success and the next resolution.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// One attempt; the system's resolver may take minutes.
const LOOKUP: Duration = Duration::from_secs(15);

/// The bootstrap nodes of a process.
pub(super) struct Resolver {
    addresses: watch::Receiver<Vec<Bootstrap>>,
    again: Arc<Notify>,
    _task: Option<AbortOnDropHandle<()>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Numeric(SocketAddrV4),
    /// `host:port`, and what it resolved to.
    Named(String, Option<SocketAddrV4>),
}

impl Resolver {
    /// Parses `host:port` entries; starts a task if any of them is a name.
    pub(super) fn start(entries: &[String]) -> io::Result<Self> {
        let entries = entries.iter().map(|e| parse(e)).collect::<io::Result<Vec<_>>>()?;
        let (publish, addresses) = watch::channel(known(&entries));
        let again = Arc::new(Notify::new());
        let any_name = entries.iter().any(|e| matches!(e, Entry::Named(..)));
        let task = any_name.then(|| {
            let task = resolve_all(entries, publish, again.clone(), lookup);
            AbortOnDropHandle::new(tokio::spawn(task))
        });
        Ok(Self { addresses, again, _task: task })
    }

    /// The addresses known now; the receiver hears of changes.
    pub(super) fn addresses(&self) -> watch::Receiver<Vec<Bootstrap>> {
        self.addresses.clone()
    }

    /// Nobody answers there: perhaps the names have moved.
    pub(super) fn resolve_again(&self) {
        self.again.notify_one();
    }
}

fn parse(entry: &str) -> io::Result<Entry> {
    if let Ok(addr) = entry.parse::<SocketAddrV4>() {
        return Ok(Entry::Numeric(addr));
    }
    let valid = entry.rsplit_once(':').filter(|(host, port)| {
        !host.is_empty() && !host.contains([':', '[', ' ']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if valid.is_none() {
        let message = format!("bootstrap node \"{entry}\" is not HOST:PORT with an IPv4 address or a name");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(Entry::Named(entry.to_owned(), None))
}

fn known(entries: &[Entry]) -> Vec<Bootstrap> {
    let known = entries.iter().filter_map(|entry| match entry {
        Entry::Numeric(addr) => Some(Bootstrap { addr: *addr, named: false }),
        Entry::Named(_, addr) => addr.map(|addr| Bootstrap { addr, named: true }),
    });
    known.collect()
}

async fn lookup(name: String) -> io::Result<SocketAddrV4> {
    let first = timeout(LOOKUP, tokio::net::lookup_host(&name)).await??.find_map(|addr| match addr {
        SocketAddr::V4(addr) => Some(addr),
        SocketAddr::V6(_) => None,
    });
    first.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no IPv4 address"))
}

/// Until every name has an address; and once more whenever somebody asks. Old addresses stay until new ones are known.
async fn resolve_all<L, F>(
    mut entries: Vec<Entry>,
    publish: watch::Sender<Vec<Bootstrap>>,
    again: Arc<Notify>,
    lookup: L,
) where
    L: Fn(String) -> F,
    F: Future<Output = io::Result<SocketAddrV4>>,
{
    loop {
        let mut wait = RETRY;
        let mut missing: Vec<usize> = (0..entries.len()).collect();
        loop {
            missing = resolve_some(&mut entries, missing, &lookup).await;
            let addresses = known(&entries);
            publish.send_if_modified(|published| {
                let changed = *published != addresses;
                *published = addresses;
                changed
            });
            if missing.is_empty() {
                break;
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
        sleep(RETRY_MAX).await;
        again.notified().await;
    }
}

/// Returns which entries still have no address.
async fn resolve_some<L, F>(entries: &mut [Entry], missing: Vec<usize>, lookup: &L) -> Vec<usize>
where
    L: Fn(String) -> F,
    F: Future<Output = io::Result<SocketAddrV4>>,
{
    let mut failed = Vec::new();
    for at in missing {
        let Some(Entry::Named(name, addr)) = entries.get_mut(at) else { continue };
        match lookup(name.clone()).await {
            Ok(found) => *addr = Some(found),
            Err(error) => {
                tracing::warn!(name, %error, "could not resolve a bootstrap node, will try again");
                failed.push(at);
            }
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn entries_are_addresses_or_names_with_a_port() {
        assert_eq!(parse("10.0.0.1:5").unwrap(), Entry::Numeric("10.0.0.1:5".parse().unwrap()));
        assert_eq!(parse("a.example:5").unwrap(), Entry::Named("a.example:5".into(), None));
        for wrong in
            ["", "a.example", ":5", "a.example:", "a.example:0", "a.example:70000", "[::1]:5", "::1:5"]
        {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{wrong}\"")), "{error}");
        }
    }

    #[test]
    fn addresses_are_known_at_once_and_start_no_task() {
        let resolver = Resolver::start(&["10.0.0.1:5".into()]).unwrap();
        let expected = Bootstrap { addr: "10.0.0.1:5".parse().unwrap(), named: false };
        assert_eq!(*resolver.addresses().borrow(), [expected]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_fails_is_tried_again_until_it_resolves() {
        let tries = Arc::new(Mutex::new(0));
        let counted = tries.clone();
        let lookup = move |_| {
            let mut tries = counted.lock();
            *tries += 1;
            let late = *tries > 5;
            async move {
                if late { Ok("10.0.0.2:7".parse().unwrap()) } else { Err(io::ErrorKind::NotFound.into()) }
            }
        };
        let (publish, mut addresses) = watch::channel(Vec::new());
        let entries = vec![parse("10.0.0.1:5").unwrap(), parse("b.example:7").unwrap()];
        let task = tokio::spawn(resolve_all(entries, publish, Arc::new(Notify::new()), lookup));
        addresses.wait_for(|a| a.len() == 1).await.unwrap();
        addresses.wait_for(|a| a.len() == 2 && a[1].named).await.unwrap();
        assert_eq!(*tries.lock(), 6);
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_resolved_again_when_nobody_answers() {
        let port = Arc::new(Mutex::new(0));
        let counted = port.clone();
        let lookup = move |_| {
            let mut port = counted.lock();
            *port += 1;
            let addr = SocketAddrV4::new([10, 0, 0, 1].into(), *port);
            async move { Ok(addr) }
        };
        let (publish, mut addresses) = watch::channel(Vec::new());
        let again = Arc::new(Notify::new());
        let task =
            tokio::spawn(resolve_all(vec![parse("b.example:7").unwrap()], publish, again.clone(), lookup));
        addresses.wait_for(|a| a.len() == 1 && a[0].addr.port() == 1).await.unwrap();
        again.notify_one();
        addresses.wait_for(|a| a.len() == 1 && a[0].addr.port() == 2).await.unwrap();
        task.abort();
    }
}
