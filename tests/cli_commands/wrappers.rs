//! The small programs that are a command of another one.

use std::fs;
use std::os::unix::fs::symlink;

use crate::run::{Home, binary_path, finish};

/// Each with the program that it becomes.
const WRAPPERS: [(&str, &str); 13] = [
    ("kachery-p2p-cat", "kachery-p2p"),
    ("kachery-p2p-find", "kachery-p2p"),
    ("kachery-p2p-get-channels", "kachery-p2p"),
    ("kachery-p2p-join-channel", "kachery-p2p"),
    ("kachery-p2p-leave-channel", "kachery-p2p"),
    ("kachery-p2p-load", "kachery-p2p"),
    ("kachery-p2p-start-daemon", "kachery-p2p"),
    ("kachery-p2p-stop-daemon", "kachery-p2p"),
    ("kachery-cat", "kachery-store"),
    ("kachery-info", "kachery-store"),
    ("kachery-load", "kachery-store"),
    ("kachery-load-dir", "kachery-store"),
    ("kachery-ls", "kachery-store"),
];

#[test]
fn a_wrapper_is_small_and_speaks_under_its_own_name() {
    let home = Home::new();
    for (wrapper, program) in WRAPPERS {
        let size = |name| fs::metadata(binary_path(name)).unwrap().len();
        assert!(size(wrapper) * 5 < size(program), "{wrapper} has {} bytes", size(wrapper));
        let help = home.run_binary(wrapper, &["--help"]);
        assert_eq!(help.code, 0, "{wrapper}: {}", help.stderr);
        let usage = help.stdout.lines().find(|line| line.starts_with("Usage: ")).unwrap();
        let arguments =
            usage.strip_prefix(&format!("Usage: {wrapper} ")).unwrap_or_else(|| panic!("{usage}"));
        assert!(arguments.starts_with(['[', '<']), "{wrapper}: a command is left in {usage}");
        let version = home.run_binary(wrapper, &["--version"]);
        let expected = format!("{wrapper} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((version.code, version.stdout), (0, expected), "{wrapper}: {}", version.stderr);
    }
}

#[test]
fn a_wrapper_finds_its_program_through_links_of_any_name() {
    let home = Home::new();
    fs::create_dir(home.path("bin")).unwrap();
    symlink(binary_path("kachery-load"), home.path("first")).unwrap();
    symlink("../first", home.path("bin/fetch")).unwrap();
    let mut command = home.command_at("/bin/sh".as_ref(), &["-c", "fetch --help"]);
    let done = finish(command.env("PATH", home.path("bin")).spawn().unwrap());
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("Usage: kachery-load"), "{}", done.stdout);
}

#[test]
fn a_wrapper_without_its_program_says_what_to_install() {
    let home = Home::new();
    // On the file system of the programs, for hard links: a copy would still be open for writing in a child of another
    // test now and then, and could not be started.
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (wrapper, program) in WRAPPERS {
        let lonely = elsewhere.path().join(wrapper);
        fs::hard_link(binary_path(wrapper), &lonely).unwrap();
        let done = finish(home.command_at(&lonely, &["x"]).spawn().unwrap());
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{wrapper}: {}", done.stderr);
        let missing = elsewhere.path().canonicalize().unwrap().join(program);
        for part in [format!("error: cannot start {}", missing.display()), format!("next: install {program}")]
        {
            assert!(done.stderr.contains(&part), "{wrapper}: no {part:?} in {}", done.stderr);
        }
    }
}

#[test]
fn a_renamed_program_stays_what_it_is() {
    let home = Home::new();
    for (program, name, usage) in [
        ("kachery-p2p", "kachery-p2p-0.3", "Usage: kachery-p2p-0.3 [OPTIONS] <COMMAND>"),
        ("kachery-store", "store", "<PATH>..."),
    ] {
        symlink(binary_path(program), home.path(name)).unwrap();
        let help = finish(home.command_at(&home.path(name), &["--help"]).spawn().unwrap());
        assert!(help.stdout.contains(usage), "{}", help.stdout);
    }
}
