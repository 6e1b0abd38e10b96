//! Settings in `config.json`: below flags and variables, above defaults.

use std::fs;
use std::process::Command;

use crate::run::{Daemon, Home, finish};

/// A home whose config file says this under "settings"; no variable says it.
fn with_settings(settings: &str) -> Home {
    let home = Home::new();
    fs::create_dir_all(home.path("config")).unwrap();
    fs::write(home.path("config/config.json"), format!("{{\"settings\": {settings}}}")).unwrap();
    fs::write(home.path("file"), "hello\n").unwrap();
    home
}

fn stdout(command: &mut Command) -> String {
    let done = finish(command.spawn().unwrap());
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.stdout
}

#[test]
fn a_flag_goes_before_a_variable_before_the_file() {
    let home = with_settings("{\"api_port\": 11}");
    let stop = |words: &[&str], variable: Option<&str>| {
        let mut command = home.command("kachery-p2p", words);
        command.env_remove("KACHERY_P2P_API_PORT");
        variable.map(|port| command.env("KACHERY_P2P_API_PORT", port));
        finish(command.spawn().unwrap()).stderr
    };
    let said = |port: u16| format!("no daemon is running on port {port}\n");
    assert_eq!(stop(&["daemon-stop"], None), said(11));
    assert_eq!(stop(&["daemon-stop"], Some("12")), said(12));
    assert_eq!(stop(&["daemon-stop", "--api-port", "13"], Some("12")), said(13));
    assert_eq!(stop(&["--api-port", "13", "daemon-stop"], None), said(13));
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let home = with_settings("{\"api_port\": 11}");
    let mut command = home.command("kachery-p2p", &["daemon-stop"]);
    for name in ["API_PORT", "TIMEOUT", "VERBOSE", "BOOTSTRAP_V2", "JSON", "QUIET", "NO_MDNS"] {
        command.env(format!("KACHERY_P2P_{name}"), "");
    }
    assert_eq!(finish(command.spawn().unwrap()).stderr, "no daemon is running on port 11\n");
    let uri = stdout(&mut home.command("kachery-store", &["file"]));
    let mut command = home.command("kachery-p2p", &["load", uri.trim_end(), "--quiet"]);
    assert!(stdout(command.env("KACHERY_P2P_DEST", "")).starts_with('/'));
    let mut command = home.command("kachery-cat", &[uri.trim_end()]);
    assert_eq!(stdout(command.env("KACHERY_P2P_START", "")), "hello\n");
}

#[test]
fn json_in_the_file_does_not_keep_content_from_standard_output() {
    let home = with_settings("{\"json\": true}");
    let uri = "sha1://f572d396fae9206628714fb2ce00f72e94f2258f/file";
    stdout(&mut home.command("kachery-store", &["file"]));
    for words in [["cat", uri].as_slice(), &["load", uri, "--dest", "-"]] {
        assert_eq!(stdout(&mut home.command("kachery-p2p", words)), "hello\n", "{words:?}");
    }
    assert!(stdout(&mut home.command("kachery-p2p", &["load", uri])).starts_with('{'));
    assert_eq!(home.run(&["cat", uri, "--json"]).code, 2, "asked for by a flag it is an error");
}

#[test]
fn every_command_stores_where_the_file_says() {
    let home = with_settings("{\"storage_dir\": \"~/data\", \"json\": true}");
    let command = |program: &str, words: &[&str], variable: &str| {
        let mut command = home.command(program, words);
        command.env("KACHERY_STORAGE_DIR", variable);
        command
    };
    let stored = stdout(&mut command("kachery-store", &["file"], ""));
    assert!(stored.contains("\"type\":\"result\"") && stored.contains("home/data/sha1/"), "{stored}");
    let uri = "sha1://f572d396fae9206628714fb2ce00f72e94f2258f/x";
    assert!(stdout(&mut command("kachery-p2p", &["load", uri], "")).contains("home/data/sha1/"));
    let elsewhere = stdout(&mut command("kachery-store", &["file"], "elsewhere"));
    assert!(!elsewhere.contains("home/data"), "the variable goes first: {elsewhere}");
}

#[test]
fn a_wrong_setting_is_a_usage_error_of_the_commands_that_would_use_it() {
    let home = with_settings("{\"api_prot\": 11}");
    for (program, words) in [("kachery-p2p", ["status"]), ("kachery-store", ["file"])] {
        let done = home.run_binary(program, &words);
        assert_eq!((done.code, done.stdout.as_str()), (2, ""), "{program}");
        for part in ["config/config.json: settings: unknown field `api_prot`", "`api_port`", "next: "] {
            assert!(done.stderr.contains(part), "{program}: {}", done.stderr);
        }
    }
    assert_eq!(home.run(&["version"]).code, 0);
}

#[test]
fn a_daemon_keeps_the_settings_when_it_writes_its_channels() {
    let daemon = Daemon::start(&["daemon-start", "--channel", "one"]);
    let path = daemon.home.path("config/config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["settings"] = serde_json::json!({"timeout": 5});
    fs::write(&path, config.to_string()).unwrap();
    assert_eq!(daemon.home.run(&["join-channel", "two"]).code, 0);
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept["settings"]["timeout"], 5);
    assert_eq!(kept["channels"][1]["name"], "two");
}
