//! The rooms stay apart: who may use whom, and which words protocol code must not contain. Looked at is every path in
//! the code of both packages that begins with `crate`, `super`, `self` or the name of a package, with its `use` trees
//! unfolded.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used, clippy::indexing_slicing)]

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::split_off_tests;

/// One rule a line: a room (a folder or file below `src/`), and the rooms that it may use besides itself. A room stands
/// for all below it that has no rule of its own. An item that a crate's root re-exports belongs to no room: inside the
/// package it is named where it lives, so that no re-export opens a way around these rules.
const RULES: &str = "
hyperswarm/limits:
hyperswarm/topic:
hyperswarm/codec: hyperswarm/limits hyperswarm/topic
hyperswarm/crypto: hyperswarm/limits
hyperswarm/udx: hyperswarm/limits
hyperswarm/secret_stream: hyperswarm/limits hyperswarm/codec hyperswarm/crypto
hyperswarm/mux: hyperswarm/limits hyperswarm/codec
hyperswarm/dht: hyperswarm/limits hyperswarm/topic hyperswarm/codec hyperswarm/crypto
hyperswarm/holepunch: hyperswarm/limits hyperswarm/codec hyperswarm/crypto hyperswarm/dht hyperswarm/udx
hyperswarm/swarm: hyperswarm/limits hyperswarm/topic hyperswarm/codec hyperswarm/crypto hyperswarm/dht hyperswarm/holepunch
hyperswarm/net: hyperswarm
hyperswarm/testkit: hyperswarm
hyperswarm/lib: hyperswarm
hyperswarm:
limits:
store: limits
node/error: limits store
node/types: store node/error
node/files:
node/config: store node/files
node/identity: hyperswarm store node/files
node/legacy: limits hyperswarm store
node/peer: hyperswarm node/legacy
node/transfer: limits store node/error node/peer
node/runtime/inbox: node/peer node/transfer
node/runtime/provide: limits store node/peer
node/runtime/legacy: limits hyperswarm store node/legacy node/peer node/transfer node/runtime/inbox node/runtime/provide
node/runtime: limits hyperswarm store node/error node/types node/config node/identity node/legacy node/peer node/transfer node/runtime
node: limits hyperswarm store node
api: limits hyperswarm store node
cli: limits hyperswarm store node api
bin: cli
fuzz: hyperswarm node api
lib: limits store node api cli fuzz
";

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
    "hyperswarm/holepunch",
    "hyperswarm/mux",
    "hyperswarm/secret_stream",
    "hyperswarm/swarm",
    "hyperswarm/udx",
    "node/legacy",
    "node/transfer",
    "hyperswarm/testkit/link",
    "hyperswarm/testkit/network",
];

/// The files of rooms below `dir` that are not tests: paths below `src/`, with their text.
fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("read source folder") {
        let path = entry.expect("folder entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Unit tests in files of their own are as free as those at the end of a file; packages have their own folders
        // for examples and whole tests.
        if path.is_dir() && name != "tests" && name != "examples" {
            rust_files(&path, out);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            out.push(path);
        }
    }
}

/// The room with a rule that holds this place, which may be a file, a module or an item.
fn room(place: &[String]) -> Option<&'static str> {
    let rooms = RULES.lines().filter_map(|rule| rule.split_once(':')).map(|(room, _)| room);
    rooms.filter(|room| is_below(place, room)).max_by_key(|room| room.len())
}

fn is_below(place: &[String], room: &str) -> bool {
    let mut place = place.iter().map(String::as_str);
    room.split('/').all(|part| place.next() == Some(part))
}

/// True if code in `own` may name `place`.
fn allowed(own: &str, place: &[String]) -> bool {
    let (_, may) =
        RULES.lines().filter_map(|rule| rule.split_once(':')).find(|(room, _)| *room == own).expect("a rule");
    room(place).is_some_and(|used| used == own || may.split_whitespace().any(|room| is_below(place, room)))
}

/// `hyperswarm/net/v2.rs` and `hyperswarm/net/v2/mod.rs` -> hyperswarm, net, v2.
fn module(file: &str) -> Vec<String> {
    let stem = file.trim_end_matches(".rs");
    stem.strip_suffix("/mod").unwrap_or(stem).split('/').map(str::to_owned).collect()
}

/// Every path in code that begins with `crate`, `super`, `self` or `hyperswarm`, with braces unfolded. `code` has no
/// comments; paths may go over several lines.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::", "hyperswarm::"] {
        for (at, _) in code.match_indices(start) {
            if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                let line = code[..at].matches('\n').count() + 1;
                unfold(&code[at..], "", &mut |path| found.push((line, path)));
            }
        }
    }
    found
}

/// Reads one path or tree of paths, calls back for each leaf, and returns what follows.
fn unfold<'a>(code: &'a str, before: &str, leaf: &mut dyn FnMut(String)) -> &'a str {
    let end = code.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(code.len());
    let path = format!("{before}{}", &code[..end]);
    let Some(mut rest) = code[end..].strip_prefix('{').filter(|_| path.ends_with("::")) else {
        leaf(path);
        return &code[end..];
    };
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        match rest.strip_prefix('}') {
            Some(after) => return after,
            None if rest.is_empty() => return rest,
            None => {
                let after = unfold(rest, &path, leaf);
                // `as name`, `*` and the like end a leaf, too.
                let skipped = after.find([',', '}', '{']).unwrap_or(after.len());
                rest = &after[skipped..];
            }
        }
    }
}

/// Where a path leads, seen from a module; none for one that leads above its package.
fn resolve(module: &[String], path: &str) -> Option<Vec<String>> {
    let package = usize::from(module.first().is_some_and(|first| first == "hyperswarm"));
    let mut place = module.to_vec();
    if module.last().is_some_and(|last| last == "lib") {
        place.pop();
    }
    for (index, part) in path.split("::").filter(|part| !part.is_empty()).enumerate() {
        match part {
            "crate" => place.truncate(package),
            "self" => {}
            "super" => {
                if place.len() <= package {
                    return None;
                }
                place.pop();
            }
            "hyperswarm" if index == 0 => place = vec![part.to_owned()],
            _ => place.push(part.to_owned()),
        }
    }
    Some(place)
}

/// What is wrong in one file, named by its path below `src/`.
fn wrong_in(file: &str, text: &str) -> Vec<String> {
    let module = module(file);
    let Some(own) = room(&module) else { return vec![format!("src/{file}: no rule holds this file")] };
    let mut wrong = Vec::new();
    let lines = split_off_tests(text).0;
    let numbers: Vec<usize> = lines.iter().map(|(number, _)| *number).collect();
    let code: Vec<&str> = lines.iter().map(|(_, line)| line.split("//").next().unwrap_or("")).collect();
    for (line, path) in paths(&code.join("\n")) {
        // `use super::*` and `self::` lead to the module itself or its parent: the room says whether that is right.
        if !resolve(&module, &path).is_some_and(|place| allowed(own, &place)) {
            wrong.push(format!("src/{file}:{}: {own} may not use {path}", numbers[line - 1]));
        }
    }
    let sans_io = SANS_IO.iter().any(|room| is_below(&module, room));
    for (number, code) in numbers.iter().zip(&code) {
        for word in FORBIDDEN_SANS_IO.iter().filter(|word| sans_io && code.contains(**word)) {
            wrong.push(format!("src/{file}:{number}: sans-io code names {word}"));
        }
        if code.contains("anyhow") {
            wrong.push(format!("src/{file}:{number}: anyhow is for benches and examples only"));
        }
    }
    wrong
}

#[test]
fn rooms_use_only_the_rooms_below_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut wrong = Vec::new();
    for path in &files {
        let name = path.strip_prefix(&root).expect("under src").to_string_lossy().replace('\\', "/");
        wrong.extend(wrong_in(&name, &fs::read_to_string(path).expect("read source file")));
    }
    assert!(files.len() > 150, "the test looked at too few files ({})", files.len());
    assert!(wrong.is_empty(), "layering:\n{}", wrong.join("\n"));
}

#[test]
fn the_check_sees_a_wrong_arrow_however_it_is_written() {
    for (file, code) in [
        ("hyperswarm/dht/query.rs", "use crate::net::v2::Swarm;"),
        ("hyperswarm/dht/query.rs", "use super::super::net::v2::Swarm;"),
        ("hyperswarm/dht/query.rs", "fn f(x: super::super::net::v2::Swarm) {}"),
        ("hyperswarm/dht/query.rs", "use crate::{limits::A, net::{\n    v2::Swarm,\n}};"),
        ("hyperswarm/udx/stream/mod.rs", "use crate::Swarm;"),
        ("store/mod.rs", "let x = crate::node::y();"),
        ("store/mod.rs", "use hyperswarm::Topic;"),
        ("node/legacy/frame.rs", "use crate::node::runtime::Inner;"),
        ("node/legacy/frame.rs", "use super::super::transfer::Offer;"),
        ("node/transfer/plan.rs", "use crate::node::legacy::NodeId;"),
        ("node/transfer/plan.rs", "use super::super::runtime::disk::Disk;"),
        ("node/runtime/legacy/swarm.rs", "use super::super::download::Download;"),
        ("node/runtime/provide.rs", "use super::legacy::swarm::SwarmHandle;"),
        ("node/runtime/download.rs", "use crate::node::Node;"),
        ("unknown/mod.rs", ""),
    ] {
        assert_eq!(wrong_in(file, code).len(), 1, "{file}: {code}: {:?}", wrong_in(file, code));
    }
    for (file, code) in [
        ("hyperswarm/dht/query.rs", "use crate::{limits::A, codec::{v2, compact}};"),
        ("hyperswarm/dht/query.rs", "use super::table::Table; // crate::net"),
        ("hyperswarm/dht/v2/tests.rs", "use super::super::query::*;"),
        ("hyperswarm/lib.rs", "pub use crate::topic::Topic; pub use self::net::v2;"),
        ("node/mod.rs", "use hyperswarm::Topic; use crate::store::Store;"),
        ("cli/mod.rs", "use tokio::net;"),
    ] {
        assert_eq!(wrong_in(file, code), Vec::<String>::new(), "{file}: {code}");
    }
    for file in ["hyperswarm/udx/stream/mod.rs", "node/transfer/plan.rs"] {
        assert_eq!(wrong_in(file, "use tokio::net;").len(), 1, "sans-io: {file}");
    }
}

#[test]
fn only_unit_tests_are_not_looked_at() {
    let file = "one\n#[cfg(test)]\nmod tests;\ntwo // three\n#[cfg(test)]\nfn four() {\n}\n\
                #[cfg(test)]\n#[allow(x)]\nmod more {\n    five\n}\nsix";
    let lines = split_off_tests(file).0;
    for (line, code) in [(1, "one"), (4, "two // three"), (6, "fn four() {"), (13, "six")] {
        assert!(lines.contains(&(line, code)), "{code} in {lines:?}");
    }
    assert!(lines.iter().all(|(_, code)| !code.contains("five")));
}
