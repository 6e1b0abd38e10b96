//! One claimed size alone: what its download asks of it, and what it tells, are played.

use super::super::attempt::{Dropped, End, Member, Progress, Setup, Wanted};
use super::*;
use crate::node::transfer::failure::Failure;

const SIZE: u64 = 1 << 30;
/// Steps in which the clock is turned: by itself it goes on only when no task has anything to do.
const STEP: Duration = Duration::from_millis(100);

/// A running attempt, seen from its download.
struct Attempt {
    world: World,
    wanted: watch::Sender<Wanted>,
    progress: watch::Receiver<Progress>,
    dropped: mpsc::Receiver<Dropped>,
    running: tokio::task::JoinHandle<End>,
}

impl Attempt {
    /// At a large file, with these providers reached, and nobody asked yet.
    async fn paused(parts: impl IntoIterator<Item = Part>) -> Self {
        let mut world = World::new(1).await;
        parts.into_iter().for_each(|part| world.provider(SIZE, part));
        let open = |heard: &Heard| {
            Arc::new(Member::open(&world.environment, (heard.offer, heard.origin), Arc::default()))
        };
        let members: Vec<_> = world.claims.iter().map(open).collect();
        let (wanted, wanted_seen) =
            watch::channel(Wanted { members, paused: true, most: u64::MAX, ended: None });
        let (told, progress) = watch::channel(Progress::default());
        let (drops, dropped) = mpsc::channel(world.claims.len());
        let setup = Setup {
            environment: world.environment.clone(),
            sha1: world.sha1,
            size: SIZE,
            wanted: wanted_seen,
            progress: told,
            dropped: drops,
        };
        let running = tokio::spawn(setup.run());
        tokio::time::sleep(STEP).await;
        Self { world, wanted, progress, dropped, running }
    }

    async fn start(&self) {
        self.wanted.send_modify(|wanted| wanted.paused = false);
        tokio::task::yield_now().await;
    }

    /// Turns the clock until the attempt shows something.
    async fn shows<T>(&mut self, time: Duration, mut what: impl FnMut(&mut Self) -> Option<T>) -> T {
        let began = now();
        loop {
            if let Some(shown) = what(self) {
                return shown;
            }
            assert!(now() - began < time, "it does not happen within {time:?}");
            tokio::time::advance(STEP).await;
        }
    }
}

fn next_dropped(attempt: &mut Attempt) -> Option<Dropped> {
    attempt.dropped.try_recv().ok()
}

/// So slow that all it sends in a test fits into the queue of the disk, which works in real time.
fn slow() -> Part {
    part(64 << 10, seconds(2))
}

fn flood() -> Part {
    Part { floods: true, ..silent() }
}

#[tokio::test]
async fn a_provider_that_was_dropped_is_not_asked_again_while_the_download_has_not_heard_of_it() {
    let mut attempt = Attempt::paused([silent(), slow()]).await;
    attempt.start().await;
    let Dropped(offer, why) = attempt.shows(limits::SILENCE * 2, next_dropped).await;
    assert_eq!((offer, why), (attempt.world.claims[0].offer, Failure::Silent(limits::SILENCE)));
    // The download looks at something else first, and still names both.
    attempt.wanted.send_modify(|_| ());
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(attempt.progress.borrow().providers, 1);
    attempt.running.abort();
}

#[tokio::test]
async fn a_flood_of_arrivals_does_not_put_off_time_outs() {
    let mut attempt = Attempt::paused([flood()]).await;
    attempt.start().await;
    let Dropped(_, why) = attempt.shows(limits::SILENCE * 4, next_dropped).await;
    assert!(matches!(why, Failure::Silent(_)), "{why}");
    attempt.running.abort();
}

#[tokio::test]
async fn data_is_noted_at_its_provider_if_it_was_asked_for() {
    for (part, wanted) in [(slow(), true), (flood(), false)] {
        let mut attempt = Attempt::paused([part]).await;
        attempt.start().await;
        let began = now();
        attempt.shows(seconds(5), |_| (now() - began > seconds(3)).then_some(())).await;
        assert_eq!(attempt.world.environment.stage.noted() > 0, wanted);
        attempt.running.abort();
        // For the next world, which pauses it again.
        tokio::time::resume();
    }
}
