//! The rooms of ARCHITECTURE stay apart: who may `use` whom, and which words protocol code must not contain.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::split_off_tests;

/// A room may use itself and the rooms listed; `limits` and `testkit` are open to all (tests only for the latter).
const MAY_USE: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("hyperswarm/codec", &[]),
    ("hyperswarm/crypto", &[]),
    ("hyperswarm/udx", &[]),
    ("hyperswarm/secret_stream", &["hyperswarm::codec", "hyperswarm::crypto"]),
    ("hyperswarm/mux", &["hyperswarm::codec"]),
    ("hyperswarm/dht", &["hyperswarm::codec", "hyperswarm::crypto"]),
    ("hyperswarm/swarm", &["hyperswarm::codec", "hyperswarm::crypto", "hyperswarm::dht"]),
    ("hyperswarm/net", &["hyperswarm"]),
    ("store", &[]),
    ("node/legacy", &["hyperswarm", "store"]),
    ("node", &["hyperswarm", "store"]),
    ("api", &["hyperswarm", "store", "node"]),
    ("cli", &["hyperswarm", "store", "node", "api"]),
];

/// What sans-io code must not name: sockets, tasks, files, clocks, unseeded randomness.
const FORBIDDEN_SANS_IO: &[&str] = &[
    "tokio",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "socket2",
    "std::fs",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "rand::rng()",
    "SysRng",
    "thread_rng",
    "from_os_rng",
];
/// Sans-io rooms, and files of other rooms that promise the same.
const SANS_IO: &[&str] = &[
    "hyperswarm/codec",
    "hyperswarm/crypto",
    "hyperswarm/dht",
    "hyperswarm/mux",
    "hyperswarm/secret_stream",
    "hyperswarm/swarm",
    "hyperswarm/udx",
    "node/legacy",
    "testkit",
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("read source folder") {
        let path = entry.expect("folder entry").path();
        let name = entry_name(&path);
        // Unit tests in files of their own are as free as those at the end of a file.
        if path.is_dir() && name != "tests" {
            rust_files(&path, out);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            out.push(path);
        }
    }
}

fn entry_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The longest listed room that holds this file.
fn room(file: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    MAY_USE
        .iter()
        .filter(|(name, _)| file.starts_with(&format!("{name}/")) || file == format!("{name}.rs"))
        .max_by_key(|(name, _)| name.len())
}

/// Lines of a file that are not unit tests, numbered from 1, comments taken off.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    split_off_tests(text).0.into_iter().map(|(n, line)| (n, line.split("//").next().unwrap_or("")))
}

/// `crate::a::b::C` -> `a::b`, for every mention in the line.
fn crate_paths(line: &str) -> Vec<String> {
    line.match_indices("crate::")
        .filter(|(at, _)| !line[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, _)| {
            line[at + 7..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':')
                .collect::<String>()
        })
        .collect()
}

fn allowed(own: &str, may: &[&str], path: &str) -> bool {
    let own = own.replace('/', "::");
    let inside = |room: &str| path == room || path.starts_with(&format!("{room}::"));
    let plain_name = own.starts_with("hyperswarm")
        && path.split("::").filter(|s| !s.is_empty()).count() == 2
        && path.starts_with("hyperswarm::")
        && path.chars().any(char::is_uppercase);
    inside("limits")
        || inside("testkit")
        || inside(&own)
        || plain_name
        || may.iter().any(|room| inside(room))
        || (own == "node::legacy" && inside("node"))
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut wrong = Vec::new();
    for path in &files {
        let name = path.strip_prefix(&root).expect("under src").to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(path).expect("read source file");
        if let Some((own, may)) = room(&name) {
            for (line, code) in code_lines(&text) {
                for used in crate_paths(code) {
                    if !allowed(own, may, &used) {
                        wrong.push(format!("src/{name}:{line}: {own} may not use crate::{used}"));
                    }
                }
            }
        }
        if SANS_IO.iter().any(|r| name.starts_with(&format!("{r}/"))) {
            for (line, code) in code_lines(&text) {
                for word in FORBIDDEN_SANS_IO.iter().filter(|w| code.contains(**w)) {
                    wrong.push(format!("src/{name}:{line}: sans-io code names {word}"));
                }
            }
        }
        for (line, _) in code_lines(&text).filter(|(_, code)| code.contains("anyhow")) {
            wrong.push(format!("src/{name}:{line}: anyhow is for benches and examples only"));
        }
    }
    assert!(files.len() > 10, "the test looked at too few files ({})", files.len());
    assert!(wrong.is_empty(), "layering:\n{}", wrong.join("\n"));
}

#[test]
fn the_layering_check_sees_a_wrong_arrow() {
    assert!(!allowed("hyperswarm/dht", &["hyperswarm::codec"], "hyperswarm::net::Swarm"));
    assert!(!allowed("store", &[], "node::Node"));
    assert!(allowed("hyperswarm/dht", &[], "hyperswarm::Topic"));
    assert!(allowed("node", &["store"], "store::Store"));
    assert_eq!(crate_paths("use crate::node::Node; let x = crate::api::y();"), ["node::Node", "api::y"]);
}

#[test]
fn only_unit_tests_are_not_looked_at() {
    let file = "one\n#[cfg(test)]\nmod tests;\ntwo // three\n#[cfg(test)]\nfn four() {\n}\n\
                #[cfg(test)]\n#[allow(x)]\nmod more {\n    five\n}\nsix";
    let lines: Vec<_> = code_lines(file).collect();
    for (line, code) in [(1, "one"), (4, "two "), (6, "fn four() {"), (13, "six")] {
        assert!(lines.contains(&(line, code)), "{code} in {lines:?}");
    }
    assert!(lines.iter().all(|(_, code)| !code.contains("five")));
}
