//! `load` and `cat`: a file by its name, from the local store or through the daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::destination::Destination;
use super::failure::{Exit, Failure};
use super::progress::{Progress, ProgressMode};
use super::settings::{Name, Settings, parse_uri};
use super::stored;
use crate::api::client::ClientError;
use crate::api::wire::{self, LoadLine};
use crate::node::LoadEvent;
use crate::store::{Cancel, ContentHash, HowStored, Sha1, Store, StoreError, StoreErrorKind};

/// A load without progress ends after this, unless told otherwise.
const SILENCE: Duration = Duration::from_secs(60);
/// A daemon that says nothing about a load for this long hangs: it gives a sign of life every 5 s.
const DAEMON_SILENCE: Duration = Duration::from_secs(20);

/// Prints the path, or the destination, on success; on failure nothing on stdout.
pub(super) async fn load(settings: &Settings, uri: &str, dest: Option<&Path>) -> Result<(), Failure> {
    let name = parse_uri(uri)?;
    let destination = match dest {
        Some(dest) => Some(Destination::parse(dest, &name.label, &name.sha1.to_string())?),
        None => None,
    };
    if settings.output.json && destination == Some(Destination::Stdout) {
        return Err(Failure::usage("--json and --dest - would both write to standard output"));
    }
    let obtained = obtain(settings, &name, uri).await?;
    let (shown, how) = match destination {
        None => (obtained.path.clone(), None),
        Some(Destination::Stdout) => return write_out(obtained).await,
        Some(Destination::File(target)) => {
            let how = copy(settings, &obtained, name.sha1, &target).await?;
            (target, Some(how))
        }
    };
    let text = format!("{}\n", shown.display());
    let value = json!({
        "path": shown.to_string_lossy(),
        "stored": obtained.path.to_string_lossy(),
        "size": obtained.size,
        "downloaded": obtained.downloaded,
        "local": obtained.local,
        "how": how.map(how_name),
    });
    settings.output.result(&text, value)
}

/// The content on standard output.
pub(super) async fn cat(settings: &Settings, uri: &str) -> Result<(), Failure> {
    if settings.output.json {
        return Err(Failure::usage("cat writes the content itself to standard output, so not --json"));
    }
    let name = parse_uri(uri)?;
    let obtained = obtain(settings, &name, uri).await?;
    write_out(obtained).await
}

/// A file that is now on this machine.
pub(super) struct Obtained {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// Bytes that came over the network this time.
    pub(super) downloaded: u64,
    /// It was in the local store, so nobody was asked.
    pub(super) local: bool,
}

/// From the local store, which needs no daemon, or else through the daemon. Verified either way.
pub(super) async fn obtain(settings: &Settings, name: &Name, uri: &str) -> Result<Obtained, Failure> {
    // Without a storage folder here there is still that of the daemon.
    let store = stored::may_have_files(settings.storage_dir.as_deref()).then(|| settings.store());
    let here = match store.unwrap_or(Err(StoreError::NoStorageDir)) {
        Ok(store) => find_here(settings, store, name.sha1).await,
        Err(error) if error.kind() == StoreErrorKind::TooManyOpenFiles => Err(error.into()),
        Err(_) => Ok(None),
    };
    let damaged = match here {
        Ok(None) => None,
        Ok(Some(obtained)) => {
            settings.output.note("already in the local store");
            return Ok(obtained);
        }
        Err(failure) if failure.exit == Exit::Verification => Some(failure),
        Err(failure) => return Err(failure),
    };
    match (ask_daemon(settings, name, uri).await, damaged) {
        (Err(unreachable), Some(damaged)) if unreachable.exit == Exit::NoDaemon => Err(damaged
            .likely(format!(
                "the disk, or a program that changed it; nobody could be asked for a good copy: {}",
                unreachable.what
            ))
            .next("kachery-p2p daemon-start --channel NAME   (then run this again, which replaces it)")),
        (asked, _) => asked,
    }
}

/// What is in the local store, verified.
async fn find_here(settings: &Settings, store: Store, sha1: Sha1) -> Result<Option<Obtained>, Failure> {
    let mode = settings.progress_mode();
    blocking(move || {
        let Some(path) = store.find(sha1)? else { return Ok(None) };
        let found = stored::verified(&store, ContentHash::Sha1(sha1), &path, mode)?;
        found
            .map(|path| Ok(Obtained { size: stored::size_of(&path)?, path, downloaded: 0, local: true }))
            .transpose()
    })
    .await
}

async fn ask_daemon(settings: &Settings, name: &Name, uri: &str) -> Result<Obtained, Failure> {
    let timeout = settings.timeout.unwrap_or(SILENCE).as_millis() as u64;
    let request = json!({"sha1": name.sha1.to_string(), "timeout_ms": timeout});
    let mut answer = settings.daemon().open("/api/v1/load", &request, DAEMON_SILENCE).await?;
    let mut shown = Shown::new(settings);
    while let Some(line) = answer.next_line().await? {
        match line {
            LoadLine::Result { path, size, downloaded } => {
                return Ok(Obtained { path: path.into(), size, downloaded, local: false });
            }
            LoadLine::Error(problem) => return Err(Failure::from_api(problem, uri)),
            LoadLine::Progress(_) if settings.output.json && settings.progress => {
                settings.output.line(&line)?;
            }
            LoadLine::Progress(now) => shown.update(&now),
            LoadLine::Started { .. } | LoadLine::Unknown => {}
        }
    }
    Err(ClientError::Unexpected("the load ended without a result".into()).into())
}

/// The load's progress as the user sees it.
struct Shown {
    mode: ProgressMode,
    /// From the first line on.
    progress: Option<Progress>,
    label: String,
}

impl Shown {
    fn new(settings: &Settings) -> Self {
        // With --json the daemon's own lines are passed on.
        let mode = if settings.output.json { ProgressMode::Hidden } else { settings.progress_mode() };
        Self { mode, progress: None, label: String::new() }
    }

    fn update(&mut self, now: &wire::Progress) {
        let label = phase(now);
        let progress = self.progress.get_or_insert_with(|| Progress::new(self.mode, label.clone(), None));
        if let &wire::Progress::Known(
            LoadEvent::Downloading { bytes, size, .. } | LoadEvent::Waiting { bytes, size },
        ) = now
        {
            progress.set_total(size);
            progress.set(bytes);
        }
        if self.label != label {
            progress.phase(label.clone());
            self.label = label;
        }
    }
}

/// What the daemon is doing, in words.
fn phase(now: &wire::Progress) -> String {
    let wire::Progress::Known(event) = now else { return "working".into() };
    let count = |peers: &usize| format!("{peers} {}", if *peers == 1 { "peer" } else { "peers" });
    match event {
        LoadEvent::Looking { peers } => format!("looking for providers (asked {})", count(peers)),
        LoadEvent::Downloading { providers, .. } => format!("downloading ({})", count(providers)),
        LoadEvent::Verifying => "verifying".into(),
        LoadEvent::Waiting { .. } => "waiting: another program is loading it into this store".into(),
    }
}

/// Puts a verified copy at the destination; interrupted, it leaves nothing behind.
async fn copy(
    settings: &Settings,
    obtained: &Obtained,
    sha1: Sha1,
    target: &Path,
) -> Result<HowStored, Failure> {
    let store = match settings.store() {
        Err(StoreError::NoStorageDir) => daemons_store(settings).await?,
        store => store?,
    };
    let stop = CancelOnDrop::default();
    let cancel = stop.0.clone();
    let (source, target, mode) = (obtained.path.clone(), target.to_owned(), settings.progress_mode());
    blocking(move || stored::copy_out(&store, &source, ContentHash::Sha1(sha1), &target, &cancel, mode)).await
}

/// The store that the daemon uses, for a client that was told none.
async fn daemons_store(settings: &Settings) -> Result<Store, Failure> {
    let info = settings.daemon().get("/api/v1/node-info").await?;
    let folder = info.get("storage_dir").and_then(Value::as_str).ok_or(StoreError::NoStorageDir)?;
    Ok(Store::open(Path::new(folder))?)
}

/// Ends what a blocking thread writes when whoever waited for it is gone.
#[derive(Default)]
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn write_out(obtained: Obtained) -> Result<(), Failure> {
    blocking(move || stored::write_out(&obtained.path, 0, obtained.size)).await
}

/// Runs what blocks on another thread, so that Ctrl-C is heard.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let failed = |error| Err(Failure::new(Exit::Other, format!("internal error: {error}")));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

fn how_name(how: HowStored) -> &'static str {
    match how {
        HowStored::Already => "already",
        HowStored::Reflink => "reflink",
        HowStored::HardLink => "hard_link",
        HowStored::Copy => "copy",
        HowStored::Received => "received",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_named_in_words() {
        let cases = [
            (LoadEvent::Looking { peers: 1 }, "looking for providers (asked 1 peer)"),
            (LoadEvent::Downloading { bytes: 1, size: 2, providers: 3, rate: 0 }, "downloading (3 peers)"),
            (LoadEvent::Verifying, "verifying"),
            (
                LoadEvent::Waiting { bytes: 1, size: 2 },
                "waiting: another program is loading it into this store",
            ),
        ];
        for (now, words) in cases {
            assert_eq!(phase(&wire::Progress::Known(now)), words);
        }
        assert_eq!(phase(&wire::Progress::Unknown { phase: "new".into() }), "working");
    }
}
