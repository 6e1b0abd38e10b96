//! `load` and `cat` of files that are in the local store: they need no daemon.

use std::fs;
use std::io::{BufRead, BufReader};

use data_encoding::HEXLOWER;
use rustix::process::Signal;
use sha1::{Digest, Sha1};

use crate::run::{Home, finish, signal};

const CONTENT: &[u8] = b"some bytes\n\0\xff that are no text";

/// A home whose store has the file; its path in the store and its URI.
fn with_file() -> (Home, String, String) {
    let home = Home::new();
    let hash = HEXLOWER.encode(&Sha1::digest(CONTENT));
    let folder = home.path("storage").join("sha1").join(&hash[..2]).join(&hash[2..4]).join(&hash[4..6]);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&hash), CONTENT).unwrap();
    (home, folder.join(&hash).display().to_string(), format!("sha1://{hash}/data.bin"))
}

#[test]
fn load_prints_exactly_the_path_of_the_store() {
    let (home, path, uri) = with_file();
    let done = home.run(&["load", &uri]);
    assert_eq!((done.code, done.stdout), (0, format!("{path}\n")));
    assert_eq!(done.stderr, "already in the local store\n");
    assert_eq!(home.run_binary("kachery-p2p-load", &[&uri, "--quiet"]).stderr, "");
}

#[test]
fn load_with_a_destination_prints_it_as_given() {
    let (home, _, uri) = with_file();
    fs::write(home.path("out.bin"), "older").unwrap();
    let done = home.run(&["load", &uri, "--dest", "out.bin"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "out.bin\n"), "{}", done.stderr);
    assert_eq!(fs::read(home.path("out.bin")).unwrap(), CONTENT);
    fs::create_dir(home.path("folder")).unwrap();
    let done = home.run(&["load", &uri, "--dest", "folder/"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "folder/data.bin\n"), "{}", done.stderr);
    assert_eq!(fs::read(home.path("folder/data.bin")).unwrap(), CONTENT);
    assert_eq!(fs::read_dir(home.path("folder")).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn looking_for_a_file_creates_no_folder() {
    let home = Home::new();
    let (file, folder) = (format!("sha1://{}", "0".repeat(40)), format!("sha1dir://{}", "0".repeat(40)));
    for (program, words, code) in [
        ("kachery-p2p", ["load", &file].as_slice(), 6),
        ("kachery-p2p", &["cat", &file], 6),
        ("kachery-load", &[&file], 3),
        ("kachery-cat", &[&file], 3),
        ("kachery-info", &[&file], 3),
        ("kachery-ls", &[&folder], 3),
        ("kachery-load-dir", &[&folder, "--dest", "out"], 3),
    ] {
        let done = home.run_binary(program, words);
        assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{program}: {}", done.stderr);
        assert!(!home.path("storage").exists(), "{program} created the storage folder");
    }
}

#[test]
fn a_damaged_file_is_given_to_nobody() {
    let (home, path, uri) = with_file();
    fs::write(&path, "damaged").unwrap();
    fs::write(home.path("out.bin"), "older").unwrap();
    for (program, words) in [
        ("kachery-p2p", ["load", &uri, "--dest", "out.bin"].as_slice()),
        ("kachery-p2p", &["load", &uri, "--dest", "-"]),
        ("kachery-p2p", &["load", &uri]),
        ("kachery-p2p", &["cat", &uri]),
        ("kachery-load", &[&uri]),
        ("kachery-load", &[&uri, "--dest", "-"]),
        ("kachery-cat", &[&uri]),
        ("kachery-cat", &[&uri, "--end", "3"]),
    ] {
        let done = home.run_binary(program, words);
        assert_eq!((done.code, done.stdout.as_str()), (5, ""), "{program} {words:?}: {}", done.stderr);
        assert!(done.stderr.contains("is damaged") && done.stderr.contains("next: kachery-p2p"));
        assert_eq!(fs::read(home.path("out.bin")).unwrap(), b"older");
    }
}

#[test]
fn a_daemon_replaces_a_damaged_file() {
    let good = "{\"type\":\"result\",\"path\":\"/good\",\"size\":5,\"downloaded\":5}\n";
    let (mut home, path, uri) = with_file();
    home.port = crate::run::pretend(Some(good));
    fs::write(&path, "damaged").unwrap();
    let done = home.run(&["load", &uri]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "/good\n"), "{}", done.stderr);
}

#[test]
fn a_pipe_is_not_replaced() {
    let (home, _, uri) = with_file();
    let pipe = home.path("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for (program, words, code) in [
        ("kachery-p2p", ["load", &uri, "--dest", "pipe"].as_slice(), 2),
        ("kachery-load", &[&uri, "--dest", "pipe"], 1),
    ] {
        let done = home.run_binary(program, words);
        assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{program}: {}", done.stderr);
        assert!(done.stderr.contains("a device, a pipe or a socket"), "{}", done.stderr);
        assert!(!pipe.symlink_metadata().unwrap().is_file());
    }
}

#[test]
fn an_interrupted_copy_leaves_the_old_file_and_nothing_beside_it() {
    let (home, path, uri) = with_file();
    // Without blocks on disk; its hash is wrong, but nobody gets as far as finding out.
    fs::File::create(&path).unwrap().set_len(4 << 30).unwrap();
    fs::create_dir(home.path("folder")).unwrap();
    fs::write(home.path("folder/out.bin"), "older").unwrap();
    for (binary, words) in [
        ("kachery-p2p", ["load", &uri, "--dest", "folder/out.bin", "--json"].as_slice()),
        ("kachery-load", &[&uri, "--dest", "folder/out.bin", "--json"]),
    ] {
        let mut child = home.command(binary, words).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"progress\""), "{binary}: {line}");
        signal(child.id(), Signal::INT);
        let done = finish(child);
        assert_eq!((done.code, done.stderr.as_str()), (130, ""), "{binary}");
        assert!(done.stdout.contains("interrupted"), "{binary}: {}", done.stdout);
        let left: Vec<_> =
            fs::read_dir(home.path("folder")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["out.bin"], "{binary}");
        assert_eq!(fs::read(home.path("folder/out.bin")).unwrap(), b"older");
    }
}

#[test]
fn cat_and_dash_write_the_bytes_to_stdout() {
    let (home, _, uri) = with_file();
    for words in [["cat", &uri].as_slice(), &["cat-file", &uri], &["load", &uri, "--dest", "-"]] {
        let output = home.command("kachery-p2p", words).output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, CONTENT, "{words:?}");
    }
}

#[test]
fn with_json_the_result_tells_more() {
    let (home, path, uri) = with_file();
    let done = home.run(&["load", &uri, "--json"]);
    let result: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(result["type"], "result");
    assert_eq!(result["path"], path);
    assert_eq!((&result["size"], &result["downloaded"]), (&CONTENT.len().into(), &0.into()));
}

#[test]
fn a_destination_that_cannot_be_written_is_an_error_without_a_result() {
    let (home, _, uri) = with_file();
    let done = home.run(&["load", &uri, "--dest", "no/such/folder/out.bin"]);
    assert!(done.code != 0 && done.stdout.is_empty(), "{} {}", done.code, done.stdout);
    assert!(done.stderr.contains("no/such/folder"), "{}", done.stderr);
}
