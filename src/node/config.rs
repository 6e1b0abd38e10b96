//! The config folder: `config.json` as the originals write it, and the lock that keeps a second daemon away.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::files;
use crate::store;

/// In the config folder: the channels, and settings of the command line.
pub const CONFIG_FILE: &str = "config.json";
const LOCK_FILE: &str = "daemon.lock";
/// No config file is larger.
const CONFIG_FILE_MAX: u64 = 1 << 20;
/// Bytes of a channel name; its topic is a hash, so this only keeps messages and lists readable.
const CHANNEL_NAME_MAX: usize = 256;

/// Why the config folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The system said no.
    #[error("{what}: {source}")]
    Io {
        /// Step and path.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// `config.json` is no JSON of the expected shape; it was not touched.
    #[error("{}: {why}; correct it or move it away", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Another user could read or change what is in the folder.
    #[error("config folder {}: {why}", path.display())]
    Exposed {
        /// The folder.
        path: PathBuf,
        /// How, and what to type.
        why: String,
    },
    /// Another daemon holds the folder.
    #[error(
        "a daemon is already running with this config folder (process {pid}, API port {api_port}); stop it with: kachery-p2p daemon-stop --api-port {api_port}"
    )]
    AlreadyRunning {
        /// Its process ID; 0: it has not written it yet.
        pid: u32,
        /// Its API port.
        api_port: u16,
    },
}

/// The folder while this process holds it. The lock is released when this is dropped or the process ends, however it
/// ends; the file stays.
pub struct ConfigDir {
    path: PathBuf,
    /// Holds the lock.
    lock: File,
}

/// What a running daemon wrote into the lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningDaemon {
    /// Process.
    pub pid: u32,
    /// Port of its HTTP API.
    pub api_port: u16,
}

impl ConfigDir {
    /// Creates the folder if it is missing and takes its lock (`daemon.lock`). Refuses a folder that another user may
    /// change: whoever can, can put a key of their own there. Blocks, for 0.2 s at most.
    pub fn open(path: &Path, api_port: u16) -> Result<Self, ConfigError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io_error("create config folder", path))?;
        let folder = std::fs::metadata(path).map_err(io_error("look at config folder", path))?;
        let user = rustix::process::geteuid().as_raw();
        match exposure(path, folder.uid(), folder.mode(), user) {
            Exposure::None => {}
            Exposure::ToGroup(why) => tracing::warn!("config folder {}: {why}", path.display()),
            Exposure::ToOthers(why) => return Err(ConfigError::Exposed { path: path.to_owned(), why }),
        }
        let file = path.join(LOCK_FILE);
        let failed = io_error("lock", &file);
        let mut options = OpenOptions::new();
        // Never truncated here: the file says who holds the lock.
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let lock = open_lock(&mut options, &file).map_err(&failed)?;
        // `running` holds the lock for an instant to find out whether somebody has it.
        for attempt in 0.. {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if attempt < 10 => {
                    std::thread::sleep(Duration::from_millis(20))
                }
                Err(TryLockError::WouldBlock) => {
                    let RunningDaemon { pid, api_port } = read_lock(&lock);
                    return Err(ConfigError::AlreadyRunning { pid, api_port });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        let mut dir = Self { path: path.to_owned(), lock };
        dir.write_lock(api_port).map_err(failed)?;
        Ok(dir)
    }

    /// The daemon that holds the folder, if one does.
    pub fn running(path: &Path) -> Result<Option<RunningDaemon>, ConfigError> {
        let file = path.join(LOCK_FILE);
        let lock = match open_lock(OpenOptions::new().read(true), &file) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(io_error("open", &file)(source)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(read_lock(&lock))),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &file)(source)),
        }
    }

    /// Corrects the port in the lock file, when the system chose it (`--api-port 0`).
    pub fn set_api_port(&mut self, api_port: u16) -> Result<(), ConfigError> {
        self.write_lock(api_port).map_err(io_error("write", &self.path.join(LOCK_FILE)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The channels of `config.json`, in order, without duplicates and without names that cannot be used.
    pub fn channels(&self) -> Result<Vec<String>, ConfigError> {
        let mut channels: Vec<String> = Vec::new();
        for entry in self.read()?.get("channels").and_then(Value::as_array).into_iter().flatten() {
            match entry.get("name").and_then(Value::as_str) {
                Some(name) if check_channel_name(name).is_err() => {
                    tracing::warn!("config.json: channel name {name:?} cannot be used, not joined");
                }
                Some(name) if !channels.iter().any(|known| known == name) => channels.push(name.to_owned()),
                _ => {}
            }
        }
        Ok(channels)
    }

    /// Replaces the channels of `config.json` atomically; its other keys, and those of the entries that stay, are kept.
    pub fn set_channels(&self, channels: &[String]) -> Result<(), ConfigError> {
        let mut config = self.read()?;
        let known = config.get("channels").and_then(Value::as_array).cloned().unwrap_or_default();
        let entry = |name: &String| {
            let same = known.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
            same.cloned().unwrap_or_else(|| json!({ "name": name }))
        };
        config.insert("channels".to_owned(), channels.iter().map(entry).collect());
        let path = self.path.join(CONFIG_FILE);
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        config
            .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
            .map_err(|error| io_error("write", &path)(io::Error::other(error)))?;
        store::replace_file(&path, &text, 0o644).map_err(io_error("write", &path))
    }

    fn read(&self) -> Result<Map<String, Value>, ConfigError> {
        read_config(&self.path)
    }

    fn write_lock(&mut self, api_port: u16) -> io::Result<()> {
        let text = json!({ "pid": std::process::id(), "api_port": api_port }).to_string();
        self.lock.set_len(0)?;
        self.lock.rewind()?;
        self.lock.write_all(text.as_bytes())
    }
}

/// What `config.json` in this folder has under `"settings"`, which is for the command line. Needs no lock.
pub fn settings(folder: &Path) -> Result<Option<Value>, ConfigError> {
    Ok(read_config(folder)?.remove("settings"))
}

/// Checks a channel name: 1 to 256 bytes, no control characters, no space at either end.
pub fn check_channel_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty; name the channel that you and your colleague agreed on");
    }
    if name.len() > CHANNEL_NAME_MAX {
        return Err("it is longer than 256 bytes; choose a shorter one");
    }
    if name.chars().any(char::is_control) {
        return Err("it contains a control character; use letters, digits, dots and dashes");
    }
    match name.starts_with(' ') || name.ends_with(' ') {
        true => Err("it begins or ends with a space; remove it"),
        false => Ok(()),
    }
}

/// Who else may change a folder.
#[derive(Debug, PartialEq, Eq)]
enum Exposure {
    None,
    /// Common where every user has a group of their own, so it is only said.
    ToGroup(String),
    ToOthers(String),
}

/// Root may use any folder: in containers it runs daemons on the folders of users.
fn exposure(path: &Path, owner: u32, mode: u32, user: u32) -> Exposure {
    let shown = path.display();
    if owner != user && owner != 0 && user != 0 {
        let why = format!(
            "it belongs to another user ({owner}), who could replace this node's key; choose one of your own with --config-dir"
        );
        return Exposure::ToOthers(why);
    }
    let why = |who| {
        format!("{who} may write into it, and could replace this node's key; type: chmod go-w '{shown}'")
    };
    match (mode & 0o002 != 0, mode & 0o020 != 0) {
        (true, _) => Exposure::ToOthers(why("every user of this machine")),
        (false, true) => Exposure::ToGroup(why("its group")),
        (false, false) => Exposure::None,
    }
}

/// NOFOLLOW: what a link leads to would be emptied.
fn open_lock(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    files::open(options, path, OFlags::NOFOLLOW).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is a link; type: rm '{}'", path.display()),
        ),
        _ => error,
    })
}

fn read_config(folder: &Path) -> Result<Map<String, Value>, ConfigError> {
    let path = folder.join(CONFIG_FILE);
    let bytes = files::read(&path, CONFIG_FILE_MAX).map_err(io_error("read", &path))?;
    let Some(bytes) = bytes else { return Ok(Map::new()) };
    let corrupt = |why: String| ConfigError::Corrupt { path, why };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(config)) if config.get("channels").is_none_or(Value::is_array) => Ok(config),
        Ok(Value::Object(_)) => Err(corrupt("\"channels\" is not a list".to_owned())),
        Ok(_) => Err(corrupt("not a JSON object".to_owned())),
        Err(error) => Err(corrupt(format!("not JSON ({error})"))),
    }
}

/// What the holder of the lock wrote; zeros if it has not yet.
fn read_lock(mut lock: &File) -> RunningDaemon {
    let mut bytes = Vec::new();
    let content: Option<Value> = match lock.rewind().and_then(|()| lock.take(1024).read_to_end(&mut bytes)) {
        Ok(_) => serde_json::from_slice(&bytes).ok(),
        Err(_) => None,
    };
    let number =
        |name| content.as_ref().and_then(|value| value.get(name)).and_then(Value::as_u64).unwrap_or(0);
    RunningDaemon {
        pid: u32::try_from(number("pid")).unwrap_or(0),
        api_port: u16::try_from(number("api_port")).unwrap_or(0),
    }
}

fn io_error(step: &str, path: &Path) -> impl Fn(io::Error) -> ConfigError + use<> {
    let what = format!("{step} {}", path.display());
    move |source| ConfigError::Io { what: what.clone(), source }
}

impl Drop for ConfigDir {
    fn drop(&mut self) {
        // Nobody must be told to stop a process that is gone; the lock itself goes with the file handle.
        let _ = self.lock.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn open(folder: &tempfile::TempDir) -> ConfigDir {
        ConfigDir::open(folder.path(), 20431).expect("free folder")
    }

    fn config(folder: &tempfile::TempDir) -> String {
        fs::read_to_string(folder.path().join(CONFIG_FILE)).unwrap()
    }

    #[test]
    fn a_second_daemon_refuses_and_names_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(&folder);
        let error = ConfigDir::open(folder.path(), 1).err().unwrap();
        let pid = std::process::id();
        assert!(
            matches!(error, ConfigError::AlreadyRunning { pid: p, api_port: 20431 } if p == pid),
            "{error}"
        );
        assert!(error.to_string().contains("daemon-stop"));
        assert_eq!(ConfigDir::running(folder.path()).unwrap(), Some(RunningDaemon { pid, api_port: 20431 }));
        drop(first);
        assert_eq!(ConfigDir::running(folder.path()).unwrap(), None);
        assert_eq!(open(&folder).path(), folder.path());
    }

    #[test]
    fn the_port_that_the_system_chose_can_be_told_later() {
        let folder = tempfile::tempdir().unwrap();
        let mut dir = open(&folder);
        dir.set_api_port(7).unwrap();
        assert_eq!(ConfigDir::running(folder.path()).unwrap().map(|daemon| daemon.api_port), Some(7));
    }

    #[test]
    fn a_lock_file_left_by_a_killed_daemon_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(LOCK_FILE), "{\"pid\":1,\"api_port\":20431}").unwrap();
        assert_eq!(ConfigDir::running(folder.path()).unwrap(), None);
        let _dir = open(&folder);
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_refused_and_what_it_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "years of work").unwrap();
        std::os::unix::fs::symlink(&precious, folder.path().join(LOCK_FILE)).unwrap();
        let error = ConfigDir::open(folder.path(), 1).err().expect("a link").to_string();
        assert!(error.contains("it is a link; type: rm"), "{error}");
        assert!(ConfigDir::running(folder.path()).is_err());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "years of work");
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_hangs_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for name in [CONFIG_FILE, LOCK_FILE] {
            let path = folder.path().join(name);
            rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        }
        let error = settings(folder.path()).unwrap_err().to_string();
        assert!(error.contains(CONFIG_FILE) && error.contains("not a regular file"), "{error}");
        assert!(ConfigDir::open(folder.path(), 1).is_err());
        assert!(ConfigDir::running(folder.path()).is_err());
    }

    #[test]
    fn a_folder_that_others_may_write_into_is_refused_with_what_to_type() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = ConfigDir::open(folder.path(), 1).err().expect("0777").to_string();
        assert!(error.contains("chmod go-w"), "{error}");
        assert!(!folder.path().join(LOCK_FILE).exists());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(ConfigDir::open(folder.path(), 1).is_ok());
    }

    #[test]
    fn folders_of_other_users_are_refused_and_group_writable_ones_are_only_told() {
        let judged = |owner, mode, user| exposure(Path::new("/x"), owner, mode, user);
        for (owner, mode, user) in [(1000, 0o700, 1000), (0, 0o755, 1000), (1000, 0o755, 0)] {
            assert_eq!(judged(owner, mode, user), Exposure::None, "{owner} {mode:o} {user}");
        }
        assert!(
            matches!(judged(1000, 0o775, 1000), Exposure::ToGroup(why) if why.contains("chmod go-w '/x'"))
        );
        assert!(matches!(judged(1001, 0o700, 1000), Exposure::ToOthers(why) if why.contains("--config-dir")));
        assert!(matches!(judged(1000, 0o757, 0), Exposure::ToOthers(_)));
    }

    #[test]
    fn a_missing_folder_is_created_for_the_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let dir = ConfigDir::open(&path, 1).unwrap();
        assert_eq!(dir.channels().unwrap(), [] as [String; 0]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn channels_are_written_as_the_originals_do() {
        let folder = tempfile::tempdir().unwrap();
        let dir = open(&folder);
        dir.set_channels(&["test1".to_owned(), "ünï \"x\"".to_owned()]).unwrap();
        let wanted = "{\n    \"channels\": [\n        {\n            \"name\": \"test1\"\n        },\n        {\n            \"name\": \"ünï \\\"x\\\"\"\n        }\n    ]\n}";
        assert_eq!(config(&folder), wanted);
        assert_eq!(dir.channels().unwrap(), ["test1", "ünï \"x\""]);
        dir.set_channels(&[]).unwrap();
        assert_eq!(config(&folder), "{\n    \"channels\": []\n}");
    }

    #[test]
    fn what_others_wrote_into_the_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let dir = open(&folder);
        let text = "{\"z\":1.5,\"channels\":[{\"name\":\"a\",\"note\":\"x\"},{\"name\":\"b\"},{\"name\":\"a\"},{},7],\"a\":{\"b\":null}}";
        fs::write(folder.path().join(CONFIG_FILE), text).unwrap();
        assert_eq!(dir.channels().unwrap(), ["a", "b"]);
        dir.set_channels(&["a".to_owned(), "c".to_owned()]).unwrap();
        let kept: Value = serde_json::from_str(&config(&folder)).unwrap();
        let wanted =
            json!({"z": 1.5, "channels": [{"name": "a", "note": "x"}, {"name": "c"}], "a": {"b": null}});
        assert_eq!(kept.to_string(), wanted.to_string(), "keys and their order");
    }

    #[test]
    fn a_damaged_config_file_is_an_error_and_stays_as_it_was() {
        for text in ["", "{", "[]", "7", "{\"channels\":{}}", "{\"channels\":[]} x"] {
            let folder = tempfile::tempdir().unwrap();
            let dir = open(&folder);
            fs::write(folder.path().join(CONFIG_FILE), text).unwrap();
            for error in [dir.channels().err(), dir.set_channels(&["a".to_owned()]).err()] {
                let error = error.expect(text).to_string();
                assert!(error.contains(CONFIG_FILE) && error.contains("correct it"), "{error}");
            }
            assert_eq!(config(&folder), text);
        }
    }

    #[test]
    fn a_config_file_is_read_to_its_limit_only() {
        let folder = tempfile::tempdir().unwrap();
        let dir = open(&folder);
        let padded = |size: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(size - 8));
        fs::write(folder.path().join(CONFIG_FILE), padded(CONFIG_FILE_MAX as usize)).unwrap();
        assert!(dir.channels().is_ok());
        fs::write(folder.path().join(CONFIG_FILE), padded(CONFIG_FILE_MAX as usize + 1)).unwrap();
        assert!(dir.channels().is_err());
    }

    #[test]
    fn channel_names_are_checked() {
        for name in ["a", "neuro lab/2020", "ünïcödé-😀", &"x".repeat(CHANNEL_NAME_MAX)] {
            assert_eq!(check_channel_name(name), Ok(()), "{name}");
        }
        for name in ["", " a", "a ", "a\nb", "a\0", "\u{7f}", &"x".repeat(CHANNEL_NAME_MAX + 1)] {
            assert!(check_channel_name(name).is_err(), "{name:?}");
        }
    }
}
