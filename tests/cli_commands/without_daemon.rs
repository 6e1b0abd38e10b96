//! What works, and what is said, when no daemon runs.

use crate::run::{Home, pretend};

const URI: &str = "sha1://8843d7f92416211de9ebb963ff4ce28125932878/label";

#[test]
fn every_command_that_needs_a_daemon_says_so_with_exit_code_6() {
    let home = Home::new();
    let commands: [&[&str]; 11] = [
        &["get-channels"],
        &["join-channel", "c"],
        &["leave-channel", "c"],
        &["find", URI],
        &["find-file", URI],
        &["load", URI],
        &["load-file", URI],
        &["cat", URI],
        &["cat-file", URI],
        &["status"],
        &["node-info"],
    ];
    for words in commands {
        let done = home.run(words);
        assert_eq!((done.code, done.stdout.as_str()), (6, ""), "{words:?}: {}", done.stderr);
        assert!(done.stderr.starts_with("error: the daemon is not running: "), "{}", done.stderr);
        assert!(done.stderr.contains("next: kachery-p2p daemon-start --channel NAME"), "{}", done.stderr);
    }
}

#[test]
fn every_wrapper_is_its_command() {
    let home = Home::new();
    let wrappers: [(&str, &[&str], i32); 7] = [
        ("load", &[URI], 6),
        ("cat", &[URI], 6),
        ("find", &[URI], 6),
        ("get-channels", &[], 6),
        ("join-channel", &["c"], 6),
        ("leave-channel", &["c"], 6),
        ("stop-daemon", &[], 0),
    ];
    for (name, words, code) in wrappers {
        let done = home.run_binary(&format!("kachery-p2p-{name}"), words);
        assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{name}: {}", done.stderr);
    }
    let start = home.run_binary("kachery-p2p-start-daemon", &["--channel"]);
    assert_eq!(start.code, 2, "it needs a name: {}", start.stderr);
}

#[test]
fn stopping_no_daemon_is_fine() {
    let home = Home::new();
    for words in ["daemon-stop", "stop-daemon"] {
        let done = home.run(&[words]);
        assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{}", done.stderr);
        assert!(
            done.stderr.contains(&format!("no daemon is running on port {}", home.port)),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let home = Home::new();
    let commands: [&[&str]; 9] = [
        &[],
        &["nonsense"],
        &["load"],
        &["load", "file.txt"],
        &["load", "sha1://xyz"],
        &["load", "md5://8843d7f92416211de9ebb963ff4ce281"],
        &["find", "sha1:////8843d7f92416211de9ebb963ff4ce28125932878"],
        &["load", URI, "--timeout", "0"],
        &["load", URI, "--dest", "."],
    ];
    for words in commands {
        let done = home.run(words);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{words:?}: {}", done.stderr);
        assert!(!done.stderr.is_empty(), "{words:?} says nothing");
    }
}

#[test]
fn with_json_the_last_line_is_the_error() {
    let home = Home::new();
    for (words, code, exit) in [
        (["load", URI].as_slice(), "no_daemon", 6),
        (&["load", "sha1://xyz"], "usage", 2),
        (&["load", "--nonsense"], "usage", 2),
    ] {
        let done = home.run(&[words, &["--json"]].concat());
        assert_eq!(done.code, exit);
        let error: serde_json::Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
        assert_eq!((&error["type"], &error["code"]), (&"error".into(), &code.into()), "{}", done.stdout);
        assert_eq!(error["exit_code"], exit);
    }
}

#[test]
fn the_version_is_worded_as_in_the_original() {
    let done = Home::new().run(&["version"]);
    let expected = format!("This is kachery_p2p version {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((done.code, done.stdout), (0, expected));
}

#[test]
fn help_shows_variables_and_exit_codes() {
    let home = Home::new();
    let help = home.run(&["load", "--help"]);
    assert_eq!(help.code, 0);
    for variable in ["KACHERY_STORAGE_DIR", "KACHERY_P2P_API_PORT", "KACHERY_P2P_TIMEOUT", "KACHERY_P2P_DEST"]
    {
        assert!(help.stdout.contains(variable), "{variable} is not in:\n{}", help.stdout);
    }
    assert!(home.run(&["--help"]).stdout.contains("6 daemon not reachable"));
}

#[test]
fn a_port_that_another_program_holds_is_named_with_what_to_do() {
    let home = Home::with_port(pretend(Some("SSH")));
    let done = home.run(&["daemon-start"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    let expected = format!("port {} is in use by another program", home.port);
    assert!(done.stderr.contains(&expected), "{}", done.stderr);
    assert!(done.stderr.contains("next: kachery-p2p daemon-start --api-port"), "{}", done.stderr);
}

#[test]
fn a_daemon_of_the_original_on_the_port_is_recognised() {
    let home = Home::with_port(pretend(Some("{\n    \"success\": true\n}")));
    let done = home.run(&["daemon-start"]);
    assert!(done.stderr.contains("a daemon of the original kachery-p2p"), "{}", done.stderr);
    assert!(done.stderr.contains("next: kachery-p2p daemon-stop"), "{}", done.stderr);
}

#[test]
fn a_daemon_without_a_storage_folder_says_what_to_set() {
    let home = Home::new();
    let done = crate::run::finish(
        home.command("kachery-p2p", &["daemon-start", "--api-port", "0"])
            .env("KACHERY_STORAGE_DIR", "")
            .spawn()
            .unwrap(),
    );
    assert_eq!(done.code, 2);
    assert!(done.stderr.contains("set KACHERY_STORAGE_DIR"), "{}", done.stderr);
}
