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

/// What a command writes says what happened, the likely reason where it is not plain, and what to do next.
#[test]
fn errors_say_what_why_and_what_next() {
    let home = Home::new();
    std::fs::write(home.path("file"), "x").unwrap();
    let nobody = "sha1://8843d7f92416211de9ebb963ff4ce28125932878/x";
    // Program, words, exit code, parts of the message.
    let cases: [(&str, &[&str], i32, &[&str]); 13] = [
        ("kachery-p2p", &["load", "sha1://88/x"], 2, &["not a SHA-1", "cut off", "next: sha1://HASH/label"]),
        ("kachery-p2p", &["load", "file"], 2, &["is a path", "next: kachery-store file"]),
        ("kachery-p2p", &["load", "nothing"], 2, &["missing at its beginning", "next: sha1://"]),
        ("kachery-p2p", &["load", URI, "--dest", "no/file"], 2, &["no folder no", "next: mkdir -p no"]),
        ("kachery-p2p", &["load", URI, "--dest", "no/"], 2, &["no folder no/", "next: mkdir -p no/"]),
        ("kachery-p2p", &["load", URI, "--dest", "file/x"], 2, &["file is not a folder"]),
        (
            "kachery-p2p",
            &["daemon-start", "--api-port", "0", "--bootstrap-v2", "x"],
            2,
            &["HOST:PORT", "next: --bootstrap-v2"],
        ),
        (
            "kachery-p2p",
            &["daemon-start", "--api-port", "0", "--config-dir", "file"],
            7,
            &["no folder has that name", "next: "],
        ),
        (
            "kachery-p2p",
            &["daemon-start", "--storage-dir", "file"],
            1,
            &["no folder has that name", "next: "],
        ),
        ("kachery-store", &["nothing"], 1, &["Not a file or directory: nothing", "nothing of that name"]),
        ("kachery-load", &["nothing"], 3, &["there is no file nothing", "likely: it is mistyped"]),
        ("kachery-load", &[nobody], 3, &["not in the store", "likely: ", "next: kachery-p2p load sha1://"]),
        ("kachery-ls", &["file"], 1, &["Not a directory: file", "next: kachery-info file"]),
    ];
    for (program, words, code, parts) in cases {
        let done = home.run_binary(program, words);
        assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{program} {words:?}: {}", done.stderr);
        for part in parts {
            assert!(done.stderr.contains(part), "{program} {words:?}: no {part:?} in {}", done.stderr);
        }
    }
    let unset = home.command("kachery-store", &["file"]).env_remove("KACHERY_STORAGE_DIR").output().unwrap();
    let text = String::from_utf8(unset.stderr).unwrap();
    assert!(text.contains("next: export KACHERY_STORAGE_DIR="), "{text}");
}

#[test]
fn manual_pages_and_completions_come_from_the_definitions() {
    let home = Home::new();
    let page = home.run(&["man"]).stdout;
    assert!(page.contains(".TH kachery-p2p 1") && page.contains("KACHERY_P2P_API_PORT"), "{page}");
    let script = home.run(&["completions", "bash", "--program", "kachery-load"]).stdout;
    assert!(script.contains("_kachery__load()") && script.contains("--dest"), "{script}");
    assert_eq!(home.run(&["man", "--dir", "pages"]).stdout, "pages\n");
    for name in ["kachery-p2p.1", "kachery-p2p-load.1", "kachery-store.1", "kachery-load-dir.1"]
        .into_iter()
        .chain(["kachery-p2p-start-daemon.1", "kachery-p2p-stop-daemon.1"])
    {
        assert!(home.path("pages").join(name).is_file(), "no {name}");
    }
    assert_eq!(home.run(&["completions", "nonsense"]).code, 2);
}

#[test]
fn bash_completes_the_flags_of_a_command() {
    let home = Home::new();
    for (program, line, expected) in [
        ("kachery-p2p", "kachery-p2p load --d", "--dest\n"),
        ("kachery-p2p", "kachery-p2p daemon-start --ch", "--channel\n"),
        ("kachery-p2p", "kachery-p2p start-daemon --ch", "--channel\n"),
        ("kachery-p2p", "kachery-p2p partials --o", "--older-than\n"),
        ("kachery-p2p-load", "kachery-p2p-load --d", "--dest\n"),
        ("kachery-load", "kachery-load --d", "--dest\n"),
    ] {
        let mut script = home.run(&["completions", "bash", "--program", program]).stdout;
        // As bash calls the function that the script registers.
        script.push_str(
            "COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))\n\
             function=$(complete -p \"$1\" | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
             \"$function\" \"$1\" \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"\n\
             printf '%s\\n' \"${COMPREPLY[@]}\"\n",
        );
        std::fs::write(home.path("script"), script).unwrap();
        let words: Vec<&str> = std::iter::once("script").chain(line.split(' ')).collect();
        let mut bash = home.command_at("/bin/bash".as_ref(), &words);
        bash.env("PATH", "/usr/bin:/bin");
        let done = crate::run::finish(bash.spawn().unwrap());
        assert_eq!(done.stdout, expected, "{line}: {}", done.stderr);
    }
}

#[test]
fn a_dht_node_says_what_it_can_listen_on() {
    let home = Home::new();
    let name = home.run(&["dht-node", "--listen", "localhost:49801"]);
    assert_eq!(name.code, 2);
    assert!(name.stderr.contains("for instance 0.0.0.0:49737"), "{}", name.stderr);
    let used = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let done = home.run(&["dht-node", "--listen", &used.local_addr().unwrap().to_string()]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""));
    for part in ["likely: another DHT node", "next: kachery-p2p dht-node --listen 127.0.0.1:"] {
        assert!(done.stderr.contains(part), "no {part:?} in {}", done.stderr);
    }
}

#[test]
fn a_folder_where_a_file_is_wanted_is_called_a_folder() {
    let home = Home::new();
    std::fs::create_dir(home.path("folder")).unwrap();
    std::fs::write(home.path("folder/file"), "x").unwrap();
    let stored = home.run_binary("kachery-store", &["folder"]);
    let uri = stored.stdout.trim_end();
    assert!(uri.starts_with("sha1dir://"), "{uri} {}", stored.stderr);
    for program in ["kachery-info", "kachery-cat", "kachery-load"] {
        for target in [uri, "folder"] {
            let done = home.run_binary(program, &[target]);
            assert_eq!((done.code, done.stdout.as_str()), (3, ""), "{program}: {}", done.stderr);
            for part in ["is a folder", "kachery-ls", "kachery-load-dir"] {
                assert!(done.stderr.contains(part), "{program} {target}: no {part:?} in {}", done.stderr);
            }
        }
    }
}

#[test]
fn find_tells_that_the_file_is_on_this_machine() {
    let nobody = "{\"type\":\"result\",\"found\":0,\"channels\":1,\"peers\":2}\n";
    let home = Home::with_port(pretend(Some(nobody)));
    std::fs::write(home.path("file"), "x").unwrap();
    let stored = home.run_binary("kachery-store", &["file"]);
    let (here, elsewhere) = (home.run(&["find", stored.stdout.trim_end()]), home.run(&["find", URI]));
    assert_eq!((here.code, elsewhere.code), (3, 3), "{}{}", here.stderr, elsewhere.stderr);
    assert!(here.stderr.contains("in the store of this machine"), "{}", here.stderr);
    assert!(here.stderr.contains("next: kachery-p2p load sha1://"), "{}", here.stderr);
    assert!(!elsewhere.stderr.contains("this machine"), "{}", elsewhere.stderr);
}
