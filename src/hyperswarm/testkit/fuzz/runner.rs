//! Seeded mutations through fuzz targets. FUZZ_EXECUTIONS sets how many for each, FUZZ_TARGET which.

// Helpers of tests may panic like the tests themselves.
#![allow(clippy::expect_used)]

use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::SeedableRng;

use super::*;

const SEED: u64 = 20;
/// Mutations that `scripts/fuzz` is to try.
const LONG_BAR: u64 = 1_000_000;

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Tries one target, and says what it cost.
fn try_target(target: &Target) {
    let samples = (target.samples)();
    assert!(samples.len() >= 4, "{}: {} samples", target.name, samples.len());
    let understood = samples.iter().filter(|sample| (target.run)(Instant::now(), sample)).count();
    assert!(understood > 0, "{}: not one of the samples is understood", target.name);
    let wanted = setting("FUZZ_EXECUTIONS").map(|n| n.parse().expect("a number"));
    let executions = wanted.unwrap_or(target.executions);
    let bar = if wanted.is_some() { LONG_BAR } else { BAR };
    let missed = if executions < bar { " (not reached: it is slow, or fewer were asked for)" } else { "" };
    let (mut valid, mut slowest, begin) = (0, Duration::ZERO, Instant::now());
    let mut rng = StdRng::seed_from_u64(SEED);
    for n in 0..executions {
        let input = mutate(&mut rng, &samples);
        let outcome = catch_unwind(AssertUnwindSafe(|| timed(target, &input)));
        let (understood, took) =
            outcome.unwrap_or_else(|_| panic!("{}, execution {n}: {}", target.name, HEXLOWER.encode(&input)));
        valid += u64::from(understood);
        slowest = slowest.max(took);
    }
    println!(
        "check 1: measured {executions} executions of {} without panic ({valid} understood, slowest {slowest:?}, {:.1?} in all), bar {bar}{missed}, seed {SEED}",
        target.name,
        begin.elapsed(),
    );
    assert!(valid > executions / 1000, "{}: only {valid} of {executions} understood", target.name);
    assert!(slowest < Duration::from_secs(1), "{}: {slowest:?}", target.name);
}

/// What one input costs; the least of several times if it seems to be much, as the machine does other things, too.
fn timed(target: &Target, input: &[u8]) -> (bool, Duration) {
    let once = || {
        let begin = Instant::now();
        ((target.run)(begin, input), begin.elapsed())
    };
    let (understood, took) = once();
    let again = (0..3).filter(|_| took > Duration::from_millis(200)).map(|_| once().1);
    (understood, again.fold(took, Duration::min))
}

/// Tries these targets, or the one among them that FUZZ_TARGET names. Prints a line for each.
///
/// # Panics
/// If a target panics, hangs or understands next to nothing.
pub fn try_all(targets: &[Target]) {
    let wanted = setting("FUZZ_TARGET");
    let targets = targets.iter().filter(|target| wanted.as_deref().is_none_or(|name| name == target.name));
    let targets = Mutex::new(targets.collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from).min(4) {
            scope.spawn(|| {
                while let Some(target) = { targets.lock().pop() } {
                    try_target(target);
                }
            });
        }
    });
}

/// Writes the samples of these targets into the folder FUZZ_SAMPLES, from which libFuzzer is to start; without that
/// variable it only looks whether there are enough.
///
/// # Panics
/// If a target has fewer than four samples, or they cannot be written.
pub fn write_samples(targets: &[Target]) {
    let folder = setting("FUZZ_SAMPLES");
    for target in targets {
        assert!((target.samples)().len() >= 4, "{} has too few samples", target.name);
        let Some(folder) = folder.as_ref().map(std::path::PathBuf::from) else { continue };
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder).expect("create a folder");
        for (n, sample) in (target.samples)().iter().enumerate() {
            std::fs::write(folder.join(format!("sample-{n}")), sample).expect("write a sample");
        }
    }
}
