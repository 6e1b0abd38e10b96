//! `demo`, small: it works, and leaves nothing behind, also when it is interrupted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};

use rustix::process::Signal;

use crate::run::{Home, finish, signal};

/// What is in the folder for temporary files.
fn left(home: &Home) -> Vec<String> {
    fs::read_dir(home.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Reads lines until one contains the word.
fn until(lines: &mut BufReader<ChildStdout>, word: &str) {
    let mut line = String::new();
    while !line.contains(word) {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "ended before {word:?}");
    }
}

#[test]
fn the_demo_shares_a_file_and_leaves_nothing() {
    let home = Home::new();
    let done = home.run(&["demo", "--size", "2MiB"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("verified: bob's file has the SHA-256 of the original"), "{}", done.stdout);
    assert!(done.stdout.contains("bob loaded 2097152 bytes from alice"), "{}", done.stdout);
    assert_eq!(left(&home), Vec::<String>::new());
}

#[test]
fn the_demo_shares_a_given_file_and_keeps_it() {
    let home = Home::new();
    fs::write(home.path("mine.dat"), vec![7; 300_000]).unwrap();
    let done = home.run(&["demo", "--file", "mine.dat", "--json"]);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let result: serde_json::Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&result["type"], &result["verified"]), (&"result".into(), &true.into()));
    assert_eq!(left(&home), ["mine.dat"]);
    assert_eq!(fs::read(home.path("mine.dat")).unwrap(), vec![7; 300_000]);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let home = Home::new();
    let mut child: Child = home.command("kachery-p2p", &["demo", "--size", "64MiB"]).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    until(&mut stdout, "two nodes joined");
    assert_ne!(left(&home), Vec::<String>::new(), "the test looks at the wrong folder");
    signal(child.id(), Signal::INT);
    assert_eq!(finish(child).code, 130);
    assert_eq!(left(&home), Vec::<String>::new());
}

#[test]
fn a_demo_of_a_missing_file_fails_and_leaves_nothing() {
    let home = Home::new();
    let done = home.run(&["demo", "--file", "missing.dat"]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""), "it began: {}", done.stderr);
    assert!(done.stderr.contains("missing.dat"), "{}", done.stderr);
    assert_eq!(left(&home), Vec::<String>::new());
}

#[test]
fn a_demo_of_a_folder_is_a_usage_error_before_anything_starts() {
    let home = Home::new();
    fs::create_dir(home.path("folder")).unwrap();
    let done = home.run(&["demo", "--file", "folder"]);
    assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{}", done.stderr);
    assert!(done.stderr.contains("folder is a folder"), "{}", done.stderr);
}

#[test]
fn a_demo_that_the_disk_has_no_room_for_does_not_begin() {
    let home = Home::new();
    let done = home.run(&["demo", "--size", "16000000T"]);
    assert_eq!((done.code, done.stdout.as_str()), (7, ""), "{}", done.stderr);
    assert!(done.stderr.contains("are free there") && done.stderr.contains("next: "), "{}", done.stderr);
}
