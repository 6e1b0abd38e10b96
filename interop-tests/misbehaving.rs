//! Providers that die, lie, stall or send garbage: with a good one beside, the load succeeds; alone, it fails
//! clearly and leaves nothing under the hash.

use crate::lab::{Lab, SOON};

const SIZE: usize = 300_000;

fn a_good_provider_is_enough(dialect: &str, misbehaviour: &str) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", SIZE);
    let bad = lab.peer(dialect, &[&content], &["--misbehave", misbehaviour]);
    // The bad one answers first, so that it is asked; of the same dialect, so that neither is preferred.
    let good = lab.peer(dialect, &[&content], &["--answer-delay", "300"]);
    let mut daemon = lab.daemon("ours");
    daemon.connected(2);
    let took = daemon.loads(&content);
    assert!(bad.was_asked(), "the bad provider was not asked, so this shows nothing\n{}", bad.process);
    assert!(good.was_asked(), "the good provider was not asked\n{}", good.process);
    assert!(daemon.process.is_running());
    println!(
        "check 15: measured {misbehaviour} by {dialect} survived in {:.1} s, bar every byte from the other, seed name",
        took.as_secs_f64()
    );
}

fn a_bad_provider_alone_fails_clearly(misbehaviour: &str) {
    let Some(lab) = Lab::new() else { return };
    let content = lab.file("wanted", SIZE);
    let bad = lab.peer("0.2.1", &[&content], &["--misbehave", misbehaviour]);
    let mut daemon = lab.daemon("ours");
    daemon.connected(1);
    let loading = daemon.fails_to_load(&content);
    bad.event("serving", SOON, |_| true);
    assert!(daemon.process.is_running());
    println!(
        "check 15: measured {misbehaviour} alone is exit code {:?} after {:.1} s, bar 4 or 5 and nothing stored, seed name",
        loading.code,
        loading.took.as_secs_f64()
    );
}

/// For each misbehaviour: beside a good provider in the dialect with ranges, in the one without, and alone.
macro_rules! misbehaviours {
    ($($name:ident: $kind:literal),*) => {$(
        mod $name {
            #[test]
            fn by_0_2_1_is_survived() {
                super::a_good_provider_is_enough("0.2.1", $kind);
            }

            #[test]
            fn by_0_1_6_is_survived() {
                super::a_good_provider_is_enough("0.1.6", $kind);
            }

            #[test]
            fn alone_fails_clearly() {
                super::a_bad_provider_alone_fails_clearly($kind);
            }
        }
    )*};
}

misbehaviours!(dying: "die", lying: "lie", stalling: "stall", garbage: "garbage", too_short: "short", too_long: "long");
