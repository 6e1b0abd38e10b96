//! Wrong claims of a file's size, all before the honest answer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::bar::{SIZE, attempt, honest_time, long};
use crate::lab::Lab;

/// Disk that the loading daemon may use beyond the file.
const SPARE_DISK: u64 = 64 << 20;
/// How much later than the stranger the honest provider answers.
const LATE: &str = "150";

fn false_claims(attack: &str, claims: &[String]) {
    let Some(lab) = Lab::new() else { return };
    let honest = honest_time();
    let content = lab.file("wanted", SIZE);
    let provider = lab.peer("0.2.1", &[&content], &["--answer-delay", LATE]);
    let victim = lab.daemon("victim");
    let mut arguments = vec!["claims", "--sha1", &content.sha1];
    for claim in claims {
        arguments.extend(["--claim", claim]);
    }
    let attacker = lab.attacker(&arguments);
    victim.connected(2);
    let (done, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let attempt = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(used(&victim.home().join("store")), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let attempt = attempt(27, attack, &victim, &content, honest);
        done.store(true, Ordering::Relaxed);
        attempt
    });
    let beyond = most.into_inner().saturating_sub(SIZE as u64);
    println!(
        "check 27: measured {attack}: {} MiB of disk beyond the file, bar {} MiB, seed name",
        beyond >> 20,
        SPARE_DISK >> 20
    );
    attempt.must_have_succeeded(&victim, &content);
    assert!(beyond <= SPARE_DISK, "{attack}: {beyond} bytes of disk beyond the file");
    assert!(attacker.process.has_printed(|line| line.starts_with(r#"{"event":"claimed""#)));
    assert!(provider.was_asked());
}

/// Bytes on disk of the files in a folder.
fn used(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => used(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

#[test]
fn a_claim_of_2_to_the_53_minus_1_bytes_does_not_end_a_load() {
    false_claims("2^53 - 1 bytes, claimed by nobody", &[format!("{}:1:nobody", (1_u64 << 53) - 1)]);
}

#[test]
fn two_huge_claims_of_a_silent_peer_do_not_end_a_load() {
    false_claims(
        "2^53 - 1 and 2^52 bytes, silent",
        &[format!("{}:1:silent", (1_u64 << 53) - 1), format!("{}:1:silent", 1_u64 << 52)],
    );
}

#[test]
fn one_byte_too_many_that_trickles_does_not_keep_a_load_running() {
    false_claims("size + 1, trickled", &[format!("{}:1:trickle", SIZE + 1)]);
}

#[test]
fn an_empty_file_is_not_believed() {
    false_claims("0 bytes", &["0:1:silent".to_owned()]);
}

#[test]
fn a_silent_giant_does_not_end_a_load() {
    false_claims("10 TB, silent", &["10000000000000:1:silent".to_owned()]);
}

#[test]
fn twenty_sizes_of_nobody_do_not_take_a_turn_each() {
    let claims: Vec<_> = (1..=20).map(|more| format!("{}:1:nobody", SIZE + more)).collect();
    false_claims("20 sizes of nobody", &claims);
}

/// In short form 100, in long form 600: more than a download remembers.
#[test]
fn hundreds_of_sizes_at_the_address_of_the_provider_do_not_take_a_turn_each() {
    let count = if long() { 600 } else { 100 };
    let claims: Vec<_> = (1..=count).map(|number| format!("{}:1:silent", number * 1000)).collect();
    false_claims(&format!("{count} sizes of silent identities"), &claims);
}

#[test]
fn three_hundred_made_up_keys_do_not_push_the_honest_provider_out() {
    false_claims("300 made-up keys with the right size", &[format!("{SIZE}:300:nobody")]);
}

#[test]
fn junk_for_a_claimed_10_gb_does_not_fill_the_disk() {
    false_claims("junk for a claimed 10 GB", &["10000000000:1:junk".to_owned()]);
}
