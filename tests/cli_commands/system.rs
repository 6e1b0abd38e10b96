//! What the system grants a program: open files, and the size of files.

use std::fs;
use std::io::{BufRead, BufReader};

use rustix::process::Signal;

use crate::run::{Home, finish, signal};

/// Soft and hard limit of a process on open files.
fn open_files(process: u32) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn what_serves_may_open_as_many_files_as_the_system_lets_it() {
    for words in [["daemon-start", "--api-port", "0"].as_slice(), &["dht-node", "--listen", "127.0.0.1:0"]] {
        let home = Home::with_port(0);
        let mut child = home.limited("ulimit -S -n 64", "kachery-p2p", words).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "{line}");
        let (soft, hard) = open_files(child.id());
        assert_ne!(hard, "64", "the test lowered both limits");
        assert_eq!(soft, hard, "{words:?}");
        signal(child.id(), Signal::TERM);
        assert_eq!(finish(child).code, 0);
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_not_the_end() {
    let home = Home::new();
    fs::write(home.path("big"), vec![7; 200_000]).unwrap();
    let uri = home.run_binary("kachery-store", &["big", "--storage-dir", "other"]).stdout;
    let uri = uri.trim_end();
    for (program, words) in [
        ("kachery-store", ["big"].as_slice()),
        ("kachery-load", &[uri, "--storage-dir", "other", "--dest", "copy"]),
        ("kachery-p2p", &["load", uri, "--storage-dir", "other", "--dest", "copy"]),
    ] {
        // 16 blocks of 512 bytes, or 1,024 for some shells.
        let done = finish(home.limited("ulimit -f 16", program, words).spawn().unwrap());
        assert_eq!((done.code, done.stdout.as_str()), (7, ""), "{program}: {}", done.stderr);
        assert!(done.stderr.contains("next: ulimit -f unlimited"), "{program}: {}", done.stderr);
        assert!(!home.path("copy").exists());
    }
}

/// At each step of a command the system may have no more open files for it.
#[test]
fn too_few_open_files_are_no_missing_file_and_no_full_disk() {
    let home = Home::new();
    fs::write(home.path("file"), "content").unwrap();
    let uri = home.run_binary("kachery-store", &["file"]).stdout;
    let uri = uri.trim_end();
    let mut refused = 0;
    for (program, words) in [
        ("kachery-store", ["file"].as_slice()),
        ("kachery-load", &[uri]),
        ("kachery-cat", &[uri]),
        ("kachery-load", &[uri, "--dest", "copy"]),
        ("kachery-p2p", &["load", uri]),
        ("kachery-p2p", &["load", uri, "--dest", "copy"]),
    ] {
        for files in 5..24 {
            let limit = format!("ulimit -n {files}");
            let done = finish(home.limited(&limit, program, words).spawn().unwrap());
            let told = done.stderr.contains("may not open more files");
            assert!(
                (done.code == 0) != (done.code == 1 && told),
                "{program} {words:?} with {files} files: {} {}",
                done.code,
                done.stderr
            );
            refused += usize::from(told);
        }
    }
    assert!(refused > 6, "the limit was felt {refused} times only");
}

/// The first limits at which it starts are left out: then it runs, and does what it can.
#[test]
fn a_daemon_that_cannot_start_for_want_of_open_files_says_so() {
    let mut refused = 0;
    for files in 6..200 {
        let home = Home::with_port(0);
        let limit = format!("ulimit -n {files}");
        let words = ["daemon-start", "--channel", "a"];
        let mut child = home.limited(&limit, "kachery-p2p", &words).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.contains("ready") {
            signal(child.id(), Signal::TERM);
            assert_eq!(finish(child).code, 0);
            break;
        }
        let done = finish(child);
        let told = done.stderr.contains("may not open more files");
        assert!(done.code == 1 && told, "with {files} files: {} {}", done.code, done.stderr);
        refused += 1;
    }
    assert!(refused > 3, "the limit was felt {refused} times only");
}
