//! Every byte arrives, whatever the weather (RELIABILITY 5), the same way for the same seed (8), and no more is held
//! than a window while the reader sleeps (21).

use super::host::{World, address};
use super::*;
use crate::testkit::Bursts;

const MEGABYTE: u64 = 1_000_000;
/// Longer than any of these transfers takes, and virtual.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Sends so many bytes through this weather, both ways the same; megabits per second of goodput of the worst seed.
fn transfers(name: &str, bytes: u64, link: Link) -> f64 {
    let mut worst = f64::INFINITY;
    for seed in seeds() {
        let mut world = World::new(seed, 1, bytes, config(), (link, Link { rate: None, ..link }));
        let took = world.finish(PATIENCE);
        let received = world.received(1);
        assert_eq!(received, bytes, "{name}, seed {seed}");
        worst = worst.min(bytes as f64 / 125_000.0 / took.as_secs_f64());
    }
    let count = seeds().end;
    println!(
        "check 5: measured {count} of {count} byte-exact in weather `{name}`, {worst:.1} Mbit/s at least of 20, bar all, seeds 0 to {}",
        count - 1
    );
    worst
}

/// 20 Mbit/s, 50 ms round trip.
fn weather() -> Link {
    Link::megabits(20, 25 * MS, 100 * MS)
}

#[test]
fn transfers_are_exact_without_loss() {
    assert!(transfers("clear", MEGABYTE, weather()) > 5.0);
}

#[test]
fn transfers_are_exact_and_use_half_the_link_at_one_percent_loss() {
    let worst = transfers("1 % loss", 5 * MEGABYTE, Link { loss: 0.01, ..weather() });
    println!(
        "check 5: measured {worst:.1} of 20 Mbit/s at 1 % loss and 50 ms, bar 10, seeds 0 to {}",
        seeds().end - 1
    );
    assert!(worst >= 10.0);
}

#[test]
fn transfers_are_exact_at_five_percent_loss() {
    transfers("5 % loss", MEGABYTE, Link { loss: 0.05, ..weather() });
}

#[test]
fn transfers_are_exact_at_twenty_percent_loss() {
    transfers("20 % loss", MEGABYTE, Link { loss: 0.2, ..weather() });
}

#[test]
fn transfers_are_exact_when_losses_come_in_bursts() {
    let bursts = Some(Bursts { begin: 0.005, end: 0.1, loss: 0.8 });
    transfers("bursts", MEGABYTE, Link { bursts, ..weather() });
}

#[test]
fn the_last_packets_do_not_wait_for_the_retransmission_timer() {
    let mut longest = Duration::ZERO;
    for seed in seeds() {
        let link = Link { loss: 0.05, ..weather() };
        let mut world = World::new(seed, 1, MEGABYTE / 2, config(), (link, link));
        longest = longest.max(world.finish(PATIENCE));
    }
    println!(
        "check tail: measured {longest:.2?} for 0.5 MB at 5 % loss, bar 1.2 s, seeds 0 to {}",
        seeds().end - 1
    );
    assert!(longest < Duration::from_millis(1200));
}

#[test]
fn transfers_are_exact_when_packets_overtake_each_other() {
    transfers("reorder", MEGABYTE, Link { reorder: 0.05, held_back: 15 * MS, ..weather() });
    transfers("jitter", MEGABYTE, Link { jitter: 20 * MS, ..weather() });
}

#[test]
fn transfers_are_exact_when_packets_arrive_twice() {
    transfers("duplicates", MEGABYTE, Link { duplication: 0.2, loss: 0.01, ..weather() });
}

#[test]
fn transfers_are_exact_over_450_ms() {
    let link = Link::megabits(20, 225 * MS, 500 * MS);
    transfers("450 ms", MEGABYTE, Link { loss: 0.01, ..link });
}

#[test]
fn transfers_are_exact_when_everything_happens_at_once() {
    let bursts = Some(Bursts { begin: 0.002, end: 0.2, loss: 0.8 });
    let link = Link { bursts, duplication: 0.05, reorder: 0.05, held_back: 15 * MS, ..weather() };
    transfers("storm", MEGABYTE, Link { loss: 0.05, jitter: 10 * MS, ..link });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        let trace = |seed: u64| {
            let link = Link { loss: 0.01 * seed as f64, duplication: 0.02, jitter: 5 * MS, ..weather() };
            let mut world = World::new(seed, 1, 100_000, config(), (link, link));
            world.network.record();
            world.finish(PATIENCE);
            world.network.run(Duration::from_secs(1));
            world.network.trace().to_vec()
        };
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.len() > 100);
        assert!(first == second, "seed {seed} gave two different traces");
    }
    println!("check 8: measured 20 of 20 UDX scenarios with the same trace twice, bar 20, seeds 0 to 19");
}

#[test]
fn a_reader_that_stops_for_a_minute_holds_no_more_than_its_window() {
    // Fast and long enough for the window to have grown before.
    let (forth, back) = path(500, 40 * MS);
    let bytes = 120 * MEGABYTE;
    let mut world = World::new(1, 1, bytes, config(), (forth, back));
    world.network.run(Duration::from_secs(2));
    world.host(address(101), |host| host.transfers[0].paused = true);
    let before = world.received(1);
    let mut held = 0;
    for _ in 0..60 {
        world.network.run(Duration::from_secs(1));
        let receiver = world.host(address(101), |host| host.stats(0).buffered as u64);
        let sender = world.host(address(1), |host| host.stats(0).in_flight);
        held = held.max(receiver + sender);
    }
    assert_eq!(world.received(1), before);
    let limit = 32 << 20;
    println!(
        "check 21: measured {:.1} MiB held while the reader slept 60 s, bar 32, seed 1",
        held as f64 / 1048576.0
    );
    assert!(held < limit);
    world.host(address(101), |host| host.resume(0));
    let took = world.finish(PATIENCE);
    let megabits = (bytes - before - held) as f64 / 125_000.0 / took.as_secs_f64();
    println!("check 21: measured {megabits:.1} Mbit/s of 500 after the pause, bar 250, seed 1");
    assert!(megabits > 250.0);
}

#[test]
fn fifty_streams_whose_readers_wait_for_one_disk_hold_no_more_than_the_budget_and_all_go_on() {
    const STREAMS: u32 = 50;
    let budget = 8 << 20;
    let config = Config { receive_budget: budget, ..config() };
    let mut world = World::unread(1, STREAMS, 2 * MEGABYTE / 5, config, path(200, 10 * MS));
    let mut held = 0;
    // Longer than a writer repeats a packet that is refused.
    for _ in 0..20 {
        world.network.run(Duration::from_secs(1));
        held = held.max(world.host(address(101), |host| host.endpoint.held()));
    }
    println!(
        "check 21: measured {held} bytes held by {STREAMS} streams without readers, bar {budget}, seed 1"
    );
    assert!(held <= budget && held > budget / 2);
    world.host(address(101), |host| (0..STREAMS as usize).for_each(|at| host.resume(at)));
    world.network.run(Duration::from_secs(30));
    let received: Vec<_> =
        world.host(address(101), |host| host.transfers.iter().map(|transfer| transfer.received).collect());
    assert_eq!(received, vec![2 * MEGABYTE / 5; STREAMS as usize]);
}

#[test]
fn packets_stay_below_a_black_hole() {
    let (forth, back) = path(100, 10 * MS);
    let mut world = World::new(1, 1, 20 * MEGABYTE, config(), (Link { mtu: Some(1400), ..forth }, back));
    world.network.run(Duration::from_secs(1));
    let mtu = world.host(address(1), |host| host.stats(0).mtu);
    let took = Duration::from_secs(1) + world.finish(PATIENCE);
    let vanished = world.network.link_stats(world.forth).vanished;
    let megabits = 160.0 / took.as_secs_f64();
    println!(
        "check black hole above 1400: measured MTU {mtu}, {vanished} datagrams vanished, {megabits:.1} Mbit/s of 100, bar 1369 to 1400, at most 8, 70, seed 1"
    );
    assert!((1369..=1400).contains(&mtu) && vanished <= 8 && megabits > 70.0);
}

#[test]
fn packets_grow_to_what_the_path_takes_and_outside_loopback_no_further_than_jumbo_frames() {
    let (forth, back) = path(200, MS);
    for (mtu, expected) in [(None, 9000), (Some(9000), 9000), (Some(1500), 1500)] {
        let links = (Link { mtu, ..forth }, Link { mtu, ..back });
        let mut world = World::on_route(1, 1, ENDLESS, config(), links, 65_535);
        world.network.run(Duration::from_secs(1));
        let measured = world.host(address(1), |host| host.stats(0).mtu);
        println!("check MTU: measured {measured} on a path of {mtu:?}, bar {expected}, seed 1");
        assert_eq!(measured, expected);
        let goodput = world.goodput(Duration::from_millis(500)) / 25_000_000.0;
        assert!(goodput > 0.9, "{goodput} of the link with packets of {measured}");
    }
}
