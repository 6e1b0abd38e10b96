//! The ways a load can end, told by a pretended daemon: each has its exit code, and nothing but a success prints
//! anything on standard output.

use std::io::{BufRead, BufReader};

use rustix::process::Signal;

use crate::run::{Home, finish, pretend, pretend_without_end, signal};

const URI: &str = "sha1://8843d7f92416211de9ebb963ff4ce28125932878/label";
const PROGRESS: &str = concat!(
    r#"{"type":"started","load":1}"#,
    "\n",
    r#"{"type":"progress","phase":"downloading","bytes":5,"size":10,"providers":2,"rate":1}"#,
    "\n"
);

macro_rules! ending {
    ($line:literal) => {
        concat!(
            "{\"type\":\"started\",\"load\":1}\n",
            "{\"type\":\"progress\",\"phase\":\"downloading\",\"bytes\":5,\"size\":10,\"providers\":2,\"rate\":1}\n",
            $line,
            "\n"
        )
    };
}

#[test]
fn each_failure_of_a_load_has_its_exit_code_and_prints_nothing_on_stdout() {
    let outcomes = [
        (ending!(r#"{"type":"error","code":"no_channel","message":"REASON"}"#), 3),
        (ending!(r#"{"type":"error","code":"no_peers","message":"REASON"}"#), 3),
        (ending!(r#"{"type":"error","code":"not_found","message":"REASON"}"#), 3),
        (ending!(r#"{"type":"error","code":"transfer","message":"REASON"}"#), 4),
        (ending!(r#"{"type":"error","code":"not_asked","message":"REASON"}"#), 4),
        (ending!(r#"{"type":"error","code":"verification","message":"REASON"}"#), 5),
        (ending!(r#"{"type":"error","code":"disk","message":"REASON"}"#), 7),
        (ending!(r#"{"type":"error","code":"timeout","message":"REASON"}"#), 8),
        (ending!(r#"{"type":"error","code":"open_files","message":"REASON"}"#), 1),
        (ending!(r#"{"type":"error","code":"new kind","message":"REASON"}"#), 1),
    ];
    for (lines, code) in outcomes {
        let home = Home::with_port(pretend(Some(lines)));
        for command in ["load", "cat"] {
            let done = home.run(&[command, URI]);
            assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{lines}: {}", done.stderr);
            assert!(done.stderr.contains("error: REASON"), "{}", done.stderr);
        }
    }
}

#[test]
fn a_daemon_that_dies_during_a_load_is_exit_code_6() {
    let home = Home::with_port(pretend(Some(PROGRESS)));
    let done = home.run(&["load", URI]);
    assert_eq!((done.code, done.stdout.as_str()), (6, ""), "{}", done.stderr);
}

#[test]
fn a_daemon_that_is_stopped_during_a_load_is_exit_code_6_and_no_interruption() {
    let words = "the daemon was stopped; start it and load again, it resumes";
    let line = format!(r#"{{"type":"error","code":"no_daemon","message":"{words}"}}"#)
        + "
";
    let home = Home::with_port(pretend_without_end(line.leak()));
    let done = home.run(&["load", URI]);
    assert_eq!((done.code, done.stdout.as_str()), (6, ""), "{}", done.stderr);
    assert!(
        done.stderr.starts_with(&format!(
            "error: {words}
  next: kachery-p2p daemon-start"
        )),
        "{}",
        done.stderr
    );
}

#[test]
fn with_json_progress_and_the_error_come_as_lines() {
    let lines = ending!(r#"{"type":"error","code":"not_found","message":"none has it"}"#);
    let home = Home::with_port(pretend(Some(lines)));
    let done = home.run(&["load", URI, "--json"]);
    let lines: Vec<serde_json::Value> =
        done.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let types: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["progress", "error"]);
    assert_eq!(lines[1]["code"], "not_found");
    let quiet = home.run(&["load", URI, "--json", "--no-progress"]);
    assert_eq!(quiet.stdout.lines().count(), 1, "{}", quiet.stdout);
}

#[test]
fn nothing_found_says_whether_there_was_anybody_to_ask() {
    for (lines, word) in [
        (concat!(r#"{"type":"result","found":0,"channels":0,"peers":0}"#, "\n"), "joined no channel"),
        (concat!(r#"{"type":"result","found":0,"channels":1,"peers":0}"#, "\n"), "nobody could be asked"),
        (concat!(r#"{"type":"result","found":0,"channels":1,"peers":4}"#, "\n"), "none of 4"),
    ] {
        let done = Home::with_port(pretend(Some(lines))).run(&["find", URI]);
        assert_eq!((done.code, done.stdout.as_str()), (3, ""));
        assert!(done.stderr.contains(word), "{}", done.stderr);
    }
}

#[test]
fn a_search_that_is_over_ends_the_command_at_once() {
    let found = concat!(
        r#"{"type":"error","code":"transfer","message":"found, but the transfer failed: ab: refused"}"#,
        "\n"
    );
    let nobody = concat!(
        r#"{"type":"error","code":"not_found","message":"none of 3 connected peers said within 0 s that it has it"}"#,
        "\n"
    );
    let result = concat!(r#"{"type":"result","found":0,"channels":1,"peers":3}"#, "\n");
    for (lines, command, code, words) in [
        (nobody, "load", 3, "none of 3 connected peers said within 0 s that it has it"),
        (nobody, "cat", 3, "none of 3 connected peers said within 0 s that it has it"),
        (found, "load", 4, "found, but the transfer failed: ab: refused"),
        (result, "find", 3, "none of 3 connected peers said within 600 s that it has it"),
    ] {
        // The time-out would outlast the test, and the daemon does not hang up.
        let home = Home::with_port(pretend_without_end(lines));
        let done = home.run(&[command, URI, "--timeout", "600"]);
        assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{command}: {}", done.stderr);
        assert!(done.stderr.starts_with(&format!("error: {words}\n")), "{command}: {}", done.stderr);
        assert!(done.stderr.contains("\n  next: "), "{command}: {}", done.stderr);
    }
}

#[test]
fn ctrl_c_ends_a_load_with_130() {
    let home = Home::with_port(pretend(None));
    // At this level the client says when it has connected, so no waiting is needed.
    let mut child = home.command("kachery-p2p", &["load", URI, "--verbose", "2"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("asking the daemon"), "{line}");
    signal(child.id(), Signal::INT);
    let done = finish(child);
    assert_eq!((done.code, done.stdout.as_str()), (130, ""));
}
