//! Bytes of an unfinished download change on disk while no daemon runs.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bar::long;
use crate::lab::{Content, LONG, Lab, Peer, SOON};

const SIZE: usize = 48 << 20;
/// The daemon is killed when this much is on disk: enough for a sync every 16 MiB to have made some of it durable.
const KILLED_AT: u64 = 28 << 20;
/// What may be fetched again for one damaged place, beyond what an undamaged partial needs.
const DAMAGED: u64 = 4 << 20;
/// Time from the start of the command to the first new byte that is asked for.
const FIRST_BYTE: Duration = Duration::from_secs(1);

/// What happens to the data file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    /// One bit at this offset.
    Flip(u64),
    /// Zeros over a mebibyte from here on, as a lost write leaves.
    Hole(u64),
    /// The file ends here.
    Cut(u64),
}

impl Damage {
    fn apply(self, data: &Path) {
        let file = OpenOptions::new().read(true).write(true).open(data).expect("the partial file");
        match self {
            Self::None => {}
            Self::Flip(offset) => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, offset).expect("read the partial file");
                file.write_all_at(&[byte[0] ^ 1], offset).expect("damage the partial file");
            }
            Self::Hole(offset) => file.write_all_at(&[0; 1 << 20], offset).expect("damage the partial file"),
            Self::Cut(length) => file.set_len(length).expect("cut the partial file"),
        }
    }
}

/// A home whose daemon was killed in the middle of a download of `content`.
fn interrupted(lab: &Lab, content: &Content) -> PathBuf {
    let mut daemon = lab.daemon("interrupted");
    daemon.connected(1);
    let loading = daemon.begin_load(&content.sha1, 30);
    let data = data_file(daemon.home(), content);
    let until = Instant::now() + LONG;
    while fs::metadata(&data).map_or(0, |found| found.blocks() * 512) < KILLED_AT {
        assert!(Instant::now() < until, "the download does not get there\n{loading}");
        std::thread::sleep(Duration::from_millis(2));
    }
    daemon.process.kill();
    assert!(data.exists(), "the download was over before the daemon was killed\n{loading}");
    daemon.home().to_owned()
}

fn data_file(home: &Path, content: &Content) -> PathBuf {
    home.join(format!("store/kachery-p2p/partial/{}-{}.data", content.sha1, content.bytes.len()))
}

/// Bytes that were asked of the provider so far.
fn asked(provider: &Peer) -> u64 {
    provider
        .events("serving")
        .iter()
        .map(|event| event["end"].as_u64().unwrap() - event["start"].as_u64().unwrap())
        .sum()
}

/// Goes on with a copy of `home` after `damage`. Returns how many bytes were asked for, and after how long the first.
fn resume(lab: &Lab, content: &Content, provider: &Peer, home: &Path, damage: Damage) -> (u64, Duration) {
    let name = format!("{damage:?}");
    copy_folder(home, &lab.path(&name));
    damage.apply(&data_file(&lab.path(&name), content));
    let daemon = lab.daemon(&name);
    daemon.connected(1);
    let before = asked(provider);
    let started = Instant::now();
    let mut loading = daemon.begin_load(&content.sha1, 30);
    while asked(provider) == before && loading.is_running() {
        assert!(started.elapsed() < LONG, "nothing was asked for\n{loading}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let first = started.elapsed();
    let code = loading.end(LONG).code();
    let again = asked(provider) - before;
    assert_eq!(code, Some(0), "after {damage:?}\n{loading}\n{}", daemon.process);
    for copy in [daemon.destination(), daemon.stored(&content.sha1)] {
        assert!(
            fs::read(&copy).expect("a loaded file") == content.bytes,
            "wrong bytes after {damage:?}: {}",
            copy.display()
        );
    }
    (again, first)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create a folder");
    for entry in fs::read_dir(from).expect("list a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            // Hard links would be damaged together.
            fs::copy(entry.path(), target).expect("copy a file");
        }
    }
}

/// In long form 20 flips, cuts and holes.
fn damages() -> Vec<Damage> {
    let mib = |n: u64| n << 20;
    if !long() {
        return vec![Damage::Flip(mib(5) + 12345), Damage::Hole(mib(9)), Damage::Cut(mib(20))];
    }
    let flips = [0, 1, 2, 4, 5, 7, 8, 11, 13, 15].map(|n| Damage::Flip(mib(n) + 17 * n));
    let holes = [0, 3, 6, 10, 14].map(|n| Damage::Hole(mib(n) + 4096));
    let cuts = [0, 1, 12, 16, 40].map(|n| Damage::Cut(mib(n)));
    [&flips[..], &holes, &cuts].concat()
}

#[test]
fn a_resumed_download_is_never_stored_with_wrong_bytes() {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("resumed", SIZE);
    let provider = lab.peer("0.2.1", &[&content], &[]);
    let home = interrupted(&lab, &content);
    let (usual, _) = resume(&lab, &content, &provider, &home, Damage::None);
    let mut slowest = Duration::ZERO;
    let mut most = 0;
    let damages = damages();
    for damage in &damages {
        let (again, first) = resume(&lab, &content, &provider, &home, *damage);
        slowest = slowest.max(first);
        // A file of another length is not the one the journal speaks of.
        if !matches!(damage, Damage::Cut(_)) {
            most = most.max(again.saturating_sub(usual));
        }
    }
    println!(
        "check 24: measured {} flips, holes and cuts: 0 wrong files, at most {} KiB more fetched than undamaged, first byte asked for \
         after {:.2} s, bar 0, {} KiB, {} s, seed name",
        damages.len(),
        most >> 10,
        slowest.as_secs_f64(),
        DAMAGED >> 10,
        FIRST_BYTE.as_secs()
    );
    assert!(most <= DAMAGED, "{most} bytes more than without damage ({usual})");
    assert!(slowest <= FIRST_BYTE, "the first byte was asked for after {slowest:?}");
    provider.event("serving", SOON, |_| true);
}
