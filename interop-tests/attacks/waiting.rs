//! Loads that only search, beside one that could be over at once.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::lab::{Lab, exchange};

/// A load of 1 MiB from a connected peer must end within this.
const BAR: Duration = Duration::from_secs(2);
/// `timeout_ms` of the searches, and how much later they may end.
const TIMEOUT: Duration = Duration::from_secs(6);
const LATE: Duration = Duration::from_secs(1);

/// A search that says nothing for so long counts as endless.
const GIVEN_UP: Duration = Duration::from_secs(15);

fn searches(count: usize) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("beside searches", 1 << 20);
    let provider = lab.daemon("provider");
    provider.store(&content);
    let loader = lab.daemon("loader");
    loader.connected(1);
    let (ended, searches) = mpsc::sync_channel(count);
    for number in 0..count {
        let (ended, port) = (ended.clone(), loader.api_port);
        std::thread::spawn(move || {
            let body = format!(r#"{{"sha1":"{number:040x}","timeout_ms":{}}}"#, TIMEOUT.as_millis());
            let started = Instant::now();
            let answer = exchange(port, GIVEN_UP, "POST /api/v1/load", &body);
            let _ = ended.send((started.elapsed(), answer));
        });
    }
    std::thread::sleep(Duration::from_millis(500));
    let loading = loader.load_within(GIVEN_UP, &content.sha1, 5);
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        let (took, answer) = searches.recv().expect("a search");
        let found = answer.is_ok_and(|answer| answer.contains(r#""result""#));
        assert!(!found, "a search for nothing found something");
        slowest = slowest.max(took);
    }
    println!(
        "check 29: measured beside {count} searches: exit code {:?} after {:.2} s, searches end after {:.2} s, bar 0, {} s, {} s, seed none",
        loading.code,
        loading.took.as_secs_f64(),
        slowest.as_secs_f64(),
        BAR.as_secs(),
        (TIMEOUT + LATE).as_secs()
    );
    assert_eq!(loading.code, Some(0), "{}", loading.shown);
    assert!(loading.took < BAR, "the load took {:?}\n{}", loading.took, loading.shown);
    assert!(slowest <= TIMEOUT + LATE, "a search with a time-out of {TIMEOUT:?} ended after {slowest:?}");
}

#[test]
fn eight_searches_do_not_hold_a_load_up() {
    searches(8);
}

#[test]
fn a_hundred_searches_do_not_hold_a_load_up() {
    searches(100);
}
