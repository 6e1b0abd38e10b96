//! A daemon's life: ready line, channels, a second one refused, the ways to stop it.

use std::time::Duration;

use rustix::process::Signal;

use crate::run::{Daemon, Home, signal};

const URI: &str = "sha1://8843d7f92416211de9ebb963ff4ce28125932878/label";

#[test]
fn a_daemon_tells_that_it_is_ready_and_answers_every_question() {
    let daemon = Daemon::start(&["daemon-start", "--channel", "one", "--channel", "two"]);
    assert_eq!(daemon.ready["channels"], serde_json::json!(["one", "two"]));
    let home = &daemon.home;
    assert_eq!(home.run(&["get-channels"]).stdout, "one: 0 peers\ntwo: 0 peers\n");
    let join = home.run(&["join-channel", "three"]);
    assert_eq!((join.code, join.stdout.as_str(), join.stderr.as_str()), (0, "", ""));
    let leave = home.run_binary("kachery-p2p-leave-channel", &["one"]);
    assert_eq!((leave.code, leave.stdout.as_str(), leave.stderr.as_str()), (0, "", ""));
    let again = home.run(&["leave-channel", "one"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, ""));
    assert_eq!(again.stderr, "\"one\" was not joined; joined are: two, three\n");
    assert_eq!(home.run_binary("kachery-p2p-get-channels", &[]).stdout, "two: 0 peers\nthree: 0 peers\n");
    let info = home.run(&["node-info", "--json"]).stdout;
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!((&info["pid"], &info["node_id"]), (&daemon.id().into(), &daemon.ready["node_id"]));
    assert!(home.run(&["status"]).stdout.contains("two: 0 peers"));
    let load = home.run(&["load", URI, "--timeout", "5"]);
    assert_eq!((load.code, load.stdout.as_str()), (3, ""), "{}", load.stderr);
    assert!(load.stderr.contains("nobody could be asked"), "{}", load.stderr);
}

#[test]
fn a_second_daemon_on_the_same_folder_is_refused_with_pid_and_port() {
    let daemon = Daemon::start(&["start-daemon"]);
    let (id, port) = (daemon.id(), daemon.home.port);
    // On another port the lock of the folder says it, on the same port the daemon itself.
    for api_port in ["0".to_owned(), port.to_string()] {
        let second = daemon.home.run(&["start-daemon", "--api-port", &api_port]);
        assert_eq!((second.code, second.stdout.as_str()), (1, ""), "{}", second.stderr);
        assert!(second.stderr.contains(&format!("process {id}")), "{}", second.stderr);
        assert!(second.stderr.contains(&port.to_string()), "{}", second.stderr);
        assert!(second.stderr.contains("daemon-stop"), "{}", second.stderr);
    }
}

#[test]
fn signals_and_daemon_stop_end_a_daemon_within_3_seconds() {
    for way in [Some(Signal::TERM), Some(Signal::INT), None] {
        let daemon = Daemon::start(&["daemon-start", "--channel", "a"]);
        match way {
            Some(kind) => signal(daemon.id(), kind),
            None => {
                let stop = daemon.home.run(&["daemon-stop"]);
                assert_eq!((stop.code, stop.stdout.as_str()), (0, ""), "{}", stop.stderr);
            }
        }
        let (done, took) = daemon.end();
        assert_eq!(done.code, 0, "{way:?}: {}", done.stderr);
        assert!(took < Duration::from_secs(3), "{way:?} took {took:?}");
    }
}

#[test]
fn channels_and_identity_outlive_a_restart() {
    let first = Daemon::start(&["daemon-start", "--channel", "kept"]);
    let identity = first.ready["node_id"].clone();
    let config = first.home.path("config");
    signal(first.id(), Signal::TERM);
    let keep = tempfile::tempdir().unwrap();
    let copy = keep.path().join("config");
    let home_folder = config.clone();
    // The test's own folder goes with the first daemon, so its config folder is moved out of it.
    std::fs::rename(&home_folder, &copy).unwrap();
    drop(first);
    let second = Daemon::start(&["daemon-start", "--config-dir", copy.to_str().unwrap()]);
    assert_eq!(second.ready["node_id"], identity);
    assert_eq!(second.ready["channels"], serde_json::json!(["kept"]));
}

#[test]
fn a_dht_node_tells_its_address_and_ends_with_0() {
    let home = Home::new();
    let mut child = home
        .command("kachery-p2p", &["dht-node", "--network", "v2", "--listen", "127.0.0.1:0"])
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert!(line.starts_with("dht node ready: 127.0.0.1:") && !line.ends_with(":0\n"), "{line}");
    signal(child.id(), Signal::TERM);
    let done = crate::run::finish(child);
    assert_eq!(done.code, 0);
    assert!(done.stderr.contains(" --bootstrap-v2 127.0.0.1:"), "{}", done.stderr);
}
