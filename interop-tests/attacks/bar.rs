//! What a load under attack is held against.

use std::sync::OnceLock;
use std::time::Duration;

use crate::lab::{Content, Daemon, Lab, Loading};

/// What the tests load.
pub(crate) const SIZE: usize = 8 << 20;
/// `--timeout` of the loads.
const TIMEOUT: u32 = 20;
/// An attack may cost this much beyond twice the honest time.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the counts are those of the table in full.
pub(crate) fn long() -> bool {
    std::env::var_os("ATTACKS").is_some_and(|form| form == "long")
}

/// How long a load of [`SIZE`] takes between two of our daemons here and now.
pub(crate) fn honest_time() -> Duration {
    static MEASURED: OnceLock<Duration> = OnceLock::new();
    *MEASURED.get_or_init(|| {
        let lab = Lab::new().expect("the caller has one");
        let content = lab.file("honest", SIZE);
        let provider = lab.daemon("provider");
        provider.store(&content);
        let loader = lab.daemon("loader");
        loader.connected(1);
        loader.loads(&content)
    })
}

/// `victim` loads `content` under attack, in twice the `honest` time and 15 s. Prints what was measured as check `number`.
pub(crate) fn must_load(
    number: u32,
    attack: &str,
    victim: &Daemon,
    content: &Content,
    honest: Duration,
) -> Loading {
    let bar = 2 * honest + PATIENCE;
    let loading = victim.load_within(bar + Duration::from_secs(1), &content.sha1, TIMEOUT);
    let end = loading.code.map_or("still running".to_owned(), |code| format!("exit code {code}"));
    println!(
        "check {number}: measured {attack}: {end} after {:.1} s, bar exit code 0 within {:.1} s, seed name",
        loading.took.as_secs_f64(),
        bar.as_secs_f64()
    );
    assert!(loading.code == Some(0) && loading.took <= bar, "{attack}: {end}\n{}", loading.shown);
    for copy in [victim.destination(), victim.stored(&content.sha1)] {
        assert!(std::fs::read(&copy).expect("a loaded file") == content.bytes, "the bytes differ");
    }
    loading
}
