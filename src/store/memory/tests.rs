use super::*;
use crate::store::Sha1;

fn vectors() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop-tests/vectors/v2/kachery_store.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn root() -> (tempfile::TempDir, Folder) {
    let folder = tempfile::tempdir().unwrap();
    let root = Folder::open_root(folder.path()).unwrap();
    (folder, root)
}

/// A file of `size` bytes, its stat, and a hash.
fn file(folder: &Path, size: usize) -> (PathBuf, Stat, ContentHash) {
    let path = folder.join("some \u{fc} file");
    std::fs::write(&path, vec![1; size]).unwrap();
    let stat = Stat::of(&path).unwrap();
    (path, stat, ContentHash::Sha1(Sha1([0xab; 20])))
}

#[test]
fn records_and_hints_are_byte_for_byte_those_of_python() {
    let empty = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    let hash = ContentHash::parse(Algorithm::Sha1, empty).unwrap();
    let vectors = vectors();
    let records = vectors["records"].as_array().unwrap();
    assert_eq!(records.len(), 3);
    for record in records {
        let time = |key: &str| {
            let nanoseconds: i64 = record[key].as_str().unwrap().parse().unwrap();
            super::seconds(nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
        };
        let stat = Stat {
            path: record["path"].as_str().unwrap().into(),
            size: record["size"].as_u64().unwrap(),
            inode: record["ino"].as_u64().unwrap(),
            modified: time("mtime_ns"),
            changed: time("ctime_ns"),
        };
        assert_eq!(Stat::object(stat.texts(), true), record["key_text"].as_str().unwrap());
        assert_eq!(stat.record_id(), record["record_id"].as_str().unwrap());
        assert_eq!(stat.record(hash), record["record_file_text"].as_str().unwrap());
        let hints: Value = serde_json::from_str(record["hints_file_text"].as_str().unwrap()).unwrap();
        assert_eq!(to_python(&hints), record["hints_file_text"].as_str().unwrap());
        assert!(stat.equals(&hints["files"][0]["stat"]));
        let id = stat.record_id();
        let relative = layout::relative("sha1", &id, &format!("{id}.record.json"));
        assert_eq!(relative.to_str().unwrap(), record["record_relpath"].as_str().unwrap());
    }
}

#[test]
fn what_is_remembered_is_recalled_until_the_file_changes() {
    let (folder, root) = root();
    let (path, stat, hash) = file(folder.path(), SMALL as usize);
    assert_eq!(recall(&root, &stat, Algorithm::Sha1), None);
    remember(&root, &stat, hash);
    remember(&root, &stat, hash);
    assert_eq!(recall(&root, &stat, Algorithm::Sha1), Some(hash));
    assert_eq!(recall(&root, &stat, Algorithm::Md5), None);
    assert_eq!(find_by_hints(&root, hash), Some(path.clone()));
    std::fs::write(&path, vec![2; SMALL as usize + 1]).unwrap();
    assert_eq!(recall(&root, &Stat::of(&path).unwrap(), Algorithm::Sha1), None);
    assert_eq!(find_by_hints(&root, hash), None);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(find_by_hints(&root, hash), None);
}

#[test]
fn small_files_leave_no_json() {
    let (folder, root) = root();
    let (_, stat, hash) = file(folder.path(), SMALL as usize - 1);
    remember(&root, &stat, hash);
    assert!(!folder.path().join("sha1").exists());
}

#[test]
fn damaged_json_is_deleted_and_replaced() {
    let (folder, root) = root();
    let (path, stat, hash) = file(folder.path(), SMALL as usize);
    remember(&root, &stat, hash);
    let text = hash.to_string();
    let hints = folder.path().join(layout::relative("sha1", &text, &format!("{text}.hints.json")));
    let good = std::fs::read(&hints).unwrap();
    for length in 0..good.len() {
        std::fs::write(&hints, &good[..length]).unwrap();
        assert_eq!(find_by_hints(&root, hash), None);
        assert!(!hints.exists(), "length {length}");
    }
    remember(&root, &stat, hash);
    assert_eq!(find_by_hints(&root, hash), Some(path));
}

#[test]
fn json_of_any_other_shape_is_no_hint() {
    let (folder, root) = root();
    let (_, _, hash) = file(folder.path(), 1);
    let text = hash.to_string();
    let hints = folder.path().join(layout::relative("sha1", &text, &format!("{text}.hints.json")));
    std::fs::create_dir_all(hints.parent().unwrap()).unwrap();
    let shapes = [
        "null",
        "[]",
        "{}",
        r#"{"files": 3}"#,
        r#"{"files": [{}, {"stat": 1}, {"stat": {"path": "/etc/passwd"}, "sha1": "x"}]}"#,
        r#"{"files": [{"stat": {"path": "\udcff"}}]}"#,
    ];
    for shape in shapes {
        std::fs::write(&hints, shape).unwrap();
        assert_eq!(find_by_hints(&root, hash), None, "{shape}");
        assert!(hints.exists(), "{shape}");
    }
}

#[test]
fn a_hash_memory_file_above_the_limit_is_not_read() {
    let (folder, root) = root();
    let (_, stat, hash) = file(folder.path(), SMALL as usize);
    remember(&root, &stat, hash);
    let text = hash.to_string();
    let hints = folder.path().join(layout::relative("sha1", &text, &format!("{text}.hints.json")));
    let mut padded = std::fs::read(&hints).unwrap();
    padded.resize(MAX_HASH_MEMORY_FILE as usize, b' ');
    std::fs::write(&hints, &padded).unwrap();
    assert!(find_by_hints(&root, hash).is_some());
    padded.push(b' ');
    std::fs::write(&hints, &padded).unwrap();
    assert!(find_by_hints(&root, hash).is_none());
}

#[test]
fn paths_are_made_absolute_by_their_text() {
    assert_eq!(absolute(Path::new("/a/./b/../c//d")).unwrap(), Path::new("/a/c/d"));
    assert_eq!(absolute(Path::new("/../x")).unwrap(), Path::new("/x"));
}

/// Gives the file to another user. False: only the superuser can.
fn give_away(path: &Path) -> bool {
    std::os::unix::fs::chown(path, Some(1901), Some(1901)).is_ok()
}

#[test]
fn hints_and_records_of_another_user_are_neither_believed_nor_changed() {
    let (folder, root) = root();
    let (_, stat, hash) = file(folder.path(), SMALL as usize);
    remember(&root, &stat, hash);
    let text = hash.to_string();
    let (id, json) = (stat.record_id(), "record.json");
    for (name, id) in [(format!("{text}.hints.json"), &text), (format!("{id}.{json}"), &id)] {
        let path = folder.path().join(layout::relative("sha1", id, &name));
        if !give_away(&path) {
            println!("SKIPPED: hints and records of another user: only the superuser can make some");
            return;
        }
        let before = std::fs::read(&path).unwrap();
        let other = ContentHash::Sha1(Sha1([0xcd; 20]));
        remember(&root, &stat, if name.ends_with(json) { other } else { hash });
        assert_eq!(std::fs::read(&path).unwrap(), before, "{name}");
    }
    assert_eq!(recall(&root, &stat, Algorithm::Sha1), None);
    assert_eq!(find_by_hints(&root, hash), None);
}

#[test]
fn hints_and_records_that_others_may_write_are_not_believed() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (folder, root) = root();
    let (_, stat, hash) = file(folder.path(), SMALL as usize);
    remember(&root, &stat, hash);
    let (text, id) = (hash.to_string(), stat.record_id());
    let paths = [(&text, "hints"), (&id, "record")]
        .map(|(id, kind)| folder.path().join(layout::relative("sha1", id, &format!("{id}.{kind}.json"))));
    let believed = || (recall(&root, &stat, Algorithm::Sha1).is_some(), find_by_hints(&root, hash).is_some());
    let set = |mode| {
        paths.iter().for_each(|p| std::fs::set_permissions(p, PermissionsExt::from_mode(mode)).unwrap());
    };
    set(0o644);
    assert_eq!(believed(), (true, true));
    set(0o646);
    assert_eq!(believed(), (false, false));
    set(0o664);
    let metadata = std::fs::metadata(&paths[0]).unwrap();
    let private = metadata.gid() == metadata.uid();
    assert_eq!(believed(), (private, private), "a group of the user's own number is private");
    if paths.iter().any(|path| std::os::unix::fs::chown(path, None, Some(2900)).is_err()) {
        println!("SKIPPED: a file that a group may write: only the superuser can give it to any group");
        return;
    }
    assert_eq!(believed(), (false, false));
}
