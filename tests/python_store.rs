//! The storage folder is shared with Python's kachery 0.6.3: what one side stores and remembers, the other reads. The
//! Python side is a second implementation, `interop-tests/python/kachery_store_check.py`, standard library only.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot prepare itself fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Shared {
    folder: tempfile::TempDir,
    root: PathBuf,
}

fn shared() -> Shared {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    Shared { folder, root }
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

impl Shared {
    fn file(&self, name: &str, size: usize) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..size).map(|i| (i / 7 + i + name.len()) as u8).collect();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn python(&self, command: &str, rest: &[&str]) -> String {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("interop-tests/python/kachery_store_check.py");
        text(Command::new("python3").arg(script).arg(command).arg(&self.root).args(rest).output().unwrap())
    }

    fn rust(&self, program: &str, arguments: &[&str]) -> String {
        text(Command::new(program).args(arguments).env("KACHERY_STORAGE_DIR", &self.root).output().unwrap())
    }
}

const STORE: &str = env!("CARGO_BIN_EXE_kachery-store");
const LOAD: &str = env!("CARGO_BIN_EXE_kachery-load");
const INFO: &str = env!("CARGO_BIN_EXE_kachery-info");
const LS: &str = env!("CARGO_BIN_EXE_kachery-ls");
const LOAD_DIR: &str = env!("CARGO_BIN_EXE_kachery-load-dir");

fn hash(uri: &str) -> &str {
    uri.split("//").nth(1).unwrap().split(['/', '.']).next().unwrap()
}

#[test]
fn python_finds_and_remembers_what_we_stored() {
    let shared = shared();
    for (algorithm, size) in [("sha1", 10), ("sha1", 100_000), ("sha1", 3_000_000), ("md5", 150_000)] {
        let path = shared.file(&format!("\u{fc} \u{1f600} '\" {algorithm} {size}"), size);
        let path = path.to_str().unwrap();
        let uri = shared.rust(STORE, &[path, "-a", algorithm]);
        let found = shared.python("find", &[algorithm, hash(&uri)]);
        assert!(std::fs::read(&found).unwrap() == std::fs::read(path).unwrap());
        assert!(found.starts_with(shared.root.to_str().unwrap()));
        let remembered = shared.python("remembered", &[algorithm, path]);
        assert_eq!(remembered, if size >= 100_000 { hash(&uri) } else { "" });
        // With the stored copy gone, the hint leads Python to the source.
        std::fs::remove_file(&found).unwrap();
        let hinted = shared.python("find", &[algorithm, hash(&uri)]);
        assert_eq!(hinted, if size >= 100_000 { path } else { "" });
    }
}

#[test]
fn we_find_and_remember_what_python_stored() {
    let shared = shared();
    for (algorithm, size) in [("sha1", 10), ("sha1", 250_000), ("md5", 150_000)] {
        let path = shared.file(&format!("\u{fc} \u{1f600} '\" {algorithm} {size}"), size);
        let path = path.to_str().unwrap();
        let name = shared.python("put", &[algorithm, path]);
        let uri = format!("{algorithm}://{name}/x");
        let found = shared.rust(LOAD, &[&uri]);
        assert!(std::fs::read(&found).unwrap() == std::fs::read(path).unwrap());
        assert!(shared.rust(INFO, &[&uri]).contains(&format!("\"{algorithm}\": \"{name}\"")));
        assert!(shared.rust(STORE, &[path, "-a", algorithm]).starts_with(&format!("{algorithm}://{name}/")));
        // With the stored copy gone, Python's hint leads us to the source.
        std::fs::remove_file(&found).unwrap();
        let hinted = Command::new(LOAD).arg(&uri).env("KACHERY_STORAGE_DIR", &shared.root).output().unwrap();
        let expected =
            if size >= 100_000 { (Some(0), format!("{path}\n")) } else { (Some(3), String::new()) };
        assert_eq!((hinted.status.code(), String::from_utf8(hinted.stdout).unwrap()), expected);
    }
}

#[test]
fn the_hash_that_python_remembers_is_not_computed_again() {
    let shared = shared();
    let path = shared.file("big", 200_000);
    let path = path.to_str().unwrap();
    let right = shared.python("put", &["sha1", path]);
    // A false record shows who was asked.
    let lie = "0123456789012345678901234567890123456789";
    let mut records = Vec::new();
    let mut folders = vec![shared.root.join("sha1")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.to_str().unwrap() {
                _ if path.is_dir() => folders.push(path),
                name if name.ends_with(".record.json") => records.push(path),
                _ => {}
            }
        }
    }
    let record = std::fs::read_to_string(&records[0]).unwrap();
    assert_eq!(records.len(), 1);
    std::fs::write(&records[0], record.replace(&right, lie)).unwrap();
    assert!(shared.rust(INFO, &[path]).contains(lie));
}

#[test]
fn folders_are_read_on_both_sides() {
    let shared = shared();
    for name in ["d/b.txt", "d/a \u{fc}.txt", "d/sub/big", "d/sub/empty", "d/sub/deep/x"] {
        shared.file(name, if name.ends_with("big") { 120_000 } else { name.len() & !7 });
    }
    let folder = shared.folder.path().join("d");
    let uri = shared.rust(STORE, &[folder.to_str().unwrap()]);
    assert_eq!(uri, format!("sha1dir://{}.d", hash(&uri)));
    assert_eq!(shared.python("list", &[&uri]), "sub/\na \u{fc}.txt\nb.txt");
    let name = shared.python("put-directory", &[folder.to_str().unwrap()]);
    let theirs = format!("sha1dir://{name}.label");
    assert_eq!(shared.rust(LS, &[&theirs]), "sub/\na \u{fc}.txt\nb.txt");
    assert_eq!(shared.rust(LS, &[&format!("{theirs}/sub")]), shared.python("list", &[&format!("{uri}/sub")]));
    let copy = shared.folder.path().join("copy");
    assert_eq!(shared.rust(LOAD_DIR, &[&theirs, "--dest", copy.to_str().unwrap()]), "Done.");
    assert_eq!(shared.rust(STORE, &[copy.to_str().unwrap()]), format!("sha1dir://{}.copy", hash(&uri)));
}

#[test]
fn both_write_the_same_hints_at_once_and_none_is_ever_unreadable() {
    let shared = shared();
    let path = shared.file("contended", 150_000);
    let path = path.to_str().unwrap();
    std::thread::scope(|scope| {
        let python: Vec<_> =
            (0..2).map(|_| scope.spawn(|| shared.python("hammer", &["sha1", path, "40"]))).collect();
        for round in 0..40 {
            // Each touch is another state of the file, so a new record and a new hint.
            let uri = shared.rust(STORE, &[path]);
            assert_eq!(
                shared.rust(LOAD, &[&uri]),
                shared.python("find", &["sha1", hash(&uri)]),
                "round {round}"
            );
        }
        for thread in python {
            assert_eq!(thread.join().unwrap().len(), 40);
        }
    });
}
