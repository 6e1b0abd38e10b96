//! `partials`: what interrupted loads keep in the store.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::run::Home;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// An unfinished download of this age; the store finds it by its name.
fn partial(home: &Home, digit: &str, age: Duration) -> (String, PathBuf) {
    let sha1 = digit.repeat(40);
    let folder = home.path("storage").join("kachery-p2p").join("partial");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{sha1}-100000.data"));
    fs::write(&path, vec![1; 50_000]).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
    (sha1, path)
}

#[test]
fn unfinished_downloads_are_listed_and_removed_by_their_age() {
    let home = Home::new();
    let (old, old_path) = partial(&home, "a", 10 * DAY);
    let (new, new_path) = partial(&home, "b", Duration::ZERO);
    let list = home.run(&["partials"]);
    assert_eq!(list.code, 0, "{}", list.stderr);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert!(
        lines[0].starts_with(&format!("sha1://{old}: ")) && lines[0].ends_with("last written 10 days ago")
    );
    assert!(lines[1].starts_with(&format!("sha1://{new}: ")) && lines[1].ends_with("last written today"));
    assert_eq!(home.run(&["partials", "--older-than", "7"]).stdout.lines().count(), 1);

    let removed = home.run(&["partials", "--remove", "--older-than", "7", "--json"]);
    let result: Value = serde_json::from_str(&removed.stdout).unwrap();
    assert_eq!((&result["removed"][0]["sha1"], &result["removed"][1]), (&old.into(), &Value::Null));
    assert!(!old_path.exists() && new_path.exists());
    let removed = home.run(&["partials", "--remove"]).stdout;
    assert!(removed.starts_with(&format!("removed sha1://{new}: ")), "{removed}");
    assert!(!new_path.exists());
    let none = home.run(&["partials"]);
    assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "no unfinished downloads\n"));
}

#[test]
fn a_download_that_is_running_is_not_removed() {
    let home = Home::new();
    let (sha1, path) = partial(&home, "c", 10 * DAY);
    let file = fs::File::open(&path).unwrap();
    // As a daemon does while it downloads.
    file.lock().unwrap();
    let list: Value = serde_json::from_str(&home.run(&["partials", "--json"]).stdout).unwrap();
    assert_eq!((&list["partials"][0]["sha1"], &list["partials"][0]["in_use"]), (&sha1.into(), &true.into()));
    let removed = home.run(&["partials", "--remove"]);
    assert_eq!((removed.stdout.as_str(), removed.stderr.as_str()), ("", "nothing to remove\n"));
    assert!(path.exists());
}

#[test]
fn without_a_store_there_is_nothing_to_list_or_remove() {
    let home = Home::new();
    for words in [["partials"].as_slice(), &["partials", "--remove"]] {
        let done = home.run(words);
        assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{}", done.stderr);
        assert!(!home.path("storage").exists());
    }
}
