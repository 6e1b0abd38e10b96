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

/// True if the counts are those of the table in full.
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

/// A load under attack, and what is said about it.
pub(crate) struct Attempt {
    loading: Loading,
    bar: Duration,
    attack: String,
}

/// `victim` loads `content` under attack, which should take at most twice the `honest` time and 15 s. Prints what was
/// measured as check `number`.
pub(crate) fn attempt(
    number: u32,
    attack: &str,
    victim: &Daemon,
    content: &Content,
    honest: Duration,
) -> Attempt {
    let bar = 2 * honest + PATIENCE;
    let loading = victim.load_within(bar + Duration::from_secs(1), &content.sha1, TIMEOUT);
    let attempt = Attempt { loading, bar, attack: attack.to_owned() };
    println!(
        "check {number}: measured {attack}: {} after {:.1} s, bar exit code 0 within {:.1} s, seed name",
        attempt.end(),
        attempt.loading.took.as_secs_f64(),
        bar.as_secs_f64()
    );
    attempt
}

impl Attempt {
    fn end(&self) -> String {
        self.loading.code.map_or("still running".to_owned(), |code| format!("exit code {code}"))
    }

    /// The load ended in time, with every byte right.
    pub(crate) fn must_have_succeeded(&self, victim: &Daemon, content: &Content) {
        let in_time = self.loading.code == Some(0) && self.loading.took <= self.bar;
        assert!(in_time, "{}: {}\n{}", self.attack, self.end(), self.loading.shown);
        for copy in [victim.destination(), victim.stored(&content.sha1)] {
            assert!(std::fs::read(&copy).expect("a loaded file") == content.bytes, "the bytes differ");
        }
    }
}
