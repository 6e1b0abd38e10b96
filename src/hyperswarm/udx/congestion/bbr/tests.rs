//! Controllers and pacers on a model of a bottleneck: endless senders, a queue, acknowledgements without loss.

mod bottleneck;

use super::*;
use bottleneck::{Bottleneck, Path};

const MS: Duration = Duration::from_millis(1);
const MEGABIT: u64 = 125_000;

fn path(megabits: u64, rtt: Duration) -> Path {
    let rate = megabits * MEGABIT;
    Path { rate, rtt, queue: (rate as f64 * rtt.as_secs_f64() * 1.5) as u64, loss: 0.0, ack_every: MS / 10 }
}

/// The share of the bottleneck that one flow delivers from `skip` on, for `time`.
fn share(path: Path, skip: Duration, time: Duration) -> f64 {
    let mut bottleneck = Bottleneck::new(path, 1);
    bottleneck.run(skip);
    let before = bottleneck.delivered(0);
    bottleneck.run(time);
    let share = (bottleneck.delivered(0) - before) as f64 / (path.rate as f64 * time.as_secs_f64());
    println!("{share:.3} of {path:?}");
    share
}

#[test]
fn a_clean_path_is_filled() {
    let got = share(path(100, 50 * MS), Duration::from_secs(1), Duration::from_secs(20));
    assert!(got > 0.95, "{got}");
}

#[test]
fn a_fast_long_path_is_full_within_two_seconds() {
    let got = share(path(1000, 100 * MS), Duration::from_secs(2), Duration::from_secs(1));
    assert!(got > 0.95, "{got}");
}

#[test]
fn random_loss_takes_little_more_than_itself() {
    for (loss, bar) in [(0.01, 0.94), (0.05, 0.85), (0.2, 0.6)] {
        let path = Path { loss, ..path(100, 50 * MS) };
        let got = share(path, Duration::from_secs(2), Duration::from_secs(20));
        assert!(got > bar, "{got} of the link at a loss of {loss}");
    }
}

#[test]
fn a_shallow_queue_is_not_fatal() {
    let path = Path { queue: 32 * 1500, ..path(100, 50 * MS) };
    let got = share(path, Duration::from_secs(2), Duration::from_secs(20));
    assert!(got > 0.8, "{got}");
}

#[test]
fn a_slow_path_works() {
    let got = share(path(1, 100 * MS), Duration::from_secs(3), Duration::from_secs(20));
    assert!(got > 0.9, "{got}");
}

#[test]
fn a_loopback_with_acknowledgements_in_lumps_is_filled() {
    let path = Path {
        rate: 1 << 30,
        rtt: Duration::from_micros(50),
        queue: 4 << 20,
        loss: 0.0,
        ack_every: Duration::from_micros(500),
    };
    let got = share(path, 10 * MS, 100 * MS);
    assert!(got > 0.95, "{got}");
}

#[test]
fn a_path_that_becomes_ten_times_as_fast_is_filled_within_three_seconds() {
    let mut bottleneck = Bottleneck::new(path(10, 50 * MS), 1);
    bottleneck.run(Duration::from_secs(5));
    bottleneck.set_path(path(100, 50 * MS));
    bottleneck.run(Duration::from_secs(3));
    let before = bottleneck.delivered(0);
    bottleneck.run(Duration::from_secs(1));
    let share = (bottleneck.delivered(0) - before) as f64 / (100 * MEGABIT) as f64;
    assert!(share > 0.9, "{share}");
}

#[test]
fn one_flow_leaves_the_queue_nearly_empty() {
    let mut bottleneck = Bottleneck::new(path(100, 50 * MS), 1);
    bottleneck.run(Duration::from_secs(2));
    bottleneck.forget_waits();
    bottleneck.run(Duration::from_secs(20));
    let (mean, longest) = bottleneck.waits();
    println!("waits: {mean:?}, {longest:?} at most");
    assert!(mean < 10 * MS && longest < 50 * MS, "{mean:?}, {longest:?} at most");
}

#[test]
fn two_flows_share_and_keep_the_queue_within_two_round_trips() {
    let mut bottleneck = Bottleneck::new(path(100, 50 * MS), 2);
    bottleneck.run(Duration::from_secs(20));
    bottleneck.forget_waits();
    let before = [bottleneck.delivered(0), bottleneck.delivered(1)];
    bottleneck.run(Duration::from_secs(40));
    let got = [bottleneck.delivered(0) - before[0], bottleneck.delivered(1) - before[1]];
    let ratio = got[0] as f64 / got[1] as f64;
    let (mean, longest) = bottleneck.waits();
    println!("waits: {mean:?}, {longest:?} at most");
    println!("shares: {ratio:.3}");
    assert!((0.8..1.25).contains(&ratio), "{got:?}");
    assert!(mean < 60 * MS && longest < 100 * MS, "{mean:?}, {longest:?} at most");
}

/// An acknowledgement of `acked` bytes after a steady flight at `rate`.
fn ack(now: Instant, acked: u64, delivered: u64, rate: u64) -> Ack {
    Ack {
        now,
        acked,
        delivered,
        prior_delivered: delivered.saturating_sub(acked),
        rtt: Some(20 * MS),
        delivery_rate: Some(rate),
        app_limited: false,
        in_flight: 0,
        lost: 0,
    }
}

/// A controller whose pipe is full at 10 MB/s and 20 ms, and the moment.
fn settled() -> (Bbr, Instant) {
    let mut now = Instant::now();
    let mut bbr = Bbr::new(1000, 1);
    for n in 1..=100 {
        now += 20 * MS;
        bbr.on_ack(&ack(now, 200_000, n * 200_000, 10_000_000));
    }
    assert_eq!(bbr.mode, Mode::ProbeBandwidth);
    (bbr, now)
}

#[test]
fn ten_packets_may_leave_before_anything_is_known() {
    let mut bbr = Bbr::new(1172, 1);
    assert_eq!((bbr.window(), bbr.pacing_rate()), (11_720, None));
    bbr.on_packet_size(1472);
    assert_eq!(bbr.window(), 14_720);
}

#[test]
fn samples_limited_by_the_application_do_not_lower_the_estimate() {
    let (mut bbr, mut now) = settled();
    for n in 101..=150 {
        now += 20 * MS;
        bbr.on_ack(&Ack { app_limited: true, ..ack(now, 20_000, n * 200_000, 1_000_000) });
    }
    assert_eq!(bbr.bandwidth(), Some(10_000_000));
    bbr.on_ack(&Ack { app_limited: true, ..ack(now, 20_000, 40_000_000, 11_000_000) });
    assert_eq!(bbr.bandwidth(), Some(11_000_000), "a faster one counts all the same");
}

#[test]
fn a_slower_path_is_believed_after_ten_rounds() {
    let (mut bbr, mut now) = settled();
    for n in 101..=111 {
        now += 20 * MS;
        bbr.on_ack(&ack(now, 20_000, n * 200_000, 1_000_000));
        assert_eq!(bbr.bandwidth() == Some(1_000_000), n >= 110, "round {n}");
    }
}

#[test]
fn a_loss_by_chance_leaves_the_window_and_a_timeout_shrinks_it_until_recovered() {
    let (mut bbr, now) = settled();
    let window = bbr.window();
    assert!(window >= 400_000, "{window}");
    bbr.on_loss(&Loss { now, lost: 10_000, in_flight: 190_000, timeout: false });
    assert_eq!(bbr.window(), window);
    bbr.on_loss(&Loss { now, lost: 190_000, in_flight: 0, timeout: true });
    assert_eq!(bbr.window(), 4000);
    bbr.on_recovered(now);
    assert_eq!(bbr.window(), window);
}

#[test]
fn a_round_that_is_lost_by_half_shrinks_the_window() {
    let (mut bbr, now) = settled();
    bbr.on_ack(&Ack { in_flight: 200_000, ..ack(now + 20 * MS, 200_000, 20_200_000, 10_000_000) });
    bbr.on_loss(&Loss { now, lost: 100_000, in_flight: 100_000, timeout: false });
    assert_eq!(bbr.window(), 101_000);
}

#[test]
fn after_ten_seconds_of_longer_round_trips_a_short_one_is_looked_for() {
    let (mut bbr, mut now) = settled();
    let end = now + Duration::from_secs(10);
    let mut delivered = 20_000_000;
    let mut next = |bbr: &mut Bbr, now: &mut Instant, in_flight| {
        *now += 20 * MS;
        delivered += 200_000;
        bbr.on_ack(&Ack { rtt: Some(22 * MS), in_flight, ..ack(*now, 200_000, delivered, 10_000_000) });
    };
    while now < end {
        assert_ne!(bbr.window(), 4000);
        next(&mut bbr, &mut now, 200_000);
    }
    next(&mut bbr, &mut now, 200_000);
    assert_eq!(bbr.window(), 4000);
    for _ in 0..10 {
        next(&mut bbr, &mut now, 4000);
        assert_eq!(bbr.window(), 4000);
    }
    assert_eq!(bbr.min_rtt(), Some(22 * MS));
    next(&mut bbr, &mut now, 4000);
    assert!(bbr.window() > 200_000, "{}", bbr.window());
}

#[test]
fn round_trips_nearly_as_short_as_the_shortest_spare_the_search_for_it() {
    let (mut bbr, mut now) = settled();
    for n in 101..=1100 {
        now += 20 * MS;
        bbr.on_ack(&Ack { rtt: Some(21 * MS), ..ack(now, 200_000, n * 200_000, 10_000_000) });
        assert!(bbr.window() > 4000);
    }
    assert_eq!(bbr.min_rtt(), Some(20 * MS));
}

#[test]
fn a_peer_that_acknowledges_anything_cannot_break_the_arithmetic() {
    let mut now = Instant::now();
    let mut bbr = Bbr::new(0, 1);
    let extremes = [0, 1, u64::MAX / 2, u64::MAX];
    for n in 0..4_usize.pow(5) {
        let pick = |place: u32| extremes[n / 4_usize.pow(place) % 4];
        now += Duration::from_nanos(pick(0).min(1 << 40));
        let (lost, in_flight) = (pick(3), pick(4));
        bbr.on_loss(&Loss { now, lost, in_flight, timeout: n % 3 == 0 });
        let rtt = Some(Duration::from_nanos(pick(2)));
        bbr.on_ack(&Ack { lost, in_flight, rtt, ..ack(now, pick(0), pick(1), pick(2)) });
        bbr.on_sent(now, pick(3), pick(3));
        assert!(bbr.window() >= 4 && bbr.pacing_rate() != Some(0));
    }
}
