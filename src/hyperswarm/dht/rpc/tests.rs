use super::*;
use rand::{RngExt, SeedableRng};
use std::net::Ipv4Addr;

const MS: Duration = Duration::from_millis(1);

fn addr(n: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + n), 1000)
}

/// As v2 has them.
const WAITS: Waits = Waits { tries: 3, resend: Duration::from_millis(2250), fail: Duration::from_secs(3) };

fn outgoing(n: u32) -> Outgoing<u32> {
    Outgoing::new(addr(n), WAITS, n)
}

fn requests() -> (Requests<u32>, Instant) {
    let now = Instant::now();
    let rules = Rules { grid: Duration::from_millis(750), pacing: Pacing::rate(now, 16, 50.0) };
    (Requests::new(now, &mut StdRng::seed_from_u64(1), rules), now)
}

/// With a window of 80, and time-outs that count from the moment of sending, as v4 has them.
fn windowed() -> (Requests<u32>, Instant) {
    let now = Instant::now();
    let rules = Rules { grid: Duration::ZERO, pacing: Pacing::window(now, 80) };
    (Requests::new(now, &mut StdRng::seed_from_u64(1), rules), now)
}

/// A second for each of so many datagrams.
fn seconds(n: u32, tries: u8) -> Outgoing<u32> {
    let second = Duration::from_secs(1);
    Outgoing::new(addr(n), Waits { tries, resend: second, fail: second }, n)
}

fn payload(rid: u16) -> Bytes {
    Bytes::copy_from_slice(&rid.to_be_bytes())
}

/// Lets time pass by deadlines alone; everything that was to be done, with its time.
fn passes(requests: &mut Requests<u32>, start: Instant, until: Duration) -> Vec<(Duration, Action<u32>)> {
    let mut done = Vec::new();
    let mut now = start;
    loop {
        while let Some(action) = requests.poll_action() {
            done.push((now - start, action));
        }
        match requests.poll_timeout() {
            Some(at) if at <= start + until => {
                assert!(at >= now, "a deadline in the past");
                now = at;
                requests.handle_timeout(now);
            }
            _ => return done,
        }
    }
}

fn times(done: &[(Duration, Action<u32>)], what: impl Fn(&Action<u32>) -> bool) -> Vec<u128> {
    done.iter().filter(|(_, action)| what(action)).map(|(at, _)| at.as_millis()).collect()
}

fn is_send(action: &Action<u32>) -> bool {
    matches!(action, Action::Send { .. })
}

fn send(n: u32, rid: u16) -> Action<u32> {
    Action::Send { to: addr(n), via: Via::default(), payload: payload(rid) }
}

fn is_punch(action: &Action<u32>) -> bool {
    matches!(action, Action::Punch { .. })
}

fn is_failure(action: &Action<u32>) -> bool {
    matches!(action, Action::Failed { .. })
}

#[test]
fn a_request_is_resent_at_the_3rd_and_6th_tick_and_fails_at_the_10th() {
    for (sent_at, resends, failure) in [
        (0, [2250, 4500], 7500),
        (1, [2250, 4500], 7500),
        (749, [2250, 4500], 7500),
        (750, [3000, 5250], 8250),
    ] {
        let (mut requests, start) = requests();
        requests.start(start + sent_at * MS, outgoing(1), payload);
        let done = passes(&mut requests, start, Duration::from_secs(60));
        assert_eq!(times(&done, is_send)[1..], resends, "sent at {sent_at}");
        assert_eq!(times(&done, is_failure), [failure], "sent at {sent_at}");
    }
}

#[test]
fn nothing_is_due_while_nothing_is_in_flight() {
    let (mut requests, start) = requests();
    assert_eq!(requests.poll_timeout(), None);
    requests.start(start, outgoing(1), payload);
    passes(&mut requests, start, Duration::from_secs(60));
    assert_eq!((requests.poll_timeout(), requests.in_flight()), (None, 0));
}

#[test]
fn a_late_timer_resends_once_and_does_not_catch_up() {
    let (mut requests, start) = requests();
    requests.start(start, outgoing(1), payload);
    while requests.poll_action().is_some() {}
    let woke = start + Duration::from_secs(3600);
    requests.handle_timeout(woke);
    assert!(requests.poll_action().is_some_and(|a| is_send(&a)));
    assert_eq!(requests.poll_action(), None);
    assert!(requests.poll_timeout().is_some_and(|at| at > woke));
}

#[test]
fn only_the_asked_address_with_the_right_id_can_answer() {
    let (mut requests, start) = requests();
    let mut rid = 0;
    requests.start(start, outgoing(1), |r| {
        rid = r;
        payload(r)
    });
    let mut rng = StdRng::seed_from_u64(12);
    let mut accepted = 0;
    for _ in 0..10_000 {
        let from = SocketAddrV4::new(Ipv4Addr::from(rng.random::<u32>()), rng.random());
        let rid = if rng.random_bool(0.5) { rid } else { rng.random() };
        if from != addr(1) {
            accepted += u32::from(requests.answer(start, rid, from).is_some());
        }
    }
    assert_eq!(accepted, 0);
    assert_eq!(requests.answer(start, rid.wrapping_add(1), addr(1)), None);
    let other_port = SocketAddrV4::new(*addr(1).ip(), 1001);
    assert_eq!(requests.answer(start, rid, other_port), None);
    let answered = requests.answer(start + 20 * MS, rid, addr(1));
    assert_eq!(answered, Some(Answered { context: 1, elapsed: 20 * MS, tries: 1 }));
    assert_eq!(requests.answer(start, rid, addr(1)), None, "answered twice");
}

#[test]
fn the_referrer_is_asked_after_500_ms_and_with_each_resend() {
    let (mut requests, start) = requests();
    requests.start(start, Outgoing { referrer: Some(addr(9)), ..outgoing(1) }, payload);
    let done = passes(&mut requests, start, Duration::from_secs(60));
    assert_eq!(times(&done, is_punch), [500, 2250, 4500]);
    let fresh = Action::Punch { rid: None, to: addr(1), referrer: addr(9) };
    assert!(done.iter().filter(|(_, a)| is_punch(a)).all(|(_, a)| *a == fresh));
}

#[test]
fn a_target_asked_for_help_before_is_not_at_once_asked_for_again() {
    let (mut requests, start) = requests();
    requests.start(start, Outgoing { referrer: Some(addr(9)), punched: true, ..outgoing(1) }, payload);
    let done = passes(&mut requests, start, Duration::from_secs(60));
    assert_eq!(times(&done, is_punch), [2250, 4500]);
}

#[test]
fn a_holepunch_goes_to_the_referrer_at_once_under_the_same_id() {
    let (mut requests, start) = requests();
    let mut rid = 0;
    let punching = Outgoing { referrer: Some(addr(9)), punching: true, ..outgoing(1) };
    requests.start(start, punching, |r| {
        rid = r;
        payload(r)
    });
    let done = passes(&mut requests, start, Duration::from_secs(60));
    assert_eq!(times(&done, is_send), [0, 2250, 4500]);
    assert_eq!(times(&done, is_punch), [0, 500, 2250, 4500]);
    let same = Action::Punch { rid: Some(rid), to: addr(1), referrer: addr(9) };
    assert!(done.iter().filter(|(_, a)| is_punch(a)).all(|(_, a)| *a == same));
}

#[test]
fn the_fast_help_is_not_asked_for_after_an_answer() {
    let (mut requests, start) = requests();
    let mut rid = 0;
    requests.start(start, Outgoing { referrer: Some(addr(9)), ..outgoing(1) }, |r| {
        rid = r;
        payload(r)
    });
    requests.answer(start + 100 * MS, rid, addr(1)).expect("answered");
    assert!(times(&passes(&mut requests, start, Duration::from_secs(60)), is_punch).is_empty());
}

#[test]
fn requests_wait_only_when_both_the_rate_and_the_flight_are_full() {
    let (mut requests, start) = requests();
    for n in 0..60 {
        requests.start(start, outgoing(n), payload);
    }
    // The first second counts as a whole one: 50 requests make 50 per second.
    assert_eq!(requests.in_flight(), 50);
    let slow = Duration::from_secs(5);
    assert!(!requests.saturated(start + slow), "50 in 5 s are 10 per second");
}

#[test]
fn each_finished_request_releases_waiting_ones_in_order() {
    let (mut requests, start) = requests();
    let mut rids = Vec::new();
    for n in 0..55 {
        requests.start(start, outgoing(n), |rid| {
            rids.push(rid);
            payload(rid)
        });
    }
    while requests.poll_action().is_some() {}
    for (n, rid) in rids.iter().enumerate().take(34) {
        requests.answer(start, *rid, addr(n as u32)).expect("in flight");
        assert_eq!(requests.poll_action(), None, "still saturated with {} in flight", requests.in_flight());
    }
    requests.answer(start, rids[34], addr(34)).expect("in flight");
    assert_eq!(requests.poll_action(), Some(send(50, rids[50])));
    assert_eq!(requests.poll_action(), None);
}

#[test]
fn an_immediate_request_does_not_wait() {
    let (mut requests, start) = requests();
    for n in 0..60 {
        requests.start(start, outgoing(n), payload);
    }
    requests.start(start, Outgoing { immediate: true, ..outgoing(60) }, payload);
    assert_eq!(requests.in_flight(), 51);
}

#[test]
fn resends_are_held_back_while_saturated() {
    let (mut requests, start) = requests();
    let begin = start + Duration::from_secs(2);
    for n in 0..200 {
        requests.start(begin, Outgoing { immediate: true, ..outgoing(n) }, payload);
    }
    let done = passes(&mut requests, start, Duration::from_secs(60));
    let resends = times(&done, is_send);
    // 200 requests in 5 s are 40 per second, but for 3 s after they began they count as more.
    assert!(resends[200] > 2000 + 2250, "the first resend came at {} ms", resends[200]);
    assert_eq!(resends.len(), 600);
}

#[test]
fn no_id_is_used_twice_at_a_time_or_told_by_the_one_before() {
    let (mut requests, start) = requests();
    let mut rids = Vec::new();
    for n in 0..MAX_REQUESTS as u32 {
        requests.start(start, outgoing(n), |rid| {
            rids.push(rid);
            payload(rid)
        });
    }
    let following = rids.windows(2).filter(|pair| pair[1] == pair[0].wrapping_add(1)).count();
    assert!(following < 3, "{following} ids follow the one before");
    assert_eq!(rids.iter().collect::<std::collections::BTreeSet<_>>().len(), MAX_REQUESTS);
}

#[test]
fn every_try_has_its_second_from_the_moment_of_sending() {
    for (tries, resends) in
        [(1, vec![]), (4, vec![1333, 2333, 3333]), (6, vec![1333, 2333, 3333, 4333, 5333])]
    {
        let (mut requests, start) = windowed();
        requests.start(start + 333 * MS, seconds(1, tries), payload);
        let done = passes(&mut requests, start, Duration::from_secs(60));
        assert_eq!(times(&done, is_send)[1..], resends);
        assert_eq!(times(&done, is_failure), [333 + 1000 * u128::from(tries)]);
        assert_eq!(requests.poll_late(), Some((addr(1), 1)), "told once");
        assert_eq!(requests.poll_late(), None);
    }
}

#[test]
fn a_window_takes_80_requests_and_more_as_they_are_answered_or_time_passes() {
    let (mut requests, start) = windowed();
    let mut rids = Vec::new();
    for n in 0..300 {
        requests.start(start, seconds(n, 4), |rid| {
            rids.push(rid);
            payload(rid)
        });
    }
    assert_eq!(requests.in_flight(), 80);
    requests.answer(start + MS, rids[7], addr(7)).expect("in flight");
    assert_eq!(requests.in_flight(), 80, "one left, one came");
    assert_eq!(requests.poll_timeout(), Some(start + 750 * MS));
    requests.handle_timeout(start + 750 * MS);
    assert_eq!(requests.in_flight(), 160, "80 in the next slot");
    requests.handle_timeout(start + 1500 * MS);
    while requests.poll_action().is_some() {}
    // Requests of the first slot are sent again in the meantime, as far as the window lets them.
    let done = passes(&mut requests, start + 1500 * MS, Duration::from_secs(120));
    let (sends, failures) = (times(&done, is_send), times(&done, is_failure));
    for slot in (0..100).map(|slot| slot * 750) {
        let within = |times: &[u128]| times.iter().filter(|at| (slot..slot + 750).contains(*at)).count();
        assert!(within(&sends) <= 80 + within(&failures), "in the slot from {slot} ms");
    }
    assert_eq!(times(&done, is_failure).len(), 299, "and all others end");
}

#[test]
fn cancelled_requests_end_in_silence_and_make_room() {
    let (mut requests, start) = windowed();
    (0..160).for_each(|n| requests.start(start, seconds(n, 4), payload));
    while requests.poll_action().is_some() {}
    requests.cancel(start, |n| *n < 40 || *n >= 150);
    assert_eq!(requests.in_flight(), 80);
    let sent = std::iter::from_fn(|| requests.poll_action()).collect::<Vec<_>>();
    assert!(sent.iter().all(is_send) && sent.len() == 40, "{}", sent.len());
    requests.cancel(start, |_| true);
    assert_eq!((requests.in_flight(), requests.poll_timeout()), (0, None));
    assert_eq!(requests.poll_action(), None);
}

#[test]
fn requests_beyond_the_limit_fail_at_once() {
    let (mut requests, start) = requests();
    for n in 0..MAX_REQUESTS as u32 {
        requests.start(start, outgoing(n), payload);
    }
    let mut failures = 0;
    while let Some(action) = requests.poll_action() {
        failures += u32::from(is_failure(&action));
    }
    assert_eq!((failures, requests.requests.len()), (0, MAX_REQUESTS), "at the limit");
    requests.start(start, outgoing(5000), payload);
    assert_eq!(requests.poll_action(), Some(Action::Failed { to: addr(5000), sent: false, context: 5000 }));
    assert_eq!(requests.requests.len(), MAX_REQUESTS);
}
