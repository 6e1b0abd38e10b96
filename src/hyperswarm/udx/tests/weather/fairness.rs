//! Streams of one socket on a link that is too narrow for them.

use super::host::{World, address};
use super::*;
use crate::testkit::Link;

const STREAMS: u32 = 8;

/// Bytes that the readers of all streams have.
fn received(world: &mut World) -> Vec<u64> {
    world.host(address(101), |host| host.transfers.iter().map(|transfer| transfer.received).collect())
}

/// A socket with that many streams to another one, over this path.
fn crowd(seed: u64, path: (Link, Link)) -> World {
    let mut world = World::new(seed, 1, ENDLESS, config(), path);
    let (sender, receiver) = (address(1), address(101));
    for id in 2..=STREAMS {
        world.host(receiver, |host| host.transfer(id, sender, 1500, 0));
        world.host(sender, |host| host.transfer(id, receiver, 1500, ENDLESS));
    }
    world
}

/// What each stream gets in so much time, as parts of an even share, and the bytes per second of all.
fn shares(world: &mut World, time: Duration) -> (Vec<f64>, f64) {
    let before = received(world);
    world.network.run(time);
    let got: Vec<u64> = received(world).iter().zip(before).map(|(after, before)| after - before).collect();
    let total = got.iter().sum::<u64>() as f64;
    let even = total / f64::from(STREAMS);
    (got.iter().map(|bytes| *bytes as f64 / even).collect(), total / time.as_secs_f64())
}

fn range(shares: &[f64]) -> (f64, f64) {
    shares.iter().fold((f64::MAX, 0.0), |(least, most), share| (share.min(least), share.max(most)))
}

#[test]
fn eight_streams_of_one_socket_share_a_link_within_a_fifth() {
    let mut world = crowd(1, path(20, 25 * MS));
    world.network.run(Duration::from_secs(10));
    let (shares, rate) = shares(&mut world, Duration::from_secs(30));
    let (least, most) = range(&shares);
    let used = rate / 25_000.0;
    println!(
        "check fairness of 8 streams: measured {least:.2} to {most:.2} of an even share ({shares:.2?}), {used:.1} % of the link, bar 0.8 to 1.2, 90 %, seed 1"
    );
    assert!(least >= 0.8 && most <= 1.2, "{shares:?}");
    assert!(used >= 90.0, "{used} %");
}

/// As on a loopback or in one room: what others have queued takes many times as long as the way. Flows that wait there
/// for an empty queue starve, and shares that only follow the estimates drift apart.
#[test]
fn of_eight_streams_none_is_left_behind_on_a_path_whose_queue_is_longer_than_itself() {
    let (mut soon, mut later) = (f64::MAX, 0.0);
    for seed in seeds() {
        let forth = Link::megabits(400, MS / 20, 8 * MS);
        let mut world = crowd(seed, (forth, Link { rate: None, ..forth }));
        let mut least = || {
            world.network.run(500 * MS);
            let (shares, _) = shares(&mut world, 500 * MS);
            range(&shares).0
        };
        soon = least().min(soon);
        assert!(soon >= 0.5, "seed {seed}: {soon}");
        least();
        later += least() / seeds().end as f64;
    }
    println!(
        "check nobody left behind: measured {soon:.2} of an even share at least after half a second, {later:.2} on average two seconds later, bar 0.5, 0.55, seeds 0 to {}",
        seeds().end - 1
    );
    assert!(later >= 0.55, "{later}");
}
