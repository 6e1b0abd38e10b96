//! How many file descriptors are left, so that peers cannot take those that the API and loads need.

use parking_lot::Mutex;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::limits;

/// One line of the log about what may happen thousands of times.
const SELDOM: Duration = Duration::from_secs(60);

/// True if so few are left that none may be spent on what peers ask for.
pub(super) fn are_scarce() -> bool {
    is_beyond(reserve)
}

/// True if a new connection must be closed. Those that loads need may use half of the reserve.
pub(crate) fn refuses_connection(for_loads: bool) -> bool {
    is_beyond(|limit| if for_loads { reserve(limit) / 2 } else { reserve(limit) })
}

fn reserve(limit: u64) -> u64 {
    limits::DESCRIPTOR_RESERVE.min(limit / 4)
}

/// The system gives out the lowest free number, so that of a new descriptor tells that all below it are taken.
fn is_beyond(reserve: impl Fn(u64) -> u64) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return false };
    match File::open("/dev/null") {
        Ok(probe) => u64::try_from(probe.as_raw_fd()).unwrap_or(0) + reserve(limit) >= limit,
        Err(error) => is_exhaustion(&error),
    }
}

fn is_exhaustion(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Says something at most once a minute.
#[derive(Default)]
pub(super) struct Seldom {
    /// When it was last said, and how often it was not since.
    said: Mutex<(Option<Instant>, usize)>,
}

impl Seldom {
    /// How often it happened since it was last said, if it is to be said now.
    pub(super) fn say(&self, now: Instant) -> Option<usize> {
        let mut said = self.said.lock();
        said.1 += 1;
        if said.0.is_some_and(|last| now.saturating_duration_since(last) < SELDOM) {
            return None;
        }
        said.0 = Some(now);
        Some(std::mem::take(&mut said.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_quarter_of_a_small_limit() {
        assert_eq!(reserve(64), 16);
        assert_eq!(reserve(4 * limits::DESCRIPTOR_RESERVE), limits::DESCRIPTOR_RESERVE);
        assert_eq!(reserve(1 << 20), limits::DESCRIPTOR_RESERVE);
    }

    #[test]
    fn descriptors_are_scarce_when_all_but_the_reserve_are_taken() {
        let limit = getrlimit(Resource::Nofile).current.expect("a limit");
        // Other tests of this process hold some, but not half of them.
        assert!(!is_beyond(|_| limit / 2));
        assert!(is_beyond(|limit| limit));
    }

    #[test]
    fn what_happens_often_is_said_once_a_minute_with_its_number() {
        let (seldom, begun) = (Seldom::default(), Instant::now());
        let said: Vec<_> = (0..250).map(|second| seldom.say(begun + Duration::from_secs(second))).collect();
        let said: Vec<_> = said.into_iter().flatten().collect();
        assert_eq!(said, [1, 60, 60, 60, 60]);
    }
}
