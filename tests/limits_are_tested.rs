//! RELIABILITY 14, the part that a machine can check: every entry of `limits.rs` is named by a test.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used)]

mod source;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use source::split_off_tests;

/// All that tests say: files of tests as a whole, of other files their unit tests.
fn collect_tests(dir: &Path, all_tests: bool, out: &mut String) {
    for entry in fs::read_dir(dir).expect("read folder") {
        let path = entry.expect("folder entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            collect_tests(&path, all_tests || name == "tests", out);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("read file");
            if all_tests || name.ends_with("tests.rs") {
                out.push_str(&text);
            } else {
                split_off_tests(&text).1.iter().for_each(|(_, line)| out.extend([line, "\n"]));
            }
        }
    }
}

/// The words of code: comments and imports name a limit without pushing it.
fn words(code: &str) -> HashSet<&str> {
    let mut importing = false;
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or("")).filter(|line| {
        let start = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        importing |= start.starts_with("use ");
        let counts = !importing;
        importing &= !line.trim_end().ends_with(';');
        counts
    });
    lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

#[test]
fn every_limit_is_named_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [
        "src/limits.rs",
        "src/hyperswarm/limits.rs",
        "src/hyperswarm/limits/v2.rs",
        "src/hyperswarm/limits/v4.rs",
    ];
    let limits = files.map(|file| fs::read_to_string(root.join(file)).expect("read limits")).concat();
    let names: Vec<&str> =
        limits.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next()).collect();
    let mut tests = String::new();
    collect_tests(&root.join("src"), false, &mut tests);
    collect_tests(&root.join("tests"), true, &mut tests);
    let words = words(&tests);
    let untested: Vec<&&str> = names.iter().filter(|name| !words.contains(**name)).collect();
    println!("check 14: measured {} of {} limits without a test, bar 0", untested.len(), names.len());
    assert!(names.len() > 80, "only {} limits were found", names.len());
    assert!(untested.is_empty(), "no test names {untested:?}: push each to its limit and one beyond");
}

#[test]
fn comments_and_imports_are_no_tests() {
    let code =
        "use crate::limits::{\n    ONE,\n};\npub(crate) use limits::TWO;\n// THREE\nlet x = FOUR; // FIVE";
    let words = words(code);
    assert!(words.contains("FOUR"));
    assert!(["ONE", "TWO", "THREE", "FIVE"].iter().all(|name| !words.contains(name)), "{words:?}");
}
