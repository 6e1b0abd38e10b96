//! Bars on speed, in virtual time. Rates are of the link with IP and UDP headers, goodput is what readers get: at
//! 1500-byte packets no more than 96.8 % of the link, less the losses, which happen behind the bottleneck.

use super::host::{World, address};
use super::*;

/// The share of a 100 Mbit/s link that one flow gets as goodput, in percent, startup left out.
/// Long enough for the controller to look for the shortest round trip once, which costs something.
fn share(loss: f64, delay: Duration, seed: u64) -> f64 {
    let (forth, back) = path(100, delay);
    let mut world = World::new(seed, 1, ENDLESS, config(), (Link { loss, ..forth }, Link { loss, ..back }));
    world.network.run(Duration::from_secs(3));
    world.goodput(Duration::from_secs(8)) / 125_000.0
}

fn check(name: &str, loss: f64, delay: Duration, bar: f64) {
    let measured = share(loss, delay, 1);
    println!("check goodput {name}: measured {measured:.1} % of 100 Mbit/s, bar {bar} %, seed 1");
    assert!(measured >= bar, "{measured} %");
}

#[test]
fn one_percent_loss_at_50_ms_round_trip_leaves_ninety_percent() {
    check("1 % loss, 50 ms round trip", 0.01, 25 * MS, 90.0);
}

#[test]
fn one_percent_loss_at_50_ms_one_way_leaves_ninety_percent() {
    check("1 % loss, 50 ms one way", 0.01, 50 * MS, 90.0);
}

#[test]
fn five_percent_loss_at_50_ms_round_trip_leaves_seventy_percent() {
    check("5 % loss, 50 ms round trip", 0.05, 25 * MS, 70.0);
}

#[test]
fn five_percent_loss_at_50_ms_one_way_leaves_seventy_percent() {
    check("5 % loss, 50 ms one way", 0.05, 50 * MS, 70.0);
}

#[test]
fn a_gigabit_at_100_ms_is_full_within_three_seconds() {
    let (forth, back) = path(1000, 50 * MS);
    let batch = Duration::from_micros(200);
    let mut world = World::new(1, 1, ENDLESS, config(), (Link { batch, ..forth }, Link { batch, ..back }));
    world.network.run(Duration::from_millis(2500));
    let goodput = world.goodput(Duration::from_millis(500)) / 1_250_000.0;
    println!("check gigabit: measured {goodput:.1} % of 1 Gbit/s in the last half of 3 s, bar 90 %, seed 1");
    assert!(goodput >= 90.0);
}

#[test]
fn a_competing_flow_waits_less_than_half_a_round_trip_behind_one_stream() {
    let (forth, back) = path(100, 25 * MS);
    let mut world = World::new(1, 1, ENDLESS, config(), (forth, back));
    world.network.run(Duration::from_secs(2));
    world.add_pinger();
    world.network.run(Duration::from_secs(5));
    let (mean, longest) = world.queueing();
    println!(
        "check queue behind 1 stream: measured {mean:.1?} on average, {longest:.1?} at most, bar 25 ms, 50 ms, seed 1"
    );
    assert!(mean < 25 * MS && longest < 50 * MS);
}

#[test]
fn two_streams_share_within_a_fifth_and_keep_the_queue_below_two_round_trips() {
    let (forth, back) = path(20, 25 * MS);
    let mut world = World::new(1, 2, ENDLESS, config(), (forth, back));
    world.network.run(Duration::from_secs(20));
    world.add_pinger();
    let before = [world.received(1), world.received(2)];
    world.network.run(Duration::from_secs(40));
    let got = [world.received(1) - before[0], world.received(2) - before[1]];
    let ratio = got[0].min(got[1]) as f64 / got[0].max(got[1]) as f64;
    let total = (got[0] + got[1]) as f64 / 40.0 / 25_000.0;
    let (mean, longest) = world.queueing();
    println!(
        "check two streams: measured {ratio:.2} as the lesser share, {total:.1} % of the link, bar 0.8, 90 %, seed 1"
    );
    println!(
        "check queue behind 2 streams: measured {mean:.1?} on average, {longest:.1?} at most, bar 75 ms, 100 ms, seed 1"
    );
    assert!(ratio >= 0.8 && total >= 90.0);
    assert!(mean < 75 * MS && longest <= 100 * MS);
}

/// Megabytes that arrive in the second after 15 messages of so many bytes, 5 s apart, at 100 Mbit/s and 50 ms.
fn bulk_after_messages(bytes: u64) -> f64 {
    let mut world = World::talking(1, config(), path(100, 25 * MS));
    for _ in 0..15 {
        world.host(address(1), |host| host.write(0, bytes));
        world.network.run(Duration::from_secs(5));
    }
    assert_eq!(world.received(1), 15 * bytes);
    world.host(address(1), |host| host.write(0, ENDLESS));
    world.goodput(Duration::from_secs(1)) / 1e6
}

#[test]
fn bulk_data_after_small_messages_is_as_fast_as_on_a_new_stream() {
    let mut fresh = World::talking(1, config(), path(100, 25 * MS));
    fresh.host(address(1), |host| host.write(0, ENDLESS));
    let fresh = fresh.goodput(Duration::from_secs(1)) / 1e6;
    // Of one packet, of two and of three.
    for bytes in [60, 1500, 3000] {
        let measured = bulk_after_messages(bytes);
        let bar = 0.8 * fresh;
        println!(
            "check bulk after messages of {bytes} bytes: measured {measured:.1} MB in 1 s, bar {bar:.1}, seed 1"
        );
        assert!(measured >= bar);
    }
}
