//! `load` and `cat`: a file by its name, from the local store or through the daemon.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::destination::Destination;
use super::failure::{Exit, Failure};
use super::output::{stdout_failure, write_stdout};
use super::progress::{Progress, ProgressMode};
use super::settings::{Name, Settings, parse_uri};
use crate::api::client::ClientError;
use crate::store::{Cancel, ContentHash, HowStored, Sha1, Store, StoreError};

/// A load without progress ends after this, unless told otherwise.
const SILENCE: Duration = Duration::from_secs(60);

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
        Some(Destination::Stdout) => return write_out(&obtained.path).await,
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
    write_out(&obtained.path).await
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
    let here = match settings.store() {
        Ok(store) => find_here(settings, store, name.sha1).await,
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
        let size_of = |path: &Path| {
            std::fs::metadata(path).map(|found| found.len()).map_err(|e| Failure::io(path.display(), &e))
        };
        // Begun by the first bytes that are hashed: mostly none are.
        let (progress, total) = (OnceCell::new(), size_of(&path)?);
        let begin = || Progress::new(mode, "verifying", Some(total));
        let tell = |bytes| progress.get_or_init(begin).set(bytes);
        let found = store.find_verified(ContentHash::Sha1(sha1), &tell)?;
        found.map(|path| Ok(Obtained { size: size_of(&path)?, path, downloaded: 0, local: true })).transpose()
    })
    .await
}

async fn ask_daemon(settings: &Settings, name: &Name, uri: &str) -> Result<Obtained, Failure> {
    let timeout = settings.timeout.unwrap_or(SILENCE).as_millis() as u64;
    let request = json!({"sha1": name.sha1.to_string(), "timeout_ms": timeout});
    let mut answer = settings.daemon().open("/api/v1/load", &request).await?;
    let mut shown = Shown::new(settings);
    while let Some(line) = answer.next_line().await? {
        let text = |field: &str| line.get(field).and_then(Value::as_str).unwrap_or_default();
        let number = |field: &str| line.get(field).and_then(Value::as_u64).unwrap_or_default();
        match text("type") {
            "result" => {
                let (size, downloaded) = (number("size"), number("downloaded"));
                return Ok(Obtained { path: text("path").into(), size, downloaded, local: false });
            }
            "error" => return Err(Failure::from_api(text("code"), text("message"), uri)),
            "progress" if settings.output.json && settings.progress => settings.output.line(&line)?,
            "progress" => shown.update(&line),
            _ => {}
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

    fn update(&mut self, line: &Value) {
        let label = phase(line);
        let progress = self.progress.get_or_insert_with(|| Progress::new(self.mode, label.clone(), None));
        if let Some(size) = line.get("size").and_then(Value::as_u64) {
            progress.set_total(size);
        }
        if let Some(bytes) = line.get("bytes").and_then(Value::as_u64) {
            progress.set(bytes);
        }
        if self.label != label {
            progress.phase(label.clone());
            self.label = label;
        }
    }
}

/// What the daemon is doing, in words.
fn phase(line: &Value) -> String {
    let number = |field: &str| line.get(field).and_then(Value::as_u64).unwrap_or_default();
    let peers = |count: u64| format!("{count} {}", if count == 1 { "peer" } else { "peers" });
    match line.get("phase").and_then(Value::as_str).unwrap_or_default() {
        "looking" => format!("looking for providers (asked {})", peers(number("peers"))),
        "downloading" => format!("downloading ({})", peers(number("providers"))),
        other => other.to_owned(),
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
    let progress = Progress::new(
        settings.progress_mode(),
        format!("copying to {}", target.display()),
        Some(obtained.size),
    );
    let (source, target) = (obtained.path.clone(), target.to_owned());
    blocking(move || {
        let tell = |bytes| progress.set(bytes);
        Ok(store.copy_out(&source, ContentHash::Sha1(sha1), &target, &cancel, &tell)?)
    })
    .await
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

async fn write_out(path: &Path) -> Result<(), Failure> {
    let path = path.to_owned();
    blocking(move || {
        let mut file = File::open(&path).map_err(|e| Failure::io(format!("read {}", path.display()), &e))?;
        io::copy(&mut file, &mut io::stdout().lock()).map_err(|error| stdout_failure(&error))?;
        write_stdout(b"")
    })
    .await
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
            (json!({"phase": "looking", "peers": 1}), "looking for providers (asked 1 peer)"),
            (json!({"phase": "downloading", "bytes": 1, "size": 2, "providers": 3}), "downloading (3 peers)"),
            (json!({"phase": "verifying"}), "verifying"),
        ];
        for (line, words) in cases {
            assert_eq!(phase(&line), words);
        }
    }
}
